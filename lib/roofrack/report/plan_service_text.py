"""Tiers of the same machines, and what waiting for others saves, as text for people."""

from collections.abc import Sequence

from roofrack.cost.money import fast_mode
from roofrack.report.format import NOTHING, number, percent, quantity, table, times, usd
from roofrack.report.plan_words import names_of, seconds, value, word
from roofrack.simulation.planning import Planned
from roofrack.simulation.planning.runs import Run
from roofrack.simulation.planning.tiers import EVERY, LARGEST, Tier, Tiered
from roofrack.simulation.planning.waits import LITTLE, Waited


def tiers(found: Planned) -> list[str]:
    """Return the tiers, what was assumed of them, and the lecture's arithmetic beside."""
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
        value(run, "usd_per_mtok_at_load", usd),
        value(run, "tpot_mean_s", seconds),
        value(run, "ttft_p95_s", seconds),
        value(run, "batch_at_load", number),
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


def wait(found: Planned) -> list[str]:
    """Return a table of waits for each deployment and rate, and what they come to."""
    every = [one for one in found.answer if isinstance(one, Waited)]  # type: ignore[union-attr]
    names = [n for n in names_of([one.deployment for one in every]) if n != "wait_s"]
    groups: dict[tuple[int, float], list[Waited]] = {}
    for one in every:
        groups.setdefault((id(one.deployment), one.rate), []).append(one)
    sections = []
    for group in groups.values():
        first = group[0]
        of = [f"{n}={word(first.deployment.shown.get(n))}" for n in names]
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
            value(run, "batch_at_load", number),
            value(run, "busy_share", percent),
            percent(one.saved),
            number(one.released, 2),
            value(run, "ttft_p50_s", seconds),
            value(run, "ttft_p95_s", seconds),
            value(run, "tpot_p95_s", seconds),
        ]
        if one.highest is not None:
            top = one.highest.run
            needs = None if top is None else one.rate / top.case.rate * top["chips"]
            line += [
                "none" if top is None else number(top.case.rate),
                value(top, "batch_at_load", number),
                value(top, "usd_per_mtok_at_load", usd),
                number(needs),
            ]
        lines.append(line)
    return table(title, head, lines)


def _verdict(group: Sequence[Waited]) -> str:
    zero = group[0]
    fine = [one for one in group if one.run.kept] or [zero]  # waits that break no promise
    best = max(fine, key=lambda one: one.saved)
    most = percent(zero.most)
    busy = percent(zero.run["busy_share"])
    last = max(fine, key=lambda one: one.wait_s)
    within = " within the limits" if len(fine) < len(group) else ""
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
            f"Waiting saves nothing here{within}: in {quantity(last.wait_s, 's')} only "
            f"{number(joining, 2)} others come; full batches all the time would save {most} of "
            "the busy time"
        ]
    else:
        said = [
            f"Waiting saves nothing here{within}: whoever comes joins the next pass, which runs "
            f"anyway for those under way (busy {busy} of the time). Who waits misses passes that "
            f"would have carried him; full batches all the time would save {most} of the busy time"
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
