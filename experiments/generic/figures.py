"""One figure for each result against the longest numeric axis, and the table of the best rows."""

from collections.abc import Mapping

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report.format import listed, quantity
from roofrack.report.page import Figure, Section
from roofrack.results.run import Run

from ..common.columns import COST, written
from .findings import where
from .rows import ASKED, Summary

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


def sections(run: Run, found: Summary) -> tuple[Section, ...]:
    """Return the figures, and the table of the cheapest points."""
    units = written(run.units)
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
        f"From {quantity(low[column], unit)} ({where(found, low)}) to"
        f" {quantity(high[column], unit)} ({where(found, high)}).",
        (
            "Each point is the cheapest that can run and fit there."
            if len(found.axes) > 1
            else "Points that can run and fit."
        ),
        data,
        units,
        WORDS | {"series": "Model and machine"},
    )
