"""The charts of "what does speed cost?", each with the table behind it."""

from typing import Any

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report.format import number, quantity, times
from roofrack.report.page import Figure
from roofrack.results.schema import COLUMNS

from .blackboard import Blackboard
from .findings import penalties, price_range, same_plan_sale, shares
from .rows import COST, PAIR, SPEED, TIERS, Facts

UNITS = {name: column.unit.replace("Mtoken", "Mtok") for name, column in COLUMNS.items()}
UNITS |= {"batch": "sequences", "cost_low": "USD/Mtok", "cost_high": "USD/Mtok"}
LABELS = {
    "pair": "Model and machine", "batch": "Batch", "plan": "Plan", "tier": "Tier",
    COST: "Cost", SPEED: "Speed per user", "step_s": "Step", "tpot_s": "Time per output token",
    "chips": "Chips",
}  # fmt: skip
TIER_NAMES = {t: t for t in TIERS}
BATCH = ("batch", "Batch", "sequences")
_PANEL = 190  # px, height of a small multiple
_ROW = 26  # px, height of a pair in charts with a line for each


def _thin(table: pl.DataFrame) -> pl.DataFrame:
    """Keep batches that are 2^n or 3 * 2^n, and each pair's last: enough for a line."""
    kept = [2.0**n * f for n in range(40) for f in (1, 1.5)]
    last = pl.col("batch") == pl.col("batch").max().over(PAIR)
    return table.filter(pl.col("batch").cast(pl.Float64).is_in(kept) | last)


def _parts(table: pl.DataFrame, *, share: bool = False) -> pl.DataFrame:
    """Return one row per part of each step: `part`, `seconds` and its `share` of the sum."""
    keep = [*PAIR, "pair", "batch", "plan", "step_s", "step_upper_s"]
    used = [p for p in theme.PARTS if table[p].max() and float(table[p].max()) > 0]  # type: ignore[arg-type]
    long = table.select(*keep, *used).unpivot(used, index=keep, variable_name="part", value_name="seconds")
    return long.with_columns(
        pl.col("part").replace_strict(theme.PARTS), share=pl.col("seconds") / pl.col("step_upper_s")
    )


def _limited(encodings: dict[str, Any], table: pl.DataFrame) -> dict[str, Any]:
    """Show only the parts that occur in the legend; colours stay where they are."""
    present = set(table["part"])
    for channel in encodings.values():
        channel["legend"]["values"] = [name for name in theme.PARTS.values() if name in present]
    return encodings


def _by_pair(facts: Facts, table: pl.DataFrame) -> list[str]:
    """Return the names of the pairs of a table, in the order of the run."""
    present = set(table["pair"])
    return [facts.label(pair) for pair in facts.pairs if facts.label(pair) in present]


def _machines(facts: Facts, by: str = "dash") -> dict[str, Any]:
    order = [facts.machines[key] for key in dict.fromkeys(pair[0] for pair in facts.pairs)]
    return theme.series("machine", "Machine", order, by=by)  # type: ignore[arg-type]


def _models(facts: Facts) -> list[str]:
    return [facts.models[key] for key in dict.fromkeys(pair[1] for pair in facts.pairs)]


def step_parts(facts: Facts) -> Figure:
    """Step time and its parts over batch, one pair at a time."""
    table = _thin(facts.home)
    long = _parts(table).filter(pl.col("seconds") > 0)
    names, shown = _by_pair(facts, table), facts.label(facts.shown)
    pick = alt.param(name="chosen", value=shown, bind=alt.binding_select(options=names, name="Show "))
    x = theme.axis(alt.X, *BATCH, log=True)
    parts = alt.Chart(long).mark_line().encode(
        x, theme.axis(alt.Y, "seconds", "Time in one step", "s", log=True),
        **_limited(theme.series("part", "Part", tuple(theme.PARTS.values())), long),
    )  # fmt: skip
    parts = theme.tooltips(parts, ("part", "Part", None), ("batch", "Batch"), ("seconds", "Time", "s"),
                           ("share", "Share of all parts"))  # fmt: skip
    whole = table.select("pair", "batch", "plan", "step_s")
    line = alt.Chart(whole).mark_line(strokeWidth=5, opacity=0.35, color="currentColor")
    line = line.encode(x, theme.axis(alt.Y, "step_s", "Time in one step", "s", log=True))
    line = theme.tooltips(line, ("plan", "Plan", None), ("batch", "Batch"), ("step_s", "Step", "s"))
    chart = alt.layer(line, parts).add_params(pick).transform_filter("datum.pair === chosen")
    row = facts.tier(facts.shown, "slow")
    first = facts.of(facts.home, facts.shown).sort("batch").row(0, named=True)
    return Figure(
        "step", "Time of one step, and what it is spent on", chart.properties(height=360),
        f"{shown}, {row['plan']}: a step takes {quantity(first['step_s'], 's')} at batch {number(first['batch'])} and "
        f"{quantity(row['step_s'], 's')} at batch {number(row['batch'])}. Its parts are drawn as if nothing overlapped: some stay level, "
        "some grow with the batch.",
        "The broad grey line is the whole step; it can be shorter than its parts together, because they overlap. Level parts are "
        "shared by all sequences of a batch; rising parts are paid by every sequence alone. Choose another pair below the chart. Each "
        "pair is drawn with the plan that serves its cheapest token.",
        table.select("pair", "plan", "batch", "step_s", *[p for p in theme.PARTS if p in table.columns]),
        UNITS, LABELS | {k: v for k, v in theme.PARTS.items()},
    )  # fmt: skip


def part_shares(facts: Facts) -> Figure:
    """The share of each part over batch, all pairs side by side."""
    table = _thin(facts.home)
    long = _parts(table)
    order = [name for name in theme.PARTS.values() if name in set(long["part"])]
    area = alt.Chart(long).mark_area().encode(
        theme.axis(alt.X, *BATCH, log=True),
        alt.Y("seconds:Q", stack="normalize", title="Share of all parts", axis=alt.Axis(format="%", tickCount=4)),
        **_limited(theme.parts("part"), long),
    )  # fmt: skip
    area = theme.stacked(area, "part", order)
    area = theme.tooltips(area, ("pair", "Pair", None), ("part", "Part", None), ("batch", "Batch"),
                          ("share", "Share"), ("seconds", "Time", "s"))  # fmt: skip
    chart = area.properties(height=120).facet(
        facet=alt.Facet("pair:N", title=None, sort=_by_pair(facts, table)), columns=3
    )
    wide = table.select("pair", "batch", *[(pl.col(p) / pl.col("step_upper_s")).alias(p)
                                           for p in theme.PARTS if p in table.columns])  # fmt: skip
    ends = [(facts.label(p), shares(facts.tier(p, "slow"))) for p in facts.pairs]
    words = "; ".join(f"{name}: {theme.PARTS[next(iter(s))].lower()} first, {next(iter(s.values())):.0%}" for name, s in ends)
    return Figure(
        "shares", "What a step is spent on, as the batch grows", chart,
        f"One panel per pair. The largest part where the token is cheapest: {words}.",
        "Left of each panel the batch is small and what all sequences share fills the step: weights, launches, the network. To the right "
        "the KV cache and arithmetic, which each sequence pays for itself, take over. A panel ends where memory is full.",
        wide, {"batch": "sequences"}, LABELS | theme.PARTS,
    )  # fmt: skip


def cost_over_batch(facts: Facts) -> Figure:
    """Cost per token of the best plan at each batch, with the tiers marked."""
    marked = facts.tiers.select("pair", "machine", "model_name", "batch", COST, SPEED, "plan", "tier")
    lines = facts.best.with_columns(tier=pl.lit(None, pl.String)).select(marked.columns)
    data = pl.concat([lines, marked.filter(pl.col("tier") != "fastest")])
    x, y = theme.axis(alt.X, *BATCH, log=True), theme.axis(alt.Y, COST, "Cost", "USD/Mtok", log=True)
    tips = (("pair", "Pair", None), ("tier", "Tier", None), ("batch", "Batch"), (COST, "Cost", "USD/Mtok"),
            (SPEED, "Speed per user", "token/s"), ("plan", "Plan", None))  # fmt: skip
    line = alt.Chart().transform_filter("datum.tier === null").mark_line().encode(x, y, **_machines(facts))
    point = alt.Chart().transform_filter("datum.tier !== null").mark_point(filled=True, size=90, opacity=1).encode(
        x, y, color=_machines(facts)["color"],
        shape=alt.Shape("tier:N", title="Tier", sort=list(TIERS), legend=alt.Legend(symbolType="circle"),
                        scale=alt.Scale(domain=list(TIERS[:3]), range=["circle", "square", "triangle-up"])),
    )  # fmt: skip
    layers = alt.layer(theme.tooltips(line, *tips), theme.tooltips(point, *tips), data=data)
    chart = layers.properties(height=_PANEL + 60).facet(
        facet=alt.Facet("model_name:N", title=None, sort=_models(facts)), columns=3
    )
    slow, normal, fast = (facts.tier(facts.shown, t) for t in TIERS[:3])
    words = "; ".join(
        f"{name} {quantity(r[COST], 'USD/Mtok')} at batch {number(r['batch'])} ({number(r[SPEED], 3)} tokens/s per user)"
        for name, r in (("slow", slow), ("normal", normal), ("fast", fast))
    )
    return Figure(
        "cost", "Cost per token against batch: the cheapest plan at each batch", chart,
        f"One panel per model, one line per machine, falling with the batch. {facts.label(facts.shown)}: {words}.",
        "Marks show the three tiers defined above. A mark lies above its line where a quicker plan, with more chips for the same batch, was "
        "chosen; a line ends where no plan has memory for more sequences.",
        facts.best.select("pair", "batch", COST, SPEED, "chips", "plan"), UNITS, LABELS,
    )  # fmt: skip


def frontier(facts: Facts) -> Figure:
    """Cost against speed over all plans; linked with the batch that each point needs."""
    data = facts.frontier.select("pair", "machine", "model_name", "batch", COST, SPEED, "chips", "plan")
    brush = alt.selection_interval(name="window", encodings=["x"])
    machine = alt.selection_point(name="machine_picked", fields=["machine"], bind="legend")
    model = alt.selection_point(name="model_picked", fields=["model_name"], bind="legend")
    shape = alt.Shape("model_name:N", title="Model", sort=_models(facts), legend=alt.Legend(),
                      scale=alt.Scale(domain=_models(facts), range=list(theme.SHAPES[: len(_models(facts))])))  # fmt: skip
    color = _machines(facts, by="colour")["color"]
    seen = alt.when(machine & model & brush).then(alt.value(1)).otherwise(alt.value(0.08))
    cost = theme.axis(alt.Y, COST, "Cost", "USD/Mtok", log=True)
    tips = (("pair", "Pair", None), ("batch", "Batch"), (COST, "Cost", "USD/Mtok"),
            (SPEED, "Speed per user", "token/s"), ("plan", "Plan", None))  # fmt: skip

    def panel(x: alt.X) -> alt.Chart:
        points = alt.Chart(data).mark_point(filled=True, size=48)
        points = points.encode(x, cost, color=color, shape=shape, opacity=seen)
        return theme.tooltips(points, *tips).properties(height=360)

    left = panel(theme.axis(alt.X, SPEED, "Speed per user", "token/s")).add_params(brush, machine, model)
    right = panel(theme.axis(alt.X, *BATCH, log=True))
    fast, cheap = data.sort(SPEED).row(-1, named=True), data.sort(COST).row(0, named=True)
    return Figure(
        "frontier", "Every way to serve that no other beats: cost against speed", theme.columns(left, right),
        f"Left, cost against speed per user; right, the same points against their batch. The cheapest is {cheap['pair']} at "
        f"{quantity(cheap[COST], 'USD/Mtok')} and {number(cheap[SPEED])} tokens/s, the fastest {fast['pair']} at {number(fast[SPEED])} tokens/s "
        f"and {quantity(fast[COST], 'USD/Mtok')}.",
        "Drag across the left chart to mark a range of speeds: the right chart shows which batches give it. Click a machine or a model in the "
        "legend to see it alone (shift-click adds another, a click beside it shows all). Speed rises to the right, so a better way lies lower right.",
        data.drop("machine", "model_name"), UNITS, LABELS,
    )  # fmt: skip


def bought(facts: Facts) -> Figure:
    """What each multiple of the normal price buys in speed."""
    normal = facts.tiers.filter(pl.col("tier") == "normal").select(*PAIR, base=COST, pace=SPEED)
    data = facts.frontier.join(normal, on=PAIR, how="left", maintain_order="left").with_columns(
        price=pl.col(COST) / pl.col("base"), gain=pl.col(SPEED) / pl.col("pace")
    )
    data = data.filter(pl.col("price") >= 1).select("pair", "machine", "model_name", "price", "gain", "batch", "plan")
    wishes = facts.settings
    claim = pl.DataFrame({"model_name": _models(facts)}).with_columns(
        price=pl.lit(wishes.price_ratio), gain=pl.lit(wishes.speed_ratio),
        words=pl.lit(f"{times(wishes.price_ratio)} the price, {times(wishes.speed_ratio)} the speed"),
    )  # fmt: skip
    both = pl.concat([data, claim], how="diagonal_relaxed")
    x = theme.axis(alt.X, "price", "Price over normal", "", log=True)
    y = theme.axis(alt.Y, "gain", "Speed over normal")
    line = alt.Chart().transform_filter("datum.words === null").mark_line(point=alt.OverlayMarkDef(size=22)).encode(x, y, **_machines(facts))
    line = theme.tooltips(line, ("pair", "Pair", None), ("price", "Price over normal"), ("gain", "Speed over normal"),
                          ("batch", "Batch"), ("plan", "Plan", None))  # fmt: skip
    cross = alt.Chart().transform_filter("datum.words !== null").mark_point(shape="cross", size=160, filled=True, color="currentColor", opacity=1)
    cross = cross.encode(x, y, tooltip=alt.Tooltip("words:N", title="The lecture"))
    chart = alt.layer(line, cross, data=both).properties(height=_PANEL + 40).facet(
        facet=alt.Facet("model_name:N", title=None, sort=_models(facts)), columns=3
    )  # fmt: skip
    ends = "; ".join(
        f"{facts.label(p)} {times(facts.tier(p, 'fast')[SPEED] / facts.tier(p, 'normal')[SPEED])}" for p in facts.pairs
    )
    return Figure(
        "bought", "What each multiple of the normal price buys", chart,
        f"Speed over normal against price over normal, one line per machine and one panel per model. Speed at no more than "
        f"{times(wishes.price_ratio)} the normal price: {ends}.",
        f"The cross is the lecture's example, {times(wishes.price_ratio)} the price for {times(wishes.speed_ratio)} the speed. A line above it sells "
        "more speed for that price, a line below less. Where lines flatten, money buys hardly any speed.",
        data.drop("machine", "model_name"), {"batch": "sequences"},
        LABELS | {"price": "Price over normal", "gain": "Speed over normal"},
    )  # fmt: skip


def floor(facts: Facts) -> Figure:
    """The parts of the quickest step of each pair."""
    table = facts.tiers.filter(pl.col("tier") == "fastest")
    long = _parts(table)
    order = [name for name in theme.PARTS.values() if name in set(long["part"])]
    names = _by_pair(facts, table)
    bars = alt.Chart(long).mark_bar().encode(
        theme.axis(alt.X, "seconds", "Time in one step", "s", zero=True),
        alt.Y("pair:N", sort=names, title=None, axis=alt.Axis(labelLimit=300)),
        **_limited(theme.parts("part"), long),
    )  # fmt: skip
    bars = theme.tooltips(theme.stacked(bars, "part", order), ("pair", "Pair", None), ("part", "Part", None),
                          ("seconds", "Time", "s"), ("share", "Share"))  # fmt: skip
    words = "; ".join(f"{r['pair']} {quantity(r['tpot_s'], 's')}" for r in table.iter_rows(named=True))
    return Figure(
        "floor", "The latency floor: the quickest step at any price", bars.properties(height=_ROW * len(names)),
        f"Stacked bars, one per pair, of the parts of its quickest step. Time per output token: {words}.",
        "Parts are drawn as if nothing overlapped, so a bar is a little longer than the step. Faster memory would shorten only the part that reads weights.",
        table.select("pair", "batch", "plan", "tpot_s", SPEED, COST, *order_of(table)), UNITS, LABELS | theme.PARTS,
    )  # fmt: skip


def order_of(table: pl.DataFrame) -> list[str]:
    """Return the parts that a table has and that are not all zero."""
    return [p for p in theme.PARTS if p in table.columns and table[p].max()]


BLOCKS = {
    "critical_batch_attention": "attention projections",
    "critical_batch_dense": "dense layers and head",
    "critical_batch_experts": "routed experts",
    "critical_batch": "whole model",
}


def critical(facts: Facts) -> Figure:
    """The critical batch of each block beside the batches in use."""
    slow = facts.tiers.filter(pl.col("tier") == "slow")
    fast = facts.tiers.filter(pl.col("tier") == "fast").select(*PAIR, fast="batch")
    room = facts.home.group_by(PAIR).agg(largest=pl.col("batch").max())
    table = slow.select(*PAIR, "pair", "plan", slow="batch", *BLOCKS)
    for other in (fast, room):
        table = table.join(other, on=PAIR, how="left", maintain_order="left")
    names = _by_pair(facts, table)
    long = table.unpivot(list(BLOCKS), index="pair", variable_name="block", value_name="tokens").drop_nulls()
    long = long.with_columns(pl.col("block").replace_strict(BLOCKS))
    y = alt.Y("pair:N", sort=names, title=None, axis=alt.Axis(labelLimit=300, grid=True))
    used = alt.Chart(table).mark_bar(height=9, opacity=0.28, color="currentColor", cornerRadius=4).encode(
        theme.axis(alt.X, "fast", "Tokens in one step", "", log=True), alt.X2("slow"), y
    )  # fmt: skip
    used = theme.tooltips(used, ("pair", "Pair", None), ("fast", "Batch of fast"), ("slow", "Batch of slow"),
                          ("largest", "Largest batch that fits"), ("plan", "Plan", None))  # fmt: skip
    dots = alt.Chart(long).mark_point(filled=True, size=75, opacity=1).encode(
        theme.axis(alt.X, "tokens", "Tokens in one step", "", log=True), y,
        **theme.series("block", "Critical batch of", tuple(BLOCKS.values()), by="shape"),
    )  # fmt: skip
    dots = theme.tooltips(dots, ("pair", "Pair", None), ("block", "Critical batch of", None), ("tokens", "Tokens"))
    words = "; ".join(
        f"{r['pair']}: from {number(r['fast'])} (fast) to {number(r['slow'])} (slow), critical {number(r['critical_batch'])}"
        for r in table.iter_rows(named=True)
    )
    return Figure(
        "critical", "The critical batch of each block, beside the batches in use", alt.layer(used, dots).properties(height=_ROW * len(names)),
        f"One line per pair. A grey bar spans the batches from fast to slow, marks show critical batches. {words}.",
        "The grey bar reaches from the batch of fast to the batch of slow. Where it lies left of a mark, that block still waits for its weights, and a "
        "larger batch would make it cheaper. Critical batches count the tokens of the whole step with the plan of the cheapest token.",
        table.select("pair", "plan", "fast", "slow", "largest", *BLOCKS), {c: "tokens" for c in BLOCKS},
        LABELS | {k: f"Critical: {v}" for k, v in BLOCKS.items()} | {"fast": "Batch of fast", "slow": "Batch of slow", "largest": "Largest that fits"},
    )  # fmt: skip


def penalty(facts: Facts) -> Figure:
    """What a token costs at the smallest batch over the cheapest one."""
    table = penalties(facts)
    names, at = _by_pair(facts, table), number(facts.smallest)
    kinds = {"same": "on the chips of the cheapest token", "searched": f"on a plan chosen for batch {at}"}
    long = table.unpivot(list(kinds), index="pair", variable_name="kind", value_name="ratio").drop_nulls()
    long = long.with_columns(pl.col("kind").replace_strict(kinds))
    y = alt.Y("pair:N", sort=names, title=None, axis=alt.Axis(labelLimit=300, grid=True))
    x = theme.axis(alt.X, "ratio", "Cost over the cheapest token", "", log=True)
    span = alt.Chart(table).mark_rule(opacity=0.4).encode(
        theme.axis(alt.X, "searched", "Cost over the cheapest token", "", log=True), alt.X2("same"), y
    )  # fmt: skip
    dots = alt.Chart(long).mark_point(filled=True, size=90, opacity=1).encode(
        x, y, **theme.series("kind", f"Batch {at}", tuple(kinds.values()), by="shape")
    )
    dots = theme.tooltips(dots, ("pair", "Pair", None), ("kind", f"Batch {at}", None), ("ratio", "Times the cheapest"))
    claim = alt.Chart(pl.DataFrame({"ratio": [facts.settings.penalty]})).mark_rule(strokeDash=[5, 4], strokeWidth=1.5)
    claim = claim.encode(x, tooltip=alt.Tooltip("ratio:Q", title="The lecture", format=",.0f"))
    words = "; ".join(f"{r['pair']} {times(r['same'])} and {times(r['searched'])}" for r in table.iter_rows(named=True))
    return Figure(
        "penalty", f"What a token costs at batch {at}", alt.layer(claim, span, dots).properties(height=_ROW * len(names)),
        f"Cost at batch {at} over the cheapest token, on the same chips and on a plan chosen for that batch: {words}. A dashed rule stands at "
        f"{times(facts.settings.penalty, 4)}.",
        f"The dashed line is the lecture's {times(facts.settings.penalty, 4)}. Chips hired for a large batch and used for batch {at} stand idle; a plan with fewer chips avoids part of that.",
        table.select("pair", "slow_plan", "cheapest", "small_plan", "small", "searched", "kept", "same"),
        {c: "USD/Mtok" for c in ("cheapest", "small", "kept")},
        LABELS | {"slow_plan": "Plan of the cheapest token", "cheapest": "Cheapest", "small_plan": f"Plan for batch {at}", "small": f"Batch {at}",
                  "searched": "Ratio", "kept": f"Batch {at}, same chips", "same": "Ratio, same chips"},
    )  # fmt: skip


def tier_table(facts: Facts) -> Figure:
    """The tiers of every pair as a table."""
    rows = []
    for row in facts.tiers.iter_rows(named=True):
        low, high = price_range(facts, (row["hardware"], row["model"]))
        rows.append({**row, "cost_low": row[COST] * low, "cost_high": row[COST] * high})
    columns = ["pair", "tier", "batch", SPEED, "tpot_s", COST, "cost_low", "cost_high", "plan"]
    table = pl.DataFrame([{c: r[c] for c in columns} for r in rows])
    return Figure(
        "tiers", "The tiers of every pair", None, "", "Cost at the typical rental price, and at the lowest and highest price known for the machine.",
        table, UNITS, LABELS | {"cost_low": "Cost, lowest price", "cost_high": "Cost, highest price"},
    )  # fmt: skip


def inverse_table(facts: Facts, board: Blackboard) -> Figure:
    """What the closed form says and what the run has, pair by pair."""
    from roofrack.cost.money import fast_mode

    wishes, closed = facts.settings, board.closed
    rows: list[dict[str, Any]] = [{
        "pair": "The lecture's closed form", "price": wishes.price_ratio, "gain": wishes.speed_ratio, "batch_ratio": closed.batch_ratio,
        "implied_normal": closed.weight_share_slow, "implied_fast": closed.weight_share_fast,
    }]  # fmt: skip
    for pair in facts.pairs:
        if found := same_plan_sale(facts, pair):
            normal, fast, price, gain = found
            implied = fast_mode(price, gain)
            rows.append({
                "pair": facts.label(pair), "price": price, "gain": gain, "batch_ratio": normal["batch"] / fast["batch"],
                "implied_normal": implied.weight_share_slow, "implied_fast": implied.weight_share_fast,
                "weights_normal": shares(normal)["t_weights_s"], "weights_fast": shares(fast)["t_weights_s"],
                "normal_batch": normal["batch"], "fast_batch": fast["batch"], "plan": normal["plan"],
            })  # fmt: skip
    labels = {
        "price": "Price ratio", "gain": "Speed ratio", "batch_ratio": "Batch ratio", "implied_normal": "Weight share implied, normal",
        "implied_fast": "implied, fast", "weights_normal": "Weight share here, normal", "weights_fast": "here, fast",
        "normal_batch": "Batch of normal", "fast_batch": "Batch of fast",
    }  # fmt: skip
    return Figure(
        "inverse", "From price and speed back to the batch", None, "",
        "Only the batch changes here; the plan is that of normal. Implied is what price and speed would mean if a step were one weight read plus a cost "
        "per sequence; here is what the run has.",
        pl.DataFrame(rows, infer_schema_length=None), {}, LABELS | labels,
    )  # fmt: skip


def board(facts: Facts, found: Blackboard) -> Figure:
    """The blackboard's own cost curve."""
    words = {c: "no context" if c == 0 else f"context of {number(c)} tokens" for c in found.contexts}
    data = found.rows.with_columns(series=pl.col("context").replace_strict(words, return_dtype=pl.String))
    data = data.select("series", "batch", "step_s", COST, "bound", "fits")
    lines = alt.Chart(data).mark_line().encode(
        theme.axis(alt.X, *BATCH, log=True), theme.axis(alt.Y, COST, "Cost", "USD/Mtok", log=True),
        **theme.series("series", "Each sequence", tuple(words.values())),
    )  # fmt: skip
    lines = theme.tooltips(lines, ("series", "Each sequence", None), ("batch", "Batch"), (COST, "Cost", "USD/Mtok"), ("step_s", "Step", "s"),
                           ("bound", "Bound by", None))  # fmt: skip
    rule = alt.Chart(pl.DataFrame({"batch": [found.critical_batch], "words": ["critical batch"]}))
    rule = rule.mark_rule(strokeDash=[5, 4], strokeWidth=1.5).encode(
        theme.axis(alt.X, *BATCH, log=True), tooltip=alt.Tooltip("batch:Q", title="Critical batch", format=",.0f")
    )
    costs = "; ".join(f"{words[c]}: {times(found.penalty(c), 3)} from batch 1 to the cheapest" for c in found.contexts)
    return Figure(
        "blackboard", "The same question on the lecture's blackboard", alt.layer(rule, lines).properties(height=300),
        f"Cost against batch on the lecture's round numbers. {costs}. A dashed rule stands at the critical batch, {number(found.critical_batch, 4)}.",
        f"A rack of 72 ideal chips and a model of 671 billion parameters, 37 billion of them active. The dashed line is the critical batch, "
        f"{number(found.critical_batch, 4)}: the curve without context bends there and stays level after it.",
        data, UNITS, LABELS | {"series": "Each sequence", "bound": "Bound by"},
    )  # fmt: skip
