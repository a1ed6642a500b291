"""Counts of the points of a grid: by bins of a column, or by its whole numbers.

Each is a `factored.Reduction` with a row for each edge or number and a column for each lane.
Nothing is scattered: a point is compared with all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from roofrack.errors import InputError
from roofrack.grid.allowed import (
    FITTING,
    Allowed,
    at_least_one,
    check_ascending,
    check_steps,
    real,
    row,
    together,
)


class Counts(NamedTuple):
    """Points of each lane at or above each edge, shape (edges, lanes), and all that count."""

    above: Any
    counted: Any


class Bins(NamedTuple):
    """How many points lie where, for each lane: `inside` has shape (edges - 1, lanes).

    Bin i is edges[i] <= x < edges[i + 1]. Those `below` the first edge include what is no number;
    `excluded` are the points that do not count.
    """

    inside: np.ndarray
    below: np.ndarray
    above: np.ndarray
    excluded: np.ndarray


def log_edges(least: float, most: float, bins: int) -> np.ndarray:
    """Return the edges of bins of equal ratio between `least` and `most`, both positive."""
    if not 0.0 < least < most < np.inf:
        raise InputError(f"edges: {least} to {most} must be positive, finite and ascending")
    return np.geomspace(least, most, at_least_one("bins", bins) + 1)


@dataclass(frozen=True)
class Histogram:
    """Counts of a column's values between fixed edges, of the points of each lane that count.

    The edges ascend (`log_edges` makes them). The comparison is made in the precision of the grid.
    """

    column: str
    edges: tuple[float, ...]
    allowed: Allowed = FITTING

    def __post_init__(self) -> None:
        """Raise InputError for edges that do not ascend."""
        check_ascending(self.edges)

    @property
    def columns(self) -> tuple[str, ...]:
        """The results that it looks at."""
        return together([(self.column,), self.allowed.columns])

    def start(self, lanes: int, steps: int) -> Counts:
        """Start from nothing; InputError if steps cannot be counted."""
        zero = jnp.zeros(check_steps(lanes, steps), jnp.int32)
        return Counts(jnp.zeros((len(self.edges), lanes), jnp.int32), zero)

    def step(self, so_far: Counts, columns: Mapping[str, Any], number: Any) -> Counts:
        """Count one more point of each lane."""
        value = row(real(columns, self.column), so_far.above)
        counts = self.allowed.of(columns)
        edges = jnp.asarray(self.edges, value.dtype)[:, None]
        reached = row(counts, so_far.above) & (value >= edges)
        return Counts(so_far.above + _one(reached), so_far.counted + _one(counts))

    def told(self, kept: Counts, steps: int) -> Bins:
        """Return the counts of each bin, given the points that came in each lane."""
        above, counted = np.asarray(kept.above), np.asarray(kept.counted)
        return Bins(above[:-1] - above[1:], counted - above[0], above[-1], steps - counted)


@dataclass(frozen=True)
class Tally:
    """How many points of each lane have each of the whole numbers 0, 1, ... of a column."""

    column: str
    kinds: int
    allowed: Allowed = FITTING

    @property
    def columns(self) -> tuple[str, ...]:
        """The results that it looks at."""
        return together([(self.column,), self.allowed.columns])

    def start(self, lanes: int, steps: int) -> Any:
        """Start from nothing; InputError if steps cannot be counted."""
        return jnp.zeros((at_least_one("kinds", self.kinds), check_steps(lanes, steps)), jnp.int32)

    def step(self, so_far: Any, columns: Mapping[str, Any], number: Any) -> Any:
        """Count one more point of each lane."""
        value = row(real(columns, self.column), so_far)
        kinds = jnp.arange(self.kinds, dtype=value.dtype)[:, None]
        return so_far + _one(row(self.allowed.of(columns), so_far) & (value == kinds))

    def told(self, kept: Any) -> np.ndarray:
        """Return the counts, shape (kinds, lanes)."""
        return np.asarray(kept)


def _one(counts: Any) -> Any:
    return counts.astype(jnp.int32)
