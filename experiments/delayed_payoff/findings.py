"""What the rows say about waiting for a batch, in sentences. Each is computed; none is canned."""

import polars as pl

from roofrack.report.format import number, percent, quantity, times, usd
from roofrack.report.page import Finding, Verdict

from ..common.pairs import not_served
from .rows import AT_LOAD, BATCH, RATE, Facts, Row

NEAR = 1.5
"""Two numbers within this factor are called alike."""
BUSY = (0.25, 0.8)
"""Shares of the most that can be served, at which waiting is compared."""


def rate(value: float) -> str:
    """Write a rate of requests."""
    return f"{number(value)} requests/s"


def at_share(facts: Facts, share: float) -> Row | None:
    """Return the row of the own plan and cap whose utilisation is nearest to a share."""
    rows = facts.curve.with_columns(off=(pl.col("utilization") / share).log().abs())
    near = rows.filter(pl.col("off") <= 0.7)
    return None if near.is_empty() else near.sort("off").row(0, named=True)


def train(facts: Facts) -> Finding:
    """Say how often a train leaves, how long anybody waits for it, and what the lecture says."""
    row, lecture = facts.full, facts.settings.train_s
    leaves, drain = row["train_s"], row["hbm_drain_s"]
    verdict: Verdict = "agrees" if 1 / NEAR <= leaves / lecture <= NEAR else "contradicts"
    text = (
        f"A train leaves every {quantity(lecture, 's')}, the lecture says: the time to read a full"
        f" memory once. {facts.shown} on {row['plan']}: reading it takes {quantity(drain, 's')};"
        f" at {rate(row[RATE])} a sequence gets its next token every {quantity(leaves, 's')},"
        " prompts of others included. Who arrives waits"
        f" {quantity(row['train_wait_s'], 's')} on average for the pass under way,"
        f" and at worst {quantity(row['train_worst_s'], 's')} (a full pass just"
        " missed, and the ride in the next)."
    )
    return Finding(text, verdict, "train_s, train_wait_s, train_worst_s, hbm_drain_s", "waits")


def filling(facts: Facts) -> Finding:
    """Say which arrival rate fills the critical batch."""
    caps = facts.caps
    critical = caps["critical_batch"][0]
    row = caps.with_columns(off=(pl.col(BATCH) / critical).log().abs()).sort("off").row(
        0, named=True
    )  # fmt: skip
    missing = critical > max(caps[BATCH]) * NEAR
    text = (
        f"A batch of B needs B arrivals for each stay of a request. The critical batch here is"
        f" {number(critical)} sequences. {rate(row['fill_per_s'])} keep {number(row[BATCH])} in"
        f" flight, {quantity(row['fill_per_s'] * facts.output, 'tokens/s')} written"
        f" ({facts.shown}, {row['plan']}, {number(facts.output)} tokens a request)."
    )
    if row["slots_at_load"] < row[BATCH] * 0.999:
        text += f" Memory holds {number(row['slots_at_load'])} of them."
    if missing:
        text += " No batch tried is as large as the critical one."
    return Finding(text, "neutral", "fill_per_s at the batch next to critical_batch", "caps")


def _within(spread: float) -> str:
    return f" within {percent(spread)}" if spread > 0.001 else ""


def load(facts: Facts) -> Finding | None:
    """Say what a token costs while the machine is not full: a hyperbola in the rate."""
    rows = facts.curve
    if rows.height < 2:
        return None
    low, high = rows.row(0, named=True), rows.row(-1, named=True)
    bills = rows[AT_LOAD] * rows[RATE]
    spread = float(bills.max() / bills.min() - 1.0)  # type: ignore[operator]
    verdict: Verdict = "agrees" if spread <= NEAR - 1 else "contradicts"
    text = (
        f"The bill is the same whatever comes, so cost over load is a hyperbola, not a parabola:"
        f" cost times rate stays the same{_within(spread)}. {usd(low[AT_LOAD])} per million tokens"
        f" at {rate(low[RATE])}, {usd(high[AT_LOAD])} at {rate(high[RATE])}"
        f" ({percent(high['utilization'])} of the most that {high['plan']} can serve)."
    )
    return Finding(text, verdict, "usd_per_mtok_at_load over arrivals_per_s", "cost")


def waiting(facts: Facts) -> Finding | None:
    """Say how percentiles rise with the load."""
    low, high = (at_share(facts, share) for share in BUSY)
    if low is None or high is None or low[RATE] >= high[RATE]:
        return None
    wishes = facts.settings
    inside = high["ttft_p95_s"] <= wishes.ttft_limit_s and high["tpot_p95_s"] <= wishes.tpot_limit_s
    text = (
        f"From {percent(low['utilization'])} to {percent(high['utilization'])} of the load that can"
        f" be served, the first token of 95 % of requests comes within"
        f" {quantity(low['ttft_p95_s'], 's')} and {quantity(high['ttft_p95_s'], 's')}, further ones"
        f" every {quantity(low['tpot_p95_s'], 's')} and {quantity(high['tpot_p95_s'], 's')}, while"
        f" a token costs {times(low[AT_LOAD] / high[AT_LOAD])} less. "
    )
    text += (
        f"That keeps the promise of {quantity(wishes.ttft_limit_s, 's')} and"
        f" {quantity(wishes.tpot_limit_s, 's')}."
        if inside
        else f"That breaks the promise of {quantity(wishes.ttft_limit_s, 's')} and"
        f" {quantity(wishes.tpot_limit_s, 's')}."
    )
    return Finding(text, "neutral", "ttft_p95_s and tpot_p95_s over arrivals_per_s", "waits")


def slow_mode(facts: Facts) -> Finding | None:
    """Say what a slower mode would save: the largest batch over the one within the promise."""
    caps = facts.caps.filter(pl.col("slots_at_load") >= 0.999 * pl.col(BATCH))
    now = caps.filter(pl.col(BATCH) == facts.cap)
    if now.is_empty() or caps.height < 2:
        return None
    row, best = now.row(0, named=True), caps.sort("full_usd").row(0, named=True)
    saved = 1.0 - best["full_usd"] / row["full_usd"]
    verdict: Verdict = "agrees" if saved <= 0.5 else "contradicts"
    text = (
        "A slow mode can save little, the lecture says: once the weights are shared by enough"
        " sequences, each still pays for its own cache and arithmetic. "
    )
    text += (
        f"Here full batches of {number(best[BATCH])} instead of {number(row[BATCH])} cost"
        f" {usd(best['full_usd'])} instead of {usd(row['full_usd'])} per million tokens,"
        f" {percent(saved)} less, at {quantity(best['tpot_s'], 's')} instead of"
        f" {quantity(row['tpot_s'], 's')} for each token."
        if best[BATCH] > row[BATCH] and saved > 0
        else f"Here the batch of {number(row[BATCH])} is already the cheapest that fits"
        f" ({usd(row['full_usd'])} per million tokens)."
    )
    return Finding(text, verdict, "capacity_per_s at each batch of the own plan", "caps")


def owning(facts: Facts) -> Finding:
    """Say from which traffic on the machine costs less than an API."""
    row, wishes = facts.full, facts.settings
    even = row["usd_per_hour"] / 3600.0 / facts.request_usd
    most = row["capacity_per_s"]
    text = (
        f"An API at {usd(wishes.price_input)} in and {usd(wishes.price_output)} out per million"
        f" tokens asks {usd(facts.request_usd)} for a request of the workload; {row['plan']} cost"
        f" {usd(row['usd_per_hour'])} an hour whatever comes. "
    )
    text += (
        f"They break even at {rate(even)}, {percent(even / most)} of what they can serve: below,"
        " the API is cheaper."
        if even <= most
        else f"They never break even: that takes {rate(even)}, and they serve {rate(most)} at most."
    )
    return Finding(
        text, "neutral", "usd_per_hour and capacity_per_s; prices of the settings", "own"
    )


def check(facts: Facts) -> Finding | None:
    """Say how far closed forms are from a played trace, and which to trust."""
    if facts.played is None:
        return None
    row = facts.played.rows.row(0, named=True)
    if row["ttft_p95_s"] is None or row["closed_ttft_p95_s"] is None:
        return None
    text = (
        f"Checked by {facts.played.traffic}, at {rate(row['arrivals_per_s'])}: played one by one,"
        f" first tokens within {quantity(row['ttft_p95_s'], 's')} and further ones every"
        f" {quantity(row['tpot_p95_s'], 's')} for 95 %; the closed forms say"
        f" {quantity(row['closed_ttft_p95_s'], 's')} and {quantity(row['closed_tpot_p95_s'], 's')}."
        f" To trust: {row['trust']}."
    )
    return Finding(text, "neutral", "roofrack simulate with the trace; closed_off, trust", "played")


def findings(facts: Facts) -> tuple[Finding, ...]:
    """Return all findings whose premise holds, the most important first."""
    found = (
        load(facts),
        train(facts),
        filling(facts),
        waiting(facts),
        slow_mode(facts),
        owning(facts),
        check(facts),
        not_served(facts.left),
    )
    return tuple(finding for finding in found if finding is not None)
