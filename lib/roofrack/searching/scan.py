"""Evaluate every point of a space, in single precision, and keep those that may matter.

Nothing is left out before it is evaluated. What is kept is wide enough that rounding cannot hide
the best point: all whose goal is within MARGIN of the best that keeps the limits to within MARGIN.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from roofrack import arithmetic
from roofrack.cost import estimate, pytrees  # noqa: F401  (pytrees registers the nouns)
from roofrack.grid.factored import evaluator
from roofrack.grid.parts import take_apart
from roofrack.grid.stream import FAST_COMPILE
from roofrack.leaves import entries, put
from roofrack.nouns import Scenario
from roofrack.planning import Plans
from roofrack.searching.space import Space, plan_leaves

MARGIN = 2e-3
"""Relative width of what is kept beside the best: single precision is off by a hundredth of it."""
LANES = 512
"""Plans evaluated at a time: what is made of them stays in the processor's cache."""
WORKERS = 2
BAKED = ("model", "parallelism", "draft")
"""Sections whose numbers are compiled in: they decide which parts of the cost model there are."""


class Points(NamedTuple):
    """Some points of a space: the number of the plan and of the step, and columns of results."""

    plan: np.ndarray
    step: np.ndarray
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.plan)

    def take(self, rows: Any) -> "Points":
        """Return some of the points."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Points(self.plan[rows], self.step[rows], columns)


class _Kept:
    """A reduction that keeps all of a block: a row for each step, a column for each lane."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.columns = columns

    def start(self, lanes: int, steps: int) -> dict[str, Any]:
        return {name: jnp.zeros((steps, lanes), jnp.float32) for name in self.columns}

    def step(self, so_far: Any, columns: Mapping[str, Any], number: Any) -> dict[str, Any]:
        return {
            name: jax.lax.dynamic_update_index_in_dim(
                table, jnp.broadcast_to(columns[name], table.shape[1:]), number, 0
            )
            for name, table in so_far.items()
        }


def scan(space: Space, columns: tuple[str, ...]) -> Iterator[Points]:
    """Yield all points of a space, block by block, with these columns in single precision."""
    run, given = _compiled(space, columns)
    total = len(space.plans)
    starts = range(0, total, min(LANES, total))

    def block(first: int) -> Points:
        rows = np.arange(first, first + min(LANES, total))
        inside = np.minimum(rows, total - 1)  # the last block is filled up
        leaves = plan_leaves(space.plans.take(inside))
        found = run(given | {n: v.astype(np.float32) for n, v in leaves.items()})
        wanted = int(np.sum(rows < total))
        plan = np.broadcast_to(rows[:wanted], (space.steps, wanted))
        step = np.broadcast_to(np.arange(space.steps)[:, None], (space.steps, wanted))
        return Points(
            plan.ravel(),
            step.ravel(),
            {n: np.asarray(v)[:, :wanted].ravel() for n, v in found.items()},
        )

    with ThreadPoolExecutor(WORKERS) as workers:
        yield from workers.map(block, starts)


def _compiled(space: Space, columns: tuple[str, ...]) -> tuple[Any, dict[str, np.ndarray]]:
    """Return the compiled evaluation of a block, and the numbers that all blocks have.

    Numbers of machine, calibration and prices are given at run time, so that the next question of
    the same model and shape finds its function compiled; those that are 0, 1 or infinite are
    compiled in, for they decide what is left of the formulas.
    """
    levels = space.study.levels
    swept = {axis.path for axis in space.axes}
    numbers = {
        entry.path: float(entry.value)
        for entry in entries(space.scenario, levels)
        if entry.numeric
        and entry.section not in BAKED
        and entry.path not in swept
        and np.isfinite(entry.value)
        and entry.value not in (0.0, 1.0)
    }
    depends: dict[str, str | None] = dict.fromkeys(numbers)
    depends |= {axis.path: axis.path for axis in space.axes}
    depends |= dict.fromkeys(plan_leaves(space.plans), "plan")

    def function(values: Mapping[str, Any]) -> dict[str, Any]:
        with arithmetic.apart(), np.errstate(all="ignore"):
            found = estimate(put(space.scenario, values, levels))
        return {name: jnp.asarray(found[name], jnp.float32) for name in columns}

    parts = take_apart(function, depends, jnp.float32)
    order = (*(axis.path for axis in space.axes), "plan")
    run = jax.jit(evaluator(parts, depends, order, _Kept(columns)), compiler_options=FAST_COMPILE)
    given = {path: np.asarray(value, np.float32) for path, value in numbers.items()}
    given |= {axis.path: axis.values.astype(np.float32) for axis in space.axes}
    return run, given


def exactly(space: Space, points: Points) -> dict[str, np.ndarray]:
    """Return all columns of some points in double precision, without compiling."""
    chosen: Plans = space.plans.take(points.plan)
    values = {**space.places(points.step), **plan_leaves(chosen)}
    scenario: Scenario = put(space.scenario, values, space.study.levels)
    with np.errstate(all="ignore"):
        found = estimate(scenario)
    shape = (len(points),)
    return {name: np.broadcast_to(np.asarray(v), shape) for name, v in found.items()}


__all__ = ["LANES", "MARGIN", "Points", "exactly", "scan"]
