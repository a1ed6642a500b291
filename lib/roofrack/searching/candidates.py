"""What is kept of a scan: whatever rounding leaves open, and counts of the rest."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from roofrack.cost.layout import REASONS
from roofrack.results.directions import LESS
from roofrack.searching.points import Points, joined

MARGIN = 2e-3
"""Relative width of what is kept beside the best: single precision is off by a hundredth of it."""


class Limits(NamedTuple):
    """Limits of columns on the side that is worse, and how to ask whether points keep them."""

    limits: Mapping[str, float]

    def kept(self, columns: Mapping[str, np.ndarray], margin: float = 0.0) -> np.ndarray:
        """Return which points keep all limits, each wider by `margin` (narrower if below 0)."""
        kept = usable(columns, margin)
        for name, limit in self.limits.items():
            kept = kept & within(columns[name], name, limit, margin)
        return kept


def usable(columns: Mapping[str, np.ndarray], margin: float = 0.0) -> np.ndarray:
    """Return which points can run and fit, in memory larger by `margin`.

    `room` is memory there is over memory needed.
    """
    found: np.ndarray = (columns["why_invalid"] == 0) & (columns["room"] * (1.0 + margin) >= 1.0)
    return found


def within(values: np.ndarray, name: str, limit: float, margin: float = 0.0) -> np.ndarray:
    """Return which values keep a limit; NaN never does."""
    found: np.ndarray = (
        values <= limit * (1.0 + margin) if name in LESS else values >= limit / (1.0 + margin)
    )
    return found


class Keeper(Protocol):
    """Looks at points as they come, and keeps some of them."""

    def wants(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return which points may have to be kept."""

    def add(self, points: Points) -> None:
        """Look at some points."""


class Block(Protocol):
    """Many points, of which a few may be asked for."""

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Columns of all of them."""

    def take(self, some: np.ndarray) -> Points:
        """Return some of them."""


def show(block: Block, keepers: Sequence[Keeper]) -> None:
    """Show keepers those points of a block that any of them wants."""
    wanted = np.flatnonzero(np.any([k.wants(block.columns) for k in keepers], axis=0))
    if len(wanted):
        points = block.take(wanted)
        for keeper in keepers:
            keeper.add(points)


class Excluded:
    """How many points each reason excludes.

    Of those that cannot run each reason counts; a point that does not fit is counted as that only;
    of limits a point may break several. `sides` counts the settings of single pools among them,
    `behind` those that decode of which no pair could matter.
    """

    def __init__(self, limits: Mapping[str, float]) -> None:
        """Start from nothing."""
        self.limits = limits
        self.counts: Counter[str] = Counter()
        self.points = 0
        self.sides = 0
        self.behind = 0
        self.valid = 0
        self.kept = 0

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        """Count some points."""
        fits = self._running(columns)
        kept = fits
        for name, limit in self.limits.items():
            holds = within(columns[name], name, limit)
            self.counts[f"{name} beyond {limit:g}"] += int((fits & ~holds).sum())
            kept = kept & holds
        self.kept += int(kept.sum())

    def add_side(self, columns: Mapping[str, np.ndarray]) -> None:
        """Count settings of a single pool: they break no limits by themselves."""
        self._running(columns)
        self.sides += len(columns["room"])

    def _running(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Count what cannot run or does not fit, and return what does."""
        masks = columns["why_invalid"]
        runs = masks == 0
        wrong = masks[~runs].astype(np.int64)
        for mask, number in zip(*np.unique(wrong, return_counts=True), strict=True):
            for bit, reason in enumerate(REASONS):
                if int(mask) >> bit & 1:
                    self.counts[reason] += int(number)
        fits = usable(columns)
        self.points += len(masks)
        self.valid += int(runs.sum())
        self.counts["memory is too small"] += int((runs & ~fits).sum())
        return fits


class Nearest:
    """The points that may be the best of the `top` best plans under some limits.

    `of` names the goal, `sign` is 1 if less of it is better, else -1. `near` keeps besides what
    plans reach that are within this share of the best.
    """

    def __init__(
        self, of: str, sign: float, limits: Limits, top: int, near: float | None = None
    ) -> None:
        """Start from nothing."""
        self.of, self.sign, self.limits, self.top, self.near = of, sign, limits, top, near
        self.leading = _Least()
        self._near = [self.leading]
        self.points: list[Points] = []

    def wants(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return which points may be near enough."""
        goal = self.sign * columns[self.of]
        wanted: np.ndarray = goal <= max(self._threshold(), self._nearby())
        return wanted & np.isfinite(goal)

    def add(self, points: Points) -> None:
        """Look at some points."""
        some = points.take(np.flatnonzero(self.wants(points.columns)))
        goal = self.sign * some.columns[self.of]
        surely = self.limits.kept(some.columns, -MARGIN)
        if surely.any():
            least = _Least(some.keys[surely], goal[surely])
            self.leading = _Least.of(self.leading, least).first(self.top)
            if self.near is not None:
                self._near.append(least)
        maybe = self.limits.kept(some.columns, MARGIN) & (goal <= self._threshold())
        if maybe.any():
            self.points.append(some.take(maybe))

    def _threshold(self) -> float:
        """Return what the goal of the last of the best plans is at most, rounding allowed for."""
        if len(self.leading.values) < self.top:
            return np.inf
        last = self.leading.values[-1]
        return float(last + 2.0 * MARGIN * abs(last))

    def _nearby(self) -> float:
        """Return what the goal of a plan near the best is at most."""
        if self.near is None or not len(self.leading.values):
            return -np.inf
        best = float(self.leading.values[0])
        return best + self.near * abs(best)

    def hopes(self, values: np.ndarray) -> np.ndarray:
        """Return which values of the goal could still be among the best; none if there is no best.

        With fewer plans so far than asked for, those no more than twice as bad as the best count.
        """
        if not len(self.leading.values):
            return np.zeros(len(values), bool)
        first = self.leading.values[0]
        hopes: np.ndarray = self.sign * values <= min(self._threshold(), first + abs(first))
        return hopes

    def found(self) -> Points | None:
        """Return what is left to choose from, None if nothing."""
        if not self.points:
            return None
        all_points = joined(self.points)
        near = self.sign * all_points.columns[self.of] <= self._threshold()
        self.points = [all_points.take(near)]
        return self.points[0]

    def goals(self) -> np.ndarray:
        """Return the best of each plan near the best, turned so that less is better; ascending."""
        values = _Least.of(*self._near).values
        found: np.ndarray = values[values <= self._nearby()]
        return found


class _Least:
    """The least value by key, ascending by value."""

    def __init__(self, keys: np.ndarray | None = None, values: np.ndarray | None = None) -> None:
        keys = np.empty(0, np.int64) if keys is None else keys
        values = np.empty(0) if values is None else values
        order = np.argsort(values, kind="stable")
        _, first = np.unique(keys[order], return_index=True)
        rows = order[np.sort(first)]
        self.keys, self.values = keys[rows], values[rows]

    @classmethod
    def of(cls, *several: "_Least") -> "_Least":
        return cls(
            np.concatenate([one.keys for one in several]),
            np.concatenate([one.values for one in several]),
        )

    def first(self, count: int) -> "_Least":
        found = _Least()
        found.keys, found.values = self.keys[:count], self.values[:count]
        return found


class Frontier:
    """The points that may be on the frontier of two columns, of both of which less is better."""

    def __init__(self, x: str, y: str) -> None:
        """Start from nothing."""
        self.x, self.y = x, y
        self.points: Points | None = None

    def wants(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return which points can run and are not behind what there is."""
        x, y = columns[self.x], columns[self.y]
        return usable(columns) & np.isfinite(x) & np.isfinite(y) & self._ahead(x, y)

    def add(self, points: Points) -> None:
        """Look at some points."""
        fresh = points.take(np.flatnonzero(self.wants(points.columns)))
        both = fresh if self.points is None else joined([self.points, fresh])
        if len(both):
            x, y = both.columns[self.x], both.columns[self.y]
            self.points = both.take(frontier(x, y, MARGIN))

    def _ahead(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return which points no point so far beats by more than MARGIN in both."""
        if self.points is None or not len(self.points):
            return np.ones(len(x), bool)
        edge_x, edge_y = (self.points.columns[name] for name in (self.x, self.y))
        order = np.argsort(edge_x)
        return _level(edge_x[order], edge_y[order], x, y, MARGIN)


def unbeaten(x: np.ndarray, y: np.ndarray, groups: np.ndarray, margin: float) -> np.ndarray:
    """Return the rows that none of the same group beats by more than a share of `margin` in both.

    Less is better; x and y are above 0. All groups at once: each has its own range of logarithms.
    """
    x, y = np.log(x), np.log(y)
    _, number = np.unique(groups, return_inverse=True)
    number = number.reshape(-1)
    apart = 2.0 + np.ptp(x) + np.ptp(y) if len(x) else 0.0
    order = np.lexsort((y, x, number))
    number = number[order]
    along = x[order] + apart * number  # ascending
    best = np.minimum.accumulate(y[order] - apart * number)  # each group starts below the last
    ahead = np.searchsorted(along, along + np.log1p(-margin), side="left") - 1
    same = (ahead >= 0) & (number[np.maximum(ahead, 0)] == number)
    reached = np.where(same, best[np.maximum(ahead, 0)], np.inf)
    return order[y[order] - apart * number + np.log1p(-margin) <= reached]


def frontier(x: np.ndarray, y: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Return the rows that no other beats in both x and y (less is better), x ascending.

    With a `margin` also those that are beaten by less than that share of either. Of equal rows the
    first one counts.
    """
    order = np.lexsort((y, x))
    x, y = x[order], y[order]
    if margin:
        return order[_level(x, y, x, y, margin)]
    before = np.concatenate([[np.inf], np.minimum.accumulate(y)[:-1]])
    return order[y < before]


def _level(
    edge_x: np.ndarray, edge_y: np.ndarray, x: np.ndarray, y: np.ndarray, margin: float
) -> np.ndarray:
    """Return which points no point of an edge (x ascending) beats by more than a margin in both."""
    least = np.minimum.accumulate(edge_y)
    ahead = np.searchsorted(edge_x, x * (1.0 - margin), side="left") - 1
    reached = np.where(ahead >= 0, least[np.maximum(ahead, 0)], np.inf)
    found: np.ndarray = y * (1.0 - margin) <= reached
    return found
