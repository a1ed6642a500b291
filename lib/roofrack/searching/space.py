"""The space of a search: a study, every plan that can run, and the numbers of each axis."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from roofrack.axes import Axis
from roofrack.conversion import Study
from roofrack.errors import InputError
from roofrack.leaves import plain
from roofrack.nouns import Scenario
from roofrack.planning import Plans, plans, why_none
from roofrack.planning.candidates import with_plans
from roofrack.searching.asked import Asked
from roofrack.tables import SERVING

BATCH = "workload.batch"
PER_OCTAVE = 8
"""Batch sizes between a size and its double, where the search chooses them."""
LARGEST = 2**16
"""The largest batch that the search tries by itself."""


@dataclass(frozen=True)
class Space:
    """All points of a search: the product of `axes`, whose numbers are given, and of `plans`.

    `scenario` is one of its points, in plain numbers; `candidates` are plans of so many chips that
    were looked at before those that cannot run were left out.
    """

    study: Study
    scenario: Scenario
    axes: tuple[Axis, ...]
    plans: Plans

    @property
    def steps(self) -> int:
        """Points for each plan."""
        return int(np.prod([len(axis) for axis in self.axes], dtype=np.int64))

    @property
    def points(self) -> int:
        """All points."""
        return self.steps * len(self.plans)

    def places(self, steps: np.ndarray) -> dict[str, np.ndarray]:
        """Return the numbers of each axis, by path, given steps (the last axis runs first)."""
        index = np.unravel_index(steps, [len(axis) for axis in self.axes]) if self.axes else ()
        return {axis.path: axis.values[i] for axis, i in zip(self.axes, index, strict=True)}

    def shown(self, step: int) -> dict[str, Any]:
        """Return what the axes are at a step, as it was given."""
        index = np.unravel_index(step, [len(axis) for axis in self.axes]) if self.axes else ()
        return {axis.column: axis.shown[int(i)] for axis, i in zip(self.axes, index, strict=True)}


def space(study: Study, question: Asked) -> Space:
    """List the plans and batch sizes of a question; InputError if no plan can run."""
    _check(study)
    axes = list(study.axes)
    if question.auto_batch:
        axes.append(_batches())
    first = study.bind({axis.path: axis.values[0] for axis in axes})
    s = plain(first)
    found = plans(s, question.chips, within=question.within, up_to=True)
    if not len(found):
        raise InputError(f"search: {why_none(s, question.chips, within=question.within).message}")
    with_features = with_plans(s, found.columns)
    s = replace(s, features=with_features.features)
    return Space(study, s, tuple(axes), found)


def _check(study: Study) -> None:
    for axis in study.axes:
        if axis.path.startswith("parallelism."):
            raise InputError(f"{axis.column}: a search lists the plans; leave it out or give auto")
        if axis.path == "workload.serving":
            raise InputError("workload.serving: give one value; a search does not choose it yet")
    if study.leaves["workload.serving"] != SERVING.index("aggregated"):
        raise InputError(
            "workload.serving: a search knows aggregated serving only; pools on machines of their "
            "own are not searched yet"
        )


def _batches() -> Axis:
    """Return whole batch sizes, PER_OCTAVE for each doubling, each once."""
    octaves = int(np.log2(LARGEST))
    sizes = np.unique(np.rint(2.0 ** (np.arange(octaves * PER_OCTAVE + 1) / PER_OCTAVE)))
    return Axis("batch", BATCH, tuple(int(size) for size in sizes), sizes)


def plan_leaves(found: Plans) -> Mapping[str, np.ndarray]:
    """Return the leaves of plans by the paths that a scenario has them at."""
    return {f"parallelism.{name}": column for name, column in found.columns.items()}
