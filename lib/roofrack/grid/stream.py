"""Evaluate the grid of a study block by block.

Every block has the same shape, so that one compiled function serves all of them; the last one is
filled up and cut off again. Block boundaries depend on the axes only: the same study gives the same
blocks on every machine.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from roofrack.conversion import Study
from roofrack.cost import estimate, pytrees  # noqa: F401  (pytrees registers the nouns)
from roofrack.nouns import Scenario

BLOCK = 2**17
"""Points evaluated at a time: 40 MB of results, and enough work to outweigh the call."""

AT_ONCE = 2**15
"""Points of a study up to which NumPy answers: 0.3 s of arithmetic, where a compiler needs 10."""

FAST_COMPILE = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1}
"""Options of XLA's CPU compiler: half the time to compile, a third more per point."""


@cache
def known_options() -> dict[str, bool | int]:
    """Return the options that this version of XLA knows: they belong to no stable interface."""
    try:
        jax.jit(lambda: 0.0, compiler_options=FAST_COMPILE).lower().compile()
    except Exception:  # whatever a version without them raises
        return {}
    return FAST_COMPILE


@cache
def compiled() -> Any:
    """Return the cost model, compiled once per pattern of axes, phase, overlap and features."""
    return jax.jit(estimate, compiler_options=known_options())


class Block(NamedTuple):
    """Some consecutive points of a grid, in row-major order of its axes.

    `places` (one array per axis) are positions in the axis' values; `columns` of results, one
    value for each point.
    """

    first: int
    places: tuple[np.ndarray, ...]
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        """Return the number of points."""
        return len(next(iter(self.columns.values())))


def points(study: Study) -> int:
    """Return the number of points of a study's grid."""
    return study.points


def evaluate(scenario: Scenario, *, double: bool = True) -> dict[str, np.ndarray]:
    """Return the result columns of a scenario as NumPy arrays, in double or single precision."""
    with jax.enable_x64(double):
        dtype = jnp.float64 if double else jnp.float32
        leaves = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), scenario)
        return {name: np.asarray(value) for name, value in compiled()(leaves).items()}


def at_once(scenario: Scenario, *, double: bool = True) -> dict[str, np.ndarray]:
    """Return the result columns of a scenario as NumPy computes them, nothing compiled.

    Computed in double precision and then rounded, unless `double`.
    """
    dtype = np.float64 if double else np.float32
    with np.errstate(all="ignore"):  # a plan that cannot run may divide by zero
        columns = estimate(scenario)
    return {name: _rounded(np.asarray(value), dtype) for name, value in columns.items()}


def _rounded(values: np.ndarray, dtype: Any) -> np.ndarray:
    with np.errstate(over="ignore"):  # beyond single precision it is infinite there too
        kind = {"f": dtype, "i": np.int32}.get(values.dtype.kind)
        return values if kind is None else values.astype(kind)


def stream(
    study: Study, *, double: bool = False, block: int = BLOCK, only: Iterable[int] | None = None
) -> Iterator[Block]:
    """Yield the evaluated blocks of a study's grid: all, or `only` these, by number from 0.

    Who computes them depends on the number of points alone: NumPy up to AT_ONCE, else XLA.
    """
    total = points(study)
    size = min(block, total)
    answer = at_once if total <= AT_ONCE else evaluate
    for number in range(-(-total // size)) if only is None else only:
        first = number * size
        flat = np.arange(first, first + size)
        index = np.unravel_index(np.minimum(flat, total - 1), study.shape) if study.axes else ()
        values: dict[str, Any] = {
            axis.path: axis.values[i] for axis, i in zip(study.axes, index, strict=True)
        }
        columns = answer(study.bind(values), double=double)
        wanted = min(size, total - first)
        yield Block(
            first=first,
            places=tuple(i[:wanted] for i in index),
            columns={n: np.broadcast_to(c, (size,))[:wanted] for n, c in columns.items()},
        )
