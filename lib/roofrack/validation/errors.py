"""Errors of predictions, row by row and by group.

A row is one measured number: TPOT and TTFT of one run are two rows. Errors are of the logarithm
where a sign matters, so that twice too slow and twice too fast weigh the same.
"""

from collections.abc import Sequence

import polars as pl

WITHIN = 0.2
"""Relative error that `within` counts."""

BANDS = (4, 16, 64, 256)
"""Upper ends of the bands of concurrency; the last band is open."""

SMALLEST_USED = 1e-12


def with_errors(rows: pl.DataFrame) -> pl.DataFrame:
    """Return `rows` (`measured`, `predicted`) with `log_ratio` and `error`; null where either is.

    `log_ratio` is ln(predicted / measured), `error` predicted / measured - 1: both positive for a
    prediction that is too slow. Zero, negative and NaN numbers count as absent.
    """
    good = pl.all_horizontal(
        *((pl.col(c) > SMALLEST_USED) & pl.col(c).is_finite() for c in ("measured", "predicted"))
    ).fill_null(False)
    ratio = pl.when(good).then(pl.col("predicted") / pl.col("measured"))
    return rows.with_columns(log_ratio=ratio.log(), error=ratio - 1.0)


def statistics(rows: pl.DataFrame, by: Sequence[str] = ()) -> pl.DataFrame:
    """Return errors by group, the largest group first; one row over all if `by` is empty.

    Columns: `rows` (with an error), `median_abs`, `mean_abs` and `worst` (of |error|), `bias`
    (median log_ratio), `within` (share of rows within 20 %), `inside` (share inside their 80 %
    interval, of those that have one).
    """
    used = rows.filter(pl.col("log_ratio").is_not_null())
    size = pl.col("error").abs()
    columns = [
        pl.len().alias("rows"),
        size.median().alias("median_abs"),
        size.mean().alias("mean_abs"),
        size.max().alias("worst"),
        pl.col("log_ratio").median().alias("bias"),
        (size <= WITHIN).mean().alias("within"),
        pl.col("inside").mean().alias("inside"),
    ]
    if not by:
        return used.select(columns)
    return used.group_by(*by).agg(columns).sort("rows", *by, descending=[True] + [False] * len(by))


def band(column: str = "concurrency") -> pl.Expr:
    """Return the band of a number of clients in words: `1 to 4`, `over 256`."""
    lows = [1, *(high + 1 for high in BANDS)]
    words = [f"{low} to {high}" for low, high in zip(lows, BANDS, strict=False)]
    cases = [
        pl.when(pl.col(column) <= high).then(pl.lit(text))
        for high, text in zip(BANDS, words, strict=True)
    ]
    beyond = pl.when(pl.col(column) > BANDS[-1]).then(pl.lit(f"over {BANDS[-1]}"))
    return pl.coalesce(*cases, beyond).alias("clients")


GROUPS = {
    "mode": ("mode",),
    "model": ("model",),
    "machine": ("hardware",),
    "backend": ("backend",),
    "origin": ("origin",),
    "backend and model": ("backend", "model"),
    "clients": ("clients",),
    "precision": ("precision",),
}
"""Groupings reported: name, columns."""


def by_group(rows: pl.DataFrame, sets: dict[str, pl.Expr]) -> pl.DataFrame:
    """Return errors for every quantity, set of rows, grouping and group, one line each.

    `sets` chooses rows by name. Columns: quantity, set, grouping, group, then those of
    `statistics`. The grouping `all` has one group, of the same name.
    """
    tables = []
    for name, chosen in sets.items():
        part = rows.filter(chosen)
        for grouping, columns in {"all": (), **GROUPS}.items():
            table = statistics(part, ("quantity", "mode", *(c for c in columns if c != "mode")))
            words = [pl.col(c).fill_null("not recorded") for c in columns]
            group = pl.concat_str(words, separator=" ") if words else pl.lit("all")
            tables.append(
                table.select(
                    "quantity",
                    "mode",
                    pl.lit(name).alias("set"),
                    pl.lit(grouping).alias("grouping"),
                    group.alias("group"),
                    *("rows", "median_abs", "mean_abs", "bias", "within", "inside"),
                )
            )
    return pl.concat(tables)
