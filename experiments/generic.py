"""The page of a sweep that asks no question of its own: what was swept, and what came out best.

One figure per result against the longest numeric axis; over all other axes each point is the
cheapest. Aggregated before anything is drawn, however many rows there are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report.format import number, percent, quantity, times
from roofrack.report.page import Figure, Finding, Page, Section
from roofrack.results.run import Run

from .common.pages import RESOURCES, listed, names, provenance

COST = "usd_per_mtok"
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
DRAWN = (COST, "tpot_s", "ttft_s", "tokens_per_s_per_chip")
"""Results that get a figure, if the phase has them."""
WORDS = {
    COST: "Cost",
    "tpot_s": "Time per output token",
    "ttft_s": "Time to first token",
    "tokens_per_s_per_chip": "Throughput per chip",
    "tokens_per_s_per_user": "Speed per user",
    "step_s": "Step",
    "chips": "Chips",
    "bound": "What binds",
    "mem_total_bytes": "Memory taken per chip",
}
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


def page(run: Run) -> Page:
    """Return the page of a finished run."""
    found = summary(run)
    shown = sections(run, found)
    drawn = {figure.key for section in shown for figure in section.figures}
    said = tuple(f if f.figure in drawn else replace(f, figure="") for f in findings(run, found))
    title = str(run.experiment.get("title") or f"Sweep of {_swept(run, found.axes)}")
    return Page(
        title=title,
        question=str(
            run.experiment.get("question")
            or f"What does a change of {_swept(run, found.axes)} do to cost and speed?"
        ),
        answer=answer(run, found),
        findings=said,
        sections=shown,
        limits=limits(run),
        provenance=provenance(run),
    )


def _swept(run: Run, axes: tuple[str, ...]) -> str:
    return listed([*_varied(run), *axes]) or "one scenario"


def _varied(run: Run) -> list[str]:
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
        whys=_whys(rows),
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
    others = [key for key in _varied(run) if key not in ("hardware", "model")]
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


def _whys(rows: pl.LazyFrame) -> pl.DataFrame:
    reasons = (
        rows.filter(~pl.col("valid"))
        .select(pl.col("why_invalid").str.split("; "))
        .explode("why_invalid")
    )
    return (
        reasons.group_by("why_invalid")
        .len()
        .sort("len", "why_invalid", descending=[True, False])
        .collect()
    )


def answer(run: Run, found: Summary) -> str:
    """Say what is cheapest, or that nothing can run."""
    if found.best.is_empty():
        return f"None of {number(found.counts['all'], 9)} points can be served: see why below."
    row = found.best.row(0, named=True)
    return (
        f"The cheapest of {number(found.counts['all'], 9)} points costs {_cost(row)} per million"
        f" tokens: {_where(found, row)}."
    )


def _cost(row: Mapping[str, Any]) -> str:
    return quantity(row[COST], "USD")


def _where(found: Summary, row: Mapping[str, Any]) -> str:
    """Say which point a row is."""
    settings = [f"{axis}={_value(row[axis])}" for axis in found.axes if row[axis] is not None]
    return ", ".join([row["series"], *settings])


def _value(value: Any) -> str:
    return (
        number(value, 4)
        if isinstance(value, int | float) and not isinstance(value, bool)
        else str(value)
    )


def findings(run: Run, found: Summary) -> tuple[Finding, ...]:
    """Return what can be said of any sweep, as far as it holds for this one."""
    made = (_cheapest(found), _fastest(found), _binds(found), _invalid(found), _overfull(found))
    return tuple(finding for finding in made if finding)


def _cheapest(found: Summary) -> Finding | None:
    if found.best.is_empty():
        return None
    row = found.best.row(0, named=True)
    dear = found.curve.sort(COST).row(-1, named=True)
    text = (
        f"Cheapest: {_cost(row)} per million tokens at {_where(found, row)}; the largest part of"
        f" its step is {RESOURCES[row['bound']]}."
    )
    if dear[COST] > 1.05 * row[COST]:
        text += (
            f" The dearest point drawn costs {times(dear[COST] / row[COST])} as much"
            f" ({_where(found, dear)})."
        )
    return Finding(text, "neutral", f"least {COST} of the rows that fit", COST)


def _fastest(found: Summary) -> Finding | None:
    if found.quickest.is_empty():
        return None
    quick, cheap = found.quickest.row(0, named=True), found.best.row(0, named=True)
    text = (
        f"Fastest: {number(quick['tokens_per_s_per_user'], 3)} tokens/s for each user at "
        f"{_where(found, quick)}, for {times(quick[COST] / cheap[COST])} the cheapest cost."
    )
    return Finding(text, "neutral", "least tpot_s of the rows that fit", "tpot_s")


def _share(count: int, total: float) -> str:
    """Write a share so that what is not all never reads as all."""
    text = percent(count / total)
    return f"over {percent(0.99)}" if text == percent(1.0) and count < total else text


def _binds(found: Summary) -> Finding | None:
    total = int(found.bounds["len"].sum())
    if not total:
        return None
    each = [f"{RESOURCES[b]} in {_share(n, total)}" for b, n in found.bounds.head(3).iter_rows()]
    return Finding(
        f"The largest part of a step is {listed(each)} of the points that fit.",
        "neutral",
        "bound of all rows that fit",
    )


def _invalid(found: Summary) -> Finding | None:
    count = found.counts["invalid"]
    if not count:
        return None
    whys = [
        f"{why} ({_share(n, found.counts['all'])})" for why, n in found.whys.head(3).iter_rows()
    ]
    text = f"{_share(count, found.counts['all'])} of the points cannot run: {'; '.join(whys)}."
    return Finding(text, "neutral", "why_invalid of all rows")


def _overfull(found: Summary) -> Finding | None:
    count = found.counts["overfull"]
    if not count or not found.overfull:
        return None
    taken, room = found.overfull["taken"], found.overfull["room"]
    text = f"{_share(count, found.counts['all'])} of the points do not fit in memory"
    if not found.counts["good"]:
        text += (
            f"; the smallest takes {quantity(taken, 'B')} of {quantity(room, 'B')} on the fullest"
            " chip"
        )
    return Finding(f"{text}.", "neutral", "fits of all rows that can run")


def sections(run: Run, found: Summary) -> tuple[Section, ...]:
    """Return the figures, and the table of the cheapest points."""
    units = _units(run)
    figures = [f for c in DRAWN if (f := _figure(found, c, units))]
    table = Figure(
        "best",
        "The cheapest points",
        None,
        "",
        f"The {found.best.height} cheapest points that can run and fit.",
        found.best,
        units,
        WORDS | {"series": "Model and machine"},
    )
    others = [axis for axis in found.axes if axis != found.x and axis not in ASKED]
    told = (
        f"Of {listed(others)} each point has the values that make it cheapest."
        if others and found.x
        else ""
    )
    if found.left_out:
        told += (
            f" The {len(found.series)} cheapest of {len(found.series) + found.left_out} lines are"
            " drawn."
        )
    return (Section("Results", (told.strip(),) if told else (), (*figures, table)),)


def _units(run: Run) -> dict[str, str]:
    return {name: unit.replace("Mtoken", "Mtok") for name, unit in run.units.items()}


def _figure(found: Summary, column: str, units: Mapping[str, str]) -> Figure | None:
    """Draw one result over the longest axis, or one mark for each job if there is none."""
    data = found.curve.filter(pl.col(column).is_not_null())
    if data.is_empty():
        return None
    unit, title = units.get(column, ""), WORDS[column]
    low, high = data.sort(column).row(0, named=True), data.sort(column).row(-1, named=True)
    tips = [("series", "Model and machine", None), (column, title, unit)]
    tips += [(a, a, "" if data.schema[a].is_numeric() else None) for a in found.axes]
    if found.x is None:
        chart = (
            alt.Chart(data)
            .mark_point(size=90)
            .encode(
                theme.axis(alt.X, column, title, unit),
                alt.Y("series:N", sort=found.series, title=None, axis=alt.Axis(labelLimit=220)),
            )
            .properties(height=26 * data["series"].n_unique() + 20)
        )
    else:
        first, last = data[found.x].min(), data[found.x].max()
        wide = bool(first > 0 and last / first > 20)  # type: ignore[operator]
        tall = low[column] > 0 and high[column] / low[column] > 20
        chart = (
            alt.Chart(data)
            .mark_line(point=data[found.x].n_unique() < 40)
            .encode(
                theme.axis(alt.X, found.x, found.x, log=wide),
                theme.axis(alt.Y, column, title, unit, log=tall),
                **theme.series("series", "Model and machine", found.series),
            )
        )
    return Figure(
        column,
        f"{title} against {found.x}" if found.x else title,
        theme.tooltips(chart, *tips),
        f"From {quantity(low[column], unit)} ({_where(found, low)}) to"
        f" {quantity(high[column], unit)} ({_where(found, high)}).",
        (
            "Each point is the cheapest that can run and fit there."
            if len(found.axes) > 1
            else "Points that can run and fit."
        ),
        data,
        units,
        WORDS | {"series": "Model and machine"},
    )


def limits(run: Run) -> tuple[str, ...]:
    """Say what no sweep knows."""
    calibrations = sorted({str(job.config["choices"]["calibration"]) for job in run.jobs})
    return (
        (
            f"Efficiencies and fixed costs come from calibration={','.join(calibrations)}; no error"
            " bar is given until it is fitted."
        ),
        "Waiting for a place in the batch is not counted.",
        "Prices are dated, and costs follow them in proportion.",
    )
