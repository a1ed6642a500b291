"""Charts of what to buy next, and of what has to fit what."""

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report.format import number, percent, times, usd
from roofrack.report.page import Figure

from ..common.columns import COST
from ..common.pages import setting
from .found import Found
from .maps import fitting, grid

_MOST_BARS = 14


def tornado(found: Found) -> Figure | None:
    """Elasticities of the pair shown, machine and model."""
    table = found.tornado.head(_MOST_BARS)
    if table.is_empty():
        return None
    order = table["what"].to_list()
    kinds = ["machine", "model"]
    bars = alt.Chart(table).mark_bar().encode(
        theme.axis(alt.X, "elasticity", "Change of the cost for 1 % more", "%", zero=True),
        alt.Y("what:N", title=None, sort=order, axis=alt.Axis(labelLimit=220)),
        **theme.series("kind", "Number of the", kinds, by="colour"),
    )  # fmt: skip
    text = alt.Chart(table).transform_calculate(
        place="max(datum.elasticity, 0)", written="format(datum.elasticity, '+.2f') + ' %'"
    )
    text = text.mark_text(align="left", dx=5, fontSize=11).encode(
        alt.X("place:Q"), alt.Y("what:N", sort=order), text="written:N"
    )
    words = "; ".join(
        f"{r['what']} {number(r['elasticity'], 2)} %" for r in table.head(6).iter_rows(named=True)
    )
    bars = theme.tooltips(
        bars, ("what", "Number", None), ("path", "Key", None), ("elasticity", "Per 1 %", "%")
    )
    return Figure(
        "tornado",
        f"What the cost depends on: {found.facts.pair}",
        alt.layer(bars, text).properties(height=24 * table.height),
        f"Bars of the change of cost for 1 % more of each number: {words}.",
        "Left is cheaper. Plan and batch are held, so a larger memory shows only where a larger"
        " batch would be chosen (next chart but one). Numbers of the model say what its shape"
        " costs: 1 % more layers, heads or experts.",
        found.tornado,
        {},
        {"what": "Number", "kind": "Of the", "path": "Key", "elasticity": "Per 1 %, in %"},
    )


def nexts(found: Found) -> Figure | None:
    """The map of the number worth most."""
    f, table = found.facts, found.nexts
    if table.is_empty():
        return None
    table = f.named(table).with_columns(size=pl.col("elasticity").abs())
    order = table.group_by("what").len().sort("len", "what", descending=[True, False])
    names = order["what"].to_list()
    base = grid(found, alt.Chart(table))
    cells = base.mark_rect(opacity=0.45).encode(
        color=theme.series("what", "Worth most", names, by="colour")["color"]
    )
    cells = theme.tooltips(
        cells, ("model", "Model", None), ("machine", "Machine", None), ("what", "Number", None),
        ("elasticity", "1 % more changes the cost by", "%"), ("worth", "Worth up to", "USD/h"),
    )  # fmt: skip
    text = base.transform_calculate(written="format(datum.size, '.2f')").mark_text(
        **fitting(found, 26)
    )
    text = text.encode(text="written:N")
    return Figure(
        "nexts",
        "Which number of the machine is worth most",
        alt.layer(cells, text).properties(height=24 * table["machine"].n_unique() + 30),
        "A grid of machines and models, coloured by the number whose change by 1 % changes the cost"
        f" most: {', '.join(f'{w} in {n}' for w, n in order.iter_rows())}.",
        "The figure in a cell is the change in per cent for 1 % of that number. Where it is far"
        " below 1, the cost is spread over several resources, or over launches that no number of"
        " the data sheet shortens.",
        table.drop("size"),
        {"worth": "USD/h"},
        {"machine": "Machine", "model": "Model", "what": "Number", "elasticity": "Per 1 %, in %",
         "worth": "1 % is worth, per chip"},
    )  # fmt: skip


def bought(found: Found) -> Figure | None:
    """What a number some times better saves."""
    f, table = found.facts, found.bought
    if table.is_empty():
        return None
    table = table.select("what", "saving", "worth", COST, "plan", "batch", "bound")
    factor = times(setting(f.run, "factor", above=1.0))
    order = table["what"].to_list()
    base = alt.Chart(table).encode(
        alt.Y("what:N", title=None, sort=order, axis=alt.Axis(labelLimit=220))
    )
    bars = base.mark_bar().encode(
        alt.X(
            "saving:Q",
            title=f"Saved of the cost, {factor} better",
            axis=alt.Axis(format="%", tickCount=5),
        )
    )
    bars = theme.tooltips(
        bars, ("what", "Number", None), ("saving", "Saved"), ("worth", "Worth up to", "USD/h"),
        ("plan", "Plan", None), ("batch", "Batch"),
    )  # fmt: skip
    text = base.transform_calculate(
        written="format(datum.saving, '.0%') + ', worth $' + format(datum.worth, '.2f') + '/h'"
    ).mark_text(align="left", dx=5, fontSize=11)
    text = text.encode(alt.X("saving:Q"), text="written:N")
    words = "; ".join(
        f"{r['what']} {percent(r['saving'])}, worth {usd(r['worth'])}"
        for r in table.head(4).iter_rows(named=True)
    )
    return Figure(
        "bought",
        f"What {factor} more of a number saves: {f.pair}",
        alt.layer(bars, text).properties(height=28 * table.height),
        f"Bars of the share of the cost saved: {words}.",
        "Plan and batch are chosen again for each. Worth: what an hour of a chip may cost more"
        " until nothing is saved. What the part itself costs is not known and has no price here.",
        table,
        {"worth": "USD/h", COST: "USD/Mtok", "batch": "sequences"},
        {"what": "Number", "saving": "Saved", "worth": "Worth up to, per chip", COST: "Cost",
         "plan": "Plan", "batch": "Batch", "bound": "Longest part"},
    )  # fmt: skip


def domains(found: Found) -> Figure | None:
    """Cost against the size of the scale-up domain, a line for each model with experts."""
    f = found.facts
    if found.domains.is_empty():
        return None
    table = found.domains.select(
        "name", "experts", "domain", "over", COST, "plan", "bound", "scale_out_fraction"
    )
    order = table["name"].unique(maintain_order=True).to_list()
    lines = alt.Chart(table).mark_line(point=True).encode(
        theme.axis(alt.X, "domain", "Chips in a scale-up domain", log=True,
                   values=sorted(table["domain"].unique())),
        theme.axis(alt.Y, "over", "Cost over the least of the line"),
        **theme.series("name", "Model", order),
    )  # fmt: skip
    lines = theme.tooltips(
        lines, ("name", "Model", None), ("experts", "Experts"), ("domain", "Domain", "chips"),
        ("over", "Over the least"), (COST, "Cost", "USD/Mtok"), ("plan", "Plan", None),
        ("bound", "Longest part", None), ("scale_out_fraction", "Leaves the domain"),
    )  # fmt: skip
    smallest = float(table["domain"].sort()[0])
    small = table.filter(pl.col("domain") == smallest)
    words = "; ".join(
        f"{r['name']} ({number(r['experts'])} experts) {times(r['over'])}"
        for r in small.iter_rows(named=True)
    )
    return Figure(
        "domains",
        "Scale-up size against experts",
        lines.properties(height=300),
        f"In domains of {number(smallest)} chips: {words}.",
        f"The chips, links and prices of {f.machines[f.shown[0]]}, joined otherwise. A line is"
        " level where the best plan fits the smaller domain. Switches have no price of their own"
        " here, so a larger domain costs nothing.",
        table,
        {COST: "USD/Mtok"},
        {"name": "Model", "experts": "Experts", "domain": "Domain", "over": "Over the least",
         COST: "Cost", "plan": "Plan", "bound": "Longest part",
         "scale_out_fraction": "Leaves the domain"},
    )  # fmt: skip


def heads(found: Found) -> Figure | None:
    """Cost against TP, a line for each model, copies of the cache marked."""
    f = found.facts
    if found.heads.is_empty():
        return None
    table = found.heads.with_columns(
        line=pl.when(pl.col("heads") == 1)
        .then(pl.format("{} (latent)", "name"))
        .otherwise(pl.format("{} ({})", "name", pl.col("heads").cast(pl.Int64))),
        held=pl.when(pl.col("copies") > 1).then(pl.lit("cache in copies"))
        .otherwise(pl.lit("cache divided")),
    ).select("line", "tp", "heads", "copies", "held", "over", COST, "plan")  # fmt: skip
    order = table["line"].unique(maintain_order=True).to_list()
    x = theme.axis(alt.X, "tp", "TP", log=True, values=sorted(table["tp"].unique()))
    y = theme.axis(alt.Y, "over", "Cost over the model's best TP", log=True)
    lines = (
        alt.Chart(table).mark_line().encode(x, y, **theme.series("line", "Model (KV heads)", order))
    )
    dots = alt.Chart(table).transform_filter("datum.copies > 1").mark_point(size=90, filled=False)
    dots = dots.encode(x, y, color=theme.series("line", "Model (KV heads)", order)["color"])
    tips = (
        ("line", "Model", None), ("tp", "TP"), ("copies", "Copies of the cache"),
        ("over", "Over the best"), (COST, "Cost", "USD/Mtok"), ("plan", "Plan", None),
    )  # fmt: skip
    last = table.sort("tp").group_by("line", maintain_order=True).last()
    words = "; ".join(
        f"{r['line']} at TP {number(r['tp'])} {times(r['over'])}"
        for r in last.iter_rows(named=True)
    )
    return Figure(
        "heads",
        f"KV heads against TP, on {f.machines[f.shown[0]]}",
        alt.layer(theme.tooltips(lines, *tips), theme.tooltips(dots, *tips)).properties(height=300),
        f"Cost of the cheapest plan of each TP over that of the best: {words}.",
        "A cache is divided by its KV heads and no further; a circle marks where TP exceeds them"
        " and each entry is held several times. A latent has no heads to divide: its sequences are"
        " divided instead (DP).",
        table,
        {COST: "USD/Mtok"},
        {"line": "Model (KV heads)", "tp": "TP", "heads": "KV heads", "copies": "Copies",
         "held": "Cache", "over": "Over the best", COST: "Cost", "plan": "Plan"},
    )  # fmt: skip


def wired(found: Found) -> Figure | None:
    """What a torus costs beside switches."""
    if found.wired.is_empty():
        return None
    table = found.wired
    order = table["model"].unique(maintain_order=True).to_list()
    dots = alt.Chart(table).mark_point(size=90).encode(
        theme.axis(alt.X, "over", "Cost on the torus over that behind switches"),
        alt.Y("model:N", title=None, sort=order, axis=alt.Axis(labelLimit=180)),
        **theme.series("machine", "Machine", sorted(table["machine"].unique()), by="shape"),
    )  # fmt: skip
    dots = theme.tooltips(
        dots, ("machine", "Machine", None), ("topology", "Wired", None), ("model", "Model", None),
        ("over", "Over switches"), ("network", "Network of a step"), ("torus_plan", "Plan", None),
    )  # fmt: skip
    words = "; ".join(
        f"{r['model']} on {r['machine']} {times(r['over'], 3)}"
        for r in table.head(4).iter_rows(named=True)
    )
    return Figure(
        "wired",
        "Torus against all-to-all",
        dots.properties(height=30 * len(order)),
        f"Cost on the torus over the cost behind switches of the same bandwidth: {words}.",
        "1 means that the wiring does not matter. Traffic between experts crosses a torus in many"
        " hops that share its links; all-gathers along its axes do not suffer so.",
        table,
        {"torus": "USD/Mtok", "switched": "USD/Mtok"},
        {"machine": "Machine", "topology": "Wired", "model": "Model", "torus": "On the torus",
         "torus_plan": "Plan", "switched": "Behind switches", "switched_plan": "Plan there",
         "over": "Ratio", "network": "Network of a step"},
    )  # fmt: skip
