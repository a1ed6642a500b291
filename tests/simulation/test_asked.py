"""Numbers of a question: one reader for simulations, plans and searches."""

import pytest

from roofrack import arguments
from roofrack.errors import InputError
from roofrack.fields import Leaf


def test_a_number_is_read_as_it_is_written() -> None:
    anything = Leaf("", above=0.0)
    for text, value in (("3", 3.0), ("3e-2", 0.03), (" 1e3 ", 1000.0), ("1_000", 1000.0)):
        assert arguments.number("key", anything, text) == value
    assert arguments.number("key", Leaf("", at_least=0.0, infinite=True), "inf") == float("inf")
    assert arguments.number("key", Leaf("", at_least=0.0), "0") == 0.0


@pytest.mark.parametrize(
    ("leaf", "text", "told"),
    [
        (Leaf("", above=0.0), "0", "a number above 0"),
        (Leaf("", above=0.0), "true", "a number above 0"),
        (Leaf("", above=0.0), "nan", "a number above 0"),
        (Leaf("", above=0.0), "inf", "a number above 0"),
        (Leaf("", above=0.0), "", "a number above 0"),
        (Leaf("", above=0.0), "[1, 2", "a number above 0"),
        (Leaf(""), "nan", "a number"),
        (Leaf("", at_least=1.0, integer=True), "1.5", "a whole number of at least 1"),
        (Leaf("", at_least=1.0, integer=True), "inf", "a whole number of at least 1"),
        (Leaf("", at_least=1.0, at_most=4.0), "5", "at least 1 and at most 4"),
    ],
)
def test_what_is_no_such_number_is_refused(leaf: Leaf, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        arguments.number("limits.ttft_s", leaf, text)
    assert str(caught.value).startswith(f"limits.ttft_s={text}: ")
