"""What a simulation found, in sentences: each number in them is computed from its tables."""

import numpy as np

from roofrack.report.format import number, percent, quantity, times, usd
from roofrack.report.simulation_loads import (
    COST,
    FEW,
    RATE,
    Comparison,
    Curve,
    Row,
    misses,
    queue_share,
)
from roofrack.simulation.asked import Limits
from roofrack.simulation.closed import CLOSE
from roofrack.simulation.command import Simulated

NAMES = {"ttft": "TTFT", "tpot": "TPOT"}
SAME = 0.005
"""Relative changes below this are none."""


def rate(value: float) -> str:
    """Write a load."""
    return f"{number(value)} requests/s"


def seconds(value: float | None) -> str:
    """Write a time."""
    return quantity(value, "s")


def promise(limits: Limits) -> str:
    """Write what requests are promised: `95 % of requests within TTFT 1 s and TPOT 50 ms`."""
    told = [
        f"{NAMES[name]} {seconds(limit)}"
        for name, limit in (("ttft", limits.ttft_s), ("tpot", limits.tpot_s))
        if np.isfinite(limit)
    ]
    return f"{percent(limits.share, 3)} of requests within {' and '.join(told)}"


def highest(found: Simulated, curve: Curve) -> str:
    """Say up to which load a deployment keeps the limits; empty without limits."""
    most, limits = curve.most, found.asked.limits
    if most is None:
        return ""
    if most["most_per_s"] is None:
        lowest = curve.points[0]
        return (
            f"{curve.name} has {promise(limits)} at no load tried: at the lowest,"
            f" {rate(lowest[RATE])}, {percent(lowest['goodput'], 3)} keep the limits."
        )
    up_to, cost = rate(most["most_per_s"]), usd(most[COST])
    told = f"{curve.name} has {promise(limits)} up to {up_to}, at {cost} per million generated"
    told += " tokens"
    between = _between(curve, most["most_per_s"])
    if between is None:
        told += ". No load tried breaks the limits, so it may bear more"
        end = curve.takeover
        if end is not None and end[RATE] <= most["most_per_s"]:
            told += (
                f"; but from {rate(end[RATE])} on the queue takes over, and a longer run would"
                " wait longer"
            )
    else:
        told += f", estimated between runs at {number(between[0])} and {rate(between[1])}"
    return told + "."


def _between(curve: Curve, most: float) -> tuple[float, float] | None:
    """Return the loads tried around the highest one under the limits, if it is between two."""
    if curve.most is None or not curve.most["told"].startswith("between"):
        return None
    rates = [p[RATE] for p in curve.points]
    return max(r for r in rates if r <= most), min((r for r in rates if r > most), default=most)


def one_more(found: Simulated, curve: Curve) -> str:
    """Say what one request a second above the highest load under the limits breaks."""
    most = curve.most["most_per_s"] if curve.most is not None else None
    between = None if most is None else _between(curve, most)
    if most is None or between is None:
        return ""
    rates = [p[RATE] for p in curve.points]
    kept = np.interp(most + 1.0, rates, [p["goodput"] for p in curve.points])
    after = next(p for p in curve.points if p[RATE] == between[1])
    if most + 1.0 <= rates[-1] * (1.0 + 1e-9):
        told = f"One request/s more, and about {percent(float(kept), 3)} keep the limits: at"
    else:
        told = "One request/s more is beyond the loads tried: at"
    missed = misses(found, after)
    rejected = after["rejected"] / after["requests"]
    worst = max(missed, key=lambda n: missed[n], default=None)
    if worst is None or missed[worst] < rejected:
        cause = f"{percent(rejected)} of requests do not fit and are rejected"
    else:
        cause = f"{NAMES[worst]} breaks, {percent(missed[worst])} of requests miss it"
        others = [f"{percent(missed[n])} miss {NAMES[n]}" for n in missed if n != worst]
        cause += f" ({', '.join(others)})" if others else ""
    return f"{told} {rate(after[RATE])} {cause}."


def payoff(curve: Curve) -> str:
    """Say what a fuller batch saves, and what it makes users wait; empty with one load only."""
    if len(curve.steady) < 2:
        return ""
    first, last = curve.steady[0], curve.steady[-1]
    told = (
        f"From {number(first[RATE])} to {rate(last[RATE])} a million generated tokens goes from"
        f" {usd(first[COST])} to {usd(last[COST])} ({_change(first[COST], last[COST])})"
    )
    for name in ("ttft", "tpot"):
        a, b = first[f"{name}_p95_s"], last[f"{name}_p95_s"]
        if a and b:
            joint = ", while" if name == "ttft" else " and"
            told += f"{joint} {NAMES[name]} p95 goes from {seconds(a)} to {seconds(b)}"
            told += f" ({_change(a, b)})"
    if first["batch_at_load"] and last["batch_at_load"]:
        told += (
            f": {number(first['batch_at_load'])} sequences share a batch at first,"
            f" {number(last['batch_at_load'])} at last"
        )
    return told + "."


def pays_off(curve: Curve) -> bool | None:
    """Tell whether load makes tokens cheaper, and waits longer; None where that cannot be told."""
    if len(curve.steady) < 2:
        return None
    first, last = curve.steady[0], curve.steady[-1]
    if last[COST] > first[COST] * (1.0 + SAME):
        return False
    slower = [
        last[n] > first[n] * (1.0 + SAME)
        for n in ("ttft_p95_s", "tpot_p95_s")
        if first[n] is not None and last[n] is not None
    ]
    return True if any(slower) and last[COST] < first[COST] * (1.0 - SAME) else None


def _change(before: float, after: float) -> str:
    if abs(after / before - 1.0) < SAME:
        return "no change"
    if after > before:
        return f"{times(after / before)} as much"
    return f"{times(before / after)} less"


def idle(curve: Curve) -> str:
    """Say which share of the bill is for capacity that nobody uses; empty where none is known."""
    if not curve.steady or not curve.capacity_per_s:
        return ""
    first, last = curve.steady[0], curve.steady[-1]
    unused = 1.0 - (curve.used(first[RATE]) or 0.0)
    told = (
        f"At {rate(first[RATE])} {percent(unused)} of the bill is for capacity that nobody uses,"
        f" {usd(unused * first[COST])} of {usd(first[COST])} per million tokens"
    )
    if last is not first:
        told += f"; at {rate(last[RATE])} {percent(1.0 - (curve.used(last[RATE]) or 0.0))}"
    most = curve.most
    if most is not None and most["most_per_s"] is not None and _between(curve, most["most_per_s"]):
        left = percent(1.0 - (curve.used(most["most_per_s"]) or 0.0))
        told += f". At the highest load under the limits {left} stays unused: what the limits cost"
    return told + "."


def capacity(curve: Curve) -> str:
    """Say what a deployment can do at most, and how that is known."""
    if not curve.capacity_per_s:
        return ""
    how = "served by an overloaded run" if curve.measured else "by the closed forms"
    return f"capacity {rate(curve.capacity_per_s)}, {how}"


def queue(curve: Curve) -> str:
    """Say where the queue takes over."""
    if not curve.served:
        return ""
    end = curve.takeover
    if end is None:
        worst = max(curve.served, key=queue_share)
        return (
            "The queue is nowhere the larger part of TTFT: at most"
            f" {percent(queue_share(worst))} on average, at {rate(worst[RATE])}."
        )
    if not curve.steady:
        return (
            f"At {rate(end[RATE])}, the lowest load, the queue is already"
            f" {percent(queue_share(end))} of TTFT on average: every load tried is too much."
        )
    last = curve.steady[-1]
    return (
        f"Between {number(last[RATE])} and {rate(end[RATE])} the queue takes over: from"
        f" {percent(queue_share(last))} to {percent(queue_share(end), 3)} of TTFT on average, and"
        f" TTFT p95 from {seconds(last['ttft_p95_s'])} to {seconds(end['ttft_p95_s'])}; a million"
        f" tokens goes from {usd(last[COST])} to {usd(end[COST])}"
        f" ({_change(last[COST], end[COST])})."
    )


def preempted(of: tuple[Curve, ...]) -> str:
    """Say where the cache was too small; empty if it never was."""
    some = [(c, p) for c in of for p in c.points if p["preemptions"]]
    if not some:
        return ""
    curve, worst = max(some, key=lambda pair: pair[1]["preemptions"] / pair[1]["requests"])
    told = (
        f"The KV cache fills up: at {rate(worst[RATE])} ({curve.name})"
        f" {number(worst['preemptions'])} preemptions of {number(worst['requests'], 9)} requests"
    )
    if worst["computed_tokens"]:
        share = worst["recomputed_tokens"] / worst["computed_tokens"]
        told += f", whose cache is computed again: {percent(share)} more prompt tokens"
    return told + "."


def rejected(of: tuple[Curve, ...]) -> str:
    """Say how many requests would never fit; empty if all do."""
    some = [(c, p) for c in of for p in c.points if p["rejected"]]
    if not some:
        return ""
    curve, worst = max(some, key=lambda pair: pair[1]["rejected"] / pair[1]["requests"])
    return (
        f"{number(worst['rejected'], 9)} of {number(worst['requests'], 9)} requests are longer than"
        f" the KV cache of an instance and are rejected ({curve.name}, {rate(worst[RATE])})."
    )


def cheapest(found: Simulated, of: tuple[Curve, ...]) -> str:
    """Say which deployment is the cheapest under the limits; empty for one, or without limits."""
    if len(of) < 2 or any(c.most is None for c in of):
        return ""
    able = [(c, c.most) for c in of if c.most is not None and c.most[COST] is not None]
    if not able:
        lowest = rate(min(p[RATE] for c in of for p in c.points))
        return f"None of {len(of)} deployments has {promise(found.asked.limits)} even at {lowest}."
    ranked = sorted(able, key=lambda pair: pair[1][COST])
    best, most = ranked[0]
    told = (
        f"Cheapest under the limits is {best.name}: {usd(most[COST])} per million generated tokens"
        f" at {rate(most['most_per_s'])}"
    )
    if len(ranked) > 1:
        second, other = ranked[1]
        more = percent(other[COST] / most[COST] - 1.0)
        told += f"; next {second.name}, {usd(other[COST])} (+{more}) at {rate(other['most_per_s'])}"
    unable = len(of) - len(able)
    return told + (f". {unable} of {len(of)} keep them at no load tried." if unable else ".")


def compared(told: Comparison) -> str:
    """Say how the closed forms do beside the simulation, and which to trust."""
    left = (
        f" They have no answer at {told.without} {'load' if told.without == 1 else 'loads'}, more"
        " than they can serve."
        if told.without
        else ""
    )
    if told.worst is None:
        return f"There are no closed forms to compare with.{left}"
    if told.few:
        loads = "load" if told.few == 1 else "loads"
        left = f", but at {told.few} {loads} of few drawn requests the closed forms.{left}"
    else:
        left = f".{left}"
    name, point, form, simulated = told.worst
    words = f"{NAMES[name[:4]]} {name[5:8]}"
    return (
        f"Closed forms agree within {percent(CLOSE)} with {told.close} of {told.compared} medians"
        f" and p95 of TTFT and TPOT; farthest apart is {words} at {rate(point[RATE])},"
        f" {seconds(form)} against {seconds(simulated)} simulated. Where they differ by more, trust"
        f" the simulation{left}"
    )


def behind(of: tuple[Curve, ...]) -> str:
    """Say how many requests percentiles rest on."""
    counts = [p["counted"] / p["runs"] for c in of for p in c.served]
    if not counts or not min(counts):
        return ""
    least = int(min(counts))
    tail = least / 100.0
    told = f"p99 rests on the slowest {max(1, int(tail)):,} of {least:,} counted requests"
    return told + (": it is uncertain." if tail < FEW else ".")


def plain(point: Row) -> str:
    """Say what a single load gives."""
    told = f"At {rate(point[RATE])} a million generated tokens costs {usd(point[COST])}"
    times_ = [
        f"{NAMES[n]} p95 is {seconds(point[f'{n}_p95_s'])}"
        for n in ("ttft", "tpot")
        if point[f"{n}_p95_s"] is not None
    ]
    return f"{told}; {', '.join(times_)}." if times_ else told + "."
