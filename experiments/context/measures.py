"""Numbers that sentences and charts about context share."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log
from typing import Any

import polars as pl

from roofrack.cost.money import context_knee

from .rows import BATCH, CONTEXT, Facts, Row, Settings, Waits


@dataclass(frozen=True)
class Line:
    """How a step of one batch grows with the context, on the pair's own plan.

    `off` how far it leaves the straight line between its ends; `fixed_s` and `per_token_s` are that
    line; `compute_s` and `kv_s` are what a further token of context adds to arithmetic and to cache
    reads, over the upper half of the contexts; `first` and `last` are the contexts at the ends.
    """

    batch: float
    off: float
    fixed_s: float
    per_token_s: float
    compute_s: float
    kv_s: float
    first: float
    last: float

    @property
    def equal_at(self) -> float | None:
        """Return the context that takes as long as all else in the step together."""
        return self.fixed_s / self.per_token_s if self.fixed_s > 0 < self.per_token_s else None


def line(facts: Facts, pair: str) -> Line | None:
    """Return the line of the largest batch that fits the most contexts; None below three."""
    rows = facts.of(facts.steps, pair)
    counts = rows.group_by(BATCH).len().sort("len", BATCH, descending=True)
    if counts.is_empty() or counts["len"][0] < 3:
        return None
    batch = counts[BATCH][0]
    some = rows.filter(pl.col(BATCH) == batch).sort(CONTEXT)
    low, high = some.row(0, named=True), some.row(-1, named=True)
    middle = some.row(some.height // 2, named=True)
    span = high[CONTEXT] - low[CONTEXT]
    slope = (high["step_s"] - low["step_s"]) / span
    straight = low["step_s"] + slope * (pl.col(CONTEXT) - low[CONTEXT])
    off = some.select((pl.col("step_s") / straight - 1.0).abs().max()).item()
    upper = high[CONTEXT] - middle[CONTEXT]
    return Line(
        batch=batch,
        off=off,
        fixed_s=low["step_s"] - slope * low[CONTEXT],
        per_token_s=slope,
        compute_s=(high["t_compute_s"] - middle["t_compute_s"]) / upper,
        kv_s=(high["t_kv_s"] - middle["t_kv_s"]) / upper,
        first=low[CONTEXT],
        last=high[CONTEXT],
    )


def crossing(rows: pl.DataFrame, at: str, column: str, ratio: float, start: float) -> float | None:
    """Return where a column first reaches `ratio` times its value at `start`; None if it does not.

    Between two rows both are taken as powers of each other.
    """
    points = rows.filter(pl.col(at) >= start).sort(at).select(at, column).drop_nulls().rows()
    if not points:
        return None
    goal = ratio * points[0][1]
    for (x, y), (further, above) in pairwise(points):
        if y < goal <= above:
            return float(exp(log(x) + log(goal / y) / log(above / y) * log(further / x)))
    return None


def lecture_kv_bytes(wishes: Settings) -> float:
    """Return the bytes of cache per token that put the knee at the price tier: the lecture's."""
    knee = context_knee(wishes.lecture_params_active, 2.0 * wishes.lecture_intensity, 1.0)
    return float(knee) / wishes.price_tier


def kv_bytes_for(row: Row, context: float) -> float:
    """Return the bytes of cache per token that would put a row's own knee at a context."""
    return float(row["context_knee_tokens"] * row["kv_bytes_per_token"] / context)


def best_tier(waits: Waits, hold_s: float) -> Mapping[str, Any] | None:
    """Return the row of the cheapest tier for a holding time, of those that the study has."""
    off = waits.table.with_columns(off=(pl.col("hold_s") / hold_s).log().abs())
    rows = off.filter(pl.col("off") == pl.col("off").min())
    return None if rows.is_empty() else rows.sort("cost").row(0, named=True)


def drain_tier(waits: Waits, hold_s: float) -> str | None:
    """Return the tier whose time to be read once is nearest to a holding time, as a ratio."""
    drains = waits.drain_s
    return min(drains, key=lambda t: abs(log(drains[t] / hold_s))) if drains else None


def changes(waits: Waits) -> list[tuple[float, str, str]]:
    """Return where one tier becomes cheaper than the one before: seconds, and both names.

    In each tier the cost is a straight line over the time, found from its first and last row.
    """
    lines = {}
    for (tier,), rows in waits.table.sort("hold_s").group_by("tier", maintain_order=True):
        (x, y), (further, above) = rows.select("hold_s", "cost").rows()[:: max(rows.height - 1, 1)]
        slope = (above - y) / (further - x)
        lines[str(tier)] = (y - slope * x, slope)
    lines["again"] = (waits.again, 0.0)
    found: list[tuple[float, str, str]] = []
    now, time = min(lines, key=lambda t: lines[t]), 0.0
    while True:
        start, slope = lines[now]
        later = [
            ((of[0] - start) / (slope - of[1]), tier) for tier, of in lines.items() if of[1] < slope
        ]
        later = [(at, tier) for at, tier in later if at >= time]
        if not later:
            return found
        time, after = min(later)
        found.append((time, now, after))
        now = after
