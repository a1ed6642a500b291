"""Advice and how it is told: what to change, what it saves and how sure that is, how to do it."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from roofrack.advice.case import AT_LOAD, Row
from roofrack.advice.words import priced
from roofrack.report.format import percent, quantity, times, usd

_INDENT = "   "


@dataclass(frozen=True)
class Advice:
    """One change worth making: `says` what and why, `overrides` do it.

    `before` and `after` hold columns of the result schema, evaluated from overrides alone. `ratio`
    is the cost of a token after over before; the true ratio lies between `ratio_low` and
    `ratio_high` four times out of five, and `certain` if that leaves a saving at all; None without
    a fitted calibration. `saves_usd_per_mtok` and, at the output there is now, `saves_usd_per_hour`
    are None for a machine without a price, and where the scenario cannot run as it is: then the
    advice is what makes it run, and `ratio` None. `assumes` says what is not modelled.
    """

    subject: str
    says: str
    overrides: tuple[str, ...]
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    ratio: float | None
    ratio_rel_std: float | None
    ratio_low: float | None
    ratio_high: float | None
    certain: bool | None
    saves_usd_per_mtok: float | None
    saves_usd_per_hour: float | None
    assumes: str = ""


@dataclass(frozen=True)
class Advised:
    """All advice for a scenario, the largest saving first (where it cannot run: the cheapest).

    `runs` whether the scenario fits, bears its load and keeps its limits as it is, of which it
    misses those `missed`; `goal` what is ranked by, and `cost` its value now; `row` the scenario as
    `point` tells it.
    """

    words: tuple[str, ...]
    runs: bool
    missed: Mapping[str, float]
    goal: str
    cost: float | None
    row: Row
    advices: tuple[Advice, ...]
    notes: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        """Return the answer as JSON has it: null instead of NaN."""
        return {
            "overrides": list(self.words),
            "runs": self.runs,
            "missed": dict(self.missed),
            "goal": self.goal,
            "cost": self.cost,
            "advices": [asdict(one) | {"overrides": list(one.overrides)} for one in self.advices],
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        """Return the advice as text."""
        return text(self)


def text(found: Advised) -> str:
    """Return the advice, a paragraph for each, and the notes."""
    paragraphs = [_headline(found)]
    paragraphs += [_advice(number, one) for number, one in enumerate(found.advices, 1)]
    if not found.advices:
        paragraphs.append("Nothing tried costs less" if found.runs else "Nothing tried will do")
    if found.notes:
        paragraphs.append("\n".join(["worth knowing", *(f"  {note}" for note in found.notes)]))
    return "\n\n".join(paragraphs)


def _headline(found: Advised) -> str:
    row = found.row
    at = " at this load" if found.goal == AT_LOAD else ""
    title = f"{row['model']} on {row['hardware']}, chips: {row['chips']:,g}, {row['phase']}"
    said = f"{title}: {priced(found.goal, found.cost)}{at}, {usd(row['usd_per_hour'])}/h"
    if not row["fits"]:
        needs, has = row["mem_total_bytes"], row["mem_capacity_bytes"]
        return (
            f"{said}\nDOES NOT FIT: the fullest chip needs {quantity(needs, 'byte')} of "
            f"{quantity(has, 'byte')}. What would make it fit, cheapest first:"
        )
    if not found.runs:
        if (row["utilization"] or 0.0) >= 1:
            why = "OVERLOADED: the queue grows without end"
        else:
            limits = (f"{c} within {quantity(x, 's')}" for c, x in found.missed.items())
            why = f"LIMITS ARE NOT KEPT: {', '.join(limits)}"
        return f"{said}\n{why}. What would do, cheapest first:"
    return said


def _advice(number: int, one: Advice) -> str:
    lines = [f"{number}. {one.says}"]
    if one.ratio is not None:
        lines.append(f"{_INDENT}{_worth(one)}")
    if one.assumes:
        lines.append(f"{_INDENT}assumes: {one.assumes}")
    lines.append(f"{_INDENT}{' '.join(map(shlex.quote, one.overrides))}")
    return "\n".join(lines)


def _worth(one: Advice) -> str:
    assert one.ratio is not None
    if one.saves_usd_per_mtok is None or one.saves_usd_per_hour is None:
        money = f"{percent(1 - one.ratio)} of the chip time"
    else:
        money = (
            f"{usd(one.saves_usd_per_mtok)} of a million tokens, {usd(one.saves_usd_per_hour)} an "
            f"hour at the present output"
        )
    return f"worth {money}; {_sure(one)}"


def _sure(one: Advice) -> str:
    """Say how far the saving can be believed."""
    if one.ratio_low is None or one.ratio_high is None:
        return "no error bar"
    if one.ratio_rel_std == 0:
        return "the same pass, so no error of the cost model"
    low, high = percent(1 - one.ratio_high), percent(1 - one.ratio_low)
    if one.ratio_high < 0.5 and one.ratio_low > 0:
        return (
            f"{times(1 / one.ratio_high)} to {times(1 / one.ratio_low)} less (four times of five)"
        )
    if not one.certain:
        return f"INSIDE THE ERROR BAR, it may be nothing: {low} to {high} (four times of five)"
    return f"saves {low} to {high} (four times of five)"
