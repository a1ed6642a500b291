"""Charts of a pipeline's depth: memory, time, money, and how deep it has to be."""

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report.format import number, quantity, times
from roofrack.report.page import Figure

from ..common.columns import COLUMN_UNITS, COST
from .asked import DEPTHS, Need
from .facts import FIXED, GROW, Facts, cheapest, same_chips

UNITS = COLUMN_UNITS | {"bytes": "B", "batch": "sequences", "params_total": "", "m": ""}
LABELS = {
    "pp": "Stages",
    "depth": "Stages",
    "part": "Memory for",
    "bytes": "Memory of a chip",
    "batch": "Batch",
    "way": "Way to serve",
    COST: "Cost",
    "tpot_s": "Time per output token",
    "t_pipeline_s": "Hops",
    "chips": "Chips",
    "params_total": "Parameters",
    "relative": "Cost over that of the least depth",
    "schedule": "Schedule",
    "m": "Micro-batches",
    "bubble_fraction": "Idle share of the passes",
}
MEMORY = {
    "mem_weights_bytes": "Weights",
    "mem_kv_bytes": "KV cache",
    "other": "Activations and buffers",
}
"""Parts of a chip's memory in words, the lowest of a bar first."""
READINGS = {GROW: "Each stage has the batch (grow)", FIXED: "All stages share the batch (fixed)"}


def depth_axis(name: str = "pp") -> alt.X:
    """Return the axis of depths, each a place of its own."""
    return alt.X(f"{name}:O", title="Pipeline stages", axis=alt.Axis(labelAngle=0))


def memory(found: Facts) -> Figure:
    """Weights, cache and the rest of a chip, by depth, in both readings."""
    both = [r for r in (GROW, FIXED) if found.rung(r).height]
    taken = pl.col("mem_weights_bytes") + pl.col("mem_kv_bytes")
    rows = found.ladder.filter(batch=found.batch).with_columns(
        other=pl.col("mem_total_bytes") - taken,
        reading=pl.col("reading").replace_strict(READINGS, return_dtype=pl.String),
    )
    long = rows.unpivot(
        list(MEMORY), index=["pp", "reading"], variable_name="part", value_name="bytes"
    ).with_columns(pl.col("part").replace_strict(MEMORY, return_dtype=pl.String))
    bars = (
        alt.Chart(long)
        .mark_bar()
        .encode(
            depth_axis(),
            theme.axis(alt.Y, "bytes", "Memory of the fullest chip", "B", zero=True),
            **theme.series("part", "Memory for", list(MEMORY.values()), by="colour"),
        )
    )
    bars = theme.tooltips(
        theme.stacked(bars, "part", list(MEMORY.values())),
        ("pp", "Stages"), ("part", "Memory for", None), ("bytes", "Bytes", "B"),
    )  # fmt: skip
    order = [READINGS[r] for r in both]
    header = alt.Header(labelFontSize=12)
    chart = bars.properties(width=300, height=260).facet(
        alt.Facet("reading:N", title=None, sort=order, header=header), columns=2
    )
    rung = found.rung()
    first, last = rung.row(0, named=True), rung.row(-1, named=True)
    return Figure(
        "memory",
        "Depth saves memory for weights, not for the cache",
        chart,
        f"Stacked bars by depth. With {first['pp']} stages: weights"
        f" {quantity(first['mem_weights_bytes'], 'B')}, cache"
        f" {quantity(first['mem_kv_bytes'], 'B')}; with {last['pp']}: weights"
        f" {quantity(last['mem_weights_bytes'], 'B')}, cache"
        f" {quantity(last['mem_kv_bytes'], 'B')}.",
        f"{found.pair}: stages of {found.words}, batch {number(found.batch)}, context"
        f" {number(found.context)} tokens. Left each stage works on its own batch, so that as many"
        " batches are in flight as there are stages; right one batch is divided over them.",
        long,
        UNITS,
        LABELS | {"reading": "Meaning of the batch"},
    )


def latency(found: Facts) -> Figure:
    """Time per token by depth, and the hops in it."""
    rows = found.rung().select("pp", "tpot_s", "t_pipeline_s", "chips")
    parts = {"rest": "Stages", "t_pipeline_s": "Hops between stages"}
    long = rows.with_columns(rest=pl.col("tpot_s") - pl.col("t_pipeline_s")).unpivot(
        list(parts), index=["pp", "tpot_s"], variable_name="part", value_name="seconds"
    ).with_columns(pl.col("part").replace_strict(parts, return_dtype=pl.String))  # fmt: skip
    bars = (
        alt.Chart(long)
        .mark_bar()
        .encode(
            depth_axis(),
            theme.axis(alt.Y, "seconds", "Time per output token", "s", zero=True),
            **theme.series("part", "Spent in", list(parts.values()), by="colour"),
        )
    )
    bars = theme.stacked(bars, "part", list(parts.values()))
    bars = theme.tooltips(
        bars, ("pp", "Stages"), ("part", "Spent in", None), ("seconds", "Time", "s")
    )
    first, last = rows.row(0, named=True), rows.row(-1, named=True)
    return Figure(
        "latency",
        "A token's time through stages of equal chips",
        bars.properties(height=240),
        f"From {quantity(first['tpot_s'], 's')} with {first['pp']} stages to"
        f" {quantity(last['tpot_s'], 's')} with {last['pp']}, of which hops take"
        f" {quantity(last['t_pipeline_s'], 's')}.",
        "A token passes all stages in turn, so depth does not shorten its way; it adds the hops,"
        " waits for the fullest stage, and fixed costs of each stage. Parts are drawn as if nothing"
        " overlapped.",
        rows,
        UNITS,
        LABELS,
    )


def cost(found: Facts) -> Figure | None:
    """Cost by depth, in both readings and on equal chips, over that of the least depth."""
    ways = {READINGS[r]: found.rung(r) for r in (GROW, FIXED) if found.rung(r).height}
    ways["The same chips, shared batch"] = same_chips(found)
    base = found.rung().row(0, named=True)[COST]
    made = [
        rows.select("pp", COST, "tpot_s", "chips", way=pl.lit(name))
        for name, rows in ways.items()
        if rows.height
    ]
    data = pl.concat(made).with_columns(relative=pl.col(COST) / base)
    order = [name for name in ways if name in set(data["way"])]
    lines = (
        alt.Chart(data)
        .mark_line(point=True)
        .encode(
            theme.axis(alt.X, "pp", "Pipeline stages", log=True, values=list(found.depths)),
            theme.axis(alt.Y, "relative", "Cost over that of the least depth", log=True),
            **theme.series("way", "Batch", order),
        )
    )
    lines = theme.tooltips(
        lines, ("way", "Batch", None), ("pp", "Stages"), (COST, "Cost", "USD/Mtok"),
        ("relative", "Over the least depth"), ("chips", "Chips"),
    )  # fmt: skip
    worst = data.sort("relative").row(-1, named=True)
    return Figure(
        "cost",
        "What a deeper pipeline does to the cost of a token",
        lines.properties(height=280),
        f"Lines over depth, as multiples of {quantity(base, 'USD')} per million tokens. The highest"
        f" is {times(worst['relative'])}, {worst['way']}, {worst['pp']} stages.",
        "Where each stage keeps its batch the reading of weights is shared by as many tokens as"
        " before. Where one batch is divided, it is shared by fewer.",
        data.select("way", "pp", "chips", COST, "tpot_s", "relative"),
        UNITS,
        LABELS | {"way": "Batch"},
    )


def bests(found: Facts) -> Figure | None:
    """The cheapest way to serve at each depth, all layouts and batches tried."""
    rows = cheapest(found)
    if rows.is_empty():
        return None
    shown = ("mem_weights_bytes", "mem_kv_bytes")
    table = rows.select("pp", "tp", "dp", "ep", "batch", "chips", COST, "tpot_s", *shown)
    bars = (
        alt.Chart(table)
        .mark_bar(size=34)
        .encode(depth_axis(), theme.axis(alt.Y, COST, "Cost", "USD/Mtok", zero=True))
    )
    written = f"{theme.label_expression('datum.tpot_s', 's')} + ' a token'"
    text = alt.Chart(table).transform_calculate(label=written).mark_text(dy=-8)
    text = text.encode(depth_axis(), alt.Y(f"{COST}:Q"), alt.Text("label:N"))
    bars = theme.tooltips(
        bars, ("pp", "Stages"), (COST, "Cost", "USD/Mtok"), ("batch", "Batch", "sequences"),
        ("tpot_s", "Time per token", "s"), ("tp", "TP"), ("dp", "DP"),
    )  # fmt: skip
    row = table.sort(COST).row(0, named=True)
    return Figure(
        "cheapest",
        "The cheapest token at each depth, with the batch that memory allows",
        alt.layer(bars, text).properties(height=240),
        f"The cheapest is {quantity(row[COST], 'USD')} per million tokens with {row['pp']} stages"
        f" and a batch of {number(row['batch'])} for each pass.",
        "All layouts of a stage within one rack and all batches of the run. Over each bar stands"
        " the time per token: the memory that weights leave is filled with sequences, which takes"
        " longer for each of them.",
        table,
        UNITS,
        LABELS | {"tp": "TP", "dp": "DP", "ep": "EP"},
    )


def needed(found: Facts, need: Need) -> Figure | None:
    """The least depth that fits, by the size of the weights."""
    rows = need.rows.filter(pl.col("pp").is_not_null())
    if rows.is_empty():
        return None
    names = {b: f"{number(b)} sequences" for b in sorted(set(need.rows["batch"].to_list()))}
    data = rows.with_columns(way=pl.col("batch").replace_strict(names, return_dtype=pl.String))
    lines = alt.Chart(data).mark_line(point=True, interpolate="step-before").encode(
        theme.axis(alt.X, "params_total", "Parameters", log=True),
        theme.axis(alt.Y, "pp", "Least number of stages", log=True, values=DEPTHS),
        **theme.series("way", "In each stage's batch", list(names.values())),
    )  # fmt: skip
    lines = theme.tooltips(
        lines, ("way", "Batch", None), ("params_total", "Parameters"), ("pp", "Stages")
    )
    first = max(data.filter(pp=1)["params_total"].to_list(), default=None)
    told = f"One stage fits up to {quantity(first)} of the sizes tried. " if first else ""
    return Figure(
        "need",
        "How large weights need a pipeline",
        lines.properties(height=260),
        f"Least depth by parameters. {told}With {need.grown} added the least depth rises to"
        f" {max(data['pp'].to_list())}.",
        f"{found.pair} with more {need.grown}, everything else as it is: the least depth, in powers"
        f" of two, at which a chip of {found.words} has room. One stage is one rack or less.",
        data.select("way", "params_total", "pp"),
        UNITS,
        LABELS | {"way": "Batch", "pp": "Least number of stages"},
    )
