"""Sentences of advice: how one row differs from another, in the words of people."""

from collections.abc import Callable
from math import log

from roofrack.advice.case import AT_LOAD, CHIP, Row, cost_of
from roofrack.report.format import listed, number, percent, quantity, times

_SEEN = 0.02
"""Relative change from which on it is told."""
_TIMED = {"tpot_s": "TPOT", "ttft_s": "TTFT"}
_LOADED = {"ttft_p95_s": "TTFT p95", "tpot_p95_s": "TPOT p95"}


def effects(goal: str, before: Row, after: Row) -> str:
    """Say what a change does: to the cost first, then to speed, chips and memory."""
    mine, theirs = cost_of(goal, before), cost_of(goal, after)
    said = []
    if mine and theirs is not None:
        what = {CHIP: "chip time of a token", AT_LOAD: "a token at this load"}.get(
            goal, "the token"
        )
        if theirs < mine / 1.5:
            said.append(
                f"{what} costs {times(mine / theirs)} less" if theirs else f"{what} is free"
            )
        else:
            word = "saves" if theirs < mine else "costs"
            said.append(f"{word} {percent(abs(1.0 - theirs / mine))}")
    said += trades(before, after)
    return listed(said)


def trades(before: Row, after: Row) -> list[str]:
    """Say what else changes: speed, chips, tokens, memory."""
    said = []
    timed = {"step_s": "the step"} if after["phase"] == "train" else _TIMED
    loaded = after["utilization"] is not None
    timed = _LOADED if loaded else timed
    for name, label in timed.items():
        said += change(label, before[name], after[name])
    if before["chips"] != after["chips"]:
        said.append(f"it takes {number(after['chips'])} chips instead of {number(before['chips'])}")
    if loaded:
        said += change("utilisation", before["utilization"], after["utilization"])
    elif before["chips"] != after["chips"]:
        said += change("output", before["tokens_per_s"], after["tokens_per_s"])
    return said


def change(label: str, before: float | None, after: float | None) -> list[str]:
    """Say how a number changes: rises 2.1x, falls 12 %; nothing if it hardly does."""
    if not before or not after or abs(log(after / before)) < _SEEN:
        return []
    word = "rises" if after > before else "falls"
    ratio = max(after / before, before / after)
    return [f"{label} {word} {times(ratio) if ratio >= 1.5 else percent(abs(after / before - 1))}"]


def counted(n: float, word: str) -> str:
    """Write a number of things: 1 token, 2 tokens."""
    many = "es" if word.endswith("h") else "s"
    return f"{n:,g} {word}{'' if n == 1 else many}"


def free(row: Row) -> float:
    """Return the share of the usable memory that is free on the fullest chip."""
    return 1.0 - float(row["mem_total_bytes"]) / float(row["mem_capacity_bytes"])


def room(row: Row) -> str:
    """Say how much of the memory is free."""
    return f"it fits with {percent(free(row))} free"


def priced(goal: str, value: float | None) -> str:
    """Write what a million tokens cost."""
    if goal == CHIP:
        return f"{number(value)} chip h/Mtoken"
    return quantity(value, "USD/Mtoken")


def same(text: str) -> Callable[[Row, Row], str]:
    """Return what says the same of any rows."""
    return lambda before, after: text
