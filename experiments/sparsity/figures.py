"""The charts about sparsity: one idea each, with the table behind it."""

from collections.abc import Iterable

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report.format import number, percent, times, usd
from roofrack.report.page import Figure

from .found import Found, size
from .rows import COST, Facts

PARTS = list(theme.PARTS)
UNITS = {
    COST: "USD/Mtok", "low": "USD/Mtok", "high": "USD/Mtok", "few": "USD/Mtok", "own": "USD/Mtok",
    "tokens_per_s_per_user": "token/s", "step_s": "s", "context": "tokens",
    "mem_weights_bytes": "byte", "mem_capacity_bytes": "byte", **dict.fromkeys(PARTS, "s"),
}  # fmt: skip
LABELS = {
    "ratio": "Experts over experts per token", "total": "Parameters", "active": "Active",
    "place": "Layout", "where": "Where", "plan": "Plan", "sequences": "Sequences", COST: "Cost",
    "tokens_per_s_per_user": "Speed per user", "bound": "Binds", "racks": "Racks",
    "exchange": "Exchange over own work", "mem_weights_bytes": "Weights of a chip",
    "critical_batch": "All weights", "critical_batch_experts": "Experts",
    "step_s_rel_std": "Error (1 std)", "batch": "Batch", "share": "Share read",
    "touched": "Experts read", "grain": "Cut", "experts": "Experts", "per_token": "Per token",
    "width": "Width", "over": "Over one rack", "way": "Way", "copies_leaving": "Copies leaving",
    "change": "Change", "few": "Fewest experts", "own": "As it is", "growth": "Growth",
    "second": "Two racks over one", "effective": "Dense equal",
    "law": "Law", "expansion": "Expansion", "faster": "Network",
    **theme.PARTS,
}  # fmt: skip
RATIO = ("ratio", "Experts over experts per token")


def ratio_axis(facts: Facts) -> alt.X:
    """Return the axis of ratios, a tick for each."""
    ends = around(facts.ratios)
    return theme.axis(alt.X, "ratio", LABELS["ratio"], log=True, values=facts.ratios, domain=ends)


def around(values: Iterable[float], room: float = 1.15) -> tuple[float, float]:
    """Return the ends of a logarithmic axis, a little beyond the values."""
    found = list(values)
    return min(found) / room, max(found) * room


def where(racks: int) -> str:
    """Say over how many racks a plan is laid."""
    return "one rack" if racks == 1 else f"{racks} racks"


def capacity(found: Found) -> Figure:
    """Cost over the ratio, a line for each number of racks, with the error band."""
    f = found.facts
    wide = pl.col("step_s_rel_std").fill_null(0.0)
    table = f.best.with_columns(
        where=pl.col("racks").map_elements(lambda n: where(int(n)), return_dtype=pl.String),
        low=pl.col(COST) * (1 - wide),
        high=pl.col(COST) * (1 + wide),
    ).sort("racks", "ratio")
    order = list(table["where"].unique(maintain_order=True))
    keep = ["ratio", "where", "total", "active", "plan", "sequences", COST, "low", "high",
            "tokens_per_s_per_user", "bound", "step_s_rel_std", "mem_weights_bytes"]  # fmt: skip
    table = table.select(keep)
    ends = around([*table["low"], *table["high"]])
    x, y = ratio_axis(f), theme.axis(alt.Y, COST, "Cost", "USD/Mtok", log=True, domain=ends)
    series = theme.series("where", "Plans over", order)
    series["color"]["legend"]["symbolOpacity"] = 1  # the band's is faint
    lines = alt.Chart(table).mark_line(point=alt.OverlayMarkDef(size=36)).encode(x, y, **series)
    lines = theme.tooltips(
        lines, RATIO, ("where", "Plans over", None), ("total", "Parameters"),
        (COST, "Cost", "USD/Mtok"), ("plan", "Plan", None), ("sequences", "Batch"),
        ("bound", "Binds", None),
    )  # fmt: skip
    band = alt.Chart(table).mark_area(opacity=0.13).encode(
        x, alt.Y("low:Q", scale=alt.Scale(type="log")), alt.Y2("high:Q"),
        color=series["color"],
    )  # fmt: skip
    rule = alt.Chart(pl.DataFrame({"ratio": [found.ratio]})).mark_rule(strokeDash=[5, 4])
    least = f.least
    words = "; ".join(
        f"{number(r['ratio'])}: {usd(r[COST])} ({size(r['total'])})"
        for r in least.iter_rows(named=True)
    )
    return Figure(
        "capacity",
        "What capacity costs that a token does not use",
        alt.layer(band, lines, rule.encode(ratio_axis(f))).properties(height=340),
        f"Cost over the ratio of experts to experts per token, at {number(f.speed)} tokens/s or"
        f" more: {words}.",
        "To the right a layer has more experts, and a token visits as many as before: the"
        " parameters grow, the active ones stay. Each point is the cheapest plan and batch. The"
        " dashed rule is the model as it is; bands are one standard deviation, most of it common to"
        " all points.",
        table,
        UNITS,
        LABELS,
    )


def memory(found: Found) -> Figure:
    """Memory of the cheapest plan within one rack: weights, caches, free."""
    f = found.facts
    parts = {"mem_weights_bytes": "weights", "mem_kv_bytes": "KV cache"}
    rows = f.inside.with_columns(
        free=pl.col("mem_capacity_bytes") - pl.col("mem_total_bytes"),
        other=pl.col("mem_total_bytes") - pl.sum_horizontal(*parts),
    )
    named = {**parts, "other": "working buffers", "free": "free"}
    table = rows.select("ratio", "plan", "sequences", *named)
    long = table.unpivot(list(named), index=["ratio", "plan"], variable_name="part",
                         value_name="bytes").with_columns(
        pl.col("part").replace_strict(named), pl.col("ratio").map_elements(number, pl.String)
    )  # fmt: skip
    order = [number(r) for r in f.ratios]
    bars = alt.Chart(long).mark_bar().encode(
        alt.X("ratio:O", title=LABELS["ratio"], sort=order, axis=alt.Axis(labelAngle=0)),
        theme.axis(alt.Y, "bytes", "Memory of a chip", "B", zero=True),
        **theme.series("part", "Holds", list(named.values()), by="colour"),
    )  # fmt: skip
    bars = theme.stacked(bars, "part", list(named.values()))
    bars = theme.tooltips(
        bars, ("ratio", LABELS["ratio"], None), ("part", "Part", None), ("bytes", "Memory", "B"),
        ("plan", "Plan", None),
    )  # fmt: skip
    words = "; ".join(
        f"{number(r['ratio'])}: weights {percent(r['mem_weights_bytes'] / r['mem_capacity_bytes'])}"
        for r in rows.iter_rows(named=True)
    )
    return Figure(
        "memory",
        "What the memory of a chip holds, in the cheapest plan of one rack",
        bars.properties(height=260),
        f"Memory of a chip by ratio: {words}.",
        "Free memory could hold more sequences, which would all be slower. Where weights leave none"
        " free, they set the batch.",
        table,
        {name: "byte" for name in named},
        LABELS | {name: words.capitalize() for name, words in named.items()},
    )


def critical(found: Found) -> Figure:
    """The critical batch over the ratio, beside the lecture's rule."""
    f = found.facts
    rule = float(f.run.experiment["lecture_batch"])
    names = {"critical_batch": "all weights", "critical_batch_experts": "the experts alone",
             "rule": f"{number(rule)} x sparsity (the lecture)"}  # fmt: skip
    rows = f.all.filter("valid").group_by("ratio").agg(
        pl.col("critical_batch", "critical_batch_experts").min()
    ).with_columns(rule=rule * pl.col("ratio")).sort("ratio")  # fmt: skip
    long = rows.unpivot(list(names), index="ratio", variable_name="what", value_name="batch")
    long = long.with_columns(pl.col("what").replace_strict(names))
    lines = alt.Chart(long).mark_line(point=True).encode(
        ratio_axis(f),
        theme.axis(alt.Y, "batch", "Critical batch", "tokens", log=True),
        **theme.series("what", "Tokens for", list(names.values())),
    )  # fmt: skip
    lines = theme.tooltips(lines, RATIO, ("what", "Of", None), ("batch", "Tokens in a pass"))
    at = f.row(rows, found.ratio) or rows.row(0, named=True)
    return Figure(
        "critical",
        "How large a batch has to be",
        lines.properties(height=280),
        f"At a ratio of {number(at['ratio'])}: {number(at['critical_batch'])} tokens for all"
        f" weights, {number(at['critical_batch_experts'])} for the experts, {number(at['rule'])} by"
        " the lecture's rule.",
        "Tokens in a pass of one copy of the model from which its arithmetic takes longer than"
        " reading its weights.",
        rows,
        {},
        LABELS | {"rule": "The lecture's rule"},
    )


def read(found: Found) -> Figure:
    """Share of the experts that a batch visits, by batch."""
    some = found.touched.filter(pl.col("ratio") > 1.0)
    order = [number(r) for r in sorted(some["ratio"].unique())]
    drawn = some.with_columns(
        sparsity=pl.col("ratio").map_elements(number, return_dtype=pl.String)
    ).filter(pl.col("batch") <= 2.0**12)
    lines = alt.Chart(drawn).mark_line().encode(
        theme.axis(alt.X, "batch", "Tokens in a pass", log=True),
        alt.Y("share:Q", title="Experts of a layer that are read",
              axis=alt.Axis(format="%", tickCount=5)),
        **theme.series("sparsity", "Sparsity", order),
    )  # fmt: skip
    lines = theme.tooltips(
        lines, ("sparsity", LABELS["ratio"], None), ("batch", "Tokens in a pass"),
        ("touched", "Experts read"),
    )  # fmt: skip
    own = found.touched.filter(pl.col("ratio") == found.ratio)
    one = own.row(0, named=True)
    return Figure(
        "read",
        "How many experts a small batch reads",
        lines.properties(height=280),
        f"As it is, one token reads {number(one['touched'])} experts of a layer; the share grows to"
        " all with the batch.",
        "Tokens choose evenly and independently here: of E experts a batch B of k each reads"
        " E (1 - (1 - k/E)^B). Sparsity saves reading only in small batches.",
        found.touched.select("ratio", "batch", "touched", "share"),
        {},
        LABELS,
    )


def worth(found: Found) -> Figure:
    """Cost against the dense model of the same loss, a line for each law."""
    keep = ("law", "ratio", "expansion", "total", "active", "effective", COST, "plan")
    table = found.quality.select(keep).sort("law", "ratio")
    drawn = table.with_columns(words=pl.col("ratio").map_elements(number, return_dtype=pl.String))
    x = theme.axis(alt.X, "effective", "Dense model of the same loss", "parameters", log=True,
                   domain=around(table["effective"], 1.1))  # fmt: skip
    y = theme.axis(alt.Y, COST, "Cost", "USD/Mtok", log=True, domain=around(table[COST], 1.3))
    laws = list(table["law"].unique(maintain_order=True))
    lines = (
        alt.Chart(drawn)
        .mark_line(point=True)
        .encode(x, y, order=alt.Order("ratio:Q"), **theme.series("law", "By the law of", laws))
    )
    lines = theme.tooltips(
        lines, RATIO, ("law", "Law", None), ("expansion", "Expansion"), ("total", "Parameters"),
        ("effective", "Dense equal"), (COST, "Cost", "USD/Mtok"), ("plan", "Plan", None),
    )  # fmt: skip
    text = alt.Chart(drawn).mark_text(align="left", dx=6, dy=11).encode(x, y, text="words:N")
    words = "; ".join(
        f"{law}, "
        + ", ".join(
            f"{number(r['ratio'])}: {size(r['effective'])}"
            for r in table.filter(pl.col("law") == law).iter_rows(named=True)
        )
        for law in laws
    )
    return Figure(
        "worth",
        "What the capacity is worth, by laws of loss",
        alt.layer(lines, text).properties(height=300),
        f"Dense model of the same loss by ratio: {words}.",
        "Beside each point its ratio. Both laws are extrapolated here (see the limits). Each"
        " doubling of the experts adds less than the one before, and costs more.",
        table,
        UNITS,
        LABELS,
    )


def turns(found: Found) -> Figure | None:
    """What one changed number makes of the price of capacity."""
    table = found.changed.drop_nulls("growth") if found.changed.height else found.changed
    if table.height < 2:
        return None
    table = table.with_columns(
        change=pl.when(pl.col("change") == "").then(pl.lit("as it is")).otherwise("change")
    ).sort("growth")
    order = table["change"].to_list()
    x = theme.axis(alt.X, "growth", "Cost of the model over that with the fewest experts",
                   zero=True)  # fmt: skip
    y = alt.Y("change:N", title=None, sort=order, axis=alt.Axis(labelLimit=240))
    bars = alt.Chart(table).mark_bar(height=16).encode(
        x, y, opacity=alt.condition("datum.change == 'as it is'", alt.value(1.0), alt.value(0.6))
    )  # fmt: skip
    bars = theme.tooltips(
        bars, ("change", "Change", None), ("growth", "Growth"), ("few", "Fewest", "USD/Mtok"),
        ("own", "As it is", "USD/Mtok"),
    )  # fmt: skip
    named = table.with_columns(words=pl.col("growth").map_elements(times, return_dtype=pl.String))
    text = alt.Chart(named).mark_text(align="left", dx=6).encode(x, y, text="words:N")
    return Figure(
        "turns",
        "What would change the answer",
        alt.layer(bars, text).properties(height=28 * table.height + 20),
        "; ".join(f"{r['change']}: {times(r['growth'])}" for r in table.iter_rows(named=True))
        + ".",
        "One number changed at a time, plan and batch chosen anew. Short bars: capacity is cheap.",
        table.select("change", "few", "own", "growth", "second"),
        UNITS,
        LABELS,
    )
