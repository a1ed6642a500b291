"""What the rows say about owning machines instead of paying for tokens."""

from roofrack.report.format import listed, number, percent, quantity, times, usd
from roofrack.report.page import Finding
from roofrack.simulation.planning.owning import ALWAYS, FROM, NEVER

from ..common.pages import chips
from .found import Found, rate, span
from .planned import Planned

AGREE = 0.1
"""Relative difference up to which two break-evens agree."""


def owning(found: Found) -> Finding:
    """Say from which traffic on the machine costs less: by closed form, and simulated."""
    facts = found.facts
    row, wishes, now = facts.full, facts.settings, found.changes[0]
    text = (
        f"An API that sells {wishes.price_of} at {usd(wishes.price_input)} in and"
        f" {usd(wishes.price_output)} out per million tokens asks {usd(facts.request_usd)} for a"
        f" request of the workload; {row['plan']} cost {usd(row['usd_per_hour'])} an hour whatever"
        " comes. "
    )
    if now.most is None:
        text += (
            f"Bill over price breaks even at {rate(facts.even)}, but no load keeps the promise of"
            f" {quantity(wishes.ttft_limit_s, 's')} and {quantity(wishes.tpot_limit_s, 's')}."
        )
    elif now.pays:
        text += (
            f"Bill over price breaks even at {rate(facts.even)}, {percent(facts.even / now.most)}"
            f" of the {number(now.most)} that the plan serves within the promise{span(now)}: below,"
            " the API is cheaper."
        )
    else:
        text += (
            f"They never break even: that takes {rate(facts.even)}, and the plan serves"
            f" {rate(now.most)} within the promise at most{span(now)}."
        )
    if found.plans is not None:
        text += f" {_simulated(found, found.plans)}"
    elif isinstance(found.planned, str):
        text += f" `roofrack plan own` found none: {found.planned}."
    basis = "usd_per_hour; highest rate within the promise; roofrack plan own"
    return Finding(text, "neutral", basis, "own")


def _simulated(found: Found, plans: Planned) -> str:
    """Say what `plan own` finds, and whether the closed form agrees with it."""
    crossing, now = plans.owned.crossing, found.changes[0]
    allowed = f"{plans.copies} {'copy' if plans.copies == 1 else 'copies'}"
    text = f"With random requests played one by one and up to {allowed} (`roofrack plan own`) "
    if crossing.why == NEVER:
        text += "owning never pays at the rates tried"
        agrees = not now.pays
    elif crossing.why == ALWAYS:
        text += f"owning pays from the lowest rate tried on, {rate(plans.served['rate'][0])}"
        agrees = now.pays and now.even <= plans.served["rate"][0] * (1 + AGREE)
    elif crossing.why == FROM and crossing.rate is not None and crossing.first is not None:
        text += f"owning pays from {rate(crossing.rate)} on"
        if crossing.first < crossing.rate * (1 - AGREE):
            text += (
                f" (from {rate(crossing.first)} already, but not just after another copy is needed)"
            )
        agrees = now.pays and abs(crossing.first / now.even - 1) <= AGREE
    else:
        text += f"owning pays from {rate(crossing.first or 0.0)} on, but not at all higher rates"
        agrees = now.pays and abs((crossing.first or 0.0) / now.even - 1) <= AGREE
    if agrees:
        return f"{text}: the two agree."
    return (
        f"{text}: the two disagree, because played requests and closed forms differ in what a copy"
        " serves within the promise. Trust the simulation."
    )


def rack(found: Found) -> Finding | None:
    """Say from which traffic on a whole rack pays."""
    facts, now = found.facts, found.changes[0]
    if now.most is None or facts.rack <= facts.full["chips"]:
        return None
    each = facts.full["usd_per_hour"] / facts.full["chips"]
    bill, most = each * facts.rack, now.most * facts.copies
    even = bill / 3600.0 / facts.request_usd
    text = (
        f"A whole rack, {chips(facts.rack)}, costs {usd(bill)} an hour and holds"
        f" {number(facts.copies)} copies of the plan. It breaks even at {rate(even)}"
    )
    text += (
        f", {percent(even / most)} of the {number(most)} that its copies serve within the promise,"
        f" a day of {quantity(even * 86400, 'requests')}."
        if even <= most
        else f", more than the {number(most)} that its copies serve within the promise: it never"
        " pays."
    )
    if facts.copies * facts.full["chips"] < facts.rack:
        idle = facts.rack - facts.copies * facts.full["chips"]
        text += f" {chips(idle)} of it stand idle, paid for."
    return Finding(text, "neutral", "usd_per_hour of a chip, chips of a rack, copies", "own")


def change(found: Found) -> Finding | None:
    """Say what would change the answer to from which traffic on owning pays."""
    now, others = found.changes[0], found.changes[1:]
    if now.most is None or not others:
        return None
    flips = [one.words for one in others if one.pays != now.pays]
    verb = "pays" if now.pays else "does not pay"
    text = f"What would change the answer? Owning {verb} as it is: {_sides(found, 0)}. "
    if flips:
        text += f"It {'would not' if now.pays else 'would'} with {listed(flips)}. "
    else:
        text += f"It {verb} with each of the {len(others)} changes tried, too. "
    moved = max(
        range(1, len(found.changes)), key=lambda i: _factor(found.changes[i].even, now.even)
    )
    held = [i for i in range(1, len(found.changes)) if found.changes[i].most is not None]
    text += f"The break-even moves most with {found.changes[moved].words}: {_sides(found, moved)}."
    if held:
        most = max(held, key=lambda i: _factor(found.changes[i].most or 0.0, now.most or 1.0))
        if most != moved and _factor(found.changes[most].most or 0.0, now.most) > 1.001:
            text += (
                f" What is served within the promise moves most with {found.changes[most].words}:"
                f" {_sides(found, most)}."
            )
    uncertain = now.low is not None and now.high is not None and now.low < now.even <= now.high
    if uncertain:
        text += " The error bar of a pass alone could turn it."
    return Finding(text, "neutral", "the own plan evaluated again, one thing changed", "changes")


def _factor(value: float, now: float) -> float:
    return max(value / now, now / value) if value > 0 < now else 0.0


def _sides(found: Found, place: int) -> str:
    one = found.changes[place]
    served = "none is served" if one.most is None else f"{number(one.most)} are served{span(one)}"
    over = one.even / found.changes[0].even
    ratio = f", {times(over)} as much" if abs(over - 1) > 1e-6 else ""
    return f"it takes {rate(one.even)}{ratio}, {served}"
