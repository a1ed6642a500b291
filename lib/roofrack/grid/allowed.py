"""Which points a reduction looks at, and how it reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from roofrack.errors import InputError


@dataclass(frozen=True)
class Allowed:
    """Which points count: those whose columns `yes` are positive and whose `most` are no greater.

    A limit that is not a number excludes no point; a column that is not one excludes its point.
    """

    yes: tuple[str, ...] = ("fits",)
    most: Mapping[str, float] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """The results that it looks at."""
        return (*self.yes, *self.most)

    def of(self, columns: Mapping[str, Any]) -> Any:
        """Return whether a point counts, for each lane."""
        counts = jnp.bool_(True)
        for name in self.yes:
            counts &= jnp.asarray(columns[name]) > 0
        for name, limit in self.most.items():
            if not np.isnan(limit):
                counts &= jnp.asarray(columns[name]) <= limit
        return counts


FITTING = Allowed()
"""The points that fit in memory count."""
ALL = Allowed(yes=())
"""Every point counts."""


def real(columns: Mapping[str, Any], name: str) -> Any:
    """Return a column as real numbers: one that is constant may be a truth value or whole."""
    value = jnp.asarray(columns[name])
    return value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(float)


def row(value: Any, kept: Any) -> Any:
    """Return one value for each lane as a row beside what is kept; a constant is for all lanes."""
    return jnp.broadcast_to(value, kept.shape[-1:])[None]


def together(names: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return all of these names, each once."""
    return tuple(dict.fromkeys(name for some in names for name in some))


def check_ascending(edges: Sequence[float]) -> None:
    """Raise InputError for edges that do not ascend."""
    if not edges or not np.all(np.diff(edges) > 0):
        raise InputError(f"edges: {list(edges)[:4]} must ascend, at least one")


def at_least_one(name: str, count: int) -> int:
    """Return a count; InputError if there is none."""
    if count < 1:
        raise InputError(f"{name}: {count} must be at least 1")
    return count


def check_steps(lanes: int, steps: int) -> int:
    """Return the lanes; InputError for more steps than can be numbered and counted."""
    if steps > np.iinfo(np.int32).max:
        raise InputError(f"steps: {steps} of a block; at most {np.iinfo(np.int32).max}")
    return lanes
