"""The same model on the other machines there are, each at its own price and with its best plan."""

from collections.abc import Iterator
from dataclasses import replace

from roofrack import config
from roofrack.advice.case import CHIP, Case, Change
from roofrack.advice.subjects.plans import counts, plan_of, table, values_of
from roofrack.advice.words import same
from roofrack.config.loading import folder_of, loader_in, options_of
from roofrack.conversion import to_study
from roofrack.errors import InputError, nearest
from roofrack.report.format import quantity

ABSTRACT = ("blackboard",)
"""Machines that nobody sells."""
SUBJECT = "machine"


def names(case: Case) -> list[str]:
    """Return the machines to compare with; InputError for one that does not exist."""
    known = options_of(loader_in(folder_of(case.config_dir)))("hardware")
    here = (case.study.labels["hardware"], *ABSTRACT)
    if case.machines is None:
        return [name for name in known if name not in here]
    for name in case.machines:
        if name not in known:
            raise InputError(
                f"machines={name}: allowed: all, none, {', '.join(known)}.{nearest(name, known)}"
            )
    return [name for name in case.machines if name not in here]


def own(case: Case) -> bool:
    """Tell whether the machine was changed by hand: its numbers mean nothing on another one."""
    return case.given("hardware.") or case.given("calibration.")


def propose(case: Case) -> Iterator[Change]:
    """Yield the cheapest plans on the best machines, with as many chips as now or fewer."""
    if own(case) or case.study.labels["hardware"] in ABSTRACT or case.goal == CHIP:
        return  # an hour of one chip is not an hour of another
    for name in names(case):
        words: tuple[str, ...] = (f"hardware={name}",)
        if case.given("calibration="):
            words = (*words, "calibration=auto")  # that of the other machine
        try:
            there = _case(case, words)
        except InputError:  # formats or parts that it does not have
            continue
        yield from _best(case, there, name, words)


def _case(case: Case, words: tuple[str, ...]) -> Case:
    """Return the case on another machine; its row is still that of now, to compare with."""
    container = config.compose([*case.words, *words], case.config_dir)
    return replace(case, study=to_study(container), words=(*case.words, *words))


def _chips(case: Case, there: Case) -> list[int]:
    """Return as many chips as now, and about as many as have the memory that is in use now."""
    every = [*reversed(counts(case)), *counts(case, more=True)]
    needed = float(case.row["mem_total_bytes"]) * float(case.at.chips)
    room = float(there.s.hardware.hbm_bytes * there.s.calibration.hbm_usable)
    enough = [c for c in every if c * room >= needed][: 1 if case.runs else 2]
    reach = there.s.hardware.fabric[-1].chips
    return [c for c in dict.fromkeys([*enough, *counts(case)[:1]]) if c <= reach]


def _best(case: Case, there: Case, name: str, words: tuple[str, ...]) -> Iterator[Change]:
    found = table(there, _chips(case, there), float(case.at.in_flight))
    if found is None:
        return
    told = set()
    for which, how in (("kept", ""), ("quick", ", no slower than now")):
        row = found.best(found.columns[which] & (found.columns["usd_per_chip_hour"] > 0))
        if row is None or row in told or (how and case.limits):
            continue
        told.add(row)
        cost = float(found.columns["goal"][row])
        price = quantity(found.columns["usd_per_chip_hour"][row], "USD/h")
        at = f"on {found.plans.chips[row]:,g} chips of {name} at {price} each{how}"
        said = same(f"{at} ({plan_of(found, row)})")
        yield Change(SUBJECT, f"{name}{how}", values_of(there, found, row), said, words, cost=cost)
