"""Numbers that sentences and charts about the price of speed share."""

from typing import Any

import polars as pl

from ..common.pages import RESOURCES
from .rows import COST, PAIR, SPEED, Facts

PARTS = {f"t_{name}_s": words for name, words in RESOURCES.items()}
"""Parts of a step in words; they sum to `step_upper_s`."""

Row = dict[str, Any]


def shares(row: Row) -> dict[str, float]:
    """Return the share of each part in a step in which nothing is hidden, the largest first."""
    found = {part: (row[part] or 0.0) / row["step_upper_s"] for part in PARTS}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def largest(row: Row) -> tuple[str, float]:
    """Return the largest part of a step, in words, and its share."""
    part, share = next(iter(shares(row).items()))
    return PARTS[part], share


def fixed_share(row: Row) -> float:
    """Return the share of launches, other fixed costs and the network in a step."""
    parts = shares(row)
    return sum(parts[p] for p in ("t_overhead_s", "t_scale_up_s", "t_scale_out_s", "t_pipeline_s"))


def core_share(facts: Facts, row: Row) -> float:
    """Return the share of attention over the context in the FLOP of a token.

    The rest are matmuls with weights, 2 FLOP per active parameter; windows count with their length.
    """
    model = facts.configs[row["hardware"], row["model"]]["model"]
    windowed = model["window_layers"] / model["layers"]
    seen = facts.context * (1 - windowed) + min(facts.context, model["window"]) * windowed
    core = row["attention_flops_per_context_token"] * seen
    return core / (core + 2.0 * row["params_active"])


def sale(normal: Row, fast: Row) -> tuple[float, float]:
    """Return the price ratio and the speed ratio of two rows."""
    return fast[COST] / normal[COST], fast[SPEED] / normal[SPEED]


def gains(facts: Facts) -> dict[tuple[str, str], float]:
    """Return the speed of fast over that of normal, by pair."""
    return {p: sale(facts.tier(p, "normal"), facts.tier(p, "fast"))[1] for p in facts.pairs}


def sells(facts: Facts, pair: tuple[str, str]) -> bool:
    """Return whether the run holds a way to serve that is faster than normal within the price."""
    return facts.tier(pair, "fast")[SPEED] > facts.tier(pair, "normal")[SPEED]


def penalties(facts: Facts) -> pl.DataFrame:
    """Return per pair what a token costs at the smallest batch over the cheapest one.

    `searched` with the plan that is cheapest at that batch, `same` with the plan of the slow tier;
    null where no plan, or not that plan, has a row at that batch.
    """
    start = pl.col("batch") == facts.smallest
    slow = facts.tiers.filter(pl.col("tier") == "slow")
    slow = slow.select(*PAIR, "pair", cheapest=COST, slow_plan="plan")
    one = facts.best.filter(start).select(*PAIR, small=COST, small_plan="plan")
    same = facts.home.filter(start).select(*PAIR, kept=COST)
    joined = slow.join(one, on=PAIR, how="left", maintain_order="left")
    joined = joined.join(same, on=PAIR, how="left", maintain_order="left")
    return joined.with_columns(
        searched=pl.col("small") / pl.col("cheapest"), same=pl.col("kept") / pl.col("cheapest")
    )


def largest_batches(facts: Facts) -> dict[str, float]:
    """Return the largest batch that fits the plan of the slow tier, by name of the pair."""
    return {r["pair"]: r["batch"] for r in facts.home.sort("batch").iter_rows(named=True)}


def same_plan_sale(facts: Facts, pair: tuple[str, str]) -> tuple[Row, Row] | None:
    """Return (normal row, fast row) with only the batch changed, on the plan of normal.

    Fast is the smallest batch within the price; None where there is no smaller one.
    """
    normal = facts.tier(pair, "normal")
    within = pl.col(COST) <= facts.settings.price_ratio * normal[COST]
    rows = facts.of(facts.away, pair).filter(within, pl.col("batch") < normal["batch"])
    if rows.is_empty():
        return None
    fast = rows.sort("batch").row(0, named=True)
    price, gain = sale(normal, fast)
    return (normal, fast) if price > 1 and gain >= 1 else None


def bend(facts: Facts, pair: tuple[str, str]) -> tuple[float, Row] | None:
    """Return how far the step leaves the straight line over batch between its ends, and where.

    Of the slow tier's plan, smallest batch to largest; relative, above 0 where the step is longer
    than the line. None with fewer than three batches.
    """
    rows = facts.of(facts.home, pair).sort("batch")
    if rows.height < 3:
        return None
    first, last = rows.row(0, named=True), rows.row(-1, named=True)
    slope = (last["step_s"] - first["step_s"]) / (last["batch"] - first["batch"])
    line = first["step_s"] + slope * (pl.col("batch") - first["batch"])
    off = rows.with_columns(off=pl.col("step_s") / line - 1.0)
    row = off.sort(pl.col("off").abs(), descending=True).row(0, named=True)
    return row["off"], row


def price_range(facts: Facts, pair: tuple[str, str]) -> tuple[float, float]:
    """Return the factors from the price paid to the lowest and to the highest price known."""
    config = facts.configs[pair]
    suffix = {"low": "_low", "typical": "", "high": "_high"}[config["economics"]["price"]]
    hardware = config["hardware"]
    now = hardware[f"usd_per_chip_hour{suffix}"]
    return hardware["usd_per_chip_hour_low"] / now, hardware["usd_per_chip_hour_high"] / now
