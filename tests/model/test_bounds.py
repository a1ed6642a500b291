"""What holds for every scenario: bounds, sums, monotony, units."""

import numpy as np
import pytest
from hypothesis import example, settings
from hypothesis import given as forall
from hypothesis import strategies as st
from model.cases import (
    EFFICIENCIES,
    FLOPS,
    LINKS,
    MEMORY,
    MORE_MEMORY,
    PARTS,
    columns,
    given,
    random_scenario,
    study,
)

from roofrack.cost.site import site
from roofrack.leaves import entries, put
from roofrack.nouns import Scenario
from roofrack.tables import OVERLAPS, PHASES

seeds = st.integers(0, 2**32 - 1)
phases = st.sampled_from(PHASES)
overlaps = st.sampled_from(OVERLAPS)
BELOW = 1 - 1e-9  # rounding of sums
EXPERTS_COMPUTE = next(e for e in EFFICIENCIES if e[0].startswith("calibration.kernel.moe."))


def scenario_of(seed: int, phase: str, overlap: str, calibration: str | None = None) -> Scenario:
    return random_scenario(np.random.default_rng(seed), phase, overlap, calibration)


def changed(scenario: Scenario, paths: str | tuple[str, ...], factor: float) -> Scenario:
    """Return a scenario with some leaves multiplied, in each of its pools if they have them."""
    leaves = (paths,) if isinstance(paths, str) else paths
    names = {part + path for path in leaves for part in ("", "prefill.", "ffn.")}
    levels = {p: ("scale_up", "scale_out", "2", "3") for p in ("hardware", "prefill.hardware")}
    levels["ffn.hardware"] = levels["hardware"]
    found = [e for e in entries(scenario, levels) if e.path in names]
    assert {e.path for e in found} >= set(leaves)
    return put(scenario, {e.path: e.value * factor for e in found}, levels)


def rescaled(scenario: Scenario, powers: dict[str, float], factor: float) -> Scenario:
    """Return a scenario in other units: leaves of a unit times a power of the factor."""
    changes = {
        e.path: e.value * factor ** powers[e.leaf.unit]
        for e in entries(scenario)
        if e.leaf.unit in powers
    }
    assert changes
    return put(scenario, changes)


@forall(seeds, phases, overlaps)
@settings(max_examples=150)
def test_estimate_lies_between_its_bounds(seed: int, phase: str, overlap: str) -> None:
    scenario = scenario_of(seed, phase, overlap)
    row = columns(scenario)
    assert 0 < row["step_lower_s"] * BELOW <= row["step_s"] <= row["step_upper_s"] / BELOW
    assert sum(row[part] for part in PARTS) == pytest.approx(row["step_upper_s"], rel=1e-12)
    held = sum(row[kind] for kind in MEMORY) + np.nansum([row[kind] for kind in MORE_MEMORY])
    assert held == pytest.approx(row["mem_total_bytes"], rel=1e-12)
    assert min(row[name] for name in (*PARTS, *MEMORY)) >= 0
    # over the peak of most products: cores and parts in a narrower format compute faster than that
    of = site(scenario).formats
    parts = (of.attention.peak, of.attention_out.peak, of.experts.peak, of.head.peak)
    fastest = max(of.peak, of.core_peak, of.index_peak, *parts)
    assert 0 <= row["mfu"] <= fastest / of.peak / BELOW
    assert 0 <= row["scale_out_fraction"] <= 1
    assert row["params_active"] <= row["params_total"]


@forall(
    seeds, phases, overlaps, st.sampled_from([*LINKS, *EFFICIENCIES, "hardware.hbm_bytes_per_s"])
)
@example(63657, "serve", "smooth", EXPERTS_COMPUTE)  # its shared experts are beside longer ones
@settings(max_examples=60)
def test_faster_hardware_is_not_slower(seed: int, phase: str, overlap: str, leaf: str) -> None:
    scenario = scenario_of(seed, phase, overlap)
    slower = columns(changed(scenario, leaf, 0.7))["step_s"]
    assert columns(scenario)["step_s"] <= slower / BELOW


@forall(seeds, phases, overlaps, st.sampled_from(FLOPS))
@settings(max_examples=40)
def test_more_flops_are_not_slower(seed: int, phase: str, overlap: str, leaf: str) -> None:
    scenario = scenario_of(seed, phase, overlap)
    assert columns(changed(scenario, leaf, 2.0))["step_s"] <= columns(scenario)["step_s"] / BELOW


@forall(seeds, overlaps, st.sampled_from(["workload.batch", "workload.context"]), st.integers(2, 9))
@settings(max_examples=60)
def test_more_work_is_not_faster(seed: int, overlap: str, leaf: str, factor: int) -> None:
    scenario = scenario_of(seed, "decode", overlap)
    assert columns(changed(scenario, leaf, factor))["step_s"] >= columns(scenario)["step_s"] * BELOW


SECOND = {"byte/s": -1.0, "FLOP/s": -1.0, "op/s": -1.0, "s": 1.0}


@forall(seeds, phases, overlaps, st.floats(0.01, 100))
@settings(max_examples=60)
def test_time_has_one_unit(seed: int, phase: str, overlap: str, factor: float) -> None:
    """In another unit of time every time is another number, and nothing else changes."""
    scenario = scenario_of(seed, phase, overlap)
    before, after = columns(scenario), columns(rescaled(scenario, SECOND, factor))
    times = [n for n in before if n.endswith("_s") and not n.startswith("tokens_per")]
    for name in times:
        if not name.startswith("break_even"):  # that divides prices
            expected = pytest.approx(before[name] * factor, rel=1e-9, abs=0, nan_ok=True)
            assert after[name] == expected, name
    for name in ("mfu", "mbu", "critical_batch", "mem_total_bytes", "prefill_instances"):
        assert after[name] == pytest.approx(before[name], rel=1e-9), name
    assert after["tokens_per_s"] * factor == pytest.approx(before["tokens_per_s"], rel=1e-9)


MONEY = {"USD/h": 1.0, "USD": 1.0, "USD/kWh": 1.0}


@forall(seeds, phases, st.floats(0.1, 10))
@settings(max_examples=60)
def test_money_has_one_unit(seed: int, phase: str, factor: float) -> None:
    scenario = scenario_of(seed, phase, "smooth")
    before, after = columns(scenario), columns(rescaled(scenario, MONEY, factor))
    for name, value in before.items():
        power = 1.0 if name.startswith("usd") else 0.0
        if name != "bound":
            expected = pytest.approx(value * factor**power, rel=1e-9, nan_ok=True)
            assert after[name] == expected, name
    utilisation = scenario.economics.utilization
    per_token = before["usd_per_hour"] / 3600 / utilisation / before["tokens_per_s"]
    fed = before["prefill_instances"] == 0 or scenario.workload.prefill_instances == 0
    if fed:  # a decode pool short of prompts earns less than it could
        assert before["usd_per_mtok"] == pytest.approx(per_token * 1e6, rel=1e-9)


@pytest.mark.parametrize("quantize", [0.0, 1.0])
def test_fewer_rows_than_a_tile_are_one_row_of_tiles(quantize: float) -> None:
    """What few tiles cost the memory does not grow below that, rounded up or not."""
    losses = {
        "starvation": 0.1,
        "wave": 0.2,
        "prologue": 100.0,
        "tile": 64.0,
        "tile_columns": 128.0,
    }
    leaves = {f"calibration.kernel.gemm.bf16.{name}": value for name, value in losses.items()}
    leaves |= {"calibration.quantize": quantize, "workload.batch": np.arange(1.0, 65.0)}
    row = columns(study("h100_sxm", "llama3_1_70b").bind(leaves | given(tp=8.0)))
    assert row["t_weights_s"] == pytest.approx(np.full(64, row["t_weights_s"][0]), rel=1e-12)
    assert np.all(np.diff(row["step_s"]) > 0)
    plain = columns(study("h100_sxm", "llama3_1_70b").bind(given(tp=8.0, batch=64.0)))
    assert row["t_weights_s"][0] > plain["t_weights_s"]
