"""Evaluate a grid part by part, and reduce it on the fly.

Each part of the cost model (`parts.take_apart`) is computed over its own axes only and kept in a
table; what depends on all axes is computed last, lane by lane of the last axis, and goes straight
into a reduction: memory does not grow with the number of points.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from roofrack.grid.parts import Part, Parts

Values = Mapping[str, Any]
"""The numbers of each argument, by name: an array along its own axis, a number if it has none."""


class Reduction(Protocol):
    """What is kept of the points: numbers for each lane, whatever the number of points."""

    columns: tuple[str, ...]
    """The results that it looks at."""

    def start(self, lanes: int, steps: int) -> Any:
        """Return what there is before the first point; `steps` points come in each lane."""

    def step(self, so_far: Any, columns: Mapping[str, Any], number: Any) -> Any:
        """Return what there is after one more point in each lane; `number` counts the steps."""


class _Grid(NamedTuple):
    parts: Parts
    order: tuple[str, ...]
    lengths: Mapping[str, int]
    tables: dict[int, Any]

    @property
    def lane(self) -> str:
        return self.order[-1]

    def outer(self, axes: frozenset[str]) -> list[str]:
        """Return the axes that are walked along, in order: all but the lanes."""
        return [axis for axis in self.order[:-1] if axis in axes]

    def steps(self, axes: frozenset[str]) -> int:
        return math.prod(self.lengths[axis] for axis in self.outer(axes))

    def places(self, number: Any, outer: Sequence[str]) -> dict[str, Any]:
        """Return the position along each axis, given the number of a step (the last runs first)."""
        found = {}
        for axis in reversed(outer):
            found[axis] = number % self.lengths[axis]
            number = number // self.lengths[axis]
        return found

    def at(self, value: int, places: Mapping[str, Any]) -> Any:
        """Return a value at a place: a number, or one for each lane."""
        table = self.tables[value]
        for axis in self.outer(self.parts.axes[value]):
            table = lax.dynamic_index_in_dim(table, places[axis], 0, keepdims=False)
        return table

    def run(self, part: Part, places: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return what a part gives at a place."""
        given = [self.at(value, places) for value in part.takes]
        if self.lane not in part.axes:
            return part.run(*given)
        lanes = [0 if self.lane in self.parts.axes[value] else None for value in part.takes]
        return jax.vmap(part.run, in_axes=lanes)(*given)


def evaluator(
    parts: Parts, depends: Mapping[str, str | None], order: Sequence[str], reduction: Reduction
) -> Callable[[Values], Any]:
    """Return a function from the values of all arguments to what the reduction keeps.

    `order` are the axes, the last one the lanes: the longest, in blocks that the cache holds.
    """
    whole = frozenset(order)

    def evaluate(values: Values) -> Any:
        lengths = {axis: len(values[name]) for name, axis in depends.items() if axis is not None}
        tables = {parts.arguments[name]: jnp.asarray(array) for name, array in values.items()}
        grid = _Grid(parts, tuple(order), lengths, tables)
        last = None
        for part in parts.parts:
            if part.axes == whole:
                last = part
            else:
                tables |= zip(part.gives, _table(grid, part), strict=True)

        def step(number: Any, so_far: Any) -> Any:
            places = grid.places(number, order[:-1])
            found = dict(zip(last.gives, grid.run(last, places), strict=True)) if last else {}
            columns = {}
            for name in reduction.columns:
                value = parts.results[name]
                if not isinstance(value, int):
                    columns[name] = value.value
                else:
                    columns[name] = found[value] if value in found else grid.at(value, places)
            return reduction.step(so_far, columns, number)

        steps = grid.steps(whole)
        start = reduction.start(lengths[grid.lane], steps)
        return lax.fori_loop(0, steps, step, start)

    return evaluate


def _table(grid: _Grid, part: Part) -> Sequence[Any]:
    """Return what a part gives over its own axes, those of each value in the order of the grid."""
    outer = grid.outer(part.axes)
    if not outer:
        return grid.run(part, {})
    lengths = tuple(grid.lengths[axis] for axis in outer)
    found = lax.map(
        lambda number: grid.run(part, grid.places(number, outer)),
        jnp.arange(grid.steps(part.axes)),
    )
    return [value.reshape(lengths + value.shape[1:]) for value in found]
