"""What one thing does while all else is held: an axis (`sensitivity`), two values (`compare`)."""

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from roofrack.errors import InputError, nearest
from roofrack.results.aggregate import CHANGE, Rows, Within
from roofrack.results.streaming import Parts, collect, grouped, quantiles, slices
from roofrack.results.table import Names, Table, kept, table_of, why_empty

SPREAD = {"p10": 0.1, "median": 0.5, "p90": 0.9}
"""The quantiles told of what varies from point to point."""

Span = dict[str, tuple[Any, Any, bool]]


def sensitivity(
    rows: Rows,
    axis: str,
    of: str,
    *,
    within: Within | None = None,
    fitting: bool = True,
    inputs: Names | None = None,
) -> pl.DataFrame:
    """Return how `of` changes along an axis of numbers while all other inputs are held.

    A line is a step from one value of the axis to the next at which the same point can run: `AXIS`,
    `AXIS_next`, how many `points` take that step, and of these the 10 % quantile, the median and
    the 90 % quantile of the change (`OF_change_p10`, ..., in the unit of `of`) and of the
    elasticity d ln(of) / d ln(axis) between the two (`elasticity_p10`, ...; null where a value is
    not above 0). Jobs that did not sweep the axis do not count.
    """
    table = table_of(rows, inputs)
    table.input(table.number(axis, "axis"), "axis")
    _check_apart(axis, table.number(of, "of"))
    chosen = kept(table, [axis, of], within, fitting)
    left = table.rows.filter(chosen.all)
    others = [name for name in table.inputs if name != axis]
    span = _span(left, others)
    if span is None:
        raise why_empty(table, chosen, "sensitivity")
    keys = [name for name in others if _varies(span, name)]
    cut = slices(left.select(*keys, axis, of), keys)
    steps = _mapped(cut, lambda part: _steps(part, keys, axis, of))
    ends = (axis, f"{axis}_next")
    found = quantiles(steps, [*ends, "_kind"], "_value", list(SPREAD.values()))
    if found.is_empty():
        raise InputError(f"axis={axis}: no point has two values of it; sweep more values")
    change = _named(found.filter(pl.col("_kind") == 0), f"{of}{CHANGE}", SPREAD)
    elastic = _named(found.filter(pl.col("_kind") == 1), "elasticity_", SPREAD)
    told = change.drop("_kind").join(elastic.drop("_kind", "points"), on=ends, how="left")
    return told.sort(ends)


def compare(
    rows: Rows,
    group: str,
    a: Any,
    b: Any,
    of: str,
    by: Names = (),
    *,
    within: Within | None = None,
    fitting: bool = True,
    inputs: Names | None = None,
) -> pl.DataFrame:
    """Return `of` where a group or an axis is `a` over where it is `b`, at points otherwise equal.

    A line for each group of `by`: how many `points` both have, how many are left of either
    (`only_a`, `only_b`: without counterpart, or 0 over 0), and the least, 10 % quantile, median,
    90 % quantile and most of the ratio (`ratio_min`, ...). An input that has one value on each side
    goes along with the group and is not matched, as a machine brings its calibration; where these
    values differ, the column `along` says so.
    """
    table = table_of(rows, inputs)
    _check_apart(table.input(group, "group"), table.number(of, "of"))
    groups = tuple(table.input(name, "by") for name in table.columns(by, "by"))
    chosen = kept(table, [of], within, fitting)
    others = [name for name in table.inputs if name != group]
    sides: list[pl.LazyFrame] = []
    spans: list[Span] = []
    for value, where in zip((a, b), _where(table, group, a, b), strict=True):
        sides.append(table.rows.filter(where, chosen.all))
        span = _span(sides[-1], others)
        if span is None:
            raise why_empty(table.of(where), chosen, f"compare {group}={value}")
        spans.append(span)
    keys = [name for name in others if any(_varies(span, name) for span in spans)]
    along = _along(spans, [name for name in others if name not in keys])
    for name in groups:
        if name == group or name in along:
            raise InputError(f"by={name}: no group of it has both {a} and {b}")
    told = list(dict.fromkeys([*keys, *groups]))
    sized = [grouped(s, groups, [pl.len().alias("_n")]) for s in sides]
    marked = [s.select(*told, of, _side=pl.lit(i)) for i, s in enumerate(sides)]
    ratios = _mapped(slices(pl.concat(marked), told), lambda part: _ratios(part, told, groups, of))
    shares = {"min": 0.0, **SPREAD, "max": 1.0}
    found = _named(quantiles(ratios, groups, "_ratio", list(shares.values())), "ratio_", shares)
    if found.is_empty():
        raise _no_pair(sides, keys, f"compare {group}={a} with {b}")
    for name, count in zip(("only_a", "only_b"), sized, strict=True):
        count = count.rename({"_n": name})
        found = (
            found.join(count, on=groups, how="left", nulls_equal=True)
            if groups
            else pl.concat([found, count], how="horizontal")
        )
    found = found.with_columns(pl.col("only_a", "only_b") - pl.col("points"))
    words = "; ".join(f"{name}: {one} over {other}" for name, (one, other) in along.items())
    found = found.with_columns(along=pl.lit(words or None, pl.String))
    counts = ["points", "only_a", "only_b"]
    found = found.select(*groups, *counts, pl.exclude(*groups, *counts))
    return found.sort(groups) if groups else found


def _check_apart(axis: str, of: str) -> None:
    if axis == of:
        raise InputError(f"of={of}: what is varied itself; give a result")


def _where(table: Table, group: str, a: Any, b: Any) -> list[pl.Expr]:
    """Return where a column has two values; raise InputError for one that it nowhere has."""
    values = collect(table.rows.select(pl.col(group).unique().sort()))[group].drop_nulls()
    for key, value in (("a", a), ("b", b)):
        if value not in values.to_list():
            shown, known = ", ".join(map(str, values.head(20))), map(str, values)
            raise InputError(f"{key}={value}: {group} is {shown}.{nearest(value, known)}")
    if a == b:
        raise InputError(f"b={b}: the same as a; give two values of {group}")
    return [pl.col(group) == value for value in (a, b)]


def _span(rows: pl.LazyFrame, names: Sequence[str]) -> Span | None:
    """Return the least and the most of columns, and if some but not all are null; None of no rows.

    It tells what varies, in memory that does not grow as that of a set of values would.
    """
    asked = [
        what(pl.col(name)).alias(f"{i} {name}")
        for name in names
        for i, what in enumerate((pl.Expr.min, pl.Expr.max, pl.Expr.null_count))
    ]
    found = collect(rows.select(pl.len(), *asked)).row(0, named=True)
    size = found["len"]
    if not size:
        return None
    return {
        name: (found[f"0 {name}"], found[f"1 {name}"], 0 < found[f"2 {name}"] < size)
        for name in names
    }


def _varies(span: Span, name: str) -> bool:
    least, most, some_null = span[name]
    return some_null or least != most


def _along(spans: Sequence[Span], names: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Return the inputs that have one value on each side, and another on the other side."""
    pairs = {name: (spans[0][name][0], spans[1][name][0]) for name in names}
    return {
        name: tuple("not swept" if value is None else value for value in pair)
        for name, pair in pairs.items()
        if pair[0] != pair[1]
    }


def _mapped(parts: Parts, step: Callable[[pl.LazyFrame], pl.LazyFrame]) -> Parts:
    return lambda: (step(part) for part in parts())


def _named(found: pl.DataFrame, stem: str, shares: dict[str, float]) -> pl.DataFrame:
    return found.rename({f"q{i}": f"{stem}{name}" for i, name in enumerate(shares)})


def _steps(part: pl.LazyFrame, keys: Sequence[str], axis: str, of: str) -> pl.LazyFrame:
    """Return what `of` does between neighbouring values of the axis, of each point.

    As `_value`: the change where `_kind` is 0, the elasticity where it is 1.
    """
    rows, after = part.collect(), f"{axis}_next"
    keys = _needed(rows, keys)
    same = (pl.col(key).eq_missing(pl.col(key).shift(-1)) for key in keys)
    pairs = rows.sort(*keys, axis).select(
        axis,
        pl.col(axis).shift(-1).alias(after),
        pl.col(of).cast(pl.Float64).alias("_y"),
        pl.col(of).cast(pl.Float64).shift(-1).alias("_z"),
        pl.all_horizontal(pl.lit(True), *same).alias("_same"),
    )
    pairs = pairs.filter(pl.col("_same") & pl.col(after).is_not_null())
    _check_unique((pairs[axis] == pairs[after]).any(), [*keys, axis])
    positive = (pl.col("_y") > 0) & (pl.col("_z") > 0) & (pl.col(axis) > 0)
    slope = (pl.col("_z") / pl.col("_y")).log() / (pl.col(after) / pl.col(axis)).log()
    kinds = (pl.col("_z") - pl.col("_y"), pl.when(positive).then(slope))
    told = [
        pairs.lazy().select(axis, after, _kind=pl.lit(i), _value=v) for i, v in enumerate(kinds)
    ]
    return pl.concat(told)


def _ratios(
    part: pl.LazyFrame, keys: Sequence[str], groups: Sequence[str], of: str
) -> pl.LazyFrame:
    """Return the first side over the second, where both have a point."""
    rows = part.with_columns(pl.col(of).cast(pl.Float64), _all=pl.lit(0)).collect()
    on = ["_all", *_needed(rows, keys)]
    a, b = (rows.filter(pl.col("_side") == i) for i in (0, 1))
    _check_unique(any(side.select(on).is_duplicated().any() for side in (a, b)), keys)
    both = a.join(b.select(*on, _b=of), on=on, how="inner", nulls_equal=True)
    return both.lazy().select(*groups, _ratio=pl.col(of) / pl.col("_b"))


def _needed(rows: pl.DataFrame, keys: Sequence[str]) -> list[str]:
    """Leave out what is the same in all rows of a part: sorting by it takes most of the time."""
    return [key for key in keys if rows[key].n_unique() > 1]


def _check_unique(twice: bool, names: Sequence[str]) -> None:
    if twice:
        raise InputError(
            f"inputs={', '.join(names)}: do not tell all rows apart; name the other inputs too"
        )


def _no_pair(sides: Sequence[pl.LazyFrame], keys: Sequence[str], what: str) -> InputError:
    """Return the error of a comparison without pairs: the inputs that share no value."""
    apart = []
    for name in keys:
        a, b = (set(collect(side.select(pl.col(name).unique()))[name]) for side in sides)
        if not a & b:
            apart.append(name)
    why = f"{', '.join(apart)} share no value" if apart else "no point is on both sides"
    return InputError(f"{what}: {why}")
