"""Gradients: against finite differences, and finite at the corners of the ranges.

Two ways give them: dual numbers (what the tool reports) and JAX. Dual numbers are compared with
differences for every leaf; JAX with dual numbers, operation by operation, since compiling a
gradient takes longer than all of these tests.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st
from model.cases import (
    AFD,
    AGGREGATED,
    DISAGGREGATED,
    columns,
    given,
    pooled,
    random_scenario,
    study,
)

from roofrack import arithmetic
from roofrack.arithmetic import ceil
from roofrack.cost import estimate, pytrees  # noqa: F401  (registers the nouns)
from roofrack.dual import Dual, tangent_of, value_of
from roofrack.leaves import Entry, entries, plain, put
from roofrack.nouns import Scenario
from roofrack.tables import PHASES

POINTS = 24
SMOOTH = {
    "decode": ("step_s", "step_lower_s", "mem_total_bytes", "usd_per_mtok", "tpot_s", "draft_s"),
    "prefill": ("step_s", "ttft_s", "usd_per_mtok_cached", "mem_total_bytes", "joule_per_token"),
    "serve": (
        "step_s", "usd_per_mtok", "joule_per_token", "ttft_s", "usd_per_mtok_input",
        "prefill_share", "kv_transfer_s", "tokens_per_s_per_chip",
    ),
    "train": (
        "step_s", "step_lower_s", "step_upper_s", "usd_per_mtok", "joule_per_token", "bubble_s",
        "mem_total_bytes", "hfu", "goodput", "exposed_dp_s",
    ),
}  # fmt: skip
STEPPED = ("parallelism.", ".chips", "ring_closes_at", "node_limit")
"""Leaves that the model takes in whole numbers: levels that a group fills exactly, whole ranks."""


def differentiable(s: Scenario) -> list[Entry]:
    """Return the leaves that have a derivative: numbers, finite and not 0 everywhere."""
    return [
        e
        for e in entries(s)
        if e.numeric
        and not any(part in e.path for part in STEPPED)
        and np.all(np.isfinite(e.value))
        and np.any(np.not_equal(e.value, 0))
    ]


def dual_slopes(s: Scenario, chosen: list[Entry]) -> dict[str, Any]:
    """Return all columns as dual numbers: relative changes of each leaf, along the last axis."""
    directions = np.eye(len(chosen))
    seeds = {
        e.path: Dual(np.asarray(e.value, float), np.asarray(e.value, float)[..., None] * d)
        for e, d in zip(chosen, directions, strict=True)
    }
    with np.errstate(all="ignore"):
        return estimate(put(s, seeds))


def stretched(s: Scenario, chosen: list[Entry], factor: float) -> Scenario:
    """Return one scenario per leaf, along a first axis, in which that leaf is multiplied."""
    wide = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (len(chosen), POINTS)), s)
    values = {}
    for row, e in enumerate(chosen):
        factors = np.ones((len(chosen), 1))
        factors[row] = factor
        values[e.path] = factors * np.asarray(e.value, float)
    return put(wide, values)


@cache
def smooth_points(phase: str) -> Scenario:
    """Random scenarios without rounding to whole tiles: the gradient of the exact value exists."""
    draw = np.random.default_rng(5)
    scenarios = [random_scenario(draw, phase, calibration="default") for _ in range(POINTS)]
    stacked = jax.tree.map(lambda *leaves: np.array(leaves, np.float64), *scenarios)
    return replace(stacked, calibration=replace(stacked.calibration, quantize=np.zeros(POINTS)))


def no_such_layers(s: Scenario) -> np.ndarray:
    """Return the points where a kind has no layers left: fewer than none means nothing."""
    m = s.model
    full = m.layers - m.window_layers - m.sparse_layers - m.linear_layers
    return (full == 0) | (m.layers == m.moe_layers)


@pytest.mark.parametrize("phase", PHASES)
def test_gradients_are_finite_differences(phase: str) -> None:
    """For every leaf, pools and drafting model included, wherever there is no kink."""
    scenario = smooth_points(phase)
    chosen = differentiable(scenario)
    assert len(chosen) > 100
    small = 1e-6
    up, down = (columns(stretched(scenario, chosen, 1 + x)) for x in (small, -small))
    middle, slopes = columns(scenario), dual_slopes(scenario, chosen)
    for name in SMOOTH[phase]:
        value = np.broadcast_to(middle[name], (len(chosen), POINTS))
        assert np.all(np.isfinite(value)), name
        scale = np.where(value == 0, 1.0, np.abs(value))
        right, left = (up[name] - value) / small / scale, (value - down[name]) / small / scale
        tangent = np.broadcast_to(tangent_of(slopes[name]), (POINTS, len(chosen))).T / scale
        empty = no_such_layers(scenario) & np.array([["layers" in e.path] for e in chosen])
        kink = empty | (np.abs(right - left) > 1e-4 * np.abs(right) + 1e-5)
        assert np.mean(kink & ~empty) < 0.02, name
        wrong = ~kink & (np.abs(tangent - (right + left) / 2) > 1e-4 * np.abs(tangent) + 1e-6)
        paths = sorted({chosen[i].path for i in np.argwhere(wrong)[:, 0]})
        assert not paths, (name, paths, tangent[wrong][:4], ((right + left) / 2)[wrong][:4])


CORNERS = {
    "zero context": ("h100_sxm", "llama3_1_70b", given(batch=1.0, context=0.0)),
    "long context": ("h100_sxm", "llama3_1_70b", given(tp=8.0, pp=4.0, batch=1.0, context=1e7)),
    "MLA without context": ("b200", "deepseek_v3", given(batch=1.0, context=0.0)),
    "100,000 chips": ("b200", "deepseek_v3", given(ep=0.0, dp=1e5, batch=1e6, dedup=1.0)),
    "torus": ("tpu_v5e", "palm_540b", given(tp=16.0, cp=2.0, batch=3.0)),
    "mesh": ("mi300x", "mixtral_8x7b", given(tp=8.0, ep=8.0, attention_dp=1.0, batch=7.0)),
    "totals": ("blackboard", "blackboard", given(racks=2.0, ep=0.0)),
    "the window exactly": ("h100_sxm", "gemma3_27b", given(tp=2.0, context=1024.0)),
    "linear only": ("h200", "qwen3_8b", given(model__linear_layers=36.0,
        model__linear_key_heads=16.0, model__linear_key_dim=128.0,
        model__linear_value_heads=32.0, model__linear_value_dim=128.0, context=0.0)),
    "hybrid": ("h200", "qwen3_next_80b_a3b", given(ep=8.0, dp=8.0, context=1e7)),
    "sparse": ("h200", "deepseek_v3_2", given(ep=8.0, dp=8.0, context=1e7)),
    "sparse, all picked": ("h200", "deepseek_v3_2", given(ep=8.0, dp=8.0, context=2048.0)),
    "nothing drafted kept": ("h200", "llama3_1_8b", given(draft_tokens=3.0, acceptance=0.0)),
    "all drafted kept": ("h200", "llama3_1_8b", given(draft_tokens=3.0, acceptance=1.0)),
    "even experts": ("h200", "deepseek_v3", given(ep=8.0, dp=8.0, cost__routing_noise=1.0)),
    "uneven experts": ("h200", "deepseek_v3", given(ep=8.0, dp=8.0, redundant_experts=256.0,
        routing_spread=2.0)),
    "no tiers": ("l4", "llama3_1_8b", given(hardware__tiers__host__bytes=0.0,
        hardware__tiers__flash__bytes=0.0)),
    "two batches": ("h200", "deepseek_v3", given(ep=64.0, dp=64.0, overlap_batches=2.0)),
    "2-D": ("tpu_v5p", "palm_540b", given(tp=16.0, tp_rows=4.0)),
    "AFD": ("h200", "step3", given(serving=AFD, ep=8.0, dp=8.0)),
    "apart": ("h200", "llama3_1_8b", given(serving=DISAGGREGATED)),
    "one chip": ("h200", "llama3_1_8b", given(serving=AGGREGATED, batch=1.0)),
}  # fmt: skip


@cache
def corners(phase: str, calibration: str) -> Scenario:
    serving = {"workload.prompt": 1.0, "workload.output": 1.0, "workload.batch": 8.0}
    scenarios = []
    for hardware, model, leaves in CORNERS.values():
        base = study(hardware, model, calibration, phase).bind(
            leaves | (serving if phase != "decode" and "workload.context" not in leaves else {})
        )
        scenarios.append(pooled(base, "h20", "l4", "llama3_1_8b"))
    return jax.tree.map(lambda *leaves: np.array(leaves, np.float64), *scenarios)


def not_finite(answer: dict[str, Any]) -> list[str]:
    """Name what is NaN or infinite of the derivatives, where the value is a number."""
    bad = []
    for name, column in answer.items():
        value = np.broadcast_to(np.asarray(value_of(column), float), len(CORNERS))
        fine = np.all(np.isfinite(tangent_of(column)), axis=-1) | ~np.isfinite(value)
        bad += [
            f"derivative of {name} at {corner}"
            for corner, ok in zip(CORNERS, np.broadcast_to(fine, len(CORNERS)), strict=True)
            if not ok
        ]
    return bad


@pytest.mark.parametrize("calibration", ["ideal", "default"])
@pytest.mark.parametrize("phase", PHASES)
def test_gradients_are_finite_at_corners(phase: str, calibration: str) -> None:
    scenario = corners(phase, calibration)
    chosen = [e for e in entries(scenario) if e.numeric and np.all(np.isfinite(e.value))]
    seeds = {
        e.path: Dual(np.asarray(e.value, float), np.eye(len(chosen))[i])
        for i, e in enumerate(chosen)
    }
    with np.errstate(all="ignore"):
        answer = estimate(put(scenario, seeds))
    for name in ("step_s", "step_lower_s", "usd_per_mtok", "mem_total_bytes", "joule_per_token"):
        assert np.all(np.isfinite(value_of(answer[name]))), name
    assert not not_finite(answer)


def several(answer: dict[str, Any]) -> Any:
    """Return one number that most of the model goes into."""
    return answer["usd_per_mtok"] + answer["ttft_s"] + 1e-12 * answer["mem_total_bytes"]


@pytest.mark.slow
def test_jax_has_the_same_derivatives_and_none_is_infinite() -> None:
    """Backwards, as a training loop would have them: all leaves, all corners, some other points."""
    scenario = jax.tree.map(
        lambda a, b: np.concatenate([a, b[:6]]), corners("serve", "default"), smooth_points("serve")
    )
    with jax.enable_x64(True):
        traced = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), scenario)
        slopes = jax.grad(lambda s: jnp.sum(several(estimate(s))))(traced)
    slopes = jax.tree.map(np.asarray, slopes)
    names = (*CORNERS, *range(6))
    bad = [
        f"{jax.tree_util.keystr(path)} at {names[i]}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(slopes)
        for i in np.flatnonzero(~np.isfinite(leaf))
    ]
    assert not bad
    chosen = [e for e in entries(scenario) if e.numeric and np.all(np.isfinite(e.value))]
    exact = several(dual_slopes(scenario, chosen)).tangent
    # the leaves of both in the same order: an array finds its path by being the very same
    paths = {id(leaf): i for i, leaf in enumerate(jax.tree.leaves(scenario))}
    backwards = jax.tree.leaves(slopes)
    for i, e in enumerate(chosen):
        if e.path.split(".")[-2:-1] == ["parallelism"]:
            continue  # degrees lie on ties, which rounding decides in XLA and not in NumPy
        expected = np.broadcast_to(exact, (len(names), len(chosen)))[:, i]
        found = backwards[paths[id(e.value)]] * e.value
        slack = 1e-8 * np.abs(expected) + 1e-12 * np.abs(exact).max(axis=-1)
        assert np.all(np.abs(found - expected) <= slack), e.path


@forall(st.floats(0.01, 1e6))
@settings(max_examples=50)
def test_rounding_up_has_the_slope_of_what_is_rounded(x: float) -> None:
    rounded = ceil(Dual(np.float64(x), np.array([1.0])))
    assert rounded.value == ceil(x) and rounded.value >= x * (1 - 1e-5)
    assert rounded.tangent == 1.0
    padded = arithmetic.padded(Dual(np.float64(x), np.array([1.0])), 64.0, 1.0)
    assert padded.value % 64 == 0 and padded.tangent == pytest.approx(1.0)


def test_a_little_more_batch_has_a_price_though_rows_come_in_tiles() -> None:
    scenario = plain(study("h100_sxm", "llama3_1_70b").bind(given(batch=33.0, tp=8.0)))
    entry = next(e for e in entries(scenario) if e.path == "workload.batch")
    smooth = plain(
        study("h100_sxm", "llama3_1_70b").bind(given(batch=33.0, tp=8.0, calibration__quantize=0.0))
    )
    stepped, even = (
        float(np.ravel(tangent_of(dual_slopes(s, [entry])["step_s"]))[0])
        for s in (scenario, smooth)
    )
    assert stepped > 0 and even > 0
    # in tiles the same slope at another point of the roofline
    assert stepped == pytest.approx(even, rel=0.5)
