"""The answer of a plan as text for people: least chips, break-even, tiers, what waiting saves."""

from collections.abc import Callable, Sequence

from roofrack.report import plan_service_text
from roofrack.report.format import NOTHING, number, percent, table, times, usd
from roofrack.report.plan_words import named, names_of, seconds, value, word
from roofrack.simulation.planning import Planned
from roofrack.simulation.planning.least import Fleet
from roofrack.simulation.planning.owning import ALWAYS, NEVER, NOT_STEADILY, Owned


def text(found: Planned) -> str:
    """Return what a plan found, section by section."""
    sections: dict[str, Callable[[Planned], list[str]]] = {
        "chips": _chips,
        "own": _own,
        "tiers": plan_service_text.tiers,
        "wait": plan_service_text.wait,
    }
    told = [_headline(found), *sections[found.asked.question](found), *_notes(found)]
    return "\n\n".join(one for one in told if one)


def _headline(found: Planned) -> str:
    run, labels = found.asked.run, found.labels
    of = [labels[name] for name in ("model", "hardware", "parallelism") if name in labels]
    limits = [
        f"{name} within {seconds(limit)}"
        for name, limit in (("first token", run.limits.ttft_s), ("token", run.limits.tpot_s))
        if limit < float("inf")
    ]
    promise = f"{percent(run.limits.share)} of requests: {', '.join(limits)}" if limits else ""
    traffic = f"{found.runs:,} runs of {run.traffic.source} traffic"
    return "; ".join(part for part in (", ".join(of), promise, traffic) if part)


def _notes(found: Planned) -> list[str]:
    notes = list(found.notes)
    if found.short:
        notes.append(
            "Some runs last less than ten times what a request takes: a queue that grows slowly is "
            "not seen in them; raise traffic.requests"
        )
    if found.asked.run.traffic.seeds > 1:
        notes.append(f"± is the deviation between {found.asked.run.traffic.seeds:g} seeds")
    return ["\n".join(notes)] if notes else []


def _chips(found: Planned) -> list[str]:
    fleets = [one for one in found.answer if isinstance(one, Fleet)]  # type: ignore[union-attr]
    names = names_of([one.deployment for one in fleets])
    head = ["requests/s", *names, "replicas", "chips", "$/h", "$/Mtoken", "TTFT p95", "TPOT p95",
            "kept", "one fewer keeps"]  # fmt: skip
    lines = [[number(one.rate), *named(one.deployment, names), *_fleet(one)] for one in fleets]
    said = [table("Least machines, $ per million output tokens at this load", head, lines)]
    return [*said, "\n".join(_winners(fleets, names, found.asked.max_chips))]


def _fleet(of: Fleet) -> list[str]:
    run = of.run
    if run is None:
        kept = "" if of.best is None else percent(of.best["goodput"])
        return ["none", f"> {of.most * of.deployment.row['chips'] / of.deployment.replicas:,.0f}",
                *[NOTHING] * 4, kept, ""]  # fmt: skip
    below = "" if of.below is None else percent(of.below["goodput"])
    return [
        f"{of.replicas}",
        f"{run['chips']:,.0f}",
        usd(run["usd_per_hour"]),
        value(run, "usd_per_mtok_at_load", usd),
        value(run, "ttft_p95_s", seconds),
        value(run, "tpot_p95_s", seconds),
        value(run, "goodput", percent),
        below,
    ]


def _winners(fleets: Sequence[Fleet], names: Sequence[str], max_chips: int) -> list[str]:
    said = []
    for rate in dict.fromkeys(one.rate for one in fleets):
        here = [one for one in fleets if one.rate == rate]
        runs = [(one, one.run) for one in here if one.run is not None]
        if not runs:
            said.append(
                f"At {number(rate)} requests/s nothing keeps the limits with max_chips = "
                f"{max_chips:,}: more chips or wider limits"
            )
        elif len(here) > 1:
            for what, column in (("Fewest chips", "chips"), ("Fewest dollars", "usd_per_hour")):
                least = min(run[column] for _, run in runs)
                best = [
                    " ".join(f"{n}={word(one.deployment.shown.get(n))}" for n in names)
                    for one, run in runs
                    if run[column] == least
                ]
                amount = f"{least:,.0f}" if column == "chips" else f"{usd(least)}/h"
                said.append(f"{what} at {number(rate)} requests/s: {amount}, {' or '.join(best)}")
    if any(one.run is None and one.most == 0 for one in fleets):
        said.append(f"Where replicas are none, one of them has more chips than {max_chips:,}")
    return said


def _own(found: Planned) -> list[str]:
    curves = [one for one in found.answer if isinstance(one, Owned)]  # type: ignore[union-attr]
    names = names_of([one.deployment for one in curves])
    sections = []
    for one in curves:
        of = ", ".join(f"{n}={word(one.deployment.shown.get(n))}" for n in names)
        sections += [_curve(one, of), _crossing(one, found.asked.max_chips)]
    return sections


def _curve(one: Owned, of: str) -> str:
    head = ["requests/s", "chips", "machines $/h", "API $/h", "ratio", "utilisation", "TTFT p95",
            "TPOT p95"]  # fmt: skip
    lines = []
    for p in (point for point in one.points if point.asked):
        mine, run = p.own_usd_per_hour, p.fleet.run
        lines.append(
            [
                number(p.rate),
                "too many" if run is None else f"{run['chips']:,.0f}",
                usd(mine),
                usd(p.api_usd_per_hour),
                times(None if mine is None else mine / p.api_usd_per_hour),
                percent(p.utilization),
                value(run, "ttft_p95_s", seconds),
                value(run, "tpot_p95_s", seconds),
            ]
        )
    basis = "owned" if float(one.deployment.scenario.economics.basis) > 0 else "rented"
    api = f"an API at {usd(1000.0 * one.per_request_usd)} for 1,000 requests"
    title = f"Least machines, {basis}, against {api}"
    return table(f"{title} ({of})" if of else title, head, lines)


def _crossing(one: Owned, max_chips: int) -> str:
    c = one.crossing
    served = [p for p in one.points if p.own_usd_per_hour is not None]
    if not served:
        return f"No rate tried can be served under the limits with {max_chips:,} chips (max_chips)"
    low, high = number(served[0].rate), number(served[-1].rate)
    if c.why == NEVER:
        return (
            f"The machines never pay: from {low} to {high} requests/s they cost more than the API"
        )
    if c.why == ALWAYS:
        return f"The machines pay at every rate tried, from {low} requests/s on; try lower rates"
    first = number(c.first)
    if c.why == NOT_STEADILY:
        below = f"not below {first} requests/s" if c.first is not None else "at some rates"
        return f"The machines pay only at some rates, {below}, and not at {high} requests/s"
    said = (
        f"The machines pay from {number(c.rate)} requests/s on, {percent(one.utilization)} of what "
        "they can do"
    )
    if c.first is None:
        return f"{said}; also at the lowest rates tried, but not in between"
    if c.first < (c.rate or 0.0):
        return f"{said}; never below {first}, and in between only where the last replica is full"
    return f"{said}, and never below"
