"""Dual numbers follow the rules of JAX in every function of `roofrack.arithmetic`."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofrack import arithmetic
from roofrack.dual import Dual, tangent_of, value_of

TWO: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "power": operator.pow,
    "guarded": arithmetic.divide,
    "least": arithmetic.least,
    "most": arithmetic.most,
    "choose": lambda a, b: arithmetic.choose(a < b, a * b, b),
    "from the right": lambda a, b: (2.0 + a) * (3.0 - b) / (4.0 + a) ** 0.5 + 1.0 / b - 2.0**a,
    "array on the left": lambda a, b: np.float64(2.0) * a - np.float64(1.0) / b,
    "sum": lambda a, b: sum([a, b, a * b], start=0.0),
    "padded": lambda a, b: arithmetic.padded(a, b, 1.0),
    "rounded": lambda a, b: arithmetic.round_up(a / b, 1.0) + arithmetic.floor(a) * b,
}
ONE: dict[str, Callable[[Any], Any]] = {
    "log1p": arithmetic.log1p,
    "expm1": arithmetic.expm1,
    "log2": arithmetic.log2,
    "ceil": arithmetic.ceil,
    "root": arithmetic.root,
    "normal_share": arithmetic.normal_share,
    "normal_quantile": lambda x: arithmetic.normal_quantile(x / 8.0),
    "minus": operator.neg,
    "cube": lambda x: x**3,
    "constant": lambda x: x**0 + 0.0**x,
}
VALUES = (0.5, 1.0, 2.0, 3.25, 7.0)


def by_jax(f: Callable[..., Any], *at: float) -> tuple[float, list[float]]:
    with jax.enable_x64(True):
        given = [jnp.asarray(x, jnp.float64) for x in at]
        value = f(*given)
        return float(value), [float(d) for d in jax.grad(f, tuple(range(len(at))))(*given)]


def by_dual(f: Callable[..., Any], *at: float, side: float = 0.0) -> tuple[float, list[float]]:
    seeds = np.eye(len(at))
    found = f(*(Dual(np.float64(x), seeds[i], side) for i, x in enumerate(at)))
    return float(value_of(found)), np.broadcast_to(tangent_of(found), (len(at),)).tolist()


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("a", VALUES)
@pytest.mark.parametrize("b", VALUES)
def test_two_numbers(name: str, a: float, b: float) -> None:
    value, slopes = by_dual(TWO[name], a, b)
    expected, expected_slopes = by_jax(TWO[name], a, b)
    assert value == pytest.approx(expected, rel=1e-14)
    assert slopes == pytest.approx(expected_slopes, rel=1e-13)


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize("x", VALUES)
def test_one_number(name: str, x: float) -> None:
    value, slopes = by_dual(ONE[name], x)
    expected, expected_slopes = by_jax(ONE[name], x)
    assert value == pytest.approx(expected, rel=1e-13)
    assert slopes == pytest.approx(expected_slopes, rel=1e-13)


def test_corners_have_derivatives() -> None:
    """0/0 guarded, 0**p, and the root of 0."""
    assert by_dual(arithmetic.divide, 0.0, 0.0) == (0.0, [0.0, 0.0])
    assert by_dual(lambda a, p: a**p, 0.0, 2.0) == (0.0, [0.0, 0.0])
    assert by_dual(arithmetic.root, 0.0) == (0.0, [0.0])


@given(
    st.lists(st.floats(-3, 3), min_size=2, max_size=2),
    st.lists(st.floats(-3, 3), min_size=2, max_size=2),
)
def test_sides_of_a_tie(first: list[float], second: list[float]) -> None:
    """Of two equal numbers the steeper wins upwards, the flatter downwards: exact for lines."""
    lines = [Dual(np.float64(1.0), np.array(slopes), 1.0) for slopes in (first, second)]
    for side in (1.0, -1.0):
        a, b = (Dual(line.value, line.tangent, side) for line in lines)
        for pick, exact in ((arithmetic.most, max), (arithmetic.least, min)):
            step = 2.0**-20 * side
            moved = [
                exact(1.0 + step * x, 1.0 + step * y) for x, y in zip(first, second, strict=True)
            ]
            expected = [(m - 1.0) / step for m in moved]
            assert pick(a, b).tangent.tolist() == pytest.approx(expected, abs=1e-9)


def test_shapes_broadcast() -> None:
    """Directions are the last axis, whatever the rank of the values."""
    row = Dual(np.arange(1.0, 4.0), np.ones((3, 1)) * [1.0, 0.0])
    column = Dual(np.arange(1.0, 3.0)[:, None], np.ones((2, 1, 1)) * [0.0, 1.0])
    number = Dual(np.float64(2.0), np.array([1.0, 1.0]))
    found = arithmetic.most(row * column, number * 2.0) + np.zeros((2, 3))
    assert found.value.shape == (2, 3)
    tangent = np.broadcast_to(found.tangent, (2, 3, 2))
    # 2 * 3 > 4: d(row * column) = (column, row); 1 * 1 < 4: d(2 number) = (2, 2)
    assert tangent[1, 2].tolist() == [2.0, 3.0]
    assert tangent[0, 0].tolist() == [2.0, 2.0]
    assert tangent[1, 1].tolist() == [2.0, 2.0]  # a tie, half of (2, 2) and of (2, 2)


def test_what_decides_is_a_comparison() -> None:
    x = Dual(np.float64(2.0), np.array([1.0]))
    assert x > 1 and x >= 2 and x < 3 and x <= 2 and x == 2 and x != 3
    assert arithmetic.whole(x) and not arithmetic.infinite(x)
    assert arithmetic.largest((x, x * 3.0, 1.0)) == 1
    assert arithmetic.look_up(np.array([5.0, 6.0, 7.0]), x) == 7.0
    with pytest.raises(TypeError, match="compare it"):
        bool(x)
