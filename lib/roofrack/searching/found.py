"""The answer of a search: the best plans, the frontier, and why it is so."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from roofrack.conversion import Study
from roofrack.errors import InfeasibleError
from roofrack.planning import LEAVES
from roofrack.results.schema import PARTS
from roofrack.results.table import LESS
from roofrack.searching.asked import Asked
from roofrack.searching.candidates import Excluded, Frontier, Keeper, Limits, Nearest, frontier
from roofrack.searching.launch import Launch, Start, launch
from roofrack.searching.scan import Points, exactly, scan
from roofrack.searching.space import Space, space

RELAXED = (1.1, 2.0)
"""How far each limit is relaxed to say what that would be worth."""
TIED = 1e-9
"""Relative difference below which two points are equal: the simpler plan counts."""
TOLD_APART = 1.2816
"""Standard errors of a difference that leave 80 % of a normal distribution between them."""


@dataclass(frozen=True)
class Found:
    """What a search found. Rows hold plan, axes, and every result column, in double precision.

    `best` the best plans, each with its best setting; `frontier` all points that no other beats in
    both time per token (or prompt) and cost; `relaxed` by limit what the goal would be with the
    limit times 1.1 and 2, and without it (None: still nothing); `excluded` how many points each
    reason excluded; `close` how many plans the error bars cannot tell from the best; `axes` what
    was varied beside the plan; `launches` how engines are started for the best plan, if asked.
    """

    question: Asked
    axes: tuple[str, ...]
    points: int
    plans: int
    valid: int
    kept: int
    excluded: Mapping[str, int]
    best: tuple[Mapping[str, Any], ...]
    frontier: tuple[Mapping[str, Any], ...]
    relaxed: Mapping[str, Mapping[str, float | None]]
    close: int
    seconds: float
    launches: tuple[Launch, ...] = ()

    def why_not(self, number: int = 1) -> str:
        """Return in words why a plan (by default the runner-up) is not the best."""
        return why_lost(self.question, self.best[0], self.best[number])


def search(study: Study, question: Asked, checkpoint: str = "CHECKPOINT") -> Found:
    """Evaluate every point of a question's space and return what is best, and why.

    `checkpoint` is what commands that start an engine call the model. Raises InputError for a space
    without plans, InfeasibleError if no point keeps the limits.
    """
    started = time.perf_counter()
    around = space(study, question)
    sign = -1.0 if question.more else 1.0
    x = "ttft_s" if study.phase == "prefill" else "tpot_s"
    columns = tuple(
        dict.fromkeys((question.goal, *question.limits, x, "usd_per_mtok", "fits", "why_invalid"))
    )
    asked_for = Nearest(
        question.goal, sign, Limits(question.limits), question.top, len(around.plans)
    )
    relaxed = {
        (name, label): Nearest(question.goal, sign, Limits(limits), 1, len(around.plans))
        for name in question.limits
        for label, limits in _relaxed(question.limits, name).items()
    }
    excluded, edge = Excluded(question.limits), Frontier(x, "usd_per_mtok")
    keepers: tuple[Keeper, ...] = (asked_for, excluded, edge, *relaxed.values())
    for points in scan(around, columns):
        for keeper in keepers:
            keeper.add(points)
    best, close = _best(around, question, asked_for)
    if not best:
        raise InfeasibleError(_why_none(around, question, excluded, relaxed))
    return Found(
        question=question,
        axes=tuple(axis.column for axis in around.axes),
        points=around.points,
        plans=len(around.plans),
        valid=excluded.valid,
        kept=excluded.kept,
        excluded=dict(excluded.counts.most_common()),
        best=best,
        frontier=_frontier(around, edge),
        relaxed=_values(around, question, relaxed),
        close=close,
        seconds=time.perf_counter() - started,
        launches=tuple(
            launch(engine, best[0], _start(around, best[0], checkpoint))
            for engine in question.launch
        ),
    )


def _start(around: Space, row: Mapping[str, Any], checkpoint: str) -> Start:
    """Return what is served at a point: the longest sequence is its prompt and output."""

    def at(path: str) -> float:
        return float(row.get(path, row.get(path.rpartition(".")[2], around.study.leaves[path])))

    tokens = at("workload.context") + 1.0
    if around.study.phase != "decode":
        tokens = at("workload.prompt") + at("workload.output")
    return Start(checkpoint, int(tokens), around.study.leaves["model.experts"] > 0)


def _relaxed(limits: Mapping[str, float], name: str) -> dict[str, dict[str, float]]:
    rest = {n: v for n, v in limits.items() if n != name}
    found = {}
    for factor in RELAXED:
        wider = limits[name] * factor if name in LESS else limits[name] / factor
        found[f"{factor:g}"] = rest | {name: wider}
    return found | {"none": rest}


def _rows(around: Space, points: Points) -> list[dict[str, Any]]:
    """Return points as rows in double precision: the plan, the axes, and all columns."""
    columns = exactly(around, points)
    chosen = around.plans.take(points.plan)
    given = {"batch": around.study.leaves["workload.batch"]}
    rows = []
    for i in range(len(points)):
        plan = {name: float(chosen[name][i]) for name in LEAVES}
        found = {name: float(value[i]) for name, value in columns.items()}
        rows.append(
            given | plan | around.shown(int(points.step[i])) | found | {"plan": int(points.plan[i])}
        )
    return rows


def simplicity(row: Mapping[str, Any]) -> tuple[float, ...]:
    """Return what makes a plan simple, the least first: dimensions in use, chips, batch, order."""
    used = sum(row[name] > 1 for name in ("tp", "pp", "dp", "cp", "ep"))
    extras = sum(row[name] > 0 for name in ("attention_dp", "sequence_parallel", "dedup"))
    return used, row["chips"], row.get("batch", 0.0), extras, row["plan"]


def _ordered(rows: list[dict[str, Any]], question: Asked) -> list[dict[str, Any]]:
    """Return the rows that keep the limits, the best first; ties by simplicity."""
    sign = -1.0 if question.more else 1.0
    columns = {
        name: np.array([row[name] for row in rows])
        for name in (question.goal, *question.limits, "fits", "why_invalid")
    }
    kept = Limits(question.limits).kept(columns) & np.isfinite(columns[question.goal])
    left = [row for row, keeps in zip(rows, kept, strict=True) if keeps]
    left.sort(key=lambda row: sign * row[question.goal])
    ordered: list[dict[str, Any]] = []
    while left:
        first = left[0][question.goal]
        tied = [row for row in left if abs(row[question.goal] - first) <= TIED * abs(first)]
        ordered += sorted(tied, key=simplicity)
        left = left[len(tied) :]
    return ordered


def _best(
    around: Space, question: Asked, nearest: Nearest
) -> tuple[tuple[dict[str, Any], ...], int]:
    """Return the best plans, each at its best point, and how many more are as good as known."""
    points = nearest.found()
    if points is None:
        return (), 0
    plans: dict[int, dict[str, Any]] = {}
    for row in _ordered(_rows(around, points), question):
        plans.setdefault(row["plan"], row)
    best = tuple(list(plans.values())[: question.top])
    if not best:
        return (), 0
    error = best[0]["step_s_rel_std"]
    near = TOLD_APART * np.sqrt(2.0) * (error if np.isfinite(error) else 0.0)
    goals = nearest.of_plan[np.isfinite(nearest.of_plan)]
    ratio = np.abs(np.log(np.abs(goals) / abs(best[0][question.goal])))
    return best, max(int(np.sum(ratio <= near)) - 1, 0)


def _frontier(around: Space, edge: Frontier) -> tuple[dict[str, Any], ...]:
    if edge.points is None or not len(edge.points):
        return ()
    rows = [row for row in _rows(around, edge.points) if row["why_invalid"] == 0 and row["fits"]]
    rows.sort(key=simplicity)  # of equal rows the simplest stays
    x, y = (np.array([row[name] for row in rows]) for name in (edge.x, edge.y))
    return tuple(rows[i] for i in frontier(x, y))


def _values(
    around: Space, question: Asked, relaxed: Mapping[tuple[str, str], Nearest]
) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {name: {} for name in question.limits}
    for (name, label), nearest in relaxed.items():
        points = nearest.found()
        rows: list[dict[str, Any]] = []
        if points is not None:
            wider = question._replace(limits=nearest.limits.limits)
            rows = _ordered(_rows(around, points), wider)
        found[name][label] = rows[0][question.goal] if rows else None
    return found


def _why_none(
    around: Space, question: Asked, excluded: Excluded, relaxed: Mapping[Any, Nearest]
) -> str:
    counted = ", ".join(f"{reason} ({n:,})" for reason, n in excluded.counts.most_common() if n)
    alone = [
        name
        for (name, label), nearest in relaxed.items()
        if label == "none" and nearest.found() is not None
    ]
    hint = f"; without the limit on {' or on '.join(alone)} there are some" if alone else ""
    return f"search: none of {around.points:,} points will do: {counted}{hint}"


def why_lost(question: Asked, best: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return in words what makes another plan worse than the best: its step, part by part."""
    ratio = other[question.goal] / best[question.goal] - 1.0
    if abs(ratio) <= TIED:
        return f"{question.goal} is the same; the simpler plan counts"
    step = other["step_s"] / best["step_s"] - 1.0
    change = {part: other[f"t_{part}_s"] - best[f"t_{part}_s"] for part in PARTS}
    ordered = sorted(change.items(), key=lambda item: -abs(item[1]))
    said = [
        f"{part} {1e3 * seconds:+.3g} ms"
        for part, seconds in ordered[:3]
        if abs(seconds) > 0.005 * best["step_s"]
    ]
    words = [f"{question.goal} {ratio:+.2%}", f"a step takes {step:+.1%}"]
    words += [f"of which alone {', '.join(said)}"] if said else []
    for name, unit in (("chips", "chips"), ("batch", "sequences")):
        if name in best and other[name] != best[name]:
            words.append(f"{other[name]:g} instead of {best[name]:g} {unit}")
    return "; ".join(words)
