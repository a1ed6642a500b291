"""The short forms of long axes: whole numbers stay whole, decimals are exact."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofrack.config.resolvers import MOST, arange, geom, linear
from roofrack.errors import InputError


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (arange(4), [0, 1, 2, 3]),
        (arange(1, 5), [1, 2, 3, 4]),
        (arange(1, 65, 16), [1, 17, 33, 49]),
        (arange(3, 0, -1), [3, 2, 1]),
        (arange(0.1, 0.5, 0.1), [0.1, 0.2, 0.3, 0.4]),
        (linear(0, 10, 3), [0, 5, 10]),
        (linear(0, 1, 5), [0.0, 0.25, 0.5, 0.75, 1.0]),
        (linear(8, 8, 1), [8]),
        (linear(10, 0, 6), [10, 8, 6, 4, 2, 0]),
        (geom(1, 65536, 17), [2**i for i in range(17)]),
        (geom(1000, 1, 4), [1000, 100, 10, 1]),
        (geom(4, 9, 3), [4, 6, 9]),
        (geom(1, 8, 3), [1.0, 8**0.5, 8.0]),
        (geom(0.001, 1000, 7), [0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]),
        (geom(5, 7, 1), [5]),
    ],
)
def test_values(values: list[float], expected: list[float]):
    assert values == pytest.approx(expected, rel=1e-15)
    assert [type(v) for v in values] == [type(e) for e in expected]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: arange(), r"\$\{range:\}: takes stop"),
        (lambda: arange(1, 5, 0), r"the step may not be 0"),
        (lambda: arange(5, 5), r"0 values"),
        (lambda: arange("a", 5), r"'a' is not a finite number"),
        (lambda: arange(True, 5), r"True is not a finite number"),
        (lambda: arange(0, 10 * MOST), rf"at most|from 1 to {MOST}"),
        (lambda: linear(1, 2), r"\$\{linear:1,2\}: takes lo,hi,n"),
        (lambda: linear(1, 2, 0), r"0 values"),
        (lambda: linear(1, 2, 2.5), r"2.5 values"),
        (lambda: linear(1, float("inf"), 3), r"inf is not a finite number"),
        (lambda: geom(0, 8, 4), r"both ends must be above 0"),
        (lambda: geom(-1, 8, 4), r"both ends must be above 0"),
    ],
)
def test_refusals(call, message: str):
    with pytest.raises(InputError, match=message):
        call()


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-9, 9).filter(bool))
def test_range_is_pythons_for_whole_numbers(lo: int, stop: int, step: int):
    expected = list(range(lo, stop, step))
    if expected:
        assert arange(lo, stop, step) == expected


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 60))
def test_ends_are_what_was_asked(lo: float, hi: float, n: int):
    for values in (linear(lo, hi, n), geom(lo, hi, n)):
        assert (values[0], values[-1], len(values)) == (lo, hi, n)
