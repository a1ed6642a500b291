"""The same numbers from NumPy, from JAX in double and from JAX in single precision."""

from functools import cache

import jax
import numpy as np
import pytest
from model.cases import columns, random_scenario, study

from roofrack.cost import pytrees  # noqa: F401  (registers the nouns)
from roofrack.grid import evaluate
from roofrack.nouns import Scenario

POINTS = 512  # machines, models, plans, dtypes and calibrations mixed


@cache
def mixed(phase: str) -> Scenario:
    """Many random scenarios as one, each leaf an array over them."""
    draw = np.random.default_rng(11)
    # `ideal` is left to one scenario in two by the draw; a static overlap to one run per phase
    scenarios = [random_scenario(draw, phase) for _ in range(POINTS)]
    return jax.tree.map(lambda *leaves: np.array(leaves, np.float64), *scenarios)


@pytest.mark.parametrize(
    ("phase", "double", "tolerance"),
    [("decode", True, 1e-12), ("serve", True, 1e-12), ("decode", False, 1e-5), ("serve", False, 1e-5)],
)
def test_compiled_agrees_with_numpy(phase: str, double: bool, tolerance: float) -> None:
    expected = columns(mixed(phase))
    compiled = evaluate(mixed(phase), double=double)
    assert set(compiled) == set(expected)
    for name, value in compiled.items():
        exact = np.broadcast_to(expected[name], (POINTS,))
        if name == "bound":  # a tie may fall either way
            assert np.mean(np.broadcast_to(value, (POINTS,)) == exact) > 0.99
        elif name == "fits":
            margin = np.abs(expected["mem_total_bytes"] / expected["mem_capacity_bytes"] - 1) > 1e-5
            assert np.all((value == exact) | ~margin)
        else:
            np.testing.assert_allclose(value, exact, rtol=tolerance, atol=1e-30, err_msg=name)


def test_arrays_agree_with_scalars() -> None:
    """NumPy over an array of scenarios is NumPy over each of them."""
    stacked = columns(mixed("prefill"))
    for index in range(0, POINTS, 64):
        one = columns(jax.tree.map(lambda leaf, i=index: float(leaf[i]), mixed("prefill")))
        for name, value in one.items():
            many = np.broadcast_to(stacked[name], (POINTS,))[index]
            np.testing.assert_allclose(many, value, rtol=1e-13, err_msg=name)


def test_infinitely_long_context_in_single_precision() -> None:
    """At the corners of the ranges single precision neither overflows nor turns NaN."""
    at = study("gb200_nvl72", "deepseek_v3", "default")
    batch = np.array([1.0, 1.0, 1e6, 1e12])
    context = np.array([0.0, 1e12, 1e7, 1.0])
    scenario = at.bind({"workload.batch": batch, "workload.context": context})
    for name, value in evaluate(scenario, double=False).items():
        if name not in ("ttft_s", "step_s_rel_std") and not name.startswith("usd_per_mtok_"):
            if name != "domains_touched":  # null on one chip
                assert np.all(np.isfinite(value)), name
