"""Decode passes with drafted tokens, against the exact expectation and the published mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofrack.cost.passes import tokens_per_pass
from roofrack.errors import InputError
from roofrack.traffic import passes


def by_recursion(output: int, drafted: int, acceptance: float) -> np.ndarray:
    """The distribution of passes for one output: pass by pass, over tokens still missing."""
    chances = [acceptance**n * (1.0 - acceptance) for n in range(drafted)] + [acceptance**drafted]
    left = np.zeros(output)
    left[output - 1] = 1.0
    done = [left[0]]
    while left[1:].sum() > 1e-12:
        after = np.zeros(output)
        for missing in range(1, output):
            for kept, chance in enumerate(chances):
                after[max(missing - 1 - kept, 0)] += left[missing] * chance
        left = after
        done.append(left[0])
        left[0] = 0.0
    return np.array(done)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=8), st.floats(0, 1), st.integers(0, 5))
def test_without_drafts_every_token_takes_a_pass(
    outputs: list[int], acceptance: float, seed: int
) -> None:
    assert passes(outputs, 0, acceptance, seed).tolist() == [n - 1 for n in outputs]


@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=8),
    st.integers(0, 400),
    st.floats(0.0, 1.0),
    st.integers(0, 5),
)
def test_passes_lie_between_all_kept_and_none(
    outputs: list[int], drafted: int, acceptance: float, seed: int
) -> None:
    needed = np.array(outputs) - 1
    taken = passes(outputs, drafted, acceptance, seed)
    assert (taken <= needed).all() and (taken * (drafted + 1) >= needed).all()
    assert (passes(outputs, drafted, 0.0, seed) == needed).all()
    assert (passes(outputs, drafted, 1.0, seed) == -(-needed // (drafted + 1))).all()


@pytest.mark.parametrize(
    ("output", "drafted", "acceptance"), [(2, 3, 0.5), (6, 1, 0.7), (12, 4, 0.8), (9, 40, 0.9)]
)
def test_the_distribution_is_exact(output: int, drafted: int, acceptance: float) -> None:
    count = 200_000
    expected = by_recursion(output, drafted, acceptance)
    assert expected.sum() == pytest.approx(1.0)
    taken = passes(np.full(count, output), drafted, acceptance, 7)
    shares = np.bincount(taken, minlength=len(expected)) / count
    assert len(shares) == len(expected)
    # five standard deviations of each share
    room = 5.0 * np.sqrt(expected * (1.0 - expected) / count) + 1e-9
    assert (np.abs(shares - expected) < room).all()


@pytest.mark.parametrize(("drafted", "acceptance"), [(1, 0.85), (3, 0.7), (5, 0.3), (7, 0.95)])
def test_long_outputs_gain_what_leviathan_says(drafted: int, acceptance: float) -> None:
    output = 200_001
    taken = passes(np.full(20, output), drafted, acceptance, 3)
    gained = (output - 1) * 20 / taken.sum()
    assert gained == pytest.approx(tokens_per_pass(float(drafted), acceptance), rel=2e-3)


def test_shapes_seeds_and_nothing() -> None:
    outputs = np.array([[5, 50], [500, 1]])
    taken = passes(outputs, 3, 0.6, 1)
    assert taken.shape == (2, 2) and taken[1, 1] == 0
    assert (taken == passes(outputs, 3, 0.6, np.random.default_rng(1))).all()
    assert passes(np.array([], int), 3, 0.6).tolist() == []
    assert passes([1, 1], 10**9, 0.5).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (([0], 1, 0.5), "output"),
        (([1.5], 1, 0.5), "output"),
        (([2], -1, 0.5), "draft_tokens=-1"),
        (([2], 1.5, 0.5), "draft_tokens=1.5"),
        (([2], 1, 1.5), "acceptance=1.5"),
        (([2], 1, float("nan")), "acceptance=nan"),
    ],
)
def test_what_cannot_be_is_refused(asked: tuple, words: str) -> None:
    with pytest.raises(InputError, match=words):
        passes(*asked)
