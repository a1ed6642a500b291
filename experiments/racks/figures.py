"""The charts about racks: one idea each, with the table behind it."""

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report.format import number, quantity, usd
from roofrack.report.page import Figure

from ..common.charts import quickest_steps, used_parts
from ..common.columns import COST, SPEED
from ..common.pages import chips
from .rows import Facts

UNITS = {
    COST: "USD/Mtok", SPEED: "token/s", "step_s": "s", "context": "tokens",
    **dict.fromkeys(theme.PARTS, "s"),
}  # fmt: skip
LABELS = {
    "label": "Rack", "plan": "Plan", "sequences": "Sequences", COST: "Cost",
    SPEED: "Speed per user", "step_s": "Step", "racks": "Racks", "context": "Context",
    "fits": "Fits", **theme.PARTS,
}  # fmt: skip
RACKS = ("racks", "Racks")


def order(facts: Facts) -> list[str]:
    """Return the domains in words, the smallest first."""
    return [f"{d} chips" for d in facts.domains]


def frontier(facts: Facts) -> Figure:
    """Cost against speed, a line for each domain."""
    table = facts.frontier.select("label", SPEED, COST, "sequences", "plan", "racks")
    lines = alt.Chart(table).mark_line(point=alt.OverlayMarkDef(size=28))
    lines = lines.encode(
        theme.axis(alt.X, SPEED, "Speed per user", "token/s"),
        theme.axis(alt.Y, COST, "Cost", "USD/Mtok", log=True),
        **theme.series("label", "Rack", order(facts)),
    )
    lines = theme.tooltips(
        lines, ("label", "Rack", None), ("plan", "Plan", None), ("racks", "Racks"),
        ("sequences", "Batch"), (COST, "Cost", "USD/Mtok"), (SPEED, "Speed", "token/s"),
    )  # fmt: skip
    rule = alt.Chart(pl.DataFrame({"speed": [facts.speed]}))
    rule = rule.mark_rule(strokeDash=[5, 4]).encode(x="speed:Q")
    words = "; ".join(
        f"{chips(row['domain'])} {usd(row[COST])}" for row in facts.best.iter_rows(named=True)
    )
    return Figure(
        "frontier",
        "What a larger rack buys: cost against speed",
        alt.layer(lines, rule).properties(height=340),
        f"One line for each size of the rack. At {number(facts.speed)} tokens/s:"
        f" {words or 'none'}.",
        "Better is lower and further right. The dashed rule is the speed at which the findings"
        " compare. Lines that lie on each other share their plans: the larger rack adds nothing.",
        table,
        UNITS,
        LABELS,
    )


def domains(facts: Facts) -> Figure:
    """The cheapest way to serve at the speed asked, by domain."""
    keep = ["label", "plan", "racks", "sequences", COST, SPEED, "step_s", "scale_out_fraction"]
    table = facts.best.select(*keep, "t_scale_up_s", "t_scale_out_s")
    return Figure(
        "domains",
        "The cheapest way to serve at that speed",
        None,
        "",
        f"At least {number(facts.speed)} tokens/s for each user. A plan uses whole racks, or a part"
        " of one; only the chips it uses are paid for.",
        table,
        UNITS,
        LABELS | {"scale_out_fraction": "Leaves the rack"},
    )


def floor(facts: Facts) -> Figure:
    """The quickest step of each domain, by part."""
    columns = ("label", "plan", "sequences", "step_s", *used_parts(facts.fastest))
    table = facts.fastest.select(columns)
    bars = quickest_steps(facts.fastest, order(facts), "label", "Rack")
    words = "; ".join(
        f"{chips(r['domain'])} {quantity(r['step_s'], 's')}"
        for r in facts.fastest.iter_rows(named=True)
    )
    return Figure(
        "floor",
        "The latency floor by size of the rack",
        bars.properties(height=46 * table.height),
        f"The quickest step at any cost: {words}. Stacked by part, nothing hidden.",
        "Weight reads shrink where more chips share them; launches and latencies of the network do"
        " not.",
        table,
        UNITS,
        LABELS,
    )


def room(facts: Facts, table: pl.DataFrame) -> Figure:
    """Sequences that one rack holds, by context."""
    some = table.filter(pl.col("sequences") > 0)
    lines = alt.Chart(some).mark_line(point=True).encode(
        theme.axis(alt.X, "context", "Context of each sequence", "tokens", log=True),
        theme.axis(alt.Y, "sequences", "Sequences in one rack", log=True),
        **theme.series("label", "Rack", order(facts)),
    )  # fmt: skip
    lines = theme.tooltips(
        lines, ("label", "Rack", None), ("context", "Context"), ("sequences", "Sequences"),
        ("params", "Largest model"),
    )  # fmt: skip
    most = some.sort("sequences").row(-1, named=True) if some.height else None
    text = (
        f"At most {number(most['sequences'])} sequences of {number(most['context'])} tokens in"
        f" {most['label']}."
        if most
        else "No rack holds a sequence."
    )
    return Figure(
        "room",
        "What fits into one rack",
        lines.properties(height=280) if most else None,
        f"Sequences against context, a line for each size of the rack. {text}",
        "A line ends where a chip has no memory for one sequence. The table has the parameters of"
        " the largest model of this kind that fits, its weights grown evenly.",
        table,
        {"context": "tokens", "weights": "byte", "capacity": "byte"},
        LABELS | {
            "chips": "Chips in use", "params": "Largest model", "params_total": "This model",
            "weights": "Weights", "capacity": "Memory",
        },
    )  # fmt: skip


def systems(table: pl.DataFrame) -> Figure:
    """What limits the rack itself: facts that hardware files publish, with their sources."""
    return Figure(
        "systems",
        "Cables, weight, power and cooling of systems",
        None,
        "",
        "As published; empty where no public figure was found. No cost is computed from these.",
        table,
        {"power_w": "W", "power_per_chip": "W", "cable_m": "m"},
        {
            "name": "System", "chips": "Chips", "power_w": "Power", "weight_kg": "Weight, kg",
            "cables": "Cables", "cable_m": "Cable, m", "cooling": "Cooling", "source": "Source",
            "power_per_chip": "Power of a chip's share", "weight_per_chip": "Weight of it, kg",
        },
    )  # fmt: skip
