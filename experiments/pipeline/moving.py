"""What the reader moves: context, batch, its meaning, links between racks, the price of a chip."""

import altair as alt
import polars as pl

from roofrack.report import live, theme
from roofrack.report.controls import Control
from roofrack.report.format import quantity
from roofrack.report.page import Figure, Section

from .asked import outer_level
from .facts import FIXED, GROW, Facts
from .figures import MEMORY, depth_axis

DATASET = "depths"
PRICE_FACTORS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
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
        Control("batch", "Batch", _values(moved, "batch"), found.batch, "sequences"),
        Control("context", "Context", _values(moved, "context"), found.context, "tokens"),
    ]
    readings = tuple(r for r in (GROW, FIXED) if r in set(moved["reading"]))
    made.append(Control("reading", "Meaning of the batch", readings, found.reading))
    if outer:
        links = _values(moved, "links")
        start = min(links, key=lambda value: abs(value - outer[1]))
        made.append(Control("links", "Bandwidth between racks", links, start, "B/s"))
    return tuple(made)


def _values(moved: pl.DataFrame, name: str) -> tuple[float, ...]:
    return tuple(sorted(set(moved[name].to_list())))


def price(found: Facts) -> Control | None:
    """Return the control of the price of a chip; None for chips that cost nothing."""
    now = found.rung().row(0, named=True)["usd_per_chip_hour"]
    if not now:
        return None
    values = tuple(float(f"{now * factor:.4g}") for factor in PRICE_FACTORS)
    return Control("price", "Price of a chip", values, values[PRICE_FACTORS.index(1.0)], "USD/h")


def section(found: Facts, moved: pl.DataFrame) -> Section | None:
    """Return the section that the reader moves."""
    chosen = controls(found, moved)
    if live.rows_at_start(moved, chosen).is_empty():
        return None
    cost = price(found)
    every = (*chosen, cost) if cost else chosen
    told = (
        f"{found.pair}, stages of {found.words}. Move the batch, what it means, the context, the"
        " links and the price: every point is computed, none interpolated."
    )
    figures = (_memory(moved, chosen), _time(moved, chosen), _cost(moved, chosen, cost))
    return Section("Try it", (told,), figures, every)


def _memory(moved: pl.DataFrame, chosen: tuple[Control, ...]) -> Figure:
    words = " : ".join(f"datum.part == '{key}' ? '{name}'" for key, name in PARTS.items())
    bars = (
        live.chart(DATASET, chosen)
        .transform_fold(list(PARTS), as_=["part", "bytes"])
        .transform_calculate(part=f"{words} : ''")
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
    table = live.rows_at_start(moved, chosen)
    return Figure(
        "live_memory",
        "Memory of a chip by depth",
        bars.add_params(*live.parameters(chosen)).properties(height=260),
        _ends(table, "weights", "Weights", "B"),
        "With a longer context the cache outgrows the weights, and depth saves little.",
        table.select("depth", *PARTS, "fits"),
        UNITS,
        LABELS,
    )


def _time(moved: pl.DataFrame, chosen: tuple[Control, ...]) -> Figure:
    line = live.chart(DATASET, chosen).mark_line(point=True).encode(
        depth_axis("depth"),
        theme.axis(alt.Y, "tpot_s", "Time per output token", "s", zero=True),
    )  # fmt: skip
    line = theme.tooltips(
        line, ("depth", "Stages"), ("tpot_s", "Time per token", "s"), ("hops_s", "Hops", "s")
    )
    table = live.rows_at_start(moved, chosen)
    return Figure(
        "live_tpot",
        "Time per token by depth",
        line.add_params(*live.parameters(chosen)).properties(height=230),
        _ends(table, "tpot_s", "Time per token", "s"),
        "Slower links make hops longer; everything else of a token's time is inside the stages.",
        table.select("depth", "tpot_s", "hops_s"),
        UNITS,
        LABELS,
    )


def _cost(moved: pl.DataFrame, chosen: tuple[Control, ...], cost: Control | None) -> Figure:
    made = live.chart(DATASET, chosen)
    made = live.scaled(made, "usd", cost) if cost else made
    line = made.mark_line(point=True).encode(
        depth_axis("depth"), theme.axis(alt.Y, "usd", "Cost", "USD/Mtok", zero=True)
    )
    line = theme.tooltips(line, ("depth", "Stages"), ("usd", "Cost", "USD/Mtok"))
    table = live.rows_at_start(moved, chosen)
    every = (*chosen, cost) if cost else chosen
    return Figure(
        "live_cost",
        "Cost of a token by depth",
        line.add_params(*live.parameters(every)).properties(height=230),
        _ends(table, "usd", "Cost", "USD/Mtok"),
        "Under grow each stage has the batch, under fixed all stages share it.",
        table.select("depth", "usd", "fits"),
        UNITS,
        LABELS,
    )


def _ends(table: pl.DataFrame, column: str, words: str, unit: str) -> str:
    """Say where a curve begins and ends as the page opens."""
    first, last = table.row(0, named=True), table.row(-1, named=True)
    return (
        f"{words} by depth, as the page opens: {quantity(first[column], unit)} with"
        f" {first['depth']} stages, {quantity(last[column], unit)} with {last['depth']}."
    )
