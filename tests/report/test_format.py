"""Numbers as text: prefixes, rounding at their borders, money, columns."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofrack.report.format import NOTHING, column, number, percent, quantity, times, usd


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0013, "s", "1.3 ms"),
        (14.2e9, "B", "14.2 GB"),
        (14.2e9, "byte", "14.2 GB"),
        (3.35e12, "byte/s", "3.35 TB/s"),
        (989e12, "FLOP/s", "989 TFLOP/s"),
        (0.0, "s", "0 s"),
        (3600.0, "s", "3,600 s"),
        (1.5e-14, "s", "0.015 ps"),
        (0.9999996e-3, "s", "1 ms"),
        (999.6e-6, "s", "1 ms"),
        (999.4e-6, "s", "999 µs"),
        (0.5, "B", "0.5 B"),
        (-0.0021, "s", "-2.1 ms"),
        (2.1, "USD/h", "$2.10/h"),
        (0.2134, "USD/Mtok", "$0.21/Mtok"),
        (671.0264e9, "", "671 billion"),
        (37.5e9, "1", "37.5 billion"),
        (1024, "token", "1,024 token"),
        (0.45, "J/token", "450 mJ/token"),
        (None, "s", NOTHING),
        (math.nan, "s", NOTHING),
        (math.inf, "s", "∞ s"),
    ],
)
def test_quantity(value: float | None, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.21, "$0.21"), (0.0213, "$0.021"), (0.00213, "$0.0021"), (2.0e-7, "$2e-7"), (0, "$0.00"),
        (12, "$12.00"), (1234.4, "$1,234"), (-3, "-$3.00"), (2.5e6, "$2.5 million"),
        (None, NOTHING), (math.nan, NOTHING),
    ],
)  # fmt: skip
def test_usd(value: float | None, text: str) -> None:
    assert usd(value) == text


def test_ratios_and_shares() -> None:
    assert times(5.12) == "5.1x"
    assert times(1024) == "1,024x"
    assert percent(0.357) == "36 %"
    assert percent(0.00123) == "0.12 %"
    assert times(None) == percent(None) == NOTHING


def test_number() -> None:
    assert number(1234.56) == "1,235"
    assert number(0.00012345) == "0.000123"
    assert number(1.2e-5) == "1.2e-5"
    assert number(1.5, keep_zeros=True) == "1.50"
    assert number(9.995) == "9.99"  # the double below 9.995


def test_column_shares_one_unit() -> None:
    assert column([0.001, 0.02, None], "s") == ("ms", ["1", "20", NOTHING])
    assert column([0.0012345, 0.02], "s") == ("ms", ["1.234", "20.00"])
    assert column([1.5e9, 4e12], "byte") == ("TB", ["0.001500", "4.000"])
    assert column([1, 1024, 8192], "") == ("", ["1", "1,024", "8,192"])
    assert column([], "s") == ("s", [])


@given(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from(["s", "B", "FLOP/s", "USD", "", "chip"]),
)
def test_every_number_has_a_text(value: float, unit: str) -> None:
    assert quantity(value, unit)


@given(st.floats(1e-12, 1e14))
def test_number_keeps_the_value(value: float) -> None:
    assert float(number(value, 3).replace(",", "")) == pytest.approx(value, rel=5.1e-3)
