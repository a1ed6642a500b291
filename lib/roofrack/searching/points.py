"""Points of a space: where they are, and what was found there."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from roofrack.cost import estimate
from roofrack.leaves import put
from roofrack.searching.space import LEVELS, Case, Space, plan_leaves

PLACE = ("case", "plan", "step", "first", "first_step", "firsts", "mains")
"""Where a point is: numbers of the case, of its plan, and of the step along the grid.

With pools `plan` and `step` are those of the instances that decode, of which there are `mains`,
`first` and `first_step` those of the `firsts` instances that prefill; -1 and 0 without.
"""


class Points(NamedTuple):
    """Some points of a space: their places, by PLACE, and columns of results."""

    place: Mapping[str, np.ndarray]
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.place["plan"])

    def take(self, rows: Any) -> "Points":
        """Return some of the points."""
        return Points(
            {name: column[rows] for name, column in self.place.items()},
            {name: column[rows] for name, column in self.columns.items()},
        )

    @property
    def keys(self) -> np.ndarray:
        """Return a number for each point that tells its plans from others."""
        case, plan, first = (
            self.place[name].astype(np.int64) for name in ("case", "plan", "first")
        )
        return (case << 48) | (plan << 24) | (first + 1)


def placed(
    case: int | np.ndarray,
    plan: np.ndarray,
    step: np.ndarray,
    columns: dict[str, np.ndarray],
    **others: Any,
) -> Points:
    """Return points of one case; places that are not given are those of one pool."""
    given: dict[str, Any] = {"case": case, "plan": plan, "step": step, "first": -1, "first_step": 0}
    given |= {"firsts": 0, "mains": 1} | others
    place = {name: np.broadcast_to(given[name], plan.shape) for name in PLACE}
    return Points(place, columns)


def joined(several: Sequence[Points]) -> Points:
    """Return several sets of points as one."""
    return Points(
        {name: np.concatenate([p.place[name] for p in several]) for name in PLACE},
        {name: np.concatenate([p.columns[name] for p in several]) for name in several[0].columns},
    )


def exactly(space: Space, points: Points) -> dict[str, np.ndarray]:
    """Return all columns of some points in double precision, without compiling."""
    found: dict[str, np.ndarray] = {}
    for number in np.unique(points.place["case"]):
        rows = np.flatnonzero(points.place["case"] == number)
        columns = _of_case(space, space.cases[number], points.take(rows))
        for name, values in columns.items():
            column = found.setdefault(name, np.full(len(points), np.nan))
            column[rows] = values
    return found


def _of_case(space: Space, case: Case, points: Points) -> dict[str, np.ndarray]:
    place = points.place
    values: dict[str, np.ndarray] = {**plan_leaves(case.plans.take(place["plan"]))}
    if case.prefill is None:
        values |= space.grid.values(place["step"])
    else:
        values |= space.main.values(place["step"]) | space.first.values(place["first_step"])
        values |= plan_leaves(case.prefill.take(place["first"]), "prefill.")
        values |= {
            "parallelism.replicas": place["mains"].astype(float),
            "workload.prefill_instances": place["firsts"] / place["mains"],
        }
    numbered = {case.numbered(path): value for path, value in values.items()}
    with np.errstate(all="ignore"):
        found = estimate(put(case.scenario, numbered, LEVELS))
    return {name: np.broadcast_to(np.asarray(v), (len(points),)) for name, v in found.items()}
