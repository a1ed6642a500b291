"""What is kept of a grid's points: the best of each lane, counts, candidates for a frontier.

Each is a `factored.Reduction`: what it keeps is as large as the lanes ask, not as the points do,
and it is brought up to date inside the compiled loop. A lane's points come one a step, so a place
is the number of a step; nothing is scattered, every comparison is made on all lanes at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from roofrack.grid.allowed import (
    ALL,
    FITTING,
    Allowed,
    at_least_one,
    check_ascending,
    check_steps,
    real,
    row,
    together,
)
from roofrack.grid.counts import Bins, Counts, Histogram, Tally, log_edges
from roofrack.grid.factored import Reduction

__all__ = [
    "ALL", "FITTING", "NOWHERE", "Allowed", "Best", "Bins", "Counts", "Frontier", "Histogram",
    "Kept", "Several", "Tally", "Top", "log_edges",
]  # fmt: skip

NOWHERE = -1
"""The place of a point that is not there."""


class Kept(NamedTuple):
    """Points that were kept: the value and the step of each; +-inf and NOWHERE if there is none."""

    value: Any
    place: Any

    @property
    def there(self) -> np.ndarray:
        """Whether there is one."""
        return np.asarray(self.place) != NOWHERE


def _nothing(*shape: int) -> Kept:
    return Kept(jnp.full(shape, jnp.inf), jnp.full(shape, NOWHERE, jnp.int32))


def _cost(columns: Mapping[str, Any], goal: str, largest: bool, counts: Any) -> Any:
    """Return what is to be least: infinite where a point does not count or is not a number."""
    value = -real(columns, goal) if largest else real(columns, goal)
    return jnp.where(counts & (value < jnp.inf), value, jnp.inf)


def _replaced(so_far: Kept, better: Any, cost: Any, number: Any) -> Kept:
    """Return what was kept, with the point of this step wherever it is better."""
    here = jnp.asarray(number, jnp.int32)
    return Kept(jnp.where(better, cost, so_far.value), jnp.where(better, here, so_far.place))


def _told(kept: Kept, largest: bool) -> Kept:
    value = np.asarray(kept.value)
    return Kept(-value if largest else value, np.asarray(kept.place))


@dataclass(frozen=True)
class Top:
    """The `k` points of each lane with the least of a column (or the largest), best first.

    Keeps arrays of shape (k, lanes). Of equal points those that come first are kept, in their
    order; points at infinity or without a number are not.
    """

    goal: str
    k: int = 1
    largest: bool = False
    allowed: Allowed = FITTING

    @property
    def columns(self) -> tuple[str, ...]:
        """The results that it looks at."""
        return together([(self.goal,), self.allowed.columns])

    def start(self, lanes: int, steps: int) -> Kept:
        """Start from nothing; InputError if steps cannot be numbered."""
        return _nothing(at_least_one("top", self.k), check_steps(lanes, steps))

    def step(self, so_far: Kept, columns: Mapping[str, Any], number: Any) -> Kept:
        """Put one more point of each lane where it belongs, the worse ones a place down."""
        cost = _cost(columns, self.goal, self.largest, self.allowed.of(columns))
        here = jnp.asarray(number, jnp.int32)
        ahead = row(cost, so_far.value) < so_far.value
        value = [jnp.where(ahead[0], cost, so_far.value[0])]
        place = [jnp.where(ahead[0], here, so_far.place[0])]
        for i in range(1, self.k):
            pushed = jnp.where(ahead[i - 1], so_far.value[i - 1], cost)
            moved = jnp.where(ahead[i - 1], so_far.place[i - 1], here)
            value.append(jnp.where(ahead[i], pushed, so_far.value[i]))
            place.append(jnp.where(ahead[i], moved, so_far.place[i]))
        return Kept(jnp.stack(value), jnp.stack(place))

    def told(self, kept: Kept) -> Kept:
        """Return the points as the column has them."""
        return _told(kept, self.largest)


@dataclass(frozen=True)
class Best:
    """The point of each lane with the least of a column (or the largest): arrays of shape (lanes,).

    Of equal points the first is kept.
    """

    goal: str
    largest: bool = False
    allowed: Allowed = FITTING

    @property
    def columns(self) -> tuple[str, ...]:
        """The results that it looks at."""
        return together([(self.goal,), self.allowed.columns])

    def start(self, lanes: int, steps: int) -> Kept:
        """Start from nothing; InputError if steps cannot be numbered."""
        return _nothing(check_steps(lanes, steps))

    def step(self, so_far: Kept, columns: Mapping[str, Any], number: Any) -> Kept:
        """Look at one more point of each lane."""
        cost = _cost(columns, self.goal, self.largest, self.allowed.of(columns))
        return _replaced(so_far, cost < so_far.value, cost, number)

    def told(self, kept: Kept) -> Kept:
        """Return the points as the column has them."""
        return _told(kept, self.largest)


@dataclass(frozen=True)
class Frontier:
    """Candidates for the frontier of two columns: in each cell of one, the least of the other.

    The cells are x < edges[0], edges[i] <= x < edges[i + 1], and x >= edges[-1]; arrays have shape
    (cells, lanes). For each point that counts a kept one lies in its cell and is no worse in
    `goal`. So a point of the true frontier is kept itself, or a kept one equals or beats it in
    `goal` and differs from it in `along` by less than the width of its cell, whichever way `along`
    is to go. That holds where the edges enclose the point; the two outer cells are open. Points
    whose `along` is not a number are in no cell; those whose `goal` is infinite are not kept.
    """

    along: str
    goal: str
    edges: tuple[float, ...]
    largest: bool = False
    allowed: Allowed = FITTING

    def __post_init__(self) -> None:
        """Raise InputError for edges that do not ascend."""
        check_ascending(self.edges)

    @property
    def columns(self) -> tuple[str, ...]:
        """The results that it looks at."""
        return together([(self.along, self.goal), self.allowed.columns])

    def start(self, lanes: int, steps: int) -> Kept:
        """Start from nothing; InputError if steps cannot be numbered."""
        return _nothing(len(self.edges) + 1, check_steps(lanes, steps))

    def step(self, so_far: Kept, columns: Mapping[str, Any], number: Any) -> Kept:
        """Look at one more point of each lane."""
        cost = _cost(columns, self.goal, self.largest, self.allowed.of(columns))
        cost = row(cost, so_far.value)
        x = row(real(columns, self.along), so_far.value)
        least = jnp.asarray((-np.inf, *self.edges), x.dtype)[:, None]
        most = jnp.asarray((*self.edges, np.inf), x.dtype)[:, None]
        inside = (x >= least) & ((x < most) | (most == jnp.inf))
        return _replaced(so_far, inside & (cost < so_far.value), cost, number)

    def told(self, kept: Kept) -> Kept:
        """Return the points as the column `goal` has them."""
        return _told(kept, self.largest)


@dataclass(frozen=True)
class Several:
    """Several reductions of the same points at once; what they keep is a tuple.

    Worth it for a single one too: on a CPU it has each column computed once.
    """

    reductions: tuple[Reduction, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The results that they look at."""
        return together([one.columns for one in self.reductions])

    def start(self, lanes: int, steps: int) -> tuple[Any, ...]:
        """Start all of them."""
        return tuple(one.start(lanes, steps) for one in self.reductions)

    def step(self, so_far: Any, columns: Mapping[str, Any], number: Any) -> tuple[Any, ...]:
        """Give all of them one more point of each lane."""

        def all_of(kept: Any, seen: Mapping[str, Any]) -> tuple[Any, ...]:
            pairs = zip(self.reductions, kept, strict=True)
            return tuple(one.step(state, seen, number) for one, state in pairs)

        seen = {name: columns[name] for name in self.columns}
        if jax.default_backend() != "cpu":
            return all_of(so_far, seen)
        # What goes into a branch is computed before it. Without one, XLA's CPU compiler computes
        # the columns again for each array that is kept: several times the work.
        kept: tuple[Any, ...] = lax.cond(number >= 0, all_of, lambda kept, seen: kept, so_far, seen)
        return kept
