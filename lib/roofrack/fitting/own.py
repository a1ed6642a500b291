"""Fit a few factors on a calibration to a user's own end-to-end measurements.

The most probable factors under Gaussian priors (Tarantola, Inverse Problem Theory, 2005, section
3.2): nonlinear least squares on logarithms with a robust loss, derivatives by the dual numbers that
elasticities use. How far rows scatter is estimated along with them, starting from what the base
says. With few rows the priors decide, with many the measurements.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from roofrack.cost import estimate
from roofrack.dual import Dual
from roofrack.errors import InputError
from roofrack.fitting.document import rounded, triangle
from roofrack.fitting.factors import FACTORS, changed, widths
from roofrack.fitting.files import fits_of
from roofrack.fitting.measurements import Measurements, Observed, load
from roofrack.fitting.scenes import Scenes, predictions, scenes
from roofrack.leaves import put
from roofrack.schema import AUTO

SCATTER = 0.1
"""Relative deviation of a measured step from a calibrated estimate, before any is seen: engines and
their versions differ by about as much. A base that states its own (`step_rel_std`) has that."""
SCATTER_ROWS = 5.0
"""Observations that the scatter stated before counts as much as."""
OUTLIER = 2.0
"""Deviations from which on an observation counts less (soft L1)."""
ROUNDS = 20
"""Most alternations of factors and scatter."""


class Value(NamedTuple):
    """A fitted factor: its value, the standard error (of the logarithm; `step` in seconds)."""

    value: float
    std: float
    prior_std: float
    doc: str


class Found(NamedTuple):
    """A fit in units of the priors' widths: factors, covariance, leverages, and the scatter."""

    u: np.ndarray
    covariance: np.ndarray
    leverage: np.ndarray
    scatter: float


@dataclass(frozen=True)
class OwnFit:
    """What was fitted to end-to-end measurements.

    `calibration` is the tree of the file; `factors` by name; `errors` a row for each observation:
    row (from 1), column, measured, and relative errors of the base (`before`), of the fit (`after`)
    and of a fit without that observation (`left_out`); `unfit` the rows that by the model's count
    do not fit in memory, though they ran.
    """

    name: str
    base: str
    calibration: dict[str, Any]
    factors: dict[str, Value]
    covariance: np.ndarray
    errors: pl.DataFrame
    scatter: float
    unfit: tuple[int, ...]
    data: str


def fit_own(
    given: str | Path | pl.DataFrame,
    common: Sequence[str] = (),
    *,
    name: str | None = None,
    base: str = AUTO,
    config_dir: str | Path | None = None,
) -> OwnFit:
    """Fit the factors to the measurements of a file or frame (see `measurements`).

    Raises InputError naming file, row and column for anything that cannot be used.
    """
    m = load(given, common)
    s = scenes(m, base, config_dir)
    width = widths(s.first)
    before = _checked(m, s)
    prior = float(s.first.calibration.step_rel_std) or SCATTER
    found = _fit(s, m.observed, width, prior)
    by = factors(found.u, width)
    after, _ = predictions(s, m.observed, by)
    measured = np.array([o.value for o in m.observed])
    left_out = np.log(after / measured) / (1.0 - found.leverage)
    scale = np.array(list(width.values()))
    covariance = found.covariance * np.outer(scale, scale)
    name = name or (m.name.rsplit(".", 1)[0] if isinstance(given, str | Path) else "own")
    result = OwnFit(
        name=name,
        base=s.base,
        calibration={},
        factors={
            n: Value(by[n], float(np.sqrt(covariance[i, i])), width[n], FACTORS[n].doc)
            for i, n in enumerate(FACTORS)
        },
        covariance=covariance,
        errors=_errors(m.observed, measured, before, after, left_out),
        scatter=_shrunk(np.clip(left_out, -1.0, 1.0), prior),
        unfit=_unfit(s),
        data=m.name,
    )
    result.calibration.update(_tree(s, result, by, fits_of(s.base, config_dir)))
    return result


def factors(u: np.ndarray, width: Mapping[str, float]) -> dict[str, float]:
    """Return the factors of a point in units of the priors' widths; all 0 changes nothing."""
    return {
        name: float(x * width[name] if factor.added else np.exp(x * width[name]))
        for (name, factor), x in zip(FACTORS.items(), u, strict=True)
    }


def _duals(u: np.ndarray, width: Mapping[str, float]) -> dict[str, Dual]:
    """Return the factors with their derivatives along each coordinate of u."""
    slopes = np.eye(len(FACTORS))
    return {
        name: Dual(
            np.float64(value), slopes[i] * width[name] * (1 if FACTORS[name].added else value)
        )
        for i, (name, value) in enumerate(factors(u, width).items())
    }


def _fit(
    s: Scenes, observed: Sequence[Observed], width: Mapping[str, float], prior: float
) -> Found:
    """Return the most probable factors, and the scatter of the observations about them.

    The scatter has a scaled inverse chi-squared prior of SCATTER_ROWS degrees of freedom.
    """
    from scipy.optimize import least_squares

    measured = np.log([o.value for o in observed])
    low = np.full(len(FACTORS), -10.0)
    low[list(FACTORS).index("step")] = -float(s.first.calibration.step_s) / width["step"]
    u, scatter = np.zeros(len(FACTORS)), prior
    seen: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def both(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if at.tobytes() not in seen:
            seen.clear()
            value, slope = predictions(s, observed, _duals(at, width))
            seen[at.tobytes()] = np.log(value) - measured, slope / value[:, None]
        return seen[at.tobytes()]

    for _ in range(ROUNDS):
        result = least_squares(
            lambda at, scatter=scatter: np.concatenate([both(at)[0] / scatter, at]),
            np.maximum(u, low + 1e-9),
            jac=lambda at, scatter=scatter: np.concatenate(
                [both(at)[1] / scatter, np.eye(len(FACTORS))]
            ),
            bounds=(low - 1e-9, 10.0),
            loss=lambda z: _loss(z, len(observed)),
            xtol=1e-6,
            ftol=1e-7,
        )
        u = result.x
        residual, slope = both(u)
        covariance = np.linalg.inv(result.jac.T @ result.jac)
        weight = 1.0 / np.sqrt(1.0 + (residual / scatter / OUTLIER) ** 2)
        row = np.sqrt(weight)[:, None] * slope / scatter
        leverage = np.minimum(np.einsum("ij,jk,ik->i", row, covariance, row), 0.99)
        free = len(observed) - leverage.sum()
        last, scatter = (
            scatter,
            float(
                np.sqrt(
                    (SCATTER_ROWS * prior**2 + (weight * residual**2).sum()) / (SCATTER_ROWS + free)
                )
            ),
        )
        if abs(scatter / last - 1.0) < 1e-3:
            break
    return Found(u, covariance, leverage, scatter)


def _loss(z: np.ndarray, count: int) -> np.ndarray:
    """Return soft L1 and two derivatives for squared residuals; the priors' rows stay squared."""
    inner = np.where(np.arange(len(z)) < count, z / OUTLIER**2, 0.0)
    root = np.sqrt(1.0 + inner)
    robust = np.stack([2 * OUTLIER**2 * (root - 1), 1 / root, -0.5 / root**3 / OUTLIER**2])
    square = np.stack([z, np.ones_like(z), np.zeros_like(z)])
    return np.where(np.arange(len(z)) < count, robust, square)


def _shrunk(residual: np.ndarray, prior: float) -> float:
    """Return the deviation of residuals, together with what was stated before any was seen."""
    total = SCATTER_ROWS * prior**2 + float((residual**2).sum())
    return float(np.sqrt(total / (SCATTER_ROWS + len(residual))))


def _checked(m: Measurements, s: Scenes) -> np.ndarray:
    """Return predictions of the base; InputError for an observation that has none."""
    found, _ = predictions(s, m.observed, factors(np.zeros(len(FACTORS)), widths(s.first)))
    for o, value in zip(m.observed, found, strict=True):
        if not (np.isfinite(value) and value > 0):
            phase = next(part.workload.phase for rows, part in s.parts if o.row in rows)
            raise InputError(
                f"{m.where(o.row)}: {o.column} was measured, but has no value in "
                f"workload.phase={phase}; choose the phase that was measured"
            )
    return found


def _errors(
    observed: Sequence[Observed],
    measured: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    left_out: np.ndarray,
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "row": [o.row + 1 for o in observed],
            "column": [o.column for o in observed],
            "measured": measured,
            "before": before / measured - 1.0,
            "after": after / measured - 1.0,
            "left_out": np.expm1(left_out),
        }
    )


def _unfit(s: Scenes) -> tuple[int, ...]:
    """Return the rows (from 1) that do not fit in memory by the model's count."""
    rows: list[int] = []
    for numbers, scenario in s.parts:
        with np.errstate(all="ignore"):
            held = estimate(scenario)["fits"]
        rows += (numbers[~np.broadcast_to(held, numbers.shape).astype(bool)] + 1).tolist()
    return tuple(sorted(rows))


def _besides(s: Scenes, scatter: float, by: Mapping[str, float]) -> float:
    """Return what is left of the scatter besides the errors that the kernels state."""
    squares = []
    for numbers, scenario in s.parts:
        leaves = changed(scenario, by) | {"calibration.step_rel_std": 0.0}
        with np.errstate(all="ignore"):
            error = estimate(put(scenario, leaves))["step_s_rel_std"]
        squares.append(np.ravel(np.broadcast_to(error, numbers.shape)) ** 2)
    known = np.nan_to_num(np.concatenate(squares))
    return float(np.sqrt(max(scatter**2 - known.mean(), 0.0)))


def _tree(
    s: Scenes, found: OwnFit, by: Mapping[str, float], earlier: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the base's tree with the fitted leaves, and what the fit is worth."""
    tree = deepcopy(s.tree)
    for path, value in changed(s.first, by).items():
        *inner, name = path.split(".")[1:]
        at = tree
        for part in inner:
            at = at[part]
        at[name] = rounded(float(value))
    tree["step_rel_std"] = rounded(_besides(s, found.scatter, by))
    absolute = found.errors.select(pl.col("before", "after", "left_out").abs())
    fits = {
        "data": found.data,
        "points": found.errors.height,
        **{f"median_{n}": rounded(float(np.median(absolute[n]))) for n in absolute.columns},
        **{f"mean_{n}": rounded(float(absolute[n].to_numpy().mean())) for n in absolute.columns},
        "scatter": rounded(found.scatter),
        "fitted": " ".join(found.factors),
        "values": " ".join(f"{v.value:.4g}" for v in found.factors.values()),
        "covariance": triangle(found.covariance),
    }
    sources = dict(tree.get("sources") or {})
    sources["default"] = f"calibration {s.base}, with factors fitted to {found.data}"
    notes = {"fits": {**earlier, "own": fits}, "sources": sources}
    rest = {k: v for k, v in tree.items() if k not in ("name", *notes)}
    return {"name": found.name, **rest, **notes}
