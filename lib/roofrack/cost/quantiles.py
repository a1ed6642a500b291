"""Distributions as shares beyond points of time, and the quantiles read off them.

Lognormal lengths are taken in strata. Quantiles are read off at `POINTS` times, so that they have
derivatives.
"""

import math

import numpy as np

from roofrack.arithmetic import (
    Number,
    choose,
    constant,
    exp,
    expm1,
    following,
    least,
    log,
    most,
    total,
)
from roofrack.cost.queues import spread

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
"""The quantiles of the result schema."""

POINTS = 65
"""Times at which a distribution is evaluated."""

STRATA = np.array([-3.2, -2.0, -1.3, -0.8, -0.35, 0.1, 0.5, 0.9, 1.3, 1.7, 2.1, 2.6, 3.4])
"""Deviations between which lengths are taken together."""


def beyond(t: Number, start: Number, width: Number, mean: Number) -> Number:
    """Return P(start + U + E > t), U even between 0 and `width`, E exponential with `mean`.

    `width` and `mean` above 0.
    """
    t = most(t - start, 0.0)
    inside = least(t, width)
    early = 1.0 - (inside + mean * expm1(-inside / mean)) / width
    late = -mean / width * exp(-most(t - width, 0.0) / mean) * expm1(-width / mean)
    return choose(t < width, early, late)


def strata(cv: Number, like: Number, rank: int) -> tuple[Number, Number, Number]:
    """Return shares of lognormal lengths of mean 1, and between which lengths they lie.

    Arrays (strata, 1, ...) for scenario leaves of `rank` axes.
    """
    shares = np.diff([math.erf(z / math.sqrt(2.0)) for z in STRATA])
    shape = (len(shares), 1) + (1,) * rank
    deviation = spread(cv)

    def length(at: np.ndarray) -> Number:
        return exp(constant(at.reshape(shape), like) * deviation - deviation**2 / 2.0)

    of = constant((shares / shares.sum()).reshape(shape), like)
    return of, length(STRATA[:-1]), length(STRATA[1:])


def times(first: Number, last: Number, power: float, rank: int) -> Number:
    """Return POINTS times (POINTS, ...) between two, closer near the first."""
    place = (np.arange(POINTS) / (POINTS - 1.0)) ** power
    return first + (last - first) * constant(place.reshape(POINTS, *(1,) * rank), last)


def crossings(t: Number, later: Number) -> dict[str, Number]:
    """Return the quantiles of what lies beyond times `t` with probability `later`."""
    depth = -log(most(later, 1e-6))
    step, rise = following(t) - t, following(depth) - depth
    rises = rise > 1e-7

    def reached(share: float) -> Number:
        wanted = -math.log1p(-share)
        within = least(most((wanted - depth) / choose(rises, rise, 1.0), 0.0), 1.0)
        return t[:1] + total(step * choose(rises, within, choose(depth < wanted, 1.0, 0.0)))

    return {name: total(reached(share)) for name, share in QUANTILES.items()}
