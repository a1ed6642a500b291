"""What a sweep holds in the few rows that its page shows: aggregated before anything is drawn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from roofrack.results.run import Run

from ..common.columns import COST
from ..common.jobs import reasons
from ..common.pages import names

KEPT = (
    COST,
    "tpot_s",
    "ttft_s",
    "tokens_per_s_per_user",
    "tokens_per_s_per_chip",
    "step_s",
    "step_upper_s",
    "bound",
    "chips",
    "mem_total_bytes",
    "mem_capacity_bytes",
)
ASKED = {
    "context",
    *(f"workload.{leaf}" for leaf in ("context", "prompt", "output", "cached", "routing_skew")),
}
"""Axes that belong to the question: the cheapest answer to another question is not an answer."""
MOST_SERIES = 8
"""Lines that stay apart by colour; of more, the cheapest are drawn."""
MOST_POINTS = 500
"""Points of one line: more than a screen shows, and eight lines stay below Altair's 5,000 rows."""
BEST = 20
"""Rows of the table of best rows."""


@dataclass(frozen=True)
class Summary:
    """What a sweep holds, in the few rows that are shown.

    `axes` the swept columns, `x` the longest numeric one (None without any); `curve` the cheapest
    row at each `x` and `series` (a job's choices in words); `best` the cheapest rows of all,
    `quickest` the one with the least time per token; `counts` of all rows, `whys` how many rows
    each reason rules out, `bounds` rows by largest part.
    """

    axes: tuple[str, ...]
    x: str | None
    curve: pl.DataFrame
    best: pl.DataFrame
    quickest: pl.DataFrame
    series: list[str]
    left_out: int
    counts: Mapping[str, int]
    whys: pl.DataFrame
    bounds: pl.DataFrame
    overfull: Mapping[str, Any] | None


def varied(run: Run) -> list[str]:
    """Return what differs between jobs: groups, and settings that are jobs rather than axes."""
    told = [
        {
            **j.config["choices"],
            "overlap": j.config["overlap"],
            "phase": j.config["workload"]["phase"],
        }
        for j in run.jobs
    ]
    return [key for key in told[0] if len({str(job[key]) for job in told}) > 1]


def summary(run: Run) -> Summary:
    """Aggregate a run, lazily, into what the page shows."""
    x = _longest(run)
    rows = run.rows.with_columns(series=_series(run, x))
    good = rows.filter(pl.col("valid"), pl.col("fits"))
    kept = good.select(list(dict.fromkeys(["series", *run.axes, *KEPT])))
    cheapest = pl.all().get(pl.col(COST).arg_min())
    priced = kept.filter(pl.col(COST).is_not_null())
    keys = ["series"] if x is None else ["series", x]
    curve = priced.group_by(keys, maintain_order=True).agg(cheapest).collect()
    ranked = curve.group_by("series", maintain_order=True).agg(pl.col(COST).min())
    series = ranked.sort(COST, maintain_order=True)["series"].head(MOST_SERIES).to_list()
    drawn = curve.filter(pl.col("series").is_in(series))
    overfull = rows.filter(pl.col("valid"), ~pl.col("fits"))
    overfull = overfull.select(
        taken=pl.col("mem_total_bytes").min(), room=pl.col("mem_capacity_bytes").max()
    )
    bounds = good.group_by("bound").len().sort("len", "bound", descending=[True, False])
    return Summary(
        axes=run.axes,
        x=x,
        curve=drawn if x is None else _thinned(drawn.sort("series", x), x),
        best=kept.sort(COST, nulls_last=True, maintain_order=True).head(BEST).collect(),
        quickest=kept.filter(pl.col("tpot_s").is_not_null()).sort("tpot_s", COST).head(1).collect(),
        series=series,
        left_out=ranked.height - len(series),
        counts=_counts(rows),
        whys=reasons(rows),
        bounds=bounds.collect(),
        overfull=overfull.collect().row(0, named=True),
    )


def _longest(run: Run) -> str | None:
    """Return the numeric axis with the most values."""
    schema = run.rows.collect_schema()
    numeric = [axis for axis in run.axes if schema[axis].is_numeric()]
    if not numeric:
        return None
    lengths = run.rows.select(pl.col(axis).n_unique() for axis in numeric).collect()
    return max(numeric, key=lambda axis: lengths[axis].item())


def _series(run: Run, x: str | None) -> pl.Expr:
    """Return what a line stands for: model on machine, and what else must not be minimised over.

    That is every group that differs between jobs, and every axis that says what is asked for rather
    than how it is served.
    """
    machines, models = names(run, "hardware"), names(run, "model")
    asked = [axis for axis in run.axes if axis in ASKED and axis != x]
    others = [key for key in varied(run) if key not in ("hardware", "model")]
    words = [
        pl.format(
            "{} on {}",
            pl.col("model").replace_strict(models, return_dtype=pl.String),
            pl.col("hardware").replace_strict(machines, return_dtype=pl.String),
        ),
        *(pl.format(f"{key}={{}}", pl.col(key)) for key in [*others, *asked]),
    ]
    return pl.concat_str(words, separator=", ", ignore_nulls=True)


def _thinned(curve: pl.DataFrame, x: str) -> pl.DataFrame:
    """Keep at most MOST_POINTS values of `x`, spread evenly over their order, ends included."""
    values = curve[x].unique().sort()
    if len(values) <= MOST_POINTS:
        return curve
    places = {round(i * (len(values) - 1) / (MOST_POINTS - 1)) for i in range(MOST_POINTS)}
    return curve.filter(pl.col(x).is_in(values.gather(sorted(places)).implode()))


def _counts(rows: pl.LazyFrame) -> dict[str, int]:
    valid = pl.col("valid")
    return (
        rows.select(
            all=pl.len(),
            invalid=(~valid).sum(),
            overfull=(valid & ~pl.col("fits")).sum(),
            good=(valid & pl.col("fits")).sum(),
        )
        .collect()
        .row(0, named=True)
    )
