"""The answer of a plan as text for people: least chips, break-even, tiers, what waiting saves."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from roofrack.cost.money import fast_mode
from roofrack.report.format import NOTHING, number, percent, quantity, table, times, usd
from roofrack.simulation.deployments import Deployment
from roofrack.simulation.planning import Planned
from roofrack.simulation.planning.least import Fleet
from roofrack.simulation.planning.owning import ALWAYS, NEVER, NOT_STEADILY, Owned
from roofrack.simulation.planning.runs import Run
from roofrack.simulation.planning.tiers import EVERY, LARGEST, Tier, Tiered
from roofrack.simulation.planning.waits import LITTLE, Waited


def text(found: Planned) -> str:
    """Return what a plan found, section by section."""
    sections: dict[str, Callable[[Planned], list[str]]] = {
        "chips": _chips,
        "own": _own,
        "tiers": _tiers,
        "wait": _wait,
    }
    told = [_headline(found), *sections[found.asked.question](found), *_notes(found)]
    return "\n\n".join(one for one in told if one)


def _headline(found: Planned) -> str:
    run, labels = found.asked.run, found.labels
    of = [labels[name] for name in ("model", "hardware", "parallelism") if name in labels]
    limits = [
        f"{name} within {quantity(value, 's')}"
        for name, value in (("first token", run.limits.ttft_s), ("token", run.limits.tpot_s))
        if value < float("inf")
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


def _value(run: Run | None, name: str, write: Callable[[float], str]) -> str:
    """Return a mean of a run, and the deviation between seeds if there were several."""
    if run is None or run.values[name] is None:
        return NOTHING
    said = write(run[name])
    return f"{said} ±{write(run.spread[name])}" if name in run.spread else said


def _seconds(value: float) -> str:
    return quantity(value, "s")


def _named(of: Deployment, shown: Sequence[str]) -> list[str]:
    return [_word(of.shown.get(name)) for name in shown]


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _names(deployments: Sequence[Deployment]) -> list[str]:
    """Return what tells deployments apart, in order of appearance."""
    named: Mapping[str, None] = dict.fromkeys(name for one in deployments for name in one.shown)
    return [n for n in named if len({_word(one.shown.get(n)) for one in deployments}) > 1]


def _chips(found: Planned) -> list[str]:
    fleets = [one for one in found.answer if isinstance(one, Fleet)]  # type: ignore[union-attr]
    names = _names([one.deployment for one in fleets])
    head = ["requests/s", *names, "replicas", "chips", "$/h", "$/Mtoken", "TTFT p95", "TPOT p95",
            "kept", "one fewer keeps"]  # fmt: skip
    lines = [[number(one.rate), *_named(one.deployment, names), *_fleet(one)] for one in fleets]
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
        _value(run, "usd_per_mtok_at_load", usd),
        _value(run, "ttft_p95_s", _seconds),
        _value(run, "tpot_p95_s", _seconds),
        _value(run, "goodput", percent),
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
                    " ".join(f"{n}={_word(one.deployment.shown.get(n))}" for n in names)
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
    names = _names([one.deployment for one in curves])
    sections = []
    for one in curves:
        of = ", ".join(f"{n}={_word(one.deployment.shown.get(n))}" for n in names)
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
                _value(run, "ttft_p95_s", _seconds),
                _value(run, "tpot_p95_s", _seconds),
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


def _tiers(found: Planned) -> list[str]:
    answer = found.answer
    assert isinstance(answer, Tiered)
    normal = next(tier for tier in answer.tiers if tier.name == "normal")
    head = ["tier", "promise TTFT", "TPOT", "cap", "wait", "policy", "requests/s", "$/Mtoken",
            "TPOT mean", "TTFT p95", "users a batch", "price", "speed"]  # fmt: skip
    lines = [_tier(tier, normal.run) for tier in answer.tiers]
    said = [
        table("Tiers of the same chips, each at the highest load that keeps its promise", head,
              lines),
        _alone(answer),
        _fast_mode(answer),
    ]  # fmt: skip
    return said


def _tier(tier: Tier, normal: Run | None) -> list[str]:
    run = tier.run
    name = f"{tier.name}*" if tier.assumed else tier.name
    promise = [quantity(tier.limits.ttft_s, "s"), quantity(tier.limits.tpot_s, "s")]
    if run is None:
        return [name, *promise, *[NOTHING] * 3, "none", *[NOTHING] * 6]
    price, speed = (None, None) if normal is None else _ratios(run, normal)
    return [
        name,
        *promise,
        f"{tier.batch}",
        quantity(tier.wait_s, "s"),
        tier.policy,
        number(run.case.rate),
        _value(run, "usd_per_mtok_at_load", usd),
        _value(run, "tpot_mean_s", _seconds),
        _value(run, "ttft_p95_s", _seconds),
        _value(run, "batch_at_load", number),
        times(price),
        times(speed),
    ]


def _ratios(run: Run, normal: Run) -> tuple[float, float]:
    """Return price and speed over those of the normal tier."""
    price = run["usd_per_mtok_at_load"] / normal["usd_per_mtok_at_load"]
    return price, normal["tpot_mean_s"] / run["tpot_mean_s"]


def _alone(of: Tiered) -> str:
    said = [f"A sequence alone has a token every {quantity(of.alone['tpot_mean_s'], 's')}."]
    assumed = [f"{tier.name} {', '.join(tier.assumed)}" for tier in of.tiers if tier.assumed]
    if assumed:
        said.append(f"* assumed, not told: {'; '.join(assumed)} (tiers.NAME.KEY=X tells it).")
    fits = f"{of.fits:,} sequences of this length fit into the memory of an instance"
    if of.fits > LARGEST:
        fits += f"; the tiers try up to {of.largest:,} (tiers.normal.batch=N tries others)"
    tried = [f"{tier.name} the best of {tier.tried}" for tier in of.tiers if tier.tried > 1]
    said.append(f"{fits}. Ways tried: {', '.join(tried)} (caps {EVERY} times apart; waiting and")
    said[-1] += " not; policies)."
    return "\n".join(said)


def _fast_mode(of: Tiered) -> str:
    """Return the lecture's arithmetic of two tiers beside what was simulated."""
    runs = {tier.name: tier.run for tier in of.tiers}
    fast = runs["fast"]
    said = []
    for slower in ("normal", "slow"):
        run = runs[slower]
        if fast is None or run is None:
            continue
        price, speed = _ratios(fast, run)
        told = fast_mode(price, speed)
        batch = run["batch_at_load"] / fast["batch_at_load"]
        said.append(
            f"fast against {slower}: {times(price)} the price x {times(speed)} the speed = "
            f"{times(float(told.batch_ratio))} the users in a batch, if cost per token is t/B; "
            f"simulated {times(batch)} ({number(run['batch_at_load'])} against "
            f"{number(fast['batch_at_load'])} users)"
        )
    if said:
        said.append("They differ by what the prompts take, and by time with nobody to serve.")
    return "\n".join(said)


def _wait(found: Planned) -> list[str]:
    every = [one for one in found.answer if isinstance(one, Waited)]  # type: ignore[union-attr]
    names = [n for n in _names([one.deployment for one in every]) if n != "wait_s"]
    groups: dict[tuple[int, float], list[Waited]] = {}
    for one in every:
        groups.setdefault((id(one.deployment), one.rate), []).append(one)
    sections = []
    for group in groups.values():
        first = group[0]
        of = [f"{n}={_word(first.deployment.shown.get(n))}" for n in names]
        title = ", ".join([f"Waiting at {number(first.rate)} requests/s", *of])
        sections += [_waits(title, group), _verdict(group)]
    return sections


def _waits(title: str, group: Sequence[Waited]) -> str:
    promised = group[0].highest is not None
    head = ["wait", "users a batch", "busy", "saved", "chips idle more", "TTFT p50", "TTFT p95",
            "TPOT p95"]  # fmt: skip
    head += ["most requests/s", "users a batch then", "$/Mtoken then", "chips needed"] * promised
    lines = []
    for one in group:
        run = one.run
        line = [
            quantity(one.wait_s, "s"),
            _value(run, "batch_at_load", number),
            _value(run, "busy_share", percent),
            percent(one.saved),
            number(one.released, 2),
            _value(run, "ttft_p50_s", _seconds),
            _value(run, "ttft_p95_s", _seconds),
            _value(run, "tpot_p95_s", _seconds),
        ]
        if one.highest is not None:
            top = one.highest.run
            needs = None if top is None else one.rate / top.case.rate * top["chips"]
            line += [
                "none" if top is None else number(top.case.rate),
                _value(top, "batch_at_load", number),
                _value(top, "usd_per_mtok_at_load", usd),
                number(needs),
            ]
        lines.append(line)
    return table(title, head, lines)


def _verdict(group: Sequence[Waited]) -> str:
    zero, best = group[0], max(group, key=lambda one: one.saved)
    most = percent(zero.most)
    busy = percent(zero.run["busy_share"])
    last = max(group, key=lambda one: one.wait_s)
    joining = last.rate / last.deployment.replicas * last.wait_s
    if best.saved >= LITTLE:
        said = [
            f"Waiting {quantity(best.wait_s, 's')} saves {percent(best.saved)} of the busy time, "
            f"as much as {number(best.released, 2)} chips idle, at "
            f"{quantity(_later(zero, best), 's')} more to the first token; full batches all the "
            f"time would save {most}"
        ]
    elif joining < 0.5 and zero.run["busy_share"] < 0.5:
        said = [
            f"Waiting saves nothing here: in {quantity(last.wait_s, 's')} only "
            f"{number(joining, 2)} others come; full batches all the time would save {most} of "
            "the busy time"
        ]
    else:
        said = [
            f"Waiting saves nothing here: whoever comes joins the next pass, which runs anyway for "
            f"those under way (busy {busy} of the time). Who waits misses passes that would have "
            f"carried him; full batches all the time would save {most} of the busy time"
        ]
    said.append(
        "Idle time is money only if other work or sleep fills it; machines can be given back only "
        "where more requests/s keep the limits"
    )
    gain = _gain(group)
    if gain is not None and gain <= 0:
        said.append("Here no wait lets the same machines serve more under the limits")
    elif gain is not None:
        said.append(f"Here a wait lets the same machines serve {percent(gain)} more")
    return ".\n".join(said) + "."


def _gain(group: Sequence[Waited]) -> float | None:
    """Return how much more the same machines serve with the best wait; None where none can tell.

    0 below the first rate that fails without waiting: rates between were not tried.
    """
    zero = group[0].highest
    if zero is None or zero.rate is None or zero.fails is None:
        return None
    best = max(one.highest.rate or 0.0 for one in group if one.highest is not None)
    return best / zero.rate - 1.0 if best > zero.fails.case.rate else 0.0


def _later(zero: Waited, one: Waited) -> float:
    """Return the seconds that the median first token comes later."""
    return one.run["ttft_p50_s"] - zero.run["ttft_p50_s"]
