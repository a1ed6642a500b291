"""What the reader moves: context, batch, its meaning, links between racks, the price of a chip."""

import altair as alt
import polars as pl

from roofrack.report import live, theme
from roofrack.report.controls import Control
from roofrack.report.format import quantity
from roofrack.report.page import Figure, Section

from ..common.moving import chip_price, in_words, values_of
from .asked import outer_level
from .facts import FIXED, GROW, Facts
from .figures import MEMORY, depth_axis

DATASET = "depths"
PARTS = dict(zip(("weights", "kv", "other"), MEMORY.values(), strict=True))
UNITS = {
    "weights": "B",
    "kv": "B",
    "other": "B",
    "tpot_s": "s",
    "hops_s": "s",
    "usd": "USD/Mtok",
    "links": "B/s",
}
LABELS = {
    "depth": "Stages",
    "weights": "Weights",
    "kv": "KV cache",
    "other": "Activations and buffers",
    "tpot_s": "Time per output token",
    "hops_s": "Hops",
    "usd": "Cost",
    "fits": "Fits",
    "links": "Between racks",
}


def controls(found: Facts, moved: pl.DataFrame) -> tuple[Control, ...]:
    """Return the controls that select rows: those with more than one value."""
    outer = outer_level(found.job.config)
    made = [
        Control("batch", "Batch", values_of(moved, "batch"), found.batch, "sequences"),
        Control("context", "Context", values_of(moved, "context"), found.context, "tokens"),
    ]
    readings = tuple(r for r in (GROW, FIXED) if r in set(moved["reading"]))
    made.append(Control("reading", "Meaning of the batch", readings, found.reading))
    if outer:
        links = values_of(moved, "links")
        start = min(links, key=lambda value: abs(value - outer[1]))
        made.append(Control("links", "Bandwidth between racks", links, start, "B/s"))
    return tuple(made)


def section(found: Facts, moved: pl.DataFrame) -> Section | None:
    """Return the section that the reader moves."""
    chosen = controls(found, moved)
    if live.rows_at_start(moved, chosen).is_empty():
        return None
    cost = chip_price(found.rung().row(0, named=True)["usd_per_chip_hour"])
    every = (*chosen, cost) if cost else chosen
    told = (
        f"{found.pair}, stages of {found.words}. Move the batch, what it means, the context, the"
        " links and the price: every point is computed, none interpolated."
    )
    figures = (_memory(moved, chosen), _time(moved, chosen), _cost(moved, chosen, cost))
    return Section("Try it", (told,), figures, every)


def _memory(moved: pl.DataFrame, chosen: tuple[Control, ...]) -> Figure:
    bars = (
        live.chart(DATASET, chosen)
        .transform_fold(list(PARTS), as_=["part", "bytes"])
        .transform_calculate(part=in_words(PARTS))
        .mark_bar()
        .encode(
            depth_axis("depth"),
            theme.axis(alt.Y, "bytes", "Memory of the fullest chip", "B", zero=True),
            **theme.series("part", "Memory for", list(PARTS.values()), by="colour"),
        )
    )
    bars = theme.stacked(bars, "part", list(PARTS.values()))
    bars = theme.tooltips(
        bars, ("depth", "Stages"), ("part", "Memory for", None), ("bytes", "Bytes", "B")
    )
    return _figure(
        "live_memory",
        "Memory of a chip by depth",
        bars.add_params(*live.parameters(chosen)).properties(height=260),
        "With a longer context the cache outgrows the weights, and depth saves little.",
        live.rows_at_start(moved, chosen).select("depth", *PARTS, "fits"),
        "Weights",
    )


def _time(moved: pl.DataFrame, chosen: tuple[Control, ...]) -> Figure:
    line = live.chart(DATASET, chosen).mark_line(point=True).encode(
        depth_axis("depth"),
        theme.axis(alt.Y, "tpot_s", "Time per output token", "s", zero=True),
    )  # fmt: skip
    line = theme.tooltips(
        line, ("depth", "Stages"), ("tpot_s", "Time per token", "s"), ("hops_s", "Hops", "s")
    )
    return _figure(
        "live_tpot",
        "Time per token by depth",
        line.add_params(*live.parameters(chosen)).properties(height=230),
        "Slower links make hops longer; everything else of a token's time is inside the stages.",
        live.rows_at_start(moved, chosen).select("depth", "tpot_s", "hops_s"),
        "Time per token",
    )


def _cost(moved: pl.DataFrame, chosen: tuple[Control, ...], cost: Control | None) -> Figure:
    made = live.chart(DATASET, chosen)
    made = live.scaled(made, "usd", cost) if cost else made
    line = made.mark_line(point=True).encode(
        depth_axis("depth"), theme.axis(alt.Y, "usd", "Cost", "USD/Mtok", zero=True)
    )
    line = theme.tooltips(line, ("depth", "Stages"), ("usd", "Cost", "USD/Mtok"))
    every = (*chosen, cost) if cost else chosen
    return _figure(
        "live_cost",
        "Cost of a token by depth",
        line.add_params(*live.parameters(every)).properties(height=230),
        "Under grow each stage has the batch, under fixed all stages share it.",
        live.rows_at_start(moved, chosen).select("depth", "usd", "fits"),
        "Cost",
    )


def _figure(
    key: str, title: str, chart: alt.Chart, caption: str, table: pl.DataFrame, words: str
) -> Figure:
    """Return a figure over depths that says where its first column, in words, begins and ends.

    `table` has the rows as the page opens: `depth`, that column, and others.
    """
    column = table.columns[1]
    first, last = table.row(0, named=True), table.row(-1, named=True)
    text = (
        f"{words} by depth, as the page opens: {quantity(first[column], UNITS[column])} with"
        f" {first['depth']} stages, {quantity(last[column], UNITS[column])} with {last['depth']}."
    )
    return Figure(key, title, chart, text, caption, table, UNITS, LABELS)
