"""How many estimates a second a peer gives, for the scripts beside this file.

Standard library only: they run in the peers' own virtual environments.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any


def options() -> argparse.Namespace:
    """Return `seconds` to measure, and the `source` of a peer that is no package."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--source", type=Path)
    return parser.parse_args()


def shuffled(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return points of the product of axes in a random order that is always the same, each once."""
    points = list(product(*axes))
    random.Random(0).shuffle(points)
    return points


def measure(
    question: str,
    what: str,
    version: str,
    call: Callable[..., object],
    points: Iterable[Sequence[Any]],
    seconds: float,
    each: int = 1,
) -> None:
    """Time calls and print a line of JSON; the first call is not timed, for it may load data.

    Every call has a point of its own; `each` is how many evaluations it makes. Ends after `seconds`
    or with the points.
    """
    waiting = iter(points)
    call(*next(waiting))
    calls, begin = 0, time.perf_counter()
    for point in waiting:
        call(*point)
        calls += 1
        if time.perf_counter() - begin > seconds:
            break
    spent = time.perf_counter() - begin
    told = {"question": question, "what": what, "version": version}
    print(json.dumps(told | {"evaluations": calls * each, "seconds": spent}), flush=True)
