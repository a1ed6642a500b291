"""What holds for every scenario: bounds, sums, monotony, units."""

import numpy as np
import pytest
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st
from model.cases import (
    EFFICIENCIES,
    FLOPS,
    LATENCIES,
    LINKS,
    MEMORY,
    PARTS,
    columns,
    random_scenario,
)

from roofrack.nouns import Scenario
from roofrack.tables import OVERLAPS, PHASES

seeds = st.integers(0, 2**32 - 1)
phases = st.sampled_from(PHASES)
overlaps = st.sampled_from(OVERLAPS)
BELOW = 1 - 1e-9  # rounding of sums


def scenario_of(seed: int, phase: str, overlap: str, calibration: str | None = None) -> Scenario:
    return random_scenario(np.random.default_rng(seed), phase, overlap, calibration)


def changed(noun: Scenario, path: str, factor: float) -> Scenario:
    """Return a scenario with the leaf at `path` multiplied."""
    return _changed(noun, path.replace("parallelism", "plan").split("."), factor)


def _changed(noun, path, factor):
    if not path:
        return noun * factor
    head, rest = path[0], path[1:]
    if isinstance(noun, tuple):  # fabric levels, innermost first
        place = ("scale_up", "scale_out").index(head)
        return tuple(_changed(x, rest, factor) if i == place else x for i, x in enumerate(noun))
    values = {**vars(noun), head: _changed(getattr(noun, head), rest, factor)}
    return type(noun)(**values)


@forall(seeds, phases, overlaps)
@settings(max_examples=150)
def test_estimate_lies_between_its_bounds(seed: int, phase: str, overlap: str) -> None:
    row = columns(scenario_of(seed, phase, overlap))
    assert 0 < row["step_lower_s"] * BELOW <= row["step_s"] <= row["step_upper_s"] / BELOW
    assert sum(row[part] for part in PARTS) == pytest.approx(row["step_upper_s"], rel=1e-12)
    assert sum(row[kind] for kind in MEMORY) == pytest.approx(row["mem_total_bytes"], rel=1e-12)
    assert min(row[name] for name in (*PARTS, *MEMORY)) >= 0
    assert 0 <= row["mfu"] <= 1 / BELOW
    assert 0 <= row["scale_out_fraction"] <= 1
    assert row["params_active"] <= row["params_total"]


@forall(
    seeds, phases, overlaps, st.sampled_from([*LINKS, *EFFICIENCIES, "hardware.hbm_bytes_per_s"])
)
@settings(max_examples=150)
def test_faster_hardware_is_not_slower(seed: int, phase: str, overlap: str, leaf: str) -> None:
    scenario = scenario_of(seed, phase, overlap)
    slower = columns(changed(scenario, leaf, 0.7))["step_s"]
    assert columns(scenario)["step_s"] <= slower / BELOW


@forall(seeds, phases, overlaps, st.sampled_from(FLOPS))
@settings(max_examples=60)
def test_more_flops_are_not_slower(seed: int, phase: str, overlap: str, leaf: str) -> None:
    scenario = scenario_of(seed, phase, overlap)
    assert columns(changed(scenario, leaf, 2.0))["step_s"] <= columns(scenario)["step_s"] / BELOW


@forall(seeds, overlaps, st.sampled_from(["workload.batch", "workload.context"]), st.integers(2, 9))
@settings(max_examples=120)
def test_more_work_is_not_faster(seed: int, overlap: str, leaf: str, factor: int) -> None:
    scenario = scenario_of(seed, "decode", overlap)
    assert columns(changed(scenario, leaf, factor))["step_s"] >= columns(scenario)["step_s"] * BELOW


@forall(seeds, phases, overlaps, st.floats(0.01, 100))
@settings(max_examples=60)
def test_time_has_one_unit(seed: int, phase: str, overlap: str, factor: float) -> None:
    """All rates times c and all latencies over c: every time is over c, nothing else changes."""
    scenario = scenario_of(seed, phase, overlap, "ideal")
    other = scenario
    for leaf in (*FLOPS, *LINKS, "hardware.hbm_bytes_per_s"):
        other = changed(other, leaf, factor)
    for leaf in LATENCIES:
        other = changed(other, leaf, 1 / factor)
    before, after = columns(scenario), columns(other)
    for name in ("step_s", "step_lower_s", "step_upper_s", *PARTS):
        assert after[name] * factor == pytest.approx(before[name], rel=1e-9)
    for name in ("mfu", "mbu", "critical_batch", "mem_total_bytes", "context_knee_tokens"):
        assert after[name] == pytest.approx(before[name], rel=1e-9)


@forall(seeds, phases, st.floats(0.1, 10))
@settings(max_examples=40)
def test_cost_is_price_times_time(seed: int, phase: str, factor: float) -> None:
    scenario = scenario_of(seed, phase, "smooth")
    before = columns(scenario)
    after = columns(changed(scenario, "hardware.usd_per_chip_hour", factor))
    for name in ("usd_per_hour", "usd_per_mtok", "usd_per_mtok_input", "usd_per_mtok_output"):
        assert after[name] == pytest.approx(before[name] * factor, rel=1e-9, nan_ok=True)
    per_token = before["usd_per_hour"] / 3600 / before["tokens_per_s"]
    assert before["usd_per_mtok"] == pytest.approx(per_token * 1e6, rel=1e-9)
