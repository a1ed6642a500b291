"""The questions that other tools are asked too (questions.yaml): their settings and measured runs.

`tests/bench_peers.py` asks the tools from here and the page asks roofrack, so that both are asked
the same.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from roofrack.errors import InputError, nearest
from roofrack.validation import published
from roofrack.validation.composed import given
from roofrack.validation.training import training_rows

PATH = Path(__file__).with_name("questions.yaml")
CURVE = "curve"
"""The question without measured runs."""


class Point(NamedTuple):
    """One thing asked: its name, overrides of `roofrack point`, and the run that measured it.

    `scale`: the answer of roofrack is its column times this. `measured` is None where nobody did.
    """

    name: str
    label: str
    overrides: tuple[str, ...]
    scale: float = 1.0
    measured: float | None = None
    source: str = ""
    notes: str = ""

    @property
    def settings(self) -> dict[str, Any]:
        """Return what a script of a tool is told: each override by the last part of its key.

        Numbers as numbers, and batches whole, as other tools take them.
        """
        return {
            key.rpartition(".")[2]: _value(v) for key, v in given(" ".join(self.overrides)).items()
        }


class Question(NamedTuple):
    """A question: what is asked in words, the result compared, and its points."""

    key: str
    title: str
    text: str
    column: str
    label: str
    unit: str
    points: tuple[Point, ...]


def _value(text: str) -> Any:
    try:
        value = float(text)
    except ValueError:
        return text
    return max(1, round(value))


@cache
def questions() -> Mapping[str, Question]:
    """Return every question by its key. Raises InputError for a run that is not there."""
    read = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    runs = _measured()
    return {
        key: Question(
            key,
            told["title"],
            told["text"],
            told["column"],
            told["label"],
            told["unit"],
            tuple(_points(key, told, runs)),
        )
        for key, told in read.items()
    }


def measured_questions() -> list[Question]:
    """Return the questions whose answer was measured."""
    return [question for key, question in questions().items() if key != CURVE]


def _points(key: str, told: Mapping[str, Any], runs: Mapping[str, Point]) -> Iterator[Point]:
    for name, label in told.get("runs", {}).items():
        if name not in runs:
            raise InputError(
                f"{PATH.name}: {key}: run {name}: no such measured run.{nearest(name, tuple(runs))}"
            )
        yield runs[name]._replace(label=label)
    grid = told.get("grid", {})
    for values in product(*grid.values()) if grid else ():
        words = [f"{axis}={value}" for axis, value in zip(grid, values, strict=True)]
        name = " ".join(words)
        yield Point(name, name, (*told["overrides"].split(), *words))


def _measured() -> dict[str, Point]:
    found = {
        row["id"]: Point(
            row["id"], "", tuple(row["overrides"].split()), row["scale"], row["measured"],
            row["source"], row["notes"],
        )
        for row in published.load().iter_rows(named=True)
    }  # fmt: skip
    for run in training_rows():
        if not run.why_not:
            found[run.id] = Point(
                run.id, "", run.overrides, 1.0, run.measured, run.source, run.notes
            )
    return found
