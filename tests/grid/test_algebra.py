"""What does nothing goes, sums and products meet in the order of their axes, results stay."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofrack.grid.parts import take_apart

DEPENDS = {"a": "x", "b": "y", "c": "z", "d": None}


def run(parts, values):
    """Run the parts one after the other on single numbers."""
    known = {parts.arguments[name]: value for name, value in values.items()}
    for part in parts.parts:
        known |= zip(part.gives, part.run(*(known[v] for v in part.takes)), strict=True)
    return {
        name: known[value] if isinstance(value, int) else value.value
        for name, value in parts.results.items()
    }


def apart(function, dtype=jnp.float32):
    return take_apart(lambda v: {"r": function(v)}, DEPENDS, dtype)


def counted(parts):
    return {
        "".join(sorted(axes)): [operation.name for operation in part.operations]
        for axes, part in ((part.axes, part) for part in parts.parts)
    }


def test_neutral_numbers_leave_nothing_to_do():
    parts = apart(lambda v: (((v["a"] * 1.0) + 0.0) / 1.0 - 0.0) ** 1.0 + v["b"] * 0.0)
    assert counted(parts) == {}
    assert parts.axes_of(parts.results["r"]) == {"x"}


def test_a_sum_meets_in_the_order_of_its_axes():
    def total(v):
        a, b, c = v["a"], v["b"], v["c"]
        return a * b * c + a + b + jnp.sin(a) + 2.0 + jnp.cos(a)

    names = counted(apart(total))
    assert names["xyz"].count("add") == 1
    assert names["x"].count("add") == 3  # a + sin a + cos a, and 2
    assert names["xy"].count("add") == 1  # b


def test_what_is_used_twice_is_computed_once():
    def shared(v):
        both = v["a"] + v["b"]
        return both * v["c"] + both

    assert counted(apart(shared))["xy"] == ["add"]


def test_division_by_fewer_axes_is_a_product_with_the_inverse():
    names = counted(apart(lambda v: (v["a"] * v["b"]) / v["c"] + (v["b"] + v["a"]) / v["c"]))
    assert names["z"] == ["div"]
    assert "div" not in names["xyz"]
    names = counted(apart(lambda v: v["a"] / (v["a"] + 1.0)))
    assert names["x"].count("div") == 1  # of the same axes: left as it is


def test_whole_numbers_are_left_alone():
    def masks(v):
        bits = jnp.where(v["a"] > 0, 1, 0) + jnp.where(v["b"] > 0, 2, 0) + 4
        return bits.astype(jnp.float32)

    parts = apart(masks)
    for a, b in itertools.product((-1.0, 1.0), repeat=2):
        found = run(parts, {"a": np.float32(a), "b": np.float32(b), "c": 0.0, "d": 0.0})
        assert float(found["r"]) == (a > 0) + 2 * (b > 0) + 4


OPERATIONS = {
    "add": lambda p, q: p + q,
    "mul": lambda p, q: p * q,
    "sub": lambda p, q: p - q,
    "div": lambda p, q: p / (1.0 + q * q),
    "max": jnp.maximum,
    "power": lambda p, q: (0.1 + p * p) ** q,
    "where": lambda p, q: jnp.where(p > q, p, 2.0 * q),
}


@settings(max_examples=60)
@given(data=st.data())
def test_any_expression_keeps_its_value(data):
    """A random expression of the four arguments, apart and whole, in double precision."""
    program = data.draw(
        st.lists(
            st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, 30), st.integers(0, 30)),
            min_size=1,
            max_size=12,
        )
    )
    numbers = st.floats(0.1, 2.0)
    values = {name: np.float64(data.draw(numbers, label=name)) for name in DEPENDS}

    def function(v):
        known = [*(v[name] for name in DEPENDS), 1.0, 0.0, 0.7]
        for name, i, j in program:
            result = OPERATIONS[name](known[i % len(known)], known[j % len(known)])
            known.append(jnp.clip(result, -3.0, 3.0))
        return sum(known[7:], start=known[-1] * 1.0)

    with jax.enable_x64(True):
        parts = apart(function, jnp.float64)
        found = float(run(parts, values)["r"])
        assert found == pytest.approx(float(function(values)), rel=1e-12, abs=1e-12)
