"""What is kept of a scan: whatever rounding leaves open, and counts of the rest."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from roofrack.cost.layout import REASONS
from roofrack.results.table import LESS
from roofrack.searching.scan import MARGIN, Points


class Limits(NamedTuple):
    """Limits of columns on the side that is worse, and how to ask whether points keep them."""

    limits: Mapping[str, float]

    def kept(self, columns: Mapping[str, np.ndarray], margin: float = 0.0) -> np.ndarray:
        """Return which points keep all limits, each wider by `margin` (narrower if below 0)."""
        kept = usable(columns)
        for name, limit in self.limits.items():
            kept = kept & within(columns[name], name, limit, margin)
        return kept


def usable(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return which points can run and fit."""
    return (columns["why_invalid"] == 0) & (columns["fits"] > 0)


def within(values: np.ndarray, name: str, limit: float, margin: float = 0.0) -> np.ndarray:
    """Return which values keep a limit; NaN never does."""
    found: np.ndarray = (
        values <= limit * (1.0 + margin) if name in LESS else values >= limit / (1.0 + margin)
    )
    return found


class Keeper(Protocol):
    """Looks at points as they come, and keeps some of them or counts."""

    def add(self, points: Points) -> None:
        """Look at some points."""


class Excluded:
    """How many points each reason excludes.

    Of those that cannot run each reason counts; a point that does not fit is counted as that only;
    of limits a point may break several.
    """

    def __init__(self, limits: Mapping[str, float]) -> None:
        """Start from nothing."""
        self.limits = limits
        self.counts: Counter[str] = Counter()
        self.valid = 0
        self.kept = 0

    def add(self, points: Points) -> None:
        """Count some points."""
        columns = points.columns
        masks = columns["why_invalid"].astype(np.int64)
        runs = masks == 0
        for mask, number in zip(*np.unique(masks[~runs], return_counts=True), strict=True):
            for bit, reason in enumerate(REASONS):
                if int(mask) >> bit & 1:
                    self.counts[reason] += int(number)
        fits = usable(columns)
        self.valid += int(runs.sum())
        self.counts["memory is too small"] += int((runs & ~fits).sum())
        kept = fits
        for name, limit in self.limits.items():
            holds = within(columns[name], name, limit)
            self.counts[f"{name} beyond {limit:g}"] += int((fits & ~holds).sum())
            kept = kept & holds
        self.kept += int(kept.sum())


class Nearest:
    """The points that may be the best of the `top` best plans under some limits.

    `of` names the goal, `sign` is 1 if less of it is better, else -1.
    """

    def __init__(self, of: str, sign: float, limits: Limits, top: int, plans: int) -> None:
        """Start from nothing."""
        self.of, self.sign, self.limits, self.top = of, sign, limits, min(top, plans)
        self.of_plan = np.full(plans, np.inf)
        self.points: list[Points] = []

    def add(self, points: Points) -> None:
        """Look at some points."""
        goal = self.sign * points.columns[self.of]
        surely = self.limits.kept(points.columns, -MARGIN) & np.isfinite(goal)
        np.minimum.at(self.of_plan, points.plan[surely], goal[surely])
        maybe = self.limits.kept(points.columns, MARGIN) & (goal <= self._threshold())
        if maybe.any():
            self.points.append(points.take(maybe))

    def _threshold(self) -> float:
        """Return what the goal of the last of the best plans is at most, rounding allowed for."""
        last = np.partition(self.of_plan, self.top - 1)[self.top - 1]
        return float(last + 2.0 * MARGIN * abs(last)) if np.isfinite(last) else np.inf

    def found(self) -> Points | None:
        """Return what is left to choose from, None if nothing."""
        if not self.points:
            return None
        all_points = joined(self.points)
        near = self.sign * all_points.columns[self.of] <= self._threshold()
        self.points = [all_points.take(near)]
        return self.points[0]


class Frontier:
    """The points that may be on the frontier of two columns, of both of which less is better."""

    def __init__(self, x: str, y: str) -> None:
        """Start from nothing."""
        self.x, self.y = x, y
        self.points: Points | None = None

    def add(self, points: Points) -> None:
        """Look at some points."""
        columns = points.columns
        counts = usable(columns) & np.isfinite(columns[self.x]) & np.isfinite(columns[self.y])
        fresh = points.take(counts)
        both = fresh if self.points is None else joined([self.points, fresh])
        if len(both):
            x, y = both.columns[self.x], both.columns[self.y]
            self.points = both.take(frontier(x, y, MARGIN))


def frontier(x: np.ndarray, y: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Return the rows that no other beats in both x and y (less is better), x ascending.

    With a `margin` also those that are beaten by less than that share of either. Of equal rows the
    first one counts.
    """
    order = np.lexsort((y, x))
    best = np.minimum.accumulate(y[order])
    if margin:
        # beaten only by what is better by more than the margin in both
        ahead = np.searchsorted(x[order], x[order] * (1.0 - margin), side="left") - 1
        reached = np.where(ahead >= 0, best[np.maximum(ahead, 0)], np.inf)
        return order[y[order] * (1.0 - margin) <= reached]
    before = np.concatenate([[np.inf], best[:-1]])
    return order[y[order] < before]


def joined(several: list[Points]) -> Points:
    """Return several sets of points as one."""
    return Points(
        np.concatenate([p.plan for p in several]),
        np.concatenate([p.step for p in several]),
        {name: np.concatenate([p.columns[name] for p in several]) for name in several[0].columns},
    )
