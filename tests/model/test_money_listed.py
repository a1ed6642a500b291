"""Prices by listing payments and choices, never by the formula."""

import numpy as np
import pytest
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st
from model.cases import result, study

OWNED = study("h100_sxm", "llama3_1_70b", "default")
PREFILL = study("h100_sxm", "llama3_1_70b", "ideal", "prefill")
TIERS = {
    "hbm": (80e9, 3.35e12, 2.0),
    "host": (250e9, 5e10, 0.05),
    "flash": (4e12, 5e9, 0.01),
}
MACHINE = {
    "hardware.hbm_bytes": 80e9,
    "hardware.hbm_bytes_per_s": 3.35e12,
    "hardware.usd_per_chip_hour": 2.0,
    **{
        f"hardware.tiers.{name}.{leaf}": value
        for name, values in TIERS.items()
        if name != "hbm"
        for leaf, value in zip(("bytes", "bytes_per_s", "usd_per_hour"), values, strict=True)
    },
}


@forall(st.integers(1, 12), st.floats(0.0, 0.5), st.floats(0.0, 0.3))
@settings(max_examples=60)
def test_yearly_payments_discounted_are_the_capital(years: int, rate: float, upkeep: float) -> None:
    terms = {"economics.life_years": float(years), "economics.interest": rate}
    terms |= {"economics.upkeep": upkeep, "economics.basis": 1.0, "economics.pue": 1.2}
    row = result(OWNED, terms, hardware__capex_usd=40_000.0)
    hours = 365 * 24
    power = 700 / 1000 * 1.2 * OWNED.leaves["economics.usd_per_kwh"] * hours
    yearly = row["usd_per_chip_hour"] * hours - power - upkeep * 40_000
    discounted = sum(yearly / (1 + rate) ** year for year in range(1, years + 1))
    # a year is 365.25 days or 365
    assert discounted == pytest.approx(40_000, rel=1.5e-3 * (1 + upkeep * years + 0.1))


def kept_usd(tier: int, seconds: float) -> float:
    """Return what the model takes for keeping a token's cache, less what attending to it takes."""
    asked = {"cached": 4_000.0, "prompt": 8_000.0, "batch": 1.0, "cache_tier": float(tier)}
    kept = result(PREFILL, MACHINE, **asked, hold_s=seconds)["usd_per_mtok_cached"]
    none = result(PREFILL, MACHINE, **asked | {"cache_tier": 0.0}, hold_s=0.0)
    return float(kept - none["usd_per_mtok_cached"]) / 1e6


@pytest.mark.parametrize("seconds", [1.0, 10.0, 60.0, 600.0, 3_600.0, 86_400.0])
def test_the_cheapest_memory_is_the_least_of_the_listed_costs(seconds: float) -> None:
    kv = 327_680.0
    listed, modelled = [], []
    for tier, (size, speed, price) in enumerate(TIERS.values()):
        fetching = kv / speed if tier else 0.0  # what is in HBM is read by attention itself
        listed.append(price / 3600 * (kv / size * seconds + fetching))
        modelled.append(kept_usd(tier, seconds))
    assert modelled == pytest.approx(listed, rel=1e-6)
    assert np.argmin(modelled) == np.argmin(listed)


@pytest.mark.parametrize("tier", ["hbm", "host", "flash"])
def test_break_even_by_bisection(tier: str) -> None:
    """The wait after which computing a token again, on one chip at its peak, would be cheaper."""
    row = result(PREFILL, MACHINE, batch=1.0)
    again = 2.0 / 3600 * 2 * row["params_active"] / 9.89e14
    size, speed, price = TIERS[tier]
    kv = 327_680.0

    def cost(seconds: float) -> float:
        return price / 3600 * (kv / size * seconds + kv / speed)

    low, high = 0.0, 1e12
    if cost(0.0) > again:
        high = 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) < again else (low, middle)
    assert row[f"break_even_{tier}_s"] == pytest.approx(low, rel=1e-6)


def test_a_slow_tier_delays_the_first_token() -> None:
    asked = {"cached": 4_000.0, "prompt": 8_000.0, "batch": 1.0}
    times = [result(PREFILL, MACHINE, **asked, cache_tier=float(t)) for t in range(3)]
    waits = [float(row["retrieve_s"]) for row in times]
    assert waits == pytest.approx([0.0, 4_000 * 327_680 / 5e10, 4_000 * 327_680 / 5e9])
    first = [float(row["ttft_s"]) for row in times]
    assert np.diff(first) == pytest.approx(np.diff(waits))
    halved = result(PREFILL, MACHINE, **asked, cache_tier=1.0, tp=2.0)
    assert halved["retrieve_s"] == pytest.approx(waits[1] / 2)  # each chip fetches its heads
