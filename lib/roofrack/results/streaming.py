"""Exact reductions of tables larger than memory, in passes of Polars' streaming engine."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import polars as pl

ENOUGH = 20_000
"""Candidates, beside two for each group, that are compared in memory."""

SLICE = 2_000_000
"""Rows of one part of `slices`."""

BINS = 128
"""Bins per factor e of a value: two values of one bin differ by at most 0.8 %."""

_REACH = 100_000
"""Bins on either side of 1: all that double precision has, infinity in the last."""

Parts = Callable[[], Iterator[pl.LazyFrame]]
"""Gives the parts of a table one after the other, as often as it is called."""


def collect(lazy: pl.LazyFrame) -> pl.DataFrame:
    """Evaluate with the streaming engine."""
    return lazy.collect(engine="streaming")


def narrow(rows: pl.LazyFrame, found: pl.DataFrame) -> pl.LazyFrame:
    """Return the rows that agree with a row of `found` in all its columns; nulls agree.

    The tests of single columns come first because a scan of Parquet files skips by them what it
    need not read or decode.
    """
    for name in found.columns:
        values = found[name].unique().implode()
        rows = rows.filter(pl.col(name).is_in(values, nulls_equal=True))
    return rows.join(found.lazy(), on=found.columns, how="semi", nulls_equal=True)


def first(
    rows: pl.LazyFrame, by: Sequence[str], found: pl.DataFrame, ties: Sequence[str]
) -> pl.DataFrame:
    """Return one row of each group: of those that agree with `found`, the least in `ties`.

    `found` has a row for each group: `by`, and what its best row has. Where too many rows are equal
    for memory, each of `ties` in turn narrows them by a pass of its own.
    """
    enough = ENOUGH + 2 * len(found)
    least = list(ties)
    left = narrow(rows, found)
    # counted before they are read: they may be most of the table
    while collect(left.select(pl.len())).item() > enough and least:
        found = collect(left.group_by(found.columns).agg(pl.col(least.pop(0)).min()))
        left = narrow(rows, found)
    # those still equal in everything that tells points apart: any of them
    few = collect(left if least else left.unique(subset=found.columns, keep="any"))
    few = few.sort(*ties, nulls_last=True) if ties else few
    return few.unique(subset=list(by) or found.columns[:1], keep="first", maintain_order=True)


def undominated(rows: pl.LazyFrame, by: Sequence[str], goals: Sequence[str]) -> pl.DataFrame:
    """Return the rows that no other of their group beats in `goals`, which are minimised.

    Beaten is also who is equal in all goals: one of equals is left. Each batch of the stream is
    reduced by itself, then what is left of all: what a part of the rows beats, the whole does.
    """
    reduce = partial(_undominated, by=by, goals=goals)
    return reduce(collect(rows.map_batches(reduce, streamable=True)))


def _undominated(rows: pl.DataFrame, by: Sequence[str], goals: Sequence[str]) -> pl.DataFrame:
    if len(goals) > 2:
        groups = rows.partition_by(by) if by and len(rows) else [rows]
        return pl.concat(_of_many(group, goals) for group in groups)
    before = _over(pl.col(goals[1]).cum_min().shift(1), by)
    beaten_by_none = (pl.col(goals[1]) < before).fill_null(True)
    return rows.sort(*by, *goals).filter(beaten_by_none)


def _of_many(group: pl.DataFrame, goals: Sequence[str]) -> pl.DataFrame:
    """Take the row with the least sum of ranks, which none can beat; drop what it beats; repeat."""
    ranks = pl.sum_horizontal(pl.col(goal).rank("dense") for goal in goals)
    group = group.sort(ranks)
    values = group.select(goals).to_numpy()
    left, kept = np.arange(len(group)), []
    while left.size:
        kept.append(left[0])
        left = left[(values[left] < values[left[0]]).any(axis=1)]
    return group[kept]


def slices(rows: pl.LazyFrame, keys: Sequence[str]) -> Parts:
    """Cut rows into parts for memory; rows that agree in all `keys` stay together.

    As many keys are used, in their order, as make cells of at most SLICE rows, then whole cells
    are joined. Rows equal in all keys are one cell, however many they are.
    """
    if collect(rows.select(pl.len())).item() <= SLICE:
        whole = collect(rows).lazy()
        return lambda: iter([whole])
    used: list[str] = []
    cells = pl.DataFrame({"len": [SLICE + 1]})
    while cells["len"].max() > SLICE and len(used) < len(keys):  # type: ignore[operator]
        used.append(keys[len(used)])
        cells = collect(rows.group_by(used).len())
    if not used:
        return lambda: iter([rows])
    ordered = cells.sort(used).with_columns(part=pl.col("len").cum_sum() // SLICE)
    parts = ordered.partition_by("part", include_key=False, maintain_order=True)
    return lambda: (collect(narrow(rows, part.select(used))).lazy() for part in parts)


def grouped(rows: pl.LazyFrame, by: Sequence[str], what: Sequence[pl.Expr]) -> pl.DataFrame:
    """Aggregate the rows of each group, or all rows where there are no groups."""
    return collect(rows.group_by(by).agg(what) if by else rows.select(what))


def quantiles(parts: Parts, by: Sequence[str], value: str, shares: Sequence[float]) -> pl.DataFrame:
    """Return exact quantiles of a column for each group: `by`, `points`, then q0, q1, ...

    Linear between two values, as in NumPy. Nulls and NaN do not count; a group without values is
    left out. One pass counts values in bins of 0.8 %, another the distinct values of the bins that
    a quantile lies in.
    """
    keys = [*by, "_bin"]
    bins = _counted(parts, by, value)
    ends = pl.col("_n").cum_sum()
    total = pl.col("_n").sum()
    bins = bins.with_columns(
        _over(ends, by).alias("_end"), _over(total, by).alias("points")
    ).with_columns(_before=pl.col("_end") - pl.col("_n"))
    ranks = [_ranks(share) for share in shares]
    holds = [(pl.col("_before") <= high) & (low < pl.col("_end")) for low, high, _ in ranks]
    bins = bins.filter(pl.any_horizontal(holds)).select(*keys, "_before", "points")
    # there may be many values: they are told by a number for all of their keys
    bins = bins.with_row_index("_id")
    values = _counted(parts, by, value, bins.select("_id", *keys))
    places = [end for low, high, _ in ranks for end in (low, high)]
    asked = bins.select("_id", "_before", *(r.alias(f"r{i}") for i, r in enumerate(places)))
    met = _at(values, value, asked)
    bins = bins.with_columns(met)
    low_high = [
        (pl.col(f"v{2 * i}").drop_nulls().first(), pl.col(f"v{2 * i + 1}").drop_nulls().first())
        for i in range(len(ranks))
    ]
    found = [
        _between(low, high, share).alias(f"q{i}")
        for i, ((low, high), (*_, share)) in enumerate(zip(low_high, ranks, strict=True))
    ]
    told = grouped(bins.lazy(), by, [pl.col("points").first(), *found])
    return told.filter(pl.col("points").is_not_null())


def _at(values: pl.DataFrame, value: str, asked: pl.DataFrame) -> pl.DataFrame:
    """Return v0, v1, ... for each line of `asked`: its values at ranks r0, r1, ...; else null.

    `values` of each `_id` ascend, `_n` of each; of all values of a group `_before` come before
    those of a line.
    """
    names = [name for name in asked.columns if name.startswith("r")]
    numbers, each = values["_id"].to_numpy(), values[value].to_numpy()
    ends = values["_n"].cum_sum().to_numpy()
    met: dict[str, list[float | None]] = {f"v{name[1:]}": [] for name in names}
    for line in asked.iter_rows(named=True):
        first, last = np.searchsorted(numbers, [line["_id"], line["_id"] + 1])
        start = ends[first - 1] if first else 0
        for name in names:
            place = line[name] - line["_before"]
            at = first + np.searchsorted(ends[first:last], start + place, side="right")
            inside = place >= 0 and at < last
            met[f"v{name[1:]}"].append(float(each[at]) if inside else None)
    return pl.DataFrame(met, schema=dict.fromkeys(met, pl.Float64))


def _ranks(share: float) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """Return the ranks, from 0, that a quantile lies between, and how far it is from the lower."""
    place = share * (pl.col("points").cast(pl.Float64) - 1)
    return place.floor(), place.ceil(), place - place.floor()


def _between(low: pl.Expr, high: pl.Expr, share: pl.Expr) -> pl.Expr:
    # of infinities there is no difference
    flat = (low == high) | low.is_infinite()
    return pl.when(flat).then(low).otherwise(low + (high - low) * share.first())


def _over(what: pl.Expr, by: Sequence[str]) -> pl.Expr:
    return what.over(by) if by else what


def _counted(
    parts: Parts,
    by: Sequence[str],
    value: str,
    bins: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Count the values of each group by bin; given `bins`, those of each `_id`, by value."""
    keys = [*by, "_bin"] if bins is None else ["_id", value]
    found: list[pl.DataFrame] = []
    for part in parts():
        rows = part.select(*by, pl.col(value).cast(pl.Float64)).filter(
            pl.col(value).is_not_null() & pl.col(value).is_not_nan()
        )
        rows = rows.with_columns(_bin(pl.col(value)).alias("_bin"))
        if bins is not None:
            rows = rows.join(bins.lazy(), on=[*by, "_bin"], nulls_equal=True).select(keys)
        found.append(collect(rows.group_by(keys).agg(pl.len().cast(pl.Int64).alias("_n"))))
        # distinct values seldom meet again, and to merge them takes several times their memory
        if sum(map(len, found[1:])) > (SLICE if bins is None else 8 * SLICE):
            found = [_merged(found, keys)]
    return (_merged(found, keys) if bins is None else pl.concat(found)).sort(keys)


def _merged(counts: Sequence[pl.DataFrame], keys: Sequence[str]) -> pl.DataFrame:
    return pl.concat(counts).group_by(keys).agg(pl.col("_n").sum())


def _bin(value: pl.Expr) -> pl.Expr:
    """Return the number of a bin, in the order of the values: negative ones, 0, positive ones."""
    size = (value.abs().log() * BINS).floor().clip(-_REACH, _REACH) + (_REACH + 1)
    return (value.sign() * size).cast(pl.Int32)
