"""Requests that are drawn have the rates, gaps, swings and lengths that were asked for."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from roofrack import traffic
from roofrack.errors import InputError
from roofrack.traffic import Requests, constant, diurnal, gamma, lengths_from, lognormal, poisson
from roofrack.traffic.arrivals import expected

ONE = constant(100, 10)
FEW = settings(max_examples=25)
rates = st.floats(1e-3, 1e3)
seeds = st.integers(0, 2**32)


def gaps(made: Requests) -> Any:
    return np.diff(made.arrival_s)


@FEW
@given(rates, st.floats(0.0, 3.0), seeds, st.integers(1, 300))
def test_a_faster_service_is_the_same_one_faster(rate: float, cv: float, seed: int, n: int) -> None:
    made = gamma(rate, cv, lengths=ONE, n=n, seed=seed)
    slow = gamma(1.0, cv, lengths=ONE, n=n, seed=seed)
    assert len(made) == n and made.arrival_s[0] == 0.0 and (gaps(made) >= 0).all()
    assert made.arrival_s == pytest.approx(slow.arrival_s / rate)


@FEW
@given(rates, st.floats(1.0, 2.0), st.floats(0.1, 1e5), seeds)
def test_a_swing_is_drawn_by_the_inverse_of_its_integral(
    rate: float, peak: float, period: float, seed: int
) -> None:
    made = diurnal(rate, peak, period, lengths=ONE, n=200, seed=seed)
    steady = poisson(1.0, lengths=ONE, n=200, seed=seed)
    counted = expected(made.arrival_s, rate, peak - 1.0, period)
    scale = max(1.0, rate * period)
    assert counted == pytest.approx(steady.arrival_s, rel=1e-9, abs=1e-9 * scale)
    assert (gaps(made) >= 0).all()


def test_poisson_gaps_are_exponential_and_independent() -> None:
    found = gaps(poisson(5.0, lengths=ONE, n=50_001, seed=1))
    assert stats.kstest(found, "expon", args=(0.0, 0.2)).pvalue > 1e-3
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 0.02
    # counts in equal windows vary as much as their mean
    counts = np.bincount(np.cumsum(found).astype(int) // 10)[:-1]
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("cv", [0.0, 0.3, 1.0, 2.5])
def test_gamma_gaps_have_their_mean_and_variation(cv: float) -> None:
    found = gaps(gamma(4.0, cv, lengths=ONE, n=100_001, seed=2))
    assert found.mean() == pytest.approx(0.25, rel=0.005 + 0.02 * cv)
    assert found.std() / found.mean() == pytest.approx(cv, rel=0.04, abs=1e-9)
    if cv:
        # in bursts some gaps are shorter than what the times can tell
        seen = np.sort(found)[np.searchsorted(np.sort(found), 1e-6) :]
        below = 1.0 - np.arange(len(seen), 0, -1) / len(found)
        wanted = stats.gamma(cv**-2, scale=0.25 * cv**2).cdf(seen)
        # Kolmogorov: one sample in a thousand is further away
        assert np.abs(below - wanted).max() < 1.95 / np.sqrt(len(found))


def test_a_swing_has_its_peak_and_its_mean() -> None:
    made = diurnal(20.0, 1.6, 1000.0, lengths=ONE, duration_s=10_000.0, seed=4)
    assert made.rate == pytest.approx(20.0, rel=0.02)
    phase = made.arrival_s % 1000.0
    counts = np.histogram(phase, bins=20, range=(0, 1000.0))[0] / (10 * 50.0)
    middles = (np.arange(20) + 0.5) * 50.0
    wanted = 20.0 * (1.0 + 0.6 * np.sin(2 * np.pi * middles / 1000.0))
    assert counts == pytest.approx(wanted, rel=0.12)
    assert counts.argmax() in (4, 5) or counts.max() < 1.05 * counts[4]


@pytest.mark.parametrize("cv", [0.5, 1.0, 3.0])
def test_a_duration_holds_the_requests_of_renewal_theory(cv: float) -> None:
    counts = [len(gamma(2.0, cv, lengths=ONE, duration_s=200.0, seed=s)) for s in range(600)]
    assert np.mean(counts) == pytest.approx(400.0 + (cv**2 + 1.0) / 2.0, abs=4.0 * cv * 20 / 24.5)
    regular = gamma(2.0, 0.0, lengths=ONE, duration_s=200.0)
    assert len(regular) == 401 and regular.duration_s == 200.0


@FEW
@given(rates, st.floats(0.1, 200.0), seeds)
def test_nothing_arrives_after_the_duration(rate: float, count: float, seed: int) -> None:
    for made in (
        poisson(rate, lengths=ONE, duration_s=count / rate, seed=seed),
        diurnal(rate, 1.9, 3.0 / rate, lengths=ONE, duration_s=count / rate, seed=seed),
    ):
        assert made.duration_s <= count / rate * (1 + 1e-12)


def test_seeds_repeat_and_differ() -> None:
    lengths = lognormal(500.0, 50.0)
    first, again, other = (poisson(1.0, lengths=lengths, n=50, seed=s) for s in (1, 1, 2))
    assert (first.arrival_s == again.arrival_s).all() and (first.prompt == again.prompt).all()
    assert (first.prompt != other.prompt).any() and (first.arrival_s != other.arrival_s).any()
    stream = np.random.default_rng(1)
    assert (poisson(1.0, lengths=lengths, n=50, seed=stream).prompt == first.prompt).all()
    assert (poisson(1.0, lengths=lengths, n=50, seed=stream).prompt != first.prompt).any()


@pytest.mark.parametrize(
    ("mean", "cv"), [(1.3, 0.5), (2.0, 1.0), (30.0, 0.2), (1154.7, 0.96), (12035.1, 1.31)]
)
def test_lognormal_lengths_keep_mean_and_variation(mean: float, cv: float) -> None:
    n = 400_000
    prompt, output, cached = lognormal(mean, 50.0, cv, 0.0)(n, np.random.default_rng(5))
    assert prompt.min() >= 1 and not cached.any()
    variance = (cv * mean) ** 2
    assert prompt.mean() == pytest.approx(mean, abs=6.0 * math.sqrt((variance + 0.25) / n))
    assert 0.93 * variance < prompt.var() < 1.07 * variance + 0.25
    assert (output == 50).all()


def test_cached_tokens_are_a_share_of_each_prompt() -> None:
    prompt, _, cached = lognormal(1000.0, 5.0, cached=400.0)(5000, np.random.default_rng(0))
    assert (np.abs(cached - 0.4 * prompt) <= 0.5).all()
    prompt, _, cached = lognormal(3.0, 5.0, cached=2.9)(5000, np.random.default_rng(0))
    assert (cached < prompt).all() and (cached == prompt - 1).any()


def test_lengths_from_a_trace_keep_pairs_together() -> None:
    trace = traffic.read("azure_2023_code")
    made = poisson(1.0, lengths=lengths_from(trace), n=40_000, seed=3)
    pairs = set(zip(trace.prompt.tolist(), trace.output.tolist(), strict=True))
    assert set(zip(made.prompt.tolist(), made.output.tolist(), strict=True)) <= pairs
    assert made.prompt.mean() == pytest.approx(trace.prompt.mean(), rel=0.03)
    assert made.hashes is None


BAD: list[tuple[Any, str]] = [
    (lambda: poisson(0.0, lengths=ONE, n=1), "rate=0.0"),
    (lambda: poisson(math.nan, lengths=ONE, n=1), "rate=nan"),
    (lambda: poisson(1.0, lengths=ONE), "give one of them"),
    (lambda: poisson(1.0, lengths=ONE, n=5, duration_s=5.0), "give one of them"),
    (lambda: poisson(1.0, lengths=ONE, n=0), "n=0"),
    (lambda: poisson(1.0, lengths=ONE, duration_s=-1.0), "duration_s=-1.0"),
    (lambda: poisson(1e6, lengths=ONE, duration_s=1e6), "10,000,000 at most"),
    (lambda: gamma(1.0, -0.1, lengths=ONE, n=5), "cv=-0.1"),
    (lambda: gamma(1.0, math.inf, lengths=ONE, n=5), "cv=inf"),
    (lambda: diurnal(1.0, 2.5, lengths=ONE, n=5), "peak_over_mean=2.5"),
    (lambda: diurnal(1.0, 1.5, 0.0, lengths=ONE, n=5), "period_s=0.0"),
    (lambda: constant(0, 1), "prompt=0"),
    (lambda: constant(5, 1, 5), "cached=5: must be less than prompt=5"),
    (lambda: constant(5, math.nan), "output=nan"),  # type: ignore[arg-type]
    (lambda: lognormal(0.5, 1.0), "prompt=0.5"),
    (lambda: lognormal(5.0, 1.0), "output_cv=1.0: lengths of mean 1 cannot vary"),
    (lambda: lognormal(5.0, 5.0, -1.0), "prompt_cv=-1.0"),
    (lambda: lognormal(5.0, 5.0, cached=-1.0), "cached=-1.0"),
    (lambda: lognormal(5.0, 5.0, cached=6.0), "cached=6.0"),
]


@pytest.mark.parametrize(("call", "words"), BAD)
def test_what_cannot_be_is_refused(call: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert words in str(caught.value) and "\n" not in str(caught.value)
