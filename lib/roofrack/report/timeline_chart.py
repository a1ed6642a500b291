"""A timeline as a Gantt chart: stages below each other, time from left to right."""

import altair as alt
import polars as pl

from roofrack.errors import InputError
from roofrack.report import theme
from roofrack.schedules.after import AFTER
from roofrack.schedules.orders import BACKWARD, FORWARD, INPUTS, WEIGHTS

WORDS = {
    FORWARD: "Forward",
    BACKWARD: "Backward",
    INPUTS: "Backward, inputs",
    WEIGHTS: "Backward, weights",
    "gradients": "Gradients of other ranks",
    "tied": "Gradients of other ranks",
    "update": "Optimiser",
    "weights": "Weights of other ranks",
    "host": "Host and fixed",
    "fixed": "Host and fixed",
}
"""Kinds as the chart names them; each keeps its colour (its place in theme.PALETTE) everywhere."""
ORDER = tuple(dict.fromkeys(WORDS.values()))
AT_MOST = 20_000
"""Rows of a chart: a page with more is slow to open."""
_HEIGHT = 0.86
_ROW_PX = 26

assert set(AFTER) < set(WORDS)


def gantt_chart(rows: pl.DataFrame) -> alt.Chart:
    """Return the Gantt chart of the rows of a timeline (`Timeline.rows`, `schedules.gantt`).

    What a stage does at once lies in the two halves of its row. Raises InputError for more rows
    than a page can show.
    """
    if rows.height > AT_MOST:
        raise InputError(f"a chart of {rows.height:,} passes; at most {AT_MOST:,}: show fewer")
    stages = sorted(rows["stage"].unique().to_list())
    present = [words for words in ORDER if words in {WORDS[kind] for kind in rows["kind"].unique()}]
    colours = [theme.PALETTE[ORDER.index(words)] for words in present]
    chart = alt.Chart(_placed(rows)).mark_rect(stroke="currentColor", strokeWidth=0.3)
    chart = chart.encode(
        theme.axis(alt.X, "start_s", "Time", "s"),
        alt.X2("end_s"),
        alt.Y(
            "top:Q",
            title="Stage",
            scale=alt.Scale(domain=[0, len(stages)], nice=False, reverse=True),
            axis=alt.Axis(
                values=[i + _HEIGHT / 2 for i in range(len(stages))],
                labelExpr="format(floor(datum.value), 'd')",
                grid=False,
            ),
        ),
        alt.Y2("bottom"),
        alt.Color(
            "what:N",
            title=None,
            sort=present,
            scale=alt.Scale(domain=present, range=colours),
            legend=alt.Legend(symbolStrokeWidth=0),
        ),
    )
    chart = theme.tooltips(
        chart,
        ("what", "What", None),
        ("stage", "Stage"),
        ("microbatch", "Micro-batch"),
        ("start_s", "From", "s"),
        ("seconds", "Takes", "s"),
    )
    return chart.properties(height=max(4, len(stages)) * _ROW_PX)


def _placed(rows: pl.DataFrame) -> pl.DataFrame:
    """Add words and places: of two operations at once the forward has the upper half."""
    half = pl.col("overlapped")
    lower = half & (pl.col("kind") != FORWARD)
    top = pl.col("stage") + pl.when(lower).then(_HEIGHT / 2).otherwise(0.0)
    return rows.with_columns(
        what=pl.col("kind").replace_strict(WORDS),
        seconds=pl.col("end_s") - pl.col("start_s"),
        top=top,
        bottom=top + pl.when(half).then(_HEIGHT / 2).otherwise(_HEIGHT),
    )
