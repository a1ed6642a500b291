"""The same numbers from NumPy, from JAX in double and from JAX in single precision."""

from functools import cache

import jax
import numpy as np
import pytest
from model.cases import columns, random_scenario, study

from roofrack.cost import pytrees  # noqa: F401  (registers the nouns)
from roofrack.grid import evaluate
from roofrack.nouns import Scenario

POINTS = 96  # machines, models, plans, dtypes and calibrations mixed


@cache
def mixed(phase: str) -> Scenario:
    """Many random scenarios as one, each leaf an array over them."""
    draw = np.random.default_rng(11)
    scenarios = [random_scenario(draw, phase) for _ in range(POINTS)]
    return jax.tree.map(lambda *leaves: np.array(leaves, np.float64), *scenarios)


# double before single: neither may leave anything behind for the other
@pytest.mark.parametrize(
    ("phase", "double", "tolerance"),
    [
        pytest.param("decode", True, 1e-12, marks=pytest.mark.slow),
        ("decode", False, 1e-5),
        pytest.param("serve", True, 1e-12, marks=pytest.mark.slow),
        pytest.param("serve", False, 1e-5, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
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
            # a difference of two passes may be 0: measured against what it is a part of
            differences = ("usd_per_mtok_cached", "usd_per_mtok_input")
            whole = expected["usd_per_mtok"] if name in differences else 0.0
            slack = tolerance * (np.abs(exact) + whole) + 1e-30
            value = np.broadcast_to(value, (POINTS,))
            wrong = np.abs(value - exact) > slack
            assert not wrong.any(), (name, value[wrong][:5], exact[wrong][:5])
            np.testing.assert_array_equal(np.isnan(value), np.isnan(exact), err_msg=name)


def test_arrays_agree_with_scalars() -> None:
    """NumPy over an array of scenarios is NumPy over each of them."""
    stacked = columns(mixed("prefill"))
    for index in range(0, POINTS, 16):
        one = columns(jax.tree.map(lambda leaf, i=index: float(leaf[i]), mixed("prefill")))
        for name, value in one.items():
            many = np.broadcast_to(stacked[name], (POINTS,))[index]
            np.testing.assert_allclose(many, value, rtol=1e-13, err_msg=name)


@pytest.mark.slow
def test_corners_in_single_precision() -> None:
    """At the corners of the ranges single precision neither overflows nor turns NaN."""
    at = study("gb200_nvl72", "deepseek_v3", "default")
    batch = np.array([1.0, 1.0, 1e6, 1e12])
    context = np.array([0.0, 1e12, 1e7, 1.0])
    scenario = at.bind({"workload.batch": batch, "workload.context": context})
    single, exact = evaluate(scenario, double=False), columns(scenario)
    assert np.all(np.isfinite(single["step_s"])) and np.all(np.isfinite(single["mem_total_bytes"]))
    for name, value in single.items():  # null only where the phase has no such column
        np.testing.assert_array_equal(np.isfinite(value), np.isfinite(exact[name]), err_msg=name)
