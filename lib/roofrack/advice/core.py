"""Advice for one scenario: changes of every subject tried, the best of each kind proved, ranked."""

from collections.abc import Iterator, Sequence
from math import isfinite, log
from pathlib import Path

import numpy as np

from roofrack import config
from roofrack.advice.advised import Advice, Advised
from roofrack.advice.case import AT_LOAD, CHIP, TOKEN, Case, Change, Row, cost_of, late
from roofrack.advice.proof import Proven, interval, prove, ratio_rel_std
from roofrack.advice.subjects import (
    batch,
    fitting,
    formats,
    machine,
    money,
    plans,
    serving,
    training,
)
from roofrack.advice.subjects.notes import notes
from roofrack.advice.words import effects, priced, room, trades
from roofrack.conversion import to_study
from roofrack.errors import InputError
from roofrack.point import point
from roofrack.report.format import listed

SUBJECTS = (batch, plans, formats, serving, training, machine, money)
SHOWN = (
    "usd_per_mtok", "usd_per_mtok_at_load", "usd_per_hour", "step_s", "tpot_s", "ttft_s",
    "tokens_per_s", "chips", "mem_total_bytes", "mem_capacity_bytes", "joule_per_token",
)  # fmt: skip
"""Columns kept of both sides of an advice."""
MACHINES = 3
"""Other machines that are told, at most."""
PROVED = 6
"""Of changes whose cost is known already, so many of the best are composed anew."""


def advise(
    words: Sequence[str],
    config_dir: str | Path | None = None,
    machines: Sequence[str] | None = None,
) -> Advised:
    """Return what to change about the scenario that overrides compose; nothing is written.

    `machines` are those to compare with (None: all there are). Raises InputError for bad input and
    for axes, InfeasibleError where the plan cannot run.
    """
    container = config.compose(words, config_dir)
    study = to_study(container)
    if study.axes:
        raise InputError(
            f"{study.axes[0].column}: an axis; advice is for one scenario, give one value"
        )
    row = point(container, strict=False)  # without elasticities: a cost of 0 has none
    assert isinstance(row, dict)
    if not row["valid"]:
        point(container)  # says which keys clash
    case = Case(
        words=tuple(words),
        config_dir=config_dir,
        study=study,
        row=row,
        goal=_goal(row),
        machines=None if machines is None else tuple(machines),
    )
    changes = list(_changes(case))
    before = Proven(study, row)
    proven = [advice for c in _chosen(case, changes) if (advice := _proved(case, before, c))]
    return Advised(
        words=case.words,
        runs=case.runs,
        missed=case.missed,
        goal=case.goal,
        cost=cost_of(case.goal, row),
        row=row,
        advices=tuple(_ranked(proven)),
        notes=tuple(notes(case)),
    )


def _goal(row: Row) -> str:
    if not row["usd_per_mtok"]:
        return CHIP
    return AT_LOAD if row["usd_per_mtok_at_load"] else TOKEN


def _changes(case: Case) -> Iterator[Change]:
    if case.runs:
        for subject in SUBJECTS:
            yield from subject.propose(case)
    else:
        yield from fitting.propose(case)


def _chosen(case: Case, changes: Sequence[Change]) -> list[Change]:
    """Return the best change of each kind, those of groups all: they are tried when proved."""
    numbers = [c for c in changes if not c.words and c.values]
    kept: dict[tuple[str, str], tuple[float, Change]] = {}
    if numbers:
        found = case.tried(numbers)
        now = cost_of(case.goal, case.row) or np.inf
        for change, goal, good in zip(numbers, found["goal"], found["kept"], strict=True):
            better = goal < (1.0 - change.least) * now or not case.runs
            known = kept.get((change.subject, change.key))
            if good and better and (known is None or goal < known[0]):
                kept[change.subject, change.key] = goal, change
    chosen = {case.overrides(c): c for _, c in reversed(kept.values())}  # of equals the first
    others = [c for c in changes if c.words or not c.values]
    ranked = sorted((c for c in others if c.cost is not None), key=lambda c: c.cost or 0.0)
    return [*reversed(chosen.values()), *(c for c in others if c.cost is None), *ranked[:PROVED]]


def _proved(case: Case, before: Proven, change: Change) -> Advice | None:
    """Return a change as advice, composed from its overrides; None if it does not do what it may.

    What a configuration refuses (a part that the changed scenario has no use for) is no advice.
    """
    overrides = case.overrides(change)
    try:
        after = prove([*case.words, *overrides], case.config_dir)
    except InputError:
        return None
    row = after.row
    cost, now = cost_of(case.goal, row) if row["valid"] else None, cost_of(case.goal, case.row)
    if cost is None or not isfinite(cost) or not row["fits"] or (row["utilization"] or 0) >= 1:
        return None
    if late(row, case.limits):
        return None
    if not case.runs:
        return _cure(case, change, overrides, row)
    if now is None or not cost < (1.0 - change.least) * now:
        return None
    error = ratio_rel_std(before, after)
    low, high = (None, None) if error is None else interval(cost / now, error)
    saves = None if case.goal == CHIP else now - cost
    return Advice(
        subject=change.subject,
        says=f"{change.lead(case.row, row)}: {effects(case.goal, case.row, row)}",
        overrides=overrides,
        before={name: case.row[name] for name in SHOWN},
        after={name: row[name] for name in SHOWN},
        ratio=cost / now,
        ratio_rel_std=error,
        ratio_low=low,
        ratio_high=high,
        certain=None if high is None else high < 1.0,
        saves_usd_per_mtok=saves,
        saves_usd_per_hour=None if saves is None else saves * _tokens_per_s(case) * 3600.0 / 1e6,
        assumes=change.assumes,
    )


def _tokens_per_s(case: Case) -> float:
    """Return the tokens a second that a saving counts for: those asked for, or all there are."""
    if case.goal == AT_LOAD:
        return case.now("workload.arrivals_per_s") * case.now("workload.output")
    return float(case.row["tokens_per_s"])


def _cure(case: Case, change: Change, overrides: tuple[str, ...], row: Row) -> Advice:
    """Return what makes a scenario run that does not."""
    cost = priced(case.goal, cost_of(case.goal, row))
    over = ", over what it would be if it ran" if not case.missed else ""
    says = listed([f"{change.lead(case.row, row)}: {room(row)}", f"costs {cost}"])
    others = trades(case.row, row)
    return Advice(
        subject=change.subject,
        says=says + (f" ({listed(others)}{over})" if others else ""),
        overrides=overrides,
        before={name: case.row[name] for name in SHOWN},
        after={name: row[name] for name in SHOWN},
        ratio=None,
        ratio_rel_std=None,
        ratio_low=None,
        ratio_high=None,
        certain=None,
        saves_usd_per_mtok=None,
        saves_usd_per_hour=None,
        assumes=change.assumes,
    )


def _ranked(found: Sequence[Advice]) -> Iterator[Advice]:
    """Yield advice by what it saves, or costs; of other machines only the best few."""

    def order(one: Advice) -> float:
        if one.ratio is not None:
            return log(one.ratio) if one.ratio > 0 else -np.inf
        cost = one.after["usd_per_mtok"] or one.after["usd_per_mtok_at_load"]
        return float(cost or one.after["chips"] / one.after["tokens_per_s"])

    machines = 0
    for one in sorted(found, key=order):
        machines += one.subject == machine.SUBJECT
        if one.subject != machine.SUBJECT or machines <= MACHINES:
            yield one
