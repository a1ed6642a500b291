"""A function taken apart computes what it computed whole, each part as often as its axes ask."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.cases import study

from roofrack import arithmetic
from roofrack.cost import estimate
from roofrack.grid.factored import evaluator
from roofrack.grid.parts import take_apart
from roofrack.grid.stream import FAST_COMPILE
from roofrack.leaves import plain, put

DEPENDS = {"a": "x", "b": "y", "c": "z"}


class Kept:
    """Keeps every point: one row for each step, one column for each lane."""

    def __init__(self, *columns):
        self.columns = columns

    def start(self, lanes, steps):
        return {name: jnp.zeros((steps, lanes)) for name in self.columns}

    def step(self, so_far, columns, number):
        return {name: so_far[name].at[number].set(columns[name]) for name in self.columns}


def evaluated(function, values, columns, order=("x", "y", "z"), depends=DEPENDS):
    with jax.enable_x64(True):
        parts = take_apart(function, depends, jnp.float64)
        run = jax.jit(
            evaluator(parts, depends, order, Kept(*columns)), compiler_options=FAST_COMPILE
        )
        found = run({name: np.asarray(v, np.float64) for name, v in values.items()})
        return parts, {name: np.asarray(v) for name, v in found.items()}


def by_axes(parts):
    return {"".join(sorted(axes)): count for axes, count in parts.operations.items()}


def mixed(v):
    a, b, c = v["a"], v["b"], v["c"]
    of_plan = jnp.sin(a) * a + 1.0
    return {
        "all": of_plan * b + jnp.sqrt(c) * of_plan,
        "two": jnp.where(a > 1.0, a * b, jnp.exp(b)),
        "one": jnp.square(c),
        "none": jnp.float64(7.0),
    }


def test_each_result_is_that_of_the_whole_function():
    values = {"a": [0.5, 1.0, 2.0], "b": [1.0, 3.0], "c": [1.0, 4.0, 9.0, 16.0, 25.0]}
    parts, found = evaluated(mixed, values, ("all", "two", "one", "none"))
    grids = dict(zip("abc", np.meshgrid(*values.values(), indexing="ij"), strict=True))
    with jax.enable_x64(True):
        whole = {name: np.asarray(v) for name, v in mixed(grids).items()}
    for name, value in found.items():
        expected = np.broadcast_to(whole[name], (3, 2, 5)).reshape(6, 5)
        np.testing.assert_allclose(value, expected, rtol=1e-14, err_msg=name)
    assert parts.axes_of(parts.results["two"]) == {"x", "y"}
    assert parts.axes_of(parts.results["none"]) == frozenset()


def test_operations_stand_where_their_numbers_are():
    parts, _ = evaluated(mixed, {"a": [1.0], "b": [1.0], "c": [1.0]}, ("all",))
    counted = by_axes(parts)
    assert counted == {
        "x": 4,  # sin(a), times a, plus 1; a > 1
        "y": 1,  # exp(b)
        "z": 2,  # sqrt(c), c^2
        "xy": 3,  # of_plan b; a b, and which of it and exp(b)
        "xz": 1,  # sqrt(c) of_plan
        "xyz": 1,  # the sum
    }


def test_the_same_operation_is_done_once_and_what_is_not_asked_not_at_all():
    def twice(v):
        unused = jnp.cos(v["a"])
        assert unused is not None
        return {"r": jnp.sin(v["a"]) + jnp.sin(v["a"]) * v["b"]}

    parts, _ = evaluated(twice, {"a": [1.0, 2.0], "b": [1.0], "c": [0.0]}, ("r",))
    assert by_axes(parts) == {"x": 1, "xy": 2}


def test_calls_within_are_looked_into():
    inner = jax.jit(lambda a, b: (jnp.sin(a), jnp.cos(b)))

    def calls(v):
        one, other = inner(v["a"], v["b"])
        again, _ = inner(v["c"], v["b"])
        return {"r": one + other, "s": again}

    values = {"a": [0.1, 0.2], "b": [0.3], "c": [0.4, 0.5]}
    parts, found = evaluated(calls, values, ("r", "s"))
    assert by_axes(parts) == {"x": 1, "y": 1, "z": 1, "xy": 1}
    expected = np.sin([0.1, 0.2]) + np.cos(0.3)
    np.testing.assert_allclose(found["r"], np.stack([expected, expected], 1))
    np.testing.assert_allclose(found["s"][0], np.sin([0.4, 0.5]))


COLUMNS = ("step_s", "mem_total_bytes", "usd_per_mtok", "tpot_s", "bound")
AXES = {
    "parallelism.tp": "plan", "parallelism.ep": "plan", "parallelism.pp": "plan",
    "workload.batch": "batch", "workload.context": "context",
}  # fmt: skip


@pytest.mark.parametrize(
    ("hardware", "model", "overlap"),
    [
        ("gb200_nvl72", "deepseek_v3", "smooth"),
        pytest.param("h200", "qwen3_5_397b_a17b", "ideal", marks=pytest.mark.slow),
        pytest.param("h100_sxm", "llama3_1_70b", "none", marks=pytest.mark.slow),
    ],
)
def test_the_cost_model_apart_is_the_cost_model(hardware, model, overlap):
    s = plain(study(hardware, model, overlap=overlap).bind({}))

    def columns(values):
        with arithmetic.apart():
            found = estimate(put(s, values))
        return {name: jnp.asarray(found[name], jnp.float64) for name in COLUMNS}

    values = {
        "parallelism.tp": [1.0, 2.0, 4.0, 8.0], "parallelism.ep": [1.0, 4.0, 8.0, 1.0],
        "parallelism.pp": [1.0, 1.0, 2.0, 4.0], "workload.batch": [1.0, 7.0, 64.0],
        "workload.context": [100.0, 4096.0],
    }  # fmt: skip
    order = ("batch", "context", "plan")
    parts, found = evaluated(columns, values, COLUMNS, order, AXES)
    axes = np.meshgrid(range(3), range(2), range(4), indexing="ij")
    place = dict(zip(order, axes, strict=True))
    grid = {name: np.asarray(v)[place[AXES[name]]] for name, v in values.items()}
    with np.errstate(all="ignore"):
        whole = estimate(put(s, grid))
    for name, value in found.items():
        expected = np.broadcast_to(whole[name], (3, 2, 4)).reshape(6, 4)
        np.testing.assert_allclose(value, expected, rtol=1e-9, err_msg=name)
    # what all three axes are needed for is a small part of the model
    counted = parts.operations
    assert counted[frozenset(order)] < 0.2 * sum(counted.values())


@settings(max_examples=25)
@given(data=st.data())
def test_any_order_and_length_of_axes_gives_the_same(data):
    lengths = {axis: data.draw(st.integers(1, 4), label=axis) for axis in "xyz"}
    order = data.draw(st.permutations("xyz"))
    values = {n: np.linspace(0.5, 2.5, lengths[axis]) for n, axis in DEPENDS.items()}
    _, found = evaluated(mixed, values, ("all",), tuple(order))
    grids = np.meshgrid(*(np.arange(lengths[axis]) for axis in order), indexing="ij")
    place = dict(zip(order, grids, strict=True))
    with jax.enable_x64(True):
        whole = mixed({n: values[n][place[axis]] for n, axis in DEPENDS.items()})
        expected = np.asarray(whole["all"]).reshape(-1, lengths[order[-1]])
    np.testing.assert_allclose(found["all"], expected, rtol=1e-14)
