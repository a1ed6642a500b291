"""Gradients: against finite differences, and finite at the corners of the ranges.

Evaluated operation by operation: compiling one gradient takes longer than all of these tests.
"""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model.cases import columns, given, random_scenario, study

from roofrack.cost import estimate, pytrees  # noqa: F401  (registers the nouns)
from roofrack.nouns import Scenario

# spread over what a user asks the elasticity of; each drives a different part of the model
LEAVES = (
    "hardware.hbm_bytes_per_s", "hardware.flops_per_s.bf16", "hardware.flops_per_s.fp8",
    "hardware.fabric.0.bytes_per_s", "hardware.fabric.1.bytes_per_s", "hardware.fabric.0.latency_s",
    "hardware.usd_per_chip_hour", "model.d_model", "model.layers", "model.heads", "model.head_dim",
    "model.kv_lora", "model.vocab", "model.d_ff", "model.d_ff_expert", "model.experts",
    "model.experts_per_token", "workload.batch", "workload.context", "workload.prompt",
    "workload.routing_skew", "plan.pp", "calibration.kernel.gemm.compute_efficiency",
    "calibration.kernel.gemm.sharpness", "calibration.kernel.moe.hbm_efficiency",
    "calibration.kernel.attention_decode.launch_s", "calibration.scale_up.efficiency",
    "calibration.scale_out.launch_s", "calibration.layer_s", "calibration.step_s",
)  # fmt: skip
POINTS = 24


def reach(scenario: Scenario, path: str) -> Any:
    noun: Any = scenario
    for name in path.split("."):
        noun = noun[int(name)] if name.isdigit() else getattr(noun, name)
    return noun


def total(scenario: Scenario, name: str) -> Any:
    return estimate(scenario)[name].sum()


def gradient(scenario: Scenario, name: str) -> Scenario:
    """Return the gradient of a column; points are independent, so that of their sum is theirs."""
    with jax.enable_x64(True):
        traced = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), scenario)
        return jax.tree.map(np.asarray, jax.grad(total)(traced, name))


def scaled(scenario: Scenario, path: str, factor: float) -> Scenario:
    """Return the scenario with one leaf multiplied."""
    leaf = reach(scenario, path)
    return jax.tree.map(lambda x: x * factor if x is leaf else x, scenario)


@cache
def smooth_points(phase: str) -> Scenario:
    """Random scenarios without rounding to whole tiles: the gradient of the exact value exists."""
    draw = np.random.default_rng(5)
    scenarios = [random_scenario(draw, phase, calibration="default") for _ in range(POINTS)]
    stacked = jax.tree.map(lambda *leaves: np.array(leaves, np.float64), *scenarios)
    calibration = vars(stacked.calibration) | {"quantize": np.zeros(POINTS)}
    # a fabric level that a group fills exactly, or pp at one stage, is a kink: move off it
    plan = vars(stacked.plan) | {"pp": stacked.plan.pp * 1.1}
    return Scenario(
        **vars(stacked)
        | {
            "calibration": type(stacked.calibration)(**calibration),
            "plan": type(stacked.plan)(**plan),
        }
    )


@pytest.mark.parametrize(
    ("phase", "column"),
    [
        ("decode", "step_s"),
        ("decode", "mem_total_bytes"),
        ("serve", "usd_per_mtok"),
        ("prefill", "step_s"),
        ("serve", "joule_per_token"),
    ],
)
def test_gradients_are_finite_differences(phase: str, column: str) -> None:
    scenario = smooth_points(phase)
    value = columns(scenario)[column]
    slopes = gradient(scenario, column)
    small = 1e-6
    for path in LEAVES:
        up, down = (columns(scaled(scenario, path, f))[column] for f in (1 + small, 1 - small))
        elasticity = reach(slopes, path) * reach(scenario, path) / value
        expected = (up - down) / (2 * small) / value
        np.testing.assert_allclose(elasticity, expected, rtol=1e-4, atol=1e-7, err_msg=path)


CORNERS = [
    ("h100_sxm", "llama3_1_70b", given(batch=1.0, context=0.0)),
    ("h100_sxm", "llama3_1_70b", given(tp=8.0, pp=4.0, batch=1.0, context=1e7)),
    ("b200", "deepseek_v3", given(batch=1.0, context=0.0)),
    ("b200", "deepseek_v3", given(ep=0.0, dp=1e5, batch=1e6, dedup=1.0)),
    ("tpu_v5e", "palm_540b", given(tp=16.0, cp=2.0, batch=3.0)),
    ("mi300x", "mixtral_8x7b", given(tp=8.0, ep=8.0, attention_dp=1.0, batch=7.0)),
    ("blackboard", "blackboard", given(racks=2.0, ep=0.0)),
    ("h100_sxm", "gemma3_27b", given(tp=2.0, context=1024.0)),  # exactly the window
]


@cache
def corners(calibration: str) -> Scenario:
    scenarios = [study(hw, model, calibration).bind(leaves) for hw, model, leaves in CORNERS]
    return jax.tree.map(lambda *leaves: np.array(leaves, np.float64), *scenarios)


@pytest.mark.parametrize("calibration", ["ideal", "default"])
@pytest.mark.parametrize("column", ["step_s", "usd_per_mtok"])
def test_gradients_are_finite_at_corners(calibration: str, column: str) -> None:
    slopes = gradient(corners(calibration), column)
    bad = [
        f"{jax.tree_util.keystr(path)} of {CORNERS[i]}: {leaf[i]}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(slopes)
        for i in np.flatnonzero(~np.isfinite(leaf))
    ]
    assert not bad


def test_a_little_more_batch_has_a_price_though_rows_come_in_tiles() -> None:
    """`ceil` keeps its exact value and takes the derivative of what it rounds."""
    slopes = gradient(corners("default"), "step_s")
    assert np.all(slopes.workload.batch > 0)
