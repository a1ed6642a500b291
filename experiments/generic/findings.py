"""What can be said of any sweep: what is cheapest, fastest, what binds and what cannot run."""

from collections.abc import Mapping
from typing import Any

from roofrack.report.format import listed, number, percent, quantity, times
from roofrack.report.page import Finding

from ..common.columns import COST
from ..common.pages import RESOURCES
from .rows import Summary


def answer(found: Summary) -> str:
    """Say what is cheapest, or that nothing can run."""
    if found.best.is_empty():
        return f"None of {number(found.counts['all'], 9)} points can be served: see why below."
    row = found.best.row(0, named=True)
    return (
        f"The cheapest of {number(found.counts['all'], 9)} points costs {_cost(row)} per million"
        f" tokens: {where(found, row)}."
    )


def _cost(row: Mapping[str, Any]) -> str:
    return quantity(row[COST], "USD")


def where(found: Summary, row: Mapping[str, Any]) -> str:
    """Say which point a row is."""
    settings = [f"{axis}={_value(row[axis])}" for axis in found.axes if row[axis] is not None]
    return ", ".join([row["series"], *settings])


def _value(value: Any) -> str:
    return (
        number(value, 4)
        if isinstance(value, int | float) and not isinstance(value, bool)
        else str(value)
    )


def findings(found: Summary) -> tuple[Finding, ...]:
    """Return what can be said of any sweep, as far as it holds for this one."""
    made = (_cheapest(found), _fastest(found), _binds(found), _invalid(found), _overfull(found))
    return tuple(finding for finding in made if finding)


def _cheapest(found: Summary) -> Finding | None:
    if found.best.is_empty():
        return None
    row = found.best.row(0, named=True)
    dear = found.curve.sort(COST).row(-1, named=True)
    text = (
        f"Cheapest: {_cost(row)} per million tokens at {where(found, row)}; the largest part of"
        f" its step is {RESOURCES[row['bound']]}."
    )
    if dear[COST] > 1.05 * row[COST]:
        text += (
            f" The dearest point drawn costs {times(dear[COST] / row[COST])} as much"
            f" ({where(found, dear)})."
        )
    return Finding(text, "neutral", f"least {COST} of the rows that fit", COST)


def _fastest(found: Summary) -> Finding | None:
    if found.quickest.is_empty():
        return None
    quick, cheap = found.quickest.row(0, named=True), found.best.row(0, named=True)
    text = (
        f"Fastest: {number(quick['tokens_per_s_per_user'], 3)} tokens/s for each user at "
        f"{where(found, quick)}, for {times(quick[COST] / cheap[COST])} the cheapest cost."
    )
    return Finding(text, "neutral", "least tpot_s of the rows that fit", "tpot_s")


def _share(count: int, total: float) -> str:
    """Write a share so that what is not all never reads as all."""
    text = percent(count / total)
    return f"over {percent(0.99)}" if text == percent(1.0) and count < total else text


def _binds(found: Summary) -> Finding | None:
    total = int(found.bounds["len"].sum())
    if not total:
        return None
    each = [f"{RESOURCES[b]} in {_share(n, total)}" for b, n in found.bounds.head(3).iter_rows()]
    return Finding(
        f"The largest part of a step is {listed(each)} of the points that fit.",
        "neutral",
        "bound of all rows that fit",
    )


def _invalid(found: Summary) -> Finding | None:
    count = found.counts["invalid"]
    if not count:
        return None
    whys = [
        f"{why} ({_share(n, found.counts['all'])})" for why, n in found.whys.head(3).iter_rows()
    ]
    text = f"{_share(count, found.counts['all'])} of the points cannot run: {'; '.join(whys)}."
    return Finding(text, "neutral", "why_invalid of all rows")


def _overfull(found: Summary) -> Finding | None:
    count = found.counts["overfull"]
    if not count or not found.overfull:
        return None
    taken, room = found.overfull["taken"], found.overfull["room"]
    text = f"{_share(count, found.counts['all'])} of the points do not fit in memory"
    if not found.counts["good"]:
        text += (
            f"; the smallest takes {quantity(taken, 'B')} of {quantity(room, 'B')} on the fullest"
            " chip"
        )
    return Finding(f"{text}.", "neutral", "fits of all rows that can run")
