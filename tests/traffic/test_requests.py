"""Lists of requests: what they refuse, and what cutting and scaling leaves as it is."""

import doctest
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traffic.cases import blocked, requests

from roofrack import traffic
from roofrack.errors import InputError
from roofrack.traffic import Prefixes, Requests


def test_the_example_of_the_package_is_true() -> None:
    assert doctest.testmod(traffic).failed == 0
    assert doctest.testmod(traffic).attempted == 5


def test_importing_it_loads_no_jax() -> None:
    code = "import sys, roofrack.traffic; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_times_count_from_the_first() -> None:
    made = Requests([5.0, 5.5, 9.0], [4, 5, 6], [1, 2, 3])  # type: ignore[arg-type]
    assert made.arrival_s.tolist() == [0.0, 0.5, 4.0]
    assert (len(made), made.rate, made.duration_s) == (3, 0.5, 4.0)
    assert made.cached.tolist() == [0, 0, 0] and made.cached.dtype == np.int64
    assert made.first(1).rate == 0.0
    assert Requests([1.0, 1.0], [1, 1], [1, 1]).rate == math.inf  # type: ignore[arg-type]


@given(requests(), st.floats(0.01, 100.0))
def test_scaling_divides_times_and_nothing_else(made: Requests, factor: float) -> None:
    faster = made.scaled(factor)
    assert faster.duration_s == pytest.approx(made.duration_s / factor)
    for name in ("prompt", "output", "cached"):
        assert (getattr(faster, name) == getattr(made, name)).all()
    if 0 < made.rate < math.inf:
        assert faster.rate == pytest.approx(factor * made.rate)
        assert faster.scaled(1.0 / factor).arrival_s == pytest.approx(made.arrival_s)
        told, before = faster.summary(), made.summary()
        assert told.output_tokens_per_s == pytest.approx(factor * before.output_tokens_per_s)
        assert told.gaps_s and before.gaps_s
        assert told.gaps_s.cv == pytest.approx(before.gaps_s.cv)


@given(blocked(), st.data())
def test_windows_cut_a_trace_into_all_of_it(made: Requests, data: Any) -> None:
    cut = data.draw(st.floats(0.0, made.duration_s))
    parts = []
    for start, end in ((0.0, cut), (cut, made.duration_s + 1.0)):
        inside = (made.arrival_s >= start) & (made.arrival_s < end)
        if inside.any():
            parts.append(made.window(start, end))
            assert parts[-1].prompt.tolist() == made.prompt[inside].tolist()
            assert parts[-1].arrival_s[0] == 0.0
        else:
            with pytest.raises(InputError, match="no request arrives"):
                made.window(start, end)
    assert sum(len(part) for part in parts) == len(made)
    assert made.hashes is not None
    joined = [part.hashes.ids for part in parts if part.hashes]
    assert np.concatenate(joined).tolist() == made.hashes.ids.tolist()


def test_the_summary_by_hand() -> None:
    made = Requests(
        np.array([0.0, 1.0, 4.0]), np.array([10, 20, 90]), np.array([2, 4, 6]), np.array([5, 1, 0])
    )
    told = made.summary()
    assert (told.requests, told.duration_s, told.rate) == (3, 4.0, 0.5)
    assert told.gaps_s and (told.gaps_s.mean, told.gaps_s.cv) == (2.0, 0.5)
    assert (told.prompt.mean, told.prompt.p50, told.prompt.most) == (40.0, 20.0, 90.0)
    assert told.prompt.cv == pytest.approx(math.sqrt((900 + 400 + 2500) / 3) / 40)
    assert told.cached_share == pytest.approx(6 / 120)
    # the last request begins where the duration ends
    assert (told.prompt_tokens_per_s, told.output_tokens_per_s) == (7.5, 1.5)
    assert made.first(1).summary().gaps_s is None


BAD: list[tuple[dict[str, Any], str]] = [
    ({"arrival_s": [1.0, 0.0]}, "finite and sorted"),
    ({"arrival_s": [0.0, math.nan]}, "finite and sorted"),
    ({"arrival_s": []}, "at least one time"),
    ({"prompt": [3, 0]}, r"prompt=0 of request 1; at least 1"),
    ({"output": [0, 1]}, r"output=0 of request 0; at least 1"),
    ({"cached": [0, 9]}, r"cached=9 of request 1; less than prompt"),
    ({"cached": [-1, 0]}, r"cached=-1 of request 0; at least 0"),
    ({"prompt": [3]}, r"shape \(1,\)"),
    ({"prompt": [3.5, 4.0]}, r"prompt=3\.5 of request 0 is not a whole number"),
    ({"prompt": [3.0, math.nan]}, "1,000,000,000 at most"),
    ({"prompt": ["a", "b"]}, "numbers of tokens"),
    ({"hashes": Prefixes(np.array([0, 1]), np.array([7]), 4)}, "blocks of 2 requests"),
    ({"hashes": Prefixes(np.array([0, 1, 1]), np.array([7]), 0)}, "block_tokens=0"),
]


@pytest.mark.parametrize(("fields", "words"), BAD)
def test_what_is_no_list_of_requests_is_refused(fields: dict[str, Any], words: str) -> None:
    good = {"arrival_s": [0.0, 1.0], "prompt": [8, 9], "output": [1, 1]}
    assert len(Requests(**good)) == 2
    with pytest.raises(InputError, match=words) as caught:
        Requests(**{**good, **fields})
    assert "\n" not in str(caught.value)


def test_no_cut_leaves_nothing_and_no_scale_is_zero() -> None:
    made = Requests([0.0, 1.0], [8, 9], [1, 1])  # type: ignore[arg-type]
    for call in (
        lambda: made.first(0),
        lambda: made.scaled(0.0),
        lambda: made.scaled(math.nan),
        lambda: made.window(5.0, 9.0),
        lambda: made.take([]),
    ):
        with pytest.raises(InputError):
            call()
    assert len(made.first(99)) == 2
