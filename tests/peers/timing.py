"""How many estimates a second a peer gives, and what it answers, for the scripts beside this file.

Standard library only: they run in the peers' own virtual environments.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any


class Refused(Exception):
    """What a tool cannot be asked, and why."""


def options() -> argparse.Namespace:
    """Return `seconds` to measure, the `source` of a peer that is no package, and `points`.

    `points`, a file: a list of settings for each question, which the peer is to answer.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0, help="0: no rates")
    parser.add_argument("--source", type=Path)
    parser.add_argument("--points", type=Path)
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
    or with the points; with 0 seconds nothing is measured.
    """
    if not seconds:
        return
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


def asked(chosen: argparse.Namespace, *questions: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Return what is to be answered of some questions: the question and the settings of a point."""
    if chosen.points:
        points = json.loads(chosen.points.read_text())
        for question in questions:
            for point in points[question]:
                yield question, point


def answer(
    question: str,
    point: Mapping[str, Any],
    what: str,
    version: str,
    call: Callable[[], float],
    not_taken: str = "",
) -> None:
    """Print what a tool answers, in SI units, as a line of JSON; or why it does not.

    `not_taken` are the settings that it could not be told, in words.
    """
    told = {"question": question, "point": point["point"], "what": what, "version": version}
    try:
        value, refused = call(), ""
    except Exception as error:  # each tool has its own, and all are its answer
        value, refused = None, (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    print(
        json.dumps(told | {"answer": value, "refused": refused, "not_taken": not_taken}), flush=True
    )
