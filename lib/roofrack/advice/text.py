"""Advice as text for people: what to change, what it saves and how sure that is, how to do it."""

import shlex

from roofrack.advice.case import AT_LOAD
from roofrack.advice.core import Advice, Advised
from roofrack.advice.words import priced
from roofrack.report.format import percent, quantity, times, usd

_INDENT = "   "


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
