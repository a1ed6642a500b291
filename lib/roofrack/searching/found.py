"""The answer of a search: the best plans, the frontier, and why it is so."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roofrack.arithmetic import choose
from roofrack.cost import estimate
from roofrack.errors import InfeasibleError, InputError
from roofrack.nouns import Scenario
from roofrack.results.directions import LESS
from roofrack.searching import pairs
from roofrack.searching.asked import Asked
from roofrack.searching.candidates import (
    Excluded,
    Frontier,
    Keeper,
    Limits,
    Nearest,
    show,
)
from roofrack.searching.launch import Launch, Start, launch
from roofrack.searching.rows import Row, along, ranked, why_lost
from roofrack.searching.scan import Pass, scan
from roofrack.searching.space import Case, Choice, Space, space

RELAXED = (1.1, 2.0)
"""How far each limit is relaxed to say what that would be worth."""
ALONG = {"decode": "tpot_s", "serve": "tpot_s", "prefill": "ttft_s", "train": "step_s"}
"""What speed is in each phase: the other column of the frontier, beside cost."""
NEAR = 1.0
"""How much worse than the best a plan may be to be counted as one that may be as good."""
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

    `points` all that were evaluated, `sides` of them settings of one pool by itself; `behind` the
    settings that decode of which no pair is among the points, since with the best partner there is
    they are worse than what was found; `plans` of all cases. A row whose prompts are computed on a
    pool of their own has that pool's plan as `prefill`, a row like itself, and `instances`, how
    many there are of prefill and of decode.
    """

    question: Asked
    phase: str
    axes: tuple[str, ...]
    points: int
    sides: int
    behind: int
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
        return why_lost(self.question.goal, self.best[0], self.best[number])


def search(choices: Sequence[Choice], question: Asked) -> Found:
    """Evaluate every point of a question's space and return what is best, and why.

    `choices` are the machines, models, formats and modes to choose from. Raises InputError for a
    space without plans, InfeasibleError if no point keeps the limits.
    """
    started = time.perf_counter()
    around = space(choices, question)
    phase = _phase(around)
    if phase == "train" and question.launch:
        raise InputError(f"launch={question.launch[0]}: serves models; leave it out of a training")
    sign = -1.0 if question.more else 1.0
    x = ALONG[phase]
    columns = tuple(dict.fromkeys((question.goal, *question.limits, x, "usd_per_mtok")))
    asked_for = Nearest(
        question.goal, sign, Limits(question.limits), min(question.top, around.plans), NEAR
    )
    relaxed = {
        (name, label): Nearest(question.goal, sign, Limits(limits), 1)
        for name in question.limits
        for label, limits in _relaxed(question.limits, name).items()
    }
    excluded, edge = Excluded(question.limits), Frontier(x, "usd_per_mtok")
    keepers: tuple[Keeper, ...] = (asked_for, edge, *relaxed.values())
    _show(around, columns, asked_for, keepers, excluded)
    best, close = _best(around, question, asked_for)
    if not best:
        raise InfeasibleError(_why_none(question, excluded, relaxed))
    return Found(
        question=question,
        phase=phase,
        axes=_varied(around),
        points=excluded.points,
        sides=excluded.sides,
        behind=excluded.behind,
        plans=sum(len(case.plans) + len(case.prefill or ()) for case in around.cases),
        valid=excluded.valid,
        kept=excluded.kept,
        excluded=dict(excluded.counts.most_common()),
        best=best,
        frontier=along(around, edge),
        relaxed=_values(around, question, relaxed),
        close=close,
        seconds=time.perf_counter() - started,
        launches=tuple(
            launch(engine, best[0], _start(around.cases[best[0]["case"]], best[0]))
            for engine in question.launch
        ),
    )


def _phase(around: Space) -> str:
    phases = {case.study.phase for case in around.cases}
    if len(phases) > 1:
        raise InputError(f"workload.phase={','.join(sorted(phases))}: one of them in a search")
    return phases.pop()


def _varied(around: Space) -> tuple[str, ...]:
    """Return the columns of what was varied beside the plan."""
    told = [name for case in around.cases for name in case.choice.shown]
    return tuple(dict.fromkeys([*told, *(axis.column for axis in around.grid.axes)]))


def _show(
    around: Space,
    columns: tuple[str, ...],
    best: Nearest,
    keepers: Sequence[Keeper],
    excluded: Excluded,
) -> None:
    """Show all keepers all points that may matter."""
    single = {n: case for n, case in enumerate(around.cases) if case.prefill is None}
    pooled = {n: case for n, case in enumerate(around.cases) if case.prefill is not None}
    if pooled:
        pairs.check(columns)
    # all that has to be compiled is begun before anything is looked at
    points = scan(single, Pass(whole, (*columns, "room", "why_invalid"), around.grid))
    sides = pairs.sides(around, pooled)
    for block in points:
        excluded.add(block.columns)
        show(block, keepers)
    if pooled:
        pairs.add_pairs(around, columns, sides, keepers, best, excluded)


def whole(s: Scenario) -> Mapping[str, Any]:
    """Return the columns of a scenario, and `room`, memory there is over memory needed."""
    found = estimate(s)
    room = found["mem_capacity_bytes"] / found["mem_total_bytes"]
    elsewhere = ~found["fits"] & (room >= 1.0)  # a pool with machines of its own is too small
    return found | {"room": choose(elsewhere, 0.0 * room, room)}


def _start(case: Case, row: Mapping[str, Any]) -> Start:
    """Return what is served at a point: the longest sequence is its prompt and output."""
    study = case.study

    def at(path: str) -> float:
        return float(row.get(path, row.get(path.rpartition(".")[2], study.leaves[path])))

    tokens = at("workload.context") + 1.0
    if study.phase != "decode":
        tokens = at("workload.prompt") + at("workload.output")
    return Start(case.choice.checkpoint, int(tokens), study.leaves["model.experts"] > 0)


def _relaxed(limits: Mapping[str, float], name: str) -> dict[str, dict[str, float]]:
    rest = {n: v for n, v in limits.items() if n != name}
    found = {}
    for factor in RELAXED:
        wider = limits[name] * factor if name in LESS else limits[name] / factor
        found[f"{factor:g}"] = rest | {name: wider}
    return found | {"none": rest}


def _best(around: Space, question: Asked, nearest: Nearest) -> tuple[tuple[Row, ...], int]:
    """Return the best plans, each at its best point, and how many more are as good as known."""
    sign, limits = nearest.sign, nearest.limits
    plans: dict[tuple[int, ...], Row] = {}
    for row in ranked(around, nearest.found(), question.goal, sign, limits, question.top):
        plans.setdefault((row["case"], row["plan"], row["first"]), row)
    best = tuple(list(plans.values())[: question.top])
    if not best:
        return (), 0
    error = best[0]["step_s_rel_std"]
    near = TOLD_APART * np.sqrt(2.0) * (error if np.isfinite(error) else 0.0)
    ratio = np.abs(np.log(np.abs(nearest.goals()) / abs(best[0][question.goal])))
    return best, max(int(np.sum(ratio <= near)) - 1, 0)


def _values(
    around: Space, question: Asked, relaxed: Mapping[tuple[str, str], Nearest]
) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {name: {} for name in question.limits}
    for (name, label), nearest in relaxed.items():
        rows = ranked(around, nearest.found(), question.goal, nearest.sign, nearest.limits, 1)
        found[name][label] = rows[0][question.goal] if rows else None
    return found


def _why_none(question: Asked, excluded: Excluded, relaxed: Mapping[Any, Nearest]) -> str:
    counted = ", ".join(f"{reason} ({n:,})" for reason, n in excluded.counts.most_common() if n)
    alone = [
        name
        for (name, label), nearest in relaxed.items()
        if label == "none" and nearest.found() is not None
    ]
    hint = f"; without the limit on {' or on '.join(alone)} there are some" if alone else ""
    return f"search: none of {excluded.points:,} points will do: {counted}{hint}"
