"""Fit the numbers of one kernel class to measured calls, through the cost model's own functions.

Robust least squares on the logarithms (scipy, trust region with bounds), the Jacobian by forward
automatic differentiation in JAX. A fifth of the shapes is held out and says what the fit is worth.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
import polars as pl

SCALE = 0.1
"""Relative residual from which on a call counts as an outlier (soft L1)."""
HELD_OUT = 0.2
"""Share of the shapes that no fit sees."""
MOST = 4096
"""Calls that a fit looks at: more change its numbers by less than their errors."""
SEED = 20260728


class Bound(NamedTuple):
    """Where a number may lie, and where the search starts."""

    low: float
    start: float
    high: float


Columns = Mapping[str, Any]
Seconds = Callable[[Mapping[str, Any], Columns], Any]
"""Seconds of calls, given the fitted numbers by name and the columns of the calls."""


class Fit(NamedTuple):
    """Fitted numbers and what they are worth.

    `covariance` of the logarithms of `numbers`, in their order; mean and median absolute errors of
    the calls fitted to (`inside`) and held out, as shares; `rel_std` the deviation of the
    logarithm of held-out calls, `points` calls measured.
    """

    numbers: dict[str, float]
    covariance: np.ndarray
    points: int
    mean_inside: float
    mean_held_out: float
    median_held_out: float
    rel_std: float


def fit(
    seconds: Seconds, bounds: Mapping[str, Bound], calls: pl.DataFrame, weight: str | None = None
) -> Fit:
    """Fit `seconds` to the column `seconds` of the calls; all other numeric columns are given.

    Raises ValueError with fewer than three calls for each number.
    """
    if calls.height < 3 * len(bounds):
        raise ValueError(f"{calls.height} calls for {len(bounds)} numbers")
    columns = _arrays(calls)
    measured = columns["seconds"]
    rng = np.random.default_rng(SEED)
    held_out = rng.random(calls.height) < HELD_OUT
    inside = np.flatnonzero(~held_out)
    chosen = rng.permutation(inside)[:MOST]
    with jax.enable_x64(True):
        theta, covariance = _solve(seconds, bounds, columns, chosen)
        predicted = np.asarray(seconds(theta, columns), np.float64)
    log = np.log(predicted / measured)
    error = np.abs(np.expm1(log))
    return Fit(
        numbers=theta,
        covariance=covariance,
        points=calls.height,
        mean_inside=float(error[inside].mean()),
        mean_held_out=float(error[held_out].mean()),
        median_held_out=float(np.median(error[held_out])),
        rel_std=float(np.sqrt(np.mean(np.minimum(np.abs(log[held_out]), 1.0) ** 2))),
    )


def _arrays(calls: pl.DataFrame) -> dict[str, np.ndarray]:
    return {
        name: column.to_numpy()
        for name, column in zip(calls.columns, calls.get_columns(), strict=True)
        if column.dtype.is_numeric()
    }


def _solve(
    seconds: Seconds, bounds: Mapping[str, Bound], columns: dict[str, np.ndarray], chosen: Any
) -> tuple[dict[str, float], np.ndarray]:
    from scipy.optimize import least_squares  # a third of a second, of use to who fits only

    names = tuple(bounds)
    low, start, high = (np.log(np.array(b)) for b in zip(*bounds.values(), strict=True))
    # one size for all tables, so that a class is compiled once: the surplus has no weight
    some = np.resize(chosen, MOST)
    counts = (np.arange(MOST) < len(chosen)).astype(float)
    given = {name: column[some] for name, column in columns.items()}
    residual, jacobian = _compiled(seconds, names)
    result = least_squares(
        lambda z: np.asarray(residual(z, given, counts)),
        np.clip(start, low + 1e-6, high - 1e-6),
        jac=lambda z: np.asarray(jacobian(z, given, counts)),
        bounds=(low, high),
        loss="soft_l1",
        f_scale=SCALE,
        x_scale="jac",
        max_nfev=100,
    )
    return dict(zip(names, np.exp(result.x).tolist(), strict=True)), _covariance(
        result, len(chosen)
    )


def _covariance(result: Any, count: int) -> np.ndarray:
    """Return the covariance of the logarithms: (J^T J)^-1 s^2, s^2 the robust residual variance.

    Numbers at a bound are not free: theirs is 0. Directions that the data do not see get the width
    of a factor of two at most.
    """
    free = result.active_mask == 0
    jac = result.jac[:, free]
    # a perfect fit, as to calls made up for a test, still has a variance
    variance = max(2.0 * result.cost / max(count - free.sum(), 1), 1e-12)
    prior = np.eye(jac.shape[1]) / np.log(2.0) ** 2
    inner = np.linalg.inv(jac.T @ jac / variance + prior)
    covariance = np.zeros((len(free), len(free)))
    covariance[np.ix_(free, free)] = inner
    return covariance


@lru_cache(maxsize=32)
def _compiled(seconds: Seconds, names: tuple[str, ...]) -> tuple[Any, Any]:
    def residual(z: Any, columns: Columns, counts: Any) -> Any:
        theta = {name: jax.numpy.exp(z[i]) for i, name in enumerate(names)}
        return counts * jax.numpy.log(seconds(theta, columns) / columns["seconds"])

    return jax.jit(residual), jax.jit(jax.jacfwd(residual))
