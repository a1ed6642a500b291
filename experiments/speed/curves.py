"""Charts over batch, price and speed. Each is one idea, with the table behind it."""

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report.format import number, percent, quantity, times
from roofrack.report.page import Figure

from .blackboard import Blackboard
from .draw import (
    BATCH,
    BATCH_TIP,
    COST_TIP,
    LABELS,
    PAIR_TIP,
    PLAN_TIP,
    SPEED_TIP,
    UNITS,
    by_part,
    legend,
    machines,
    model_facet,
    models,
    pair_facet,
    pairs,
    parts_of,
    plain_legend,
    thin,
)
from .measures import gains, largest
from .rows import COST, PAIR, SPEED, TIERS, Facts


def bought(facts: Facts) -> Figure:
    """What each multiple of the normal price buys in speed."""
    normal = facts.tiers.filter(pl.col("tier") == "normal").select(*PAIR, base=COST, pace=SPEED)
    data = facts.frontier.join(normal, on=PAIR, how="left", maintain_order="left")
    data = data.with_columns(
        price=pl.col(COST) / pl.col("base"), gain=pl.col(SPEED) / pl.col("pace")
    )
    columns = ["pair", "machine", "model_name", "price", "gain", "batch", "plan"]
    data = data.filter(pl.col("price") >= 1).select(columns)
    wishes = facts.settings
    example = f"{times(wishes.price_ratio)} the price, {times(wishes.speed_ratio)} the speed"
    claim = pl.DataFrame({"model_name": models(facts)}).with_columns(
        price=pl.lit(wishes.price_ratio), gain=pl.lit(wishes.speed_ratio), words=pl.lit(example)
    )
    x = theme.axis(alt.X, "price", "Price over normal", log=True)
    y = theme.axis(alt.Y, "gain", "Speed over normal")
    line = alt.Chart().transform_filter("datum.words === null")
    line = line.mark_line(point=alt.OverlayMarkDef(size=22)).encode(x, y, **machines(facts))
    line = theme.tooltips(
        line,
        PAIR_TIP,
        ("price", "Price over normal"),
        ("gain", "Speed over normal"),
        BATCH_TIP,
        PLAN_TIP,
    )
    cross = alt.Chart().transform_filter("datum.words !== null")
    cross = cross.mark_point(shape="cross", size=160, color="currentColor")
    cross = cross.encode(x, y, tooltip=alt.Tooltip("words:N", title="The lecture"))
    both = pl.concat([data, claim], how="diagonal_relaxed")
    chart = alt.layer(line, cross, data=both).properties(height=230)
    each = "; ".join(f"{facts.label(pair)} {times(gain)}" for pair, gain in gains(facts).items())
    return Figure(
        "bought",
        "What each multiple of the normal price buys",
        chart.facet(facet=model_facet(facts), columns=3),
        "Speed over normal against price over normal, one panel per model and one line per"
        f" machine. Speed at no more than {times(wishes.price_ratio)} the normal price: {each}.",
        f"The cross is the lecture's example, {example}. A line above it sells more speed for that"
        " price, a line below it less. Where a line flattens, money buys hardly any speed.",
        data.drop("machine", "model_name"),
        {"batch": "sequences"},
        LABELS | {"price": "Price over normal", "gain": "Speed over normal"},
    )


def cost_over_batch(facts: Facts) -> Figure:
    """Cost per token of the cheapest plan at each batch, with the tiers marked."""
    columns = ["pair", "machine", "model_name", "batch", COST, SPEED, "plan", "tier"]
    lines = facts.best.with_columns(tier=pl.lit(None, pl.String)).select(columns)
    marked = facts.tiers.filter(pl.col("tier") != "fastest").select(columns)
    x, y = (
        theme.axis(alt.X, *BATCH, log=True),
        theme.axis(alt.Y, COST, "Cost", "USD/Mtok", log=True),
    )
    tips = (PAIR_TIP, ("tier", "Tier", None), BATCH_TIP, COST_TIP, SPEED_TIP, PLAN_TIP)
    colours = machines(facts)
    line = alt.Chart().transform_filter("datum.tier === null").mark_line().encode(x, y, **colours)
    tier = alt.Shape(
        "tier:N",
        title="Tier",
        sort=list(TIERS[:3]),
        legend=plain_legend(),
        scale=alt.Scale(domain=list(TIERS[:3]), range=["circle", "square", "triangle-up"]),
    )
    point = alt.Chart().transform_filter("datum.tier !== null").mark_point(size=90)
    point = point.encode(x, y, color=colours["color"], shape=tier)
    data = pl.concat([lines, marked])
    layers = alt.layer(theme.tooltips(line, *tips), theme.tooltips(point, *tips), data=data)
    words = "; ".join(
        f"{t} {quantity(r[COST], 'USD/Mtok')} at batch {number(r['batch'])}, {number(r[SPEED], 3)}"
        " tokens/s"
        for t in TIERS[:3]
        if (r := facts.tier(facts.shown, t))
    )
    return Figure(
        "cost",
        "Cost per token against batch",
        layers.properties(height=250).facet(facet=model_facet(facts), columns=3),
        "One panel per model, one line per machine; cost falls as the batch grows."
        f" {facts.label(facts.shown)}: {words}.",
        "Each line is the cheapest plan at each batch; its small steps are changes of plan, and it"
        " ends where no plan has memory for more sequences. A mark lies above its line where a"
        " quicker plan with more chips was chosen at that batch.",
        facts.best.select("pair", "batch", COST, SPEED, "chips", "plan"),
        UNITS,
        LABELS,
    )


def step_parts(facts: Facts) -> Figure:
    """Step time and its parts over batch, one pair at a time."""
    table = thin(facts, facts.home, per_row=len(theme.PARTS))
    used = parts_of(table)
    long = by_part(table).filter(pl.col("seconds") > 0)
    shown = facts.label(facts.shown)
    select = alt.binding_select(options=pairs(facts), name="Model and machine: ")
    pick = alt.param(name="chosen", value=shown, bind=select)
    x = theme.axis(alt.X, *BATCH, log=True)
    order = tuple(theme.PARTS.values())
    lines = alt.Chart(long).transform_filter("datum.pair === chosen").mark_line()
    lines = lines.encode(
        x,
        theme.axis(alt.Y, "seconds", "Time in one step", "s", log=True),
        **legend(theme.series("part", "Part", order), {theme.PARTS[p] for p in used}),
    )
    lines = theme.tooltips(
        lines,
        ("part", "Part", None),
        BATCH_TIP,
        ("seconds", "Time", "s"),
        ("share", "Share of all parts"),
    )
    whole = alt.Chart(table.select("pair", "batch", "plan", "step_s"))
    whole = whole.transform_filter("datum.pair === chosen")
    whole = whole.mark_line(strokeWidth=6, opacity=0.3, color="currentColor")
    whole = whole.encode(x, theme.axis(alt.Y, "step_s", "Time in one step", "s", log=True))
    whole = theme.tooltips(whole, PLAN_TIP, BATCH_TIP, ("step_s", "Step", "s"))
    row = facts.tier(facts.shown, "slow")
    first = facts.of(facts.home, facts.shown).sort("batch").row(0, named=True)
    return Figure(
        "step",
        "The time of one step, and what it is spent on",
        alt.layer(whole, lines).add_params(pick).properties(height=360),
        f"{shown}, {row['plan']}: a step takes {quantity(first['step_s'], 's')} at batch"
        f" {number(first['batch'])} and {quantity(row['step_s'], 's')} at batch"
        f" {number(row['batch'])}, where the largest part is {largest(row)[0]}.",
        "The broad grey line is the whole step. Its parts are drawn as if nothing overlapped, so"
        " together they can be longer. Level parts are shared by all sequences of the batch; rising"
        " parts are paid for each sequence. Choose another pair below the chart; each is drawn with"
        " the plan that serves its cheapest token.",
        table.select("pair", "plan", "batch", "step_s", *used),
        UNITS,
        LABELS,
    )


def part_shares(facts: Facts) -> Figure:
    """The share of each part over batch, all pairs side by side."""
    table = thin(facts, facts.home, per_row=len(theme.PARTS))
    used = parts_of(table)
    long = by_part(table)
    share = alt.Axis(format="%", values=[0, 0.5, 1])
    area = (
        alt.Chart(long)
        .mark_area()
        .encode(
            theme.axis(alt.X, *BATCH, log=True),
            alt.Y("low:Q", title="Share of all parts", axis=share, scale=alt.Scale(domain=[0, 1])),
            alt.Y2("high"),
            **legend(theme.parts(), {theme.PARTS[p] for p in used}),
        )
    )
    area = theme.tooltips(
        area,
        PAIR_TIP,
        ("part", "Part", None),
        BATCH_TIP,
        ("share", "Share"),
        ("seconds", "Time", "s"),
    )
    named = ((pair, *largest(facts.tier(pair, "slow"))) for pair in facts.pairs)
    words = "; ".join(
        f"{facts.label(pair)}: {part}, {percent(share)}" for pair, part, share in named
    )
    of_sum = [(pl.col(p) / pl.col("step_upper_s")).alias(p) for p in used]
    return Figure(
        "shares",
        "What a step is spent on as the batch grows",
        area.properties(height=110).facet(facet=pair_facet(facts), columns=3),
        f"One panel per pair. The largest part where the token is cheapest: {words}.",
        "On the left of each panel the batch is small, and what all sequences share fills the step:"
        " weights, launches, the network. To the right the KV cache and arithmetic, which each"
        " sequence pays for itself, take over. A panel ends where memory is full.",
        table.select("pair", "batch", *of_sum),
        {"batch": "sequences"},
        LABELS,
    )


def frontier(facts: Facts) -> Figure:
    """Cost against speed over all plans; linked with the batch that each point needs."""
    data = facts.frontier.select(
        "pair", "machine", "model_name", "batch", COST, SPEED, "chips", "plan"
    )
    brush = alt.selection_interval(name="window", encodings=["x"])
    machine = alt.selection_point(name="machine_picked", fields=["machine"], bind="legend")
    model = alt.selection_point(name="model_picked", fields=["model_name"], bind="legend")
    order = models(facts)
    shapes = [theme.SHAPES[i % len(theme.SHAPES)] for i in range(len(order))]
    shape = alt.Shape(
        "model_name:N",
        title="Model",
        sort=order,
        legend=plain_legend(),
        scale=alt.Scale(domain=order, range=shapes),
    )
    color = machines(facts, by="colour")["color"]
    seen = alt.when(machine & model & brush).then(alt.value(1)).otherwise(alt.value(0.07))
    cost = theme.axis(alt.Y, COST, "Cost", "USD/Mtok", log=True)

    def panel(x: alt.X) -> alt.Chart:
        points = alt.Chart(data).mark_point(size=48)
        points = points.encode(x, cost, color=color, shape=shape, opacity=seen)
        tips = (PAIR_TIP, BATCH_TIP, COST_TIP, SPEED_TIP, PLAN_TIP)
        return theme.tooltips(points, *tips).properties(height=360)

    left = panel(theme.axis(alt.X, SPEED, "Speed per user", "token/s"))
    right = panel(theme.axis(alt.X, *BATCH, log=True))
    quick, cheap = data.sort(SPEED).row(-1, named=True), data.sort(COST).row(0, named=True)
    return Figure(
        "frontier",
        "Cost against speed: every way to serve that no other beats",
        theme.columns(left.add_params(brush, machine, model), right),
        "Left, cost against speed per user; right, the same points against their batch. The"
        f" cheapest is {cheap['pair']} at {quantity(cheap[COST], 'USD/Mtok')} and"
        f" {number(cheap[SPEED])} tokens/s, the fastest {quick['pair']} at {number(quick[SPEED])}"
        f" tokens/s and {quantity(quick[COST], 'USD/Mtok')}.",
        "Better is lower and further right. Drag across the first chart to mark a range of speeds:"
        " the second shows the batches that give it. Click a machine or a model in the legend to"
        " see it alone (shift-click adds one, a double click shows all).",
        data.drop("machine", "model_name"),
        UNITS,
        LABELS,
    )


def board(found: Blackboard) -> Figure:
    """The blackboard's own cost curve."""
    words = {
        c: "no context" if c == 0 else f"context of {number(c)} tokens" for c in found.contexts
    }
    data = found.rows.with_columns(
        series=pl.col("context").replace_strict(words, return_dtype=pl.String)
    )
    data = data.select("series", "batch", "step_s", COST, "bound", "fits")
    lines = (
        alt.Chart(data)
        .mark_line()
        .encode(
            theme.axis(alt.X, *BATCH, log=True),
            theme.axis(alt.Y, COST, "Cost", "USD/Mtok", log=True),
            **theme.series("series", "Each sequence holds", tuple(words.values())),
        )
    )
    lines = theme.tooltips(
        lines, ("series", "Each sequence holds", None), BATCH_TIP, COST_TIP, ("step_s", "Step", "s")
    )
    rule = alt.Chart(pl.DataFrame({"batch": [found.critical_batch]}))
    rule = rule.mark_rule(strokeDash=[5, 4], strokeWidth=1.5).encode(
        theme.axis(alt.X, *BATCH, log=True),
        tooltip=alt.Tooltip("batch:Q", title="Critical batch", format=",.0f"),
    )
    costs = "; ".join(f"{words[c]} {times(found.penalty(c), 3)}" for c in found.contexts)
    return Figure(
        "blackboard",
        "Cost against batch on the lecture's blackboard",
        alt.layer(rule, lines).properties(height=300),
        f"Cost at batch 1 over the cheapest token: {costs}. A dashed rule stands at the critical"
        f" batch, {number(found.critical_batch)}.",
        f"{number(found.chips)} ideal chips and a model of {quantity(found.params_total)}"
        f" parameters, {quantity(found.params_active)} of them active; round prices. The dashed"
        f" line is the critical batch, {number(found.critical_batch)}.",
        data,
        UNITS,
        LABELS | {"series": "Each sequence holds", "bound": "Largest part"},
    )
