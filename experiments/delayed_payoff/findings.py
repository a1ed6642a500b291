"""What the rows say about waiting for a batch, in sentences. Each is computed; none is canned."""

from collections.abc import Callable

import polars as pl

from roofrack.report.format import number, percent, quantity, times, usd
from roofrack.report.page import Finding, Verdict

from ..common.pairs import not_served
from .found import NEAR, Found, bar, rate
from .owning import change, owning, rack
from .rows import AT_LOAD, BATCH, RATE, Facts, Row
from .trace_findings import check, departing, filling_up, paying, riding

BUSY = (0.25, 0.8)
"""Shares of the most that can be served, at which waiting is compared."""
LITTLE = 0.5
"""Share of the cost up to which a saving is called little."""


def at_share(facts: Facts, share: float) -> Row | None:
    """Return the row of the own plan and cap whose utilisation is nearest to a share."""
    rows = facts.curve.with_columns(off=(pl.col("utilization") / share).log().abs())
    near = rows.filter(pl.col("off") <= 0.7)
    return None if near.is_empty() else near.sort("off").row(0, named=True)


def train(found: Found) -> Finding:
    """Say how often a train leaves, how long anybody waits for it, and what the lecture says."""
    facts = found.facts
    row, lecture = facts.full, facts.settings.train_s
    leaves, drain = row["train_s"], row["hbm_drain_s"]
    verdict: Verdict = "agrees" if 1 / NEAR <= leaves / lecture <= NEAR else "contradicts"
    text = (
        f"A train leaves every {quantity(lecture, 's')}, the lecture says: the time to read a full"
        f" memory once. {facts.shown} on {row['plan']}: reading it takes {quantity(drain, 's')};"
        f" at {rate(row[RATE])} a sequence gets its next token every"
        f" {quantity(leaves, 's')}{bar(facts.error)}, prompts of others included."
    )
    if verdict == "contradicts":
        slower = leaves > lecture
        text += (
            f" Memory is {percent(row['mem_total_bytes'] / row['mem_capacity_bytes'])} full with"
            f" {number(row[BATCH])} sequences, and a pass also computes, sends tokens to experts"
            " and takes prompts along."
            if slower
            else " A pass reads only what it needs, which is less than a full memory."
        )
    text += (
        " Who arrives waits"
        f" {quantity(row['train_wait_s'], 's')} on average for the pass under way,"
        f" and at worst {quantity(row['train_worst_s'], 's')} (a full pass just"
        " missed, and the ride in the next)."
    )
    return Finding(text, verdict, "train_s, train_wait_s, train_worst_s, hbm_drain_s", "waits")


def filling(found: Found) -> Finding | None:
    """Say which arrival rate fills the critical batch."""
    facts = found.facts
    caps = facts.caps
    if caps.is_empty():
        return None
    critical = caps["critical_batch"][0]
    row = caps.with_columns(off=(pl.col(BATCH) / critical).log().abs()).sort("off").row(
        0, named=True
    )  # fmt: skip
    text = (
        f"A batch of B needs B arrivals for each stay of a request. The critical batch here is"
        f" {number(critical)} sequences. {rate(row['fill_per_s'])}{bar(row['error'])} keep"
        f" {number(row[BATCH])} in flight, {quantity(row['fill_per_s'] * facts.output, 'tokens/s')}"
        f" written ({facts.shown}, {facts.full['plan']}, {number(facts.output)} tokens a request)."
    )
    if row["slots_at_load"] < row[BATCH] * 0.999:
        text += f" Memory holds {number(row['slots_at_load'])} of them."
    if critical > max(caps[BATCH]) * NEAR:
        text += " No batch tried is as large as the critical one."
    if found.traced is not None:
        more = row["fill_per_s"] / found.traced.own_rate
        text += (
            f" That is {times(more)} the traffic of {found.traced.name}, which brings"
            f" {rate(found.traced.own_rate)}."
        )
    return Finding(text, "neutral", "fill_per_s at the batch next to critical_batch", "caps")


def _within(spread: float) -> str:
    return f" within {percent(spread)}" if spread > 0.001 else ""


def load(found: Found) -> Finding | None:
    """Say what a token costs while the machine is not full: a hyperbola in the rate."""
    rows = found.facts.curve
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


def waiting(found: Found) -> Finding | None:
    """Say how percentiles rise with the load."""
    facts = found.facts
    low, high = (at_share(facts, share) for share in BUSY)
    if low is None or high is None or low[RATE] >= high[RATE]:
        return None
    wishes = facts.settings
    inside = all(high[column] <= limit for column, limit in wishes.limits.items())
    text = (
        f"From {percent(low['utilization'])} to {percent(high['utilization'])} of the load that can"
        f" be served, the first token of 95 % of requests comes within"
        f" {quantity(low['ttft_p95_s'], 's')} and {quantity(high['ttft_p95_s'], 's')}, further ones"
        f" every {quantity(low['tpot_p95_s'], 's')} and {quantity(high['tpot_p95_s'], 's')}"
        f"{bar(facts.error)}, while a token costs {times(low[AT_LOAD] / high[AT_LOAD])} less."
        f" That {'keeps' if inside else 'breaks'} the promise of"
        f" {quantity(wishes.ttft_limit_s, 's')} and {quantity(wishes.tpot_limit_s, 's')}."
    )
    return Finding(text, "neutral", "ttft_p95_s and tpot_p95_s over arrivals_per_s", "waits")


def slow_mode(found: Found) -> Finding | None:
    """Say what a slower mode would save: the largest batch over the one within the promise."""
    facts = found.facts
    caps = facts.caps.filter(pl.col("slots_at_load") >= 0.999 * pl.col(BATCH))
    now = caps.filter(pl.col(BATCH) == facts.cap)
    if now.is_empty() or caps.height < 2:
        return None
    row, best = now.row(0, named=True), caps.sort("full_usd").row(0, named=True)
    saved = 1.0 - best["full_usd"] / row["full_usd"]
    verdict: Verdict = "agrees" if saved <= LITTLE else "contradicts"
    text = (
        "A slow mode can save little, the lecture says: once the weights are shared by enough"
        " sequences, each still pays for its own cache and arithmetic. "
    )
    text += (
        f"Here full batches of {number(best[BATCH])} instead of {number(row[BATCH])} cost"
        f" {usd(best['full_usd'])} instead of {usd(row['full_usd'])}{bar(row['error'])} per million"
        f" tokens, {percent(saved)} less, at {quantity(best['tpot_s'], 's')} instead of"
        f" {quantity(row['tpot_s'], 's')} for each token."
        if best[BATCH] > row[BATCH] and saved > 0
        else f"Here the batch of {number(row[BATCH])} is already the cheapest that fits"
        f" ({usd(row['full_usd'])}{bar(row['error'])} per million tokens)."
    )
    if verdict == "contradicts":
        text += (
            f" The promise keeps the batch at {percent(row[BATCH] / row['critical_batch'])} of"
            " the critical one, where weights are not yet shared by enough."
        )
    return Finding(text, verdict, "capacity_per_s at each batch of the own plan", "caps")


def holding(found: Found) -> Finding | None:
    """Say what holding requests back for others to join saves, by simulation."""
    plans = found.plans
    held = None if plans is None else plans.waits.filter(pl.col("wait_s") > 0)
    if held is None or held.is_empty():
        return None
    most = float(held["saved"].max())  # type: ignore[arg-type]
    verdict: Verdict = "agrees" if most <= LITTLE else "contradicts"
    each = "; ".join(
        f"at {rate(r['rate'])}"
        + (f" {percent(r['saved'])}" if r["saved"] >= 0.001 else " nothing")
        + f" of the {percent(r['most'])} that always full batches would save, and first tokens"
        f" come within {quantity(r['ttft_p95_s'], 's')} for 95 %"
        for r in held.iter_rows(named=True)
    )
    text = (
        f"Holding requests back for up to {quantity(held['wait_s'][0], 's')} until others join"
        f" saves, of the time that the machine is busy: {each} (`roofrack plan wait`, requests"
        " played one by one)."
    )
    if verdict == "agrees":
        text += " Requests that ride for many passes meet others on board anyway."
    return Finding(text, verdict, "roofrack plan wait: saved, most", "holding")


def findings(found: Found) -> tuple[Finding, ...]:
    """Return all findings whose premise holds, the most important first."""
    makers: tuple[Callable[[Found], Finding | None], ...] = (
        load, departing, train, riding, filling, filling_up, waiting, paying, slow_mode, holding,
        owning, rack, change, check,
    )  # fmt: skip
    made = [maker(found) for maker in makers]
    return tuple(f for f in (*made, not_served(found.facts.left)) if f is not None)
