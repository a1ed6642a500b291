"""What a simulation found, put together for sentences and charts: each deployment along its loads.

Nothing here draws or writes: a `Curve` holds a deployment's rows as means over seeds, and the
numbers that both the printed summary and the page speak of.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from roofrack.report.format import number
from roofrack.simulation.closed import CLOSE, COMPARED
from roofrack.simulation.command import Simulated, shown_columns

RATE = "arrivals_per_s"
COST = "usd_per_mtok_at_load"
CLOSED = "closed forms"
"""What `trust` of a row says where a run is of too few requests."""
QUEUE_SHARE = 0.5
"""Share of the mean time to first token from which on the queue, not the machine, sets it."""
BEHIND = 0.95
"""A run with a queue that serves less than this share of what arrives is overloaded."""
FEW = 10
"""Requests beyond a percentile below which it is uncertain."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """One deployment: `points` are its loads in order, means over seeds.

    `capacity_per_s` is the most it serves: `measured` where a run was overloaded, else that of the
    closed forms, None where these have none. `most` is its row of the highest load under the
    limits, None without limits; `key` are the values that tell it from others.
    """

    name: str
    key: tuple[Any, ...]
    points: tuple[Row, ...]
    capacity_per_s: float | None
    measured: bool
    most: Row | None

    @property
    def served(self) -> tuple[Row, ...]:
        """Points at which any request was served."""
        return tuple(p for p in self.points if p["ttft_p95_s"] is not None and p[COST] is not None)

    @property
    def steady(self) -> tuple[Row, ...]:
        """Points before the queue takes over."""
        end = self.takeover
        return self.served if end is None else self.served[: self.served.index(end)]

    @property
    def takeover(self) -> Row | None:
        """The lowest load at which waiting is most of the time to first token, if there is one."""
        return next((p for p in self.served if queue_share(p) > QUEUE_SHARE), None)

    def used(self, rate: float) -> float | None:
        """Return the share of what the deployment can do that a rate asks for, at most 1."""
        return None if not self.capacity_per_s else min(1.0, rate / self.capacity_per_s)


def queue_share(point: Row) -> float:
    """Return the share of the mean time to first token that is spent in the queue."""
    if not point["ttft_mean_s"] or point["queue_s"] is None:
        return 0.0
    return float(point["queue_s"] / point["ttft_mean_s"])


def curves(found: Simulated) -> tuple[Curve, ...]:
    """Return every deployment along its loads, in the order of the rows."""
    by = shown_columns(found.rows)
    rows = _counted(found)
    kinds: list[Any] = [*by, RATE]
    totals = [
        *("preemptions", "rejected", "recomputed_tokens", "computed_tokens", "counted"),
        *("requests", "passes"),
    ]
    means = [n for n in rows.columns if n not in (*kinds, *totals, "lane", "seed", "trust")]
    numeric = [n for n in means if rows[n].dtype.is_numeric() or rows[n].dtype == pl.Null]
    mean = rows.group_by(kinds, maintain_order=True).agg(
        pl.col(totals).sum(),
        pl.col(numeric).cast(pl.Float64).mean(),
        pl.col("trust").first(),
        lanes=pl.col("lane"),
        runs=pl.len(),
    )
    made = []
    groups = mean.group_by(by, maintain_order=True) if by else [((), mean)]
    for key, group in groups:
        points = tuple(group.sort(RATE).iter_rows(named=True))
        capacity, measured = _capacity(points)
        name = _name(by, key) or _alone(found.labels)
        made.append(Curve(name, tuple(key), points, capacity, measured, _most(found, key)))
    return tuple(made)


def _counted(found: Simulated) -> pl.DataFrame:
    """Return the rows, each with its counted requests and the prompt tokens it had to compute."""
    if found.requests.is_empty():
        return found.rows.with_columns(counted=pl.lit(0), computed_tokens=pl.lit(0))
    needed = pl.when(pl.col("done_s").is_not_null()).then(pl.col("prompt") - pl.col("cached"))
    each = found.requests.group_by("lane").agg(
        counted=pl.col("counted").sum().cast(pl.Int64), computed_tokens=needed.sum()
    )
    return found.rows.join(each, on="lane", how="left", maintain_order="left")


def _name(by: list[str], key: tuple[Any, ...]) -> str:
    """Return what tells a deployment from others; names speak for themselves, numbers do not."""
    told = []
    for name, value in zip(by, key, strict=True):
        text = number(value, 6) if isinstance(value, float) else str(value)
        told.append(text if text[:1].isalpha() and "=" not in text else f"{name}={text}")
    return ", ".join(told)


def _alone(labels: Mapping[str, str]) -> str:
    """Return the name of the only deployment."""
    if "model" in labels and "hardware" in labels:
        return f"{labels['model']} on {labels['hardware']}"
    return "the deployment"


def _capacity(points: tuple[Row, ...]) -> tuple[float | None, bool]:
    """Return the most that is served, and whether a simulation was driven there.

    Where a run was, that is it: the closed forms know nothing of what engine.* sets.
    """
    over = [
        p["requests_per_s"]
        for p in points
        if queue_share(p) > QUEUE_SHARE
        and p["requests_per_s"] is not None
        and p["requests_per_s"] < BEHIND * p[RATE]
    ]
    if over:
        return max(p["requests_per_s"] or 0.0 for p in points), True
    known = [p["capacity_per_s"] for p in points if p["capacity_per_s"] is not None]
    return (known[-1], False) if known else (None, False)


def _most(found: Simulated, key: tuple[Any, ...]) -> Row | None:
    for row in found.most.iter_rows(named=True):
        if tuple(row[n] for n in shown_columns(found.rows)) == key:
            return row
    return None


def limited(found: Simulated) -> bool:
    """Tell whether any limit is set."""
    limits = found.asked.limits
    return bool(np.isfinite(limits.ttft_s) or np.isfinite(limits.tpot_s))


def chosen(of: tuple[Curve, ...]) -> Curve | None:
    """Return the deployment to speak of: the cheapest under the limits, or at any load.

    None where no request was served.
    """
    under = [c for c in of if c.most is not None and c.most[COST] is not None]
    if under:
        return min(under, key=lambda c: c.most[COST])  # type: ignore[index]
    served = [c for c in of if c.served]
    return min(served, key=lambda c: min(p[COST] for p in c.steady or c.served), default=None)


def misses(found: Simulated, point: Row) -> dict[str, float]:
    """Return the shares of requests of a load that miss each limit; rejected ones miss none."""
    limits = found.asked.limits
    some = found.requests.filter(pl.col("lane").is_in(point["lanes"]) & pl.col("counted"))
    told = {}
    for name, limit in (("ttft", limits.ttft_s), ("tpot", limits.tpot_s)):
        if np.isfinite(limit) and some.height:
            # one token has no time between tokens, and keeps that limit
            over = some[f"{name}_s"].fill_null(0.0) > limit
            told[name] = float(over.sum()) / some.height
    return told


@dataclass(frozen=True)
class Comparison:
    """Simulated against closed forms: `close` of `compared` numbers agree within CLOSE.

    `worst` is (column, point, closed, simulated) of the largest difference, `without` the loads
    that have no closed forms, `few` those with so few requests that the closed forms are surer.
    """

    compared: int
    close: int
    without: int
    few: int
    worst: tuple[str, Row, float, float] | None


def comparison(of: tuple[Curve, ...]) -> Comparison:
    """Compare the columns COMPARED at every load."""
    compared = close = without = few = 0
    worst: tuple[str, Row, float, float] | None = None
    largest = 0.0
    for point in (p for curve in of for p in curve.served):
        pairs = [(n, point[f"closed_{n}"], point[n]) for n in COMPARED]
        without += all(form is None for _, form, _ in pairs)
        few += point["trust"] == CLOSED
        for name, form, simulated in pairs:
            if form is None or not simulated:
                continue
            apart = abs(form / simulated - 1.0)
            compared, close = compared + 1, close + (apart <= CLOSE)
            if apart > largest:
                largest, worst = apart, (name, point, form, simulated)
    return Comparison(compared, close, without, few, worst)
