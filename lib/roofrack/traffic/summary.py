"""What a list of requests is like: how many, how fast, how bursty, how long."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Spread(NamedTuple):
    """How numbers are spread: mean, standard deviation over mean (cv), quantiles, extremes."""

    mean: float
    cv: float
    p5: float
    p50: float
    p95: float
    p99: float
    least: float
    most: float


class Summary(NamedTuple):
    """Requests in a few numbers.

    Rates are per second of `duration_s`, which runs from the first arrival to the last; what is
    counted with them leaves the last request out. `gaps_s` are the seconds between arrivals: cv 1
    for a Poisson process, more where they come in bursts. `gaps_s` is None for one request.
    """

    requests: int
    duration_s: float
    rate: float
    gaps_s: Spread | None
    prompt: Spread
    output: Spread
    cached_share: float
    prompt_tokens_per_s: float
    output_tokens_per_s: float


def summarise(
    arrival_s: npt.NDArray[np.float64],
    prompt: npt.NDArray[np.int64],
    output: npt.NDArray[np.int64],
    cached: npt.NDArray[np.int64],
) -> Summary:
    """Return the summary of requests in order of arrival; all arrays have N numbers."""
    count, duration = len(arrival_s), float(arrival_s[-1])

    def per_s(total: float) -> float:
        return total / duration if duration > 0 else (np.inf if total > 0 else 0.0)

    return Summary(
        count,
        duration,
        per_s(count - 1),
        spread(np.diff(arrival_s)) if count > 1 else None,
        spread(prompt),
        spread(output),
        float(cached.sum() / prompt.sum()),
        per_s(float(prompt[:-1].sum())),
        per_s(float(output[:-1].sum())),
    )


def spread(values: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> Spread:
    """Return the spread of at least one number; the cv of numbers that are all 0 is 0."""
    mean, deviation = float(values.mean()), float(values.std())
    quantiles = (float(q) for q in np.quantile(values, (0.05, 0.5, 0.95, 0.99, 0.0, 1.0)))
    return Spread(mean, deviation / mean if mean > 0 else 0.0, *quantiles)
