"""Curves over the load, and what the error of a step makes of them.

If every pass takes `scale` times as long, the same queue runs on a slower clock: a time at a load
is `scale` times what it was at `scale` times that load. So the error of a step moves a whole curve,
and moves it most where the machine is nearly full.
"""

from collections.abc import Mapping
from itertools import pairwise
from math import exp, log
from typing import Any

import polars as pl

RATE, BATCH = "rate", "batch"
GROWS = 1.0
"""Utilisation from which on a queue grows without end."""

Points = list[tuple[float, float]]


def points(curve: pl.DataFrame, column: str) -> Points:
    """Return rates and a column's values there, the lowest rate first; without value: left out."""
    kept = curve.filter(pl.col("utilization") < GROWS).select(RATE, column).drop_nulls().sort(RATE)
    return [(float(rate), float(value)) for rate, value in kept.rows()]


def at(curve: Points, rate: float) -> float | None:
    """Return a curve's value at a rate, between two rates as a power; None above the highest.

    Below the lowest rate it is the lowest's: nobody waits for others there.
    """
    if not curve or rate > curve[-1][0] * (1 + 1e-9):
        return None
    if rate <= curve[0][0]:
        return curve[0][1]
    for (x, y), (further, above) in pairwise(curve):
        if rate <= further * (1 + 1e-9):
            part = log(rate / x) / log(further / x)
            return exp(log(y) * (1 - part) + log(above) * part) if min(y, above) > 0 else y
    return curve[-1][1]


def scaled(curve: Points, rate: float, scale: float) -> float | None:
    """Return the value of a curve of times at a rate if every pass takes `scale` times as long."""
    value = at(curve, rate * scale)
    return None if value is None else scale * value


def highest(curve: pl.DataFrame, limits: Mapping[str, float], scale: float = 1.0) -> float | None:
    """Return the highest rate at which no column is above its limit; None if none keeps them.

    Of the rates of the curve and those between them; every pass takes `scale` times as long. Where
    all rates keep the limits it is the highest that does not make the queue grow.
    """
    found = [_last(points(curve, column), limit / scale) for column, limit in limits.items()]
    kept = [rate for rate in found if rate is not None]
    return min(kept) / scale if kept and len(kept) == len(found) else None


def _last(curve: Points, limit: float) -> float | None:
    """Return the rate up to which a curve stays below a limit."""
    if not curve or curve[0][1] > limit:
        return None
    for (x, y), (further, above) in pairwise(curve):
        if above > limit:
            return exp(log(x) + log(limit / y) / log(above / y) * log(further / x))
    return curve[-1][0]


def error_of(row: Mapping[str, Any]) -> float:
    """Return the relative standard error of a row's step, 0 where its calibration gives none."""
    error = row.get("step_s_rel_std")
    return float(error) if error and error == error else 0.0
