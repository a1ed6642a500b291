"""When requests arrive, drawn at random: memoryless, in bursts, or by the time of day.

Each takes either `n`, how many requests, or `duration_s`: all from the first, at 0, up to then. The
same seed gives the same requests; a seed may also be a NumPy generator.
"""

from collections.abc import Callable

import numpy as np

from roofrack.errors import InputError
from roofrack.traffic.lengths import WIDEST, Lengths
from roofrack.traffic.requests import Floats, Requests

MOST = 10**7
"""Requests that are drawn at most."""

Seed = int | np.random.Generator


def poisson(
    rate: float,
    *,
    lengths: Lengths,
    n: int | None = None,
    duration_s: float | None = None,
    seed: Seed = 0,
) -> Requests:
    """Return requests that know nothing of each other, `rate` a second: exponential gaps."""
    return gamma(rate, 1.0, lengths=lengths, n=n, duration_s=duration_s, seed=seed)


def gamma(
    rate: float,
    cv: float,
    *,
    lengths: Lengths,
    n: int | None = None,
    duration_s: float | None = None,
    seed: Seed = 0,
) -> Requests:
    """Return requests whose gaps are Gamma distributed, of mean 1 / rate and variation cv.

    cv is the standard deviation over the mean: 0 regular, 1 Poisson, above 1 bursts. The shape is
    1 / cv^2; over long times the variance of counts is cv^2 times that of a Poisson process. The
    first request is at 0, so up to a long duration_s come about (cv^2 + 1) / 2 more requests than
    rate duration_s (Cox 1962, Renewal Theory, chapter 4).
    """
    _positive("rate", rate)
    if not 0 <= cv <= WIDEST:
        raise InputError(f"cv={cv}: 0 (regular) to {WIDEST:g} is needed; 1 is Poisson")
    rng = np.random.default_rng(seed)

    def gaps(count: int) -> Floats:
        if cv < 1e-9:  # far beyond what the times can tell
            return np.full(count, 1.0)
        return rng.gamma(cv**-2, cv**2, count)

    _asked(n, duration_s, rate)
    arrival = _times(gaps, n, None if duration_s is None else duration_s * rate) / rate
    return _requests(arrival, lengths, rng)


def diurnal(
    rate: float,
    peak_over_mean: float,
    period_s: float = 86400.0,
    *,
    lengths: Lengths,
    n: int | None = None,
    duration_s: float | None = None,
    seed: Seed = 0,
) -> Requests:
    """Return Poisson requests whose rate swings, `rate` a second on average.

    At t the rate is rate (1 + a sin(2 pi t / period_s)) with a = peak_over_mean - 1 in 0 to 1: it
    begins at the mean, on its way up. Drawn by inverting the integral of the rate, which maps a
    Poisson process onto this one (Cinlar 1975, Introduction to Stochastic Processes, chapter 4).
    """
    _positive("rate", rate)
    _positive("period_s", period_s)
    if not 1 <= peak_over_mean <= 2:
        raise InputError(
            f"peak_over_mean={peak_over_mean}: 1 (steady) to 2 (no request at the lowest) is needed"
        )
    _asked(n, duration_s, rate)
    rng = np.random.default_rng(seed)
    swing = peak_over_mean - 1.0
    end = None if duration_s is None else float(expected(duration_s, rate, swing, period_s))
    counted = _times(lambda count: rng.exponential(size=count), n, end)
    return _requests(_inverse(counted, rate, swing, period_s), lengths, rng)


def expected(t: float | Floats, rate: float, swing: float, period_s: float) -> Floats:
    """Return how many requests a swinging rate brings by time t: its integral from 0."""
    angle = 2.0 * np.pi / period_s
    return np.asarray(rate * (t + swing / angle * (1.0 - np.cos(angle * np.asarray(t)))))


def _inverse(counted: Floats, rate: float, swing: float, period_s: float) -> Floats:
    """Return the times by which these numbers of requests are expected, by bisection."""
    most = counted / rate
    least = np.maximum(most - swing * period_s / np.pi, 0.0)
    for _ in range(60):
        middle = (least + most) / 2.0
        below = expected(middle, rate, swing, period_s) < counted
        least, most = np.where(below, middle, least), np.where(below, most, middle)
    # one of two neighbours may be rounded past the other
    return np.maximum.accumulate(most)


def _times(gaps: Callable[[int], Floats], n: int | None, end: float | None) -> Floats:
    """Return 0 and the sums of gaps of mean 1: n times, or all up to `end`."""
    if n is not None:
        return np.concatenate(([0.0], np.cumsum(gaps(n - 1))))
    assert end is not None
    parts, last, count = [np.zeros(1)], 0.0, 1
    while last <= end:
        drawn = last + np.cumsum(gaps(int(end - last + 4.0 * np.sqrt(end - last)) + 16))
        parts.append(drawn)
        last, count = float(drawn[-1]), count + len(drawn)
        if count > 2 * MOST:
            raise InputError(f"more than {MOST:,} requests; ask for a shorter duration_s")
    times = np.concatenate(parts)
    return times[times <= end]


def _requests(arrival: Floats, lengths: Lengths, rng: np.random.Generator) -> Requests:
    return Requests(arrival, *lengths(len(arrival), rng))


def _asked(n: int | None, duration_s: float | None, rate: float) -> None:
    if (n is None) == (duration_s is None):
        raise InputError(f"n={n}, duration_s={duration_s}: give one of them")
    if n is not None and not (1 <= n <= MOST and n == int(n)):
        raise InputError(f"n={n}: 1 to {MOST:,} requests are needed")
    if duration_s is not None:
        _positive("duration_s", duration_s)
        if duration_s * rate > MOST:
            raise InputError(
                f"duration_s={duration_s:g}: {duration_s * rate:.2g} requests at rate={rate:g}; "
                f"{MOST:,} at most"
            )


def _positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"{name}={value}: a number above 0 is needed")
