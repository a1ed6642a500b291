"""Points as rows in double precision, the best first: what a search tells of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from roofrack.planning import LEAVES, Plans
from roofrack.results.schema import PARTS
from roofrack.searching.candidates import Frontier, Limits, frontier, usable
from roofrack.searching.points import Points, exactly
from roofrack.searching.space import Case, Space

TIED = 1e-9
"""Relative difference below which two points are equal: the simpler plan counts."""
_DEGREES = ("tp", "pp", "dp", "cp", "ep")
_FLAGS = ("attention_dp", "sequence_parallel", "dedup")

Row = Mapping[str, Any]
"""A point: its case, plan and axes, and every result column."""


def ranked(
    around: Space, points: Points | None, goal: str, sign: float, limits: Limits, plans: int
) -> list[Row]:
    """Return the best points that keep the limits, of so many plans at least; ties by simplicity.

    `sign` is 1 where less of the goal is better, else -1.
    """
    if points is None or not len(points):
        return []
    columns = _exact(around, points)
    values = columns[goal]
    kept = np.flatnonzero(limits.kept(columns) & np.isfinite(values))
    order = kept[np.argsort(sign * values[kept], kind="stable")]
    keys = points.keys
    found: list[Row] = []
    seen: set[int] = set()
    while len(order) and len(seen) < plans:
        first = values[order[0]]
        tied = order[np.abs(values[order] - first) <= TIED * abs(first)]
        some = {name: column[tied] for name, column in columns.items()}
        found += sorted(_rows(around, points.take(tied), some), key=simplicity)
        seen.update(keys[tied].tolist())
        order = order[len(tied) :]
    return found


def along(around: Space, edge: Frontier) -> tuple[Row, ...]:
    """Return the points of a frontier; of points equal in both columns the simplest."""
    if edge.points is None or not len(edge.points):
        return ()
    columns = _exact(around, edge.points)
    able = np.flatnonzero(usable(columns))
    x, y = columns[edge.x][able], columns[edge.y][able]
    on = {(x[i], y[i]) for i in frontier(x, y)}
    rows = able[[(a, b) in on for a, b in zip(x, y, strict=True)]]
    some = {name: column[rows] for name, column in columns.items()}
    found = sorted(_rows(around, edge.points.take(rows), some), key=simplicity)
    x, y = (np.array([row[name] for row in found]) for name in (edge.x, edge.y))
    return tuple(found[i] for i in frontier(x, y))


def _exact(around: Space, points: Points) -> dict[str, np.ndarray]:
    columns = exactly(around, points)
    return columns | {"room": columns["fits"].astype(float)}


def _rows(around: Space, points: Points, columns: Mapping[str, np.ndarray]) -> list[Row]:
    place = {name: values.tolist() for name, values in points.place.items()}
    rows: list[Row] = []
    for i in range(len(points)):
        at = {name: values[i] for name, values in place.items()}
        case = around.cases[at["case"]]
        found = {name: float(value[i]) for name, value in columns.items() if name != "room"}
        # a leaf is told as it was chosen, also where a column has its name
        row = {"batch": case.study.leaves["workload.batch"]} | found
        row |= _plan(case.plans, at["plan"]) | case.choice.shown | _settings(around, case, at)
        row |= {"case": at["case"], "plan": at["plan"], "first": at["first"], "prefill": None}
        row["serving"] = case.serving if case.study.phase == "serve" else ""
        if case.prefill is not None:
            row["prefill"] = _plan(case.prefill, at["first"])
            row["instances"] = (at["firsts"], at["mains"])
        rows.append(row)
    return rows


def _plan(plans: Plans, number: int) -> dict[str, Any]:
    return {name: float(plans[name][number]) for name in LEAVES}


def _settings(around: Space, case: Case, at: Mapping[str, int]) -> dict[str, Any]:
    """Return what the axes are at a place, as it was given."""
    if case.prefill is None:
        return around.grid.shown(at["step"])
    both = around.main.shown(at["step"]) | around.first.shown(at["first_step"])
    return {axis.column: both[axis.column] for axis in around.grid.axes}


def simplicity(row: Row) -> tuple[float, ...]:
    """Return what makes a plan simple, the least first: pools, degrees in use, chips, batch."""
    plans = [row] if row["prefill"] is None else [row, row["prefill"]]
    used = sum(plan[name] > 1 for plan in plans for name in _DEGREES)
    extras = sum(plan[name] > 0 for plan in plans for name in _FLAGS)
    size = row["chips"], row.get("batch", 0.0), sum(row.get("instances", ()))
    return len(plans), used, *size, extras, row["case"], row["plan"], row["first"]


def why_lost(goal: str, best: Row, other: Row) -> str:
    """Return in words what makes another plan worse than the best: its step, part by part."""
    ratio = other[goal] / best[goal] - 1.0
    if abs(ratio) <= TIED:
        return f"{goal} is the same; the simpler plan counts"
    step = other["step_s"] / best["step_s"] - 1.0
    change = {part: other[f"t_{part}_s"] - best[f"t_{part}_s"] for part in PARTS}
    ordered = sorted(change.items(), key=lambda item: -abs(item[1]))
    said = [
        f"{part} {1e3 * seconds:+.3g} ms"
        for part, seconds in ordered[:3]
        if abs(seconds) > 0.005 * best["step_s"]
    ]
    words = [f"{goal} {ratio:+.2%}", f"a step takes {step:+.1%}"]
    words += [f"of which alone {', '.join(said)}"] if said else []
    for name, unit in (("chips", "chips"), ("batch", "sequences")):
        if name in best and other[name] != best[name]:
            words.append(f"{other[name]:g} instead of {best[name]:g} {unit}")
    if other.get("instances") != best.get("instances"):
        words.append(f"{instances(other)} instead of {instances(best)}")
    return "; ".join(words)


def instances(row: Row) -> str:
    """Return in words how many instances of each pool there are."""
    if row["prefill"] is None:
        return "one pool"
    first, main = row["instances"]
    return f"{first} prefill and {main} decode instance{'s' * (main > 1)}"
