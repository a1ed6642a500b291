"""Charts and tables with a line for each pair of a model and a machine."""

from typing import Any

import altair as alt
import polars as pl

from roofrack.cost.money import fast_mode
from roofrack.report import theme
from roofrack.report.format import number, quantity, times
from roofrack.report.page import Figure

from .blackboard import Blackboard
from .draw import (
    LABELS,
    PAIR_TIP,
    PLAN_TIP,
    ROW_HEIGHT,
    UNITS,
    by_part,
    legend,
    pair_axis,
    parts_of,
)
from .measures import largest_batches, penalties, price_range, sale, same_plan_sale, shares
from .rows import COST, PAIR, SPEED, Facts

BLOCKS = {
    "critical_batch_attention": "attention projections",
    "critical_batch_dense": "dense layers and head",
    "critical_batch_experts": "routed experts",
    "critical_batch": "whole model",
}


def floor(facts: Facts) -> Figure:
    """The parts of the quickest step of each pair."""
    table = facts.tiers.filter(pl.col("tier") == "fastest")
    used = parts_of(table)
    bars = (
        alt.Chart(by_part(table))
        .mark_bar()
        .encode(
            theme.axis(alt.X, "seconds", "Time in one step", "s", zero=True),
            pair_axis(facts, grid=False),
            **legend(theme.parts(), {theme.PARTS[p] for p in used}, columns=1),
        )
    )
    bars = theme.stacked(bars, "part", [theme.PARTS[p] for p in used])
    bars = theme.tooltips(
        bars, PAIR_TIP, ("part", "Part", None), ("seconds", "Time", "s"), ("share", "Share")
    )
    rows = table.iter_rows(named=True)
    words = "; ".join(f"{r['pair']} {quantity(r['tpot_s'], 's')}" for r in rows)
    return Figure(
        "floor",
        "The latency floor: the quickest step at any price",
        bars.properties(height=ROW_HEIGHT * len(facts.pairs)),
        "Stacked bars, one for each pair, of the parts of its quickest step. Time per output"
        f" token: {words}.",
        "Parts are drawn as if nothing overlapped, so a bar is a little longer than the step."
        " Faster memory would shorten only the parts that read weights and the KV cache.",
        table.select("pair", "batch", "plan", "tpot_s", SPEED, COST, *used),
        UNITS,
        LABELS,
    )


def _batches(facts: Facts) -> pl.DataFrame:
    """Return per pair the batch of fast and of slow, the largest that fits, the critical ones."""
    table = facts.tiers.filter(pl.col("tier") == "slow")
    slow = pl.col("batch").alias("slow")
    table = table.select(*PAIR, "pair", "two_lines", "plan", slow, *BLOCKS)
    fast = facts.tiers.filter(pl.col("tier") == "fast").select(*PAIR, fast="batch")
    room = pl.col("pair").replace_strict(largest_batches(facts), return_dtype=pl.Float64)
    table = table.join(fast, on=PAIR, how="left", maintain_order="left")
    return table.with_columns(largest=room)


def critical(facts: Facts) -> Figure:
    """The critical batch of each block beside the batches in use."""
    table = _batches(facts)
    long = table.unpivot(
        list(BLOCKS), index=["pair", "two_lines"], variable_name="block", value_name="tokens"
    )
    long = long.drop_nulls().with_columns(pl.col("block").replace_strict(BLOCKS))
    # several blocks may share a critical batch: later marks are smaller, so that all show
    sizes = dict(zip(BLOCKS.values(), (230, 110, 75, 75), strict=True))
    long = long.with_columns(area=pl.col("block").replace_strict(sizes))
    title = "Tokens in one step"
    used = alt.Chart(table).mark_bar(height=11, opacity=0.25, color="currentColor", cornerRadius=4)
    used = used.encode(theme.axis(alt.X, "fast", title, log=True), alt.X2("slow"), pair_axis(facts))
    batches = {"fast": "Batch of fast", "slow": "Batch of slow", "largest": "Largest that fits"}
    used = theme.tooltips(used, PAIR_TIP, *batches.items(), PLAN_TIP)
    blocks = theme.series("block", "Critical batch of", tuple(BLOCKS.values()), by="shape")
    dots = alt.Chart(long).mark_point()
    dots = dots.encode(
        theme.axis(alt.X, "tokens", title, log=True),
        pair_axis(facts),
        size=alt.Size("area:Q", scale=None, legend=None),
        **legend(blocks, columns=1),
    )
    tips = (PAIR_TIP, ("block", "Critical batch of", None), ("tokens", "Tokens"))
    words = "; ".join(
        f"{r['pair']} from {number(r['fast'])} to {number(r['slow'])}, critical"
        f" {number(r['critical_batch'])}"
        for r in table.iter_rows(named=True)
    )
    return Figure(
        "critical",
        "The critical batch of each block, and the batches in use",
        _rows(facts, used, theme.tooltips(dots, *tips)),
        "One line for each pair: a grey bar from the batch of fast to that of slow, and a mark at"
        f" each critical batch. {words}.",
        "The grey bar reaches from the batch of fast to that of slow. Where it lies left of a mark,"
        " that block still waits for its weights, and a larger batch would serve it cheaper. All"
        " count the tokens of the whole step, with the plan that serves the cheapest token.",
        table.select("pair", "plan", *batches, *BLOCKS),
        {c: "tokens" for c in BLOCKS},
        LABELS | batches | {k: f"Critical: {v}" for k, v in BLOCKS.items()},
    )


def _rows(facts: Facts, *layers: alt.Chart) -> Any:
    """Lay charts over each other, with a line for each pair."""
    return alt.layer(*layers).properties(height=ROW_HEIGHT * len(facts.pairs))


def penalty(facts: Facts) -> Figure:
    """What a token costs at the smallest batch over the cheapest one."""
    lines = facts.tiers.select(*PAIR, "two_lines").unique()
    table = penalties(facts).join(lines, on=PAIR, how="left", maintain_order="left")
    at, claim = number(facts.smallest), facts.settings.penalty
    kinds = {
        "same": "on the chips of the cheapest token",
        "searched": f"on a plan chosen for batch {at}",
    }
    long = table.unpivot(
        list(kinds), index=["pair", "two_lines"], variable_name="kind", value_name="ratio"
    )
    long = long.drop_nulls().with_columns(pl.col("kind").replace_strict(kinds))
    name = "Cost over the cheapest token"
    y = pair_axis(facts)
    span = alt.Chart(table.drop_nulls(list(kinds))).mark_rule(opacity=0.4)
    span = span.encode(theme.axis(alt.X, "searched", name, log=True), alt.X2("same"), y)
    x = theme.axis(alt.X, "ratio", name, log=True)
    series = theme.series("kind", f"Batch {at}", tuple(kinds.values()), by="shape")
    dots = alt.Chart(long).mark_point(size=90).encode(x, y, **legend(series, columns=1))
    tips = (PAIR_TIP, ("kind", f"Batch {at}", None), ("ratio", "Times the cheapest"))
    tip = alt.Tooltip("ratio:Q", title="The lecture", format=",.0f")
    rule = alt.Chart(pl.DataFrame({"ratio": [claim]})).mark_rule(strokeDash=[5, 4], strokeWidth=1.5)
    words = "; ".join(
        f"{r['pair']} {times(r['same'])} and {times(r['searched'])}"
        for r in table.iter_rows(named=True)
    )
    labels = {
        "slow_plan": "Plan of the cheapest token",
        "cheapest": "Cheapest",
        "small_plan": f"Plan for batch {at}",
        "small": f"Batch {at}",
        "searched": "Ratio",
        "kept": f"Batch {at}, same chips",
        "same": "Ratio, same chips",
    }
    return Figure(
        "penalty",
        f"What a token costs at batch {at}",
        _rows(facts, rule.encode(x, tooltip=tip), span, theme.tooltips(dots, *tips)),
        f"Cost at batch {at} over the cheapest token, on the same chips and on a plan chosen for"
        f" that batch: {words}. A dashed rule stands at {times(claim, 4)}.",
        f"The dashed line is the lecture's {times(claim, 4)}. Chips hired for a large batch stand"
        f" idle at batch {at}; a plan with fewer chips avoids part of that.",
        table.select("pair", *labels),
        {c: "USD/Mtok" for c in ("cheapest", "small", "kept")},
        LABELS | labels,
    )


def tier_table(facts: Facts) -> Figure:
    """The tiers of every pair as a table."""
    rows = []
    for row in facts.tiers.iter_rows(named=True):
        low, high = price_range(facts, (row["hardware"], row["model"]))
        rows.append(row | {"cost_low": row[COST] * low, "cost_high": row[COST] * high})
    columns = ["pair", "tier", COST, SPEED, "batch", "tpot_s", "cost_low", "cost_high", "plan"]
    return Figure(
        "tiers",
        "The tiers of every pair",
        None,
        "",
        "Cost at the price taken, and at the lowest and the highest rental price known for the"
        " machine.",
        pl.DataFrame([{c: r[c] for c in columns} for r in rows]),
        UNITS,
        LABELS | {"cost_low": "Cost, lowest price", "cost_high": "Cost, highest price"},
    )


def inverse_table(facts: Facts, board: Blackboard) -> Figure:
    """What the closed form says and what the run has, pair by pair."""
    wishes, closed = facts.settings, board.closed
    rows: list[dict[str, Any]] = [
        {
            "pair": "The lecture's closed form",
            "price": wishes.price_ratio,
            "gain": wishes.speed_ratio,
            "ratio": closed.batch_ratio,
            "implied_normal": closed.weight_share_slow,
            "implied_fast": closed.weight_share_fast,
            "weights_normal": None,
            "weights_fast": None,
        }
    ]
    for pair in facts.pairs:
        if found := same_plan_sale(facts, pair):
            normal, fast = found
            price, gain = sale(normal, fast)
            implied = fast_mode(price, gain)
            rows.append(
                {
                    "pair": facts.label(pair),
                    "price": price,
                    "gain": gain,
                    "ratio": normal["batch"] / fast["batch"],
                    "implied_normal": implied.weight_share_slow,
                    "implied_fast": implied.weight_share_fast,
                    "weights_normal": shares(normal)["t_weights_s"],
                    "weights_fast": shares(fast)["t_weights_s"],
                }
            )
    labels = {
        "price": "Price ratio",
        "gain": "Speed ratio",
        "ratio": "Batch ratio",
        "implied_normal": "Weights implied, normal",
        "implied_fast": "Weights implied, fast",
        "weights_normal": "Weights here, normal",
        "weights_fast": "Weights here, fast",
    }
    return Figure(
        "inverse",
        "From price and speed back to the batch",
        None,
        "",
        "Only the batch changes; the plan is that of normal. Implied is the share of the step that"
        " reading weights would have if a step were one such read plus a cost for each sequence;"
        " here is the share it has in this run.",
        pl.DataFrame(rows, infer_schema_length=None),
        {},
        LABELS | labels,
    )
