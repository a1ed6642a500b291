"""What the rows say about the price of speed, in sentences. Each is computed; none is canned.

A finding takes the facts and returns a sentence with its verdict, or None where its premise does
not hold in this run. Verdicts compare the run's numbers with what the lecture says.
"""

import polars as pl

from roofrack.cost.money import fast_mode
from roofrack.report.format import listed, number, percent, quantity, times, usd
from roofrack.report.page import Finding, Verdict

from .blackboard import Blackboard
from .measures import (
    Row,
    bend,
    core_share,
    fixed_share,
    gains,
    largest,
    largest_batches,
    penalties,
    price_range,
    sale,
    same_plan_sale,
    sells,
    shares,
)
from .rows import COST, SPEED, Facts

NEAR = 1.25
"""Two numbers within this factor are called alike."""
APART = 1.5
"""Blocks whose critical batches differ by more than this do not share one."""


def cost(row: Row) -> str:
    """Write the cost of a row: $0.41."""
    return usd(row[COST])


def speed(row: Row) -> str:
    """Write the speed of a row."""
    return f"{number(row[SPEED], 3)} tokens/s"


def price_of_speed(facts: Facts) -> Finding:
    """Say what `price_ratio` times the price buys on the pair shown."""
    wishes, pair = facts.settings, facts.shown
    normal, fast = facts.tier(pair, "normal"), facts.tier(pair, "fast")
    basis = f"tiers normal and fast of {facts.label(pair)}"
    if not sells(facts, pair):
        text = (
            f"{facts.label(pair)}: no faster way to serve costs at most {times(wishes.price_ratio)}"
            " the normal price in this run."
        )
        return Finding(text, "contradicts", basis, "bought")
    price, gain = sale(normal, fast)
    verdict: Verdict = "agrees" if gain >= wishes.speed_ratio else "contradicts"
    reach = "that is within reach here" if verdict == "agrees" else "that is out of reach here"
    text = (
        f"{facts.label(pair)}: paying {times(price)} the normal price buys {times(gain)} the normal"
        f" speed, {speed(fast)} for each user instead of {speed(normal)}. What is paid for is a"
        " smaller batch, that is, fewer sequences that share each step of the model:"
        f" {number(fast['batch'])} instead of {number(normal['batch'])}. The lecture's example is"
        f" {times(wishes.speed_ratio)} the speed for {times(wishes.price_ratio)} the price;"
        f" {reach}."
    )
    return Finding(text, verdict, basis, "bought")


def spread_of_speed(facts: Facts) -> Finding | None:
    """Say how far the pairs differ in what the same price buys."""
    found = gains(facts)
    if len(found) < 2:
        return None
    wanted = facts.settings.speed_ratio
    least, most = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    reached = sum(gain >= wanted for gain in found.values())
    verdict: Verdict = "contradicts" if 2 * reached < len(found) else "agrees"
    cause, share = largest(facts.tier(least, "fast"))
    text = (
        f"What at most {times(facts.settings.price_ratio)} the price buys differs between models"
        f" and machines: from {times(found[least])} the speed ({facts.label(least)}) to"
        f" {times(found[most])} ({facts.label(most)}). {reached} of {len(found)} pairs of a model"
        f" and a machine reach {times(wanted)}. The smallest gain is held back by {cause},"
        f" {percent(share)} of the parts of its fast step."
    )
    return Finding(text, verdict, "tiers normal and fast of all pairs", "bought")


def latency_floor(facts: Facts) -> Finding:
    """Say what the quickest step consists of; the lecture: of reading the weights."""
    row = facts.tier(facts.shown, "fastest")
    weights, fixed = shares(row)["t_weights_s"], fixed_share(row)
    verdict: Verdict = "agrees" if weights >= 0.5 else "contradicts"
    others = [shares(facts.tier(pair, "fastest"))["t_weights_s"] for pair in facts.pairs]
    count = sum(share < 0.5 for share in others)
    text = (
        f"With the plans tried {facts.label(facts.shown)} generates no faster than {speed(row)}"
        " for each user, at any price: the time per output token (TPOT), one step, is at least"
        f" {quantity(row['tpot_s'], 's')} (batch {number(row['batch'])}, {row['plan']}, {cost(row)}"
        " per million tokens). The lecture's floor is the time to read the weights. Here that is"
        f" {percent(weights)} of the step, and {percent(fixed)} are launches, other fixed costs"
        f" ({facts.losses}) and the network. Weights are less than half of the floor in"
        f" {count} of {len(others)} pairs."
    )
    return Finding(text, verdict, "the fastest row of each pair", "floor")


def batch_one(facts: Facts) -> Finding | None:
    """Say whether a token without batching costs as much more as the lecture says."""
    table = penalties(facts).drop_nulls(["searched", "same"])
    if table.is_empty():
        return None
    claim, at = facts.settings.penalty, number(facts.smallest)
    high, low = (table.sort("same", descending=down).row(0, named=True) for down in (True, False))
    best = table.sort("searched", descending=True).row(0, named=True)
    reaching = table.filter(pl.col("same") * NEAR >= claim).height
    span = f"{times(low['same'])} ({low['pair']}) to " if table.height > 1 else ""
    whom = f"{reaching} of {table.height} pairs" if reaching else "no pair"
    text = (
        f"On the chips that serve the cheapest token, a token at batch {at} costs"
        f" {span}{times(high['same'])} ({high['pair']}) as much. The lecture's {times(claim, 4)} or"
        f" so is reached by {whom}. With a plan chosen for batch {at} it is at most"
        f" {times(best['searched'])} ({best['pair']})"
    )
    text += (
        ": the rest of the penalty is chips that such a batch does not need."
        if best["searched"] * 2 <= high["same"]
        else ": another plan helps little."
    )
    verdict: Verdict = "agrees" if reaching else "contradicts"
    return Finding(
        text, verdict, f"rows with batch={at} over the cheapest row of each pair", "penalty"
    )


def what_binds(facts: Facts) -> Finding:
    """Say whether the cheapest token is bound by the arithmetic of matmuls."""
    rows = [facts.tier(pair, "slow") for pair in facts.pairs]
    bound = [row for row in rows if row["bound"] == "compute"]
    matmul = [row for row in bound if core_share(facts, row) < 0.5]
    attention = [row for row in bound if core_share(facts, row) >= 0.5]
    kv = max(rows, key=lambda row: shares(row)["t_kv_s"])
    verdict: Verdict = "agrees" if 2 * len(matmul) > len(rows) else "contradicts"
    text = (
        "With contexts left out, as on the blackboard, a large enough batch is bound by"
        " arithmetic. Here the largest part of the cheapest step is the arithmetic of matmuls in"
        f" {len(matmul)} of {len(rows)} pairs. Every further sequence brings a KV cache of its own"
        f" to be read, the stored context of {number(facts.context)} tokens: up to"
        f" {percent(shares(kv)['t_kv_s'])} of the cheapest step ({kv['pair']})."
    )
    if attention:
        names = listed([row["pair"] for row in attention])
        shares_of = core_share(facts, max(attention, key=lambda row: core_share(facts, row)))
        text += (
            f" In {names} arithmetic is the largest part, but up to {percent(shares_of)} of it is"
            " attention over that context, which no batch spreads."
        )
    return Finding(
        text, verdict, "slow tier of each pair: `bound`, and parts over step_upper_s", "shares"
    )


def memory_cap(facts: Facts) -> Finding:
    """Say whether memory ends the batch before the critical batch is reached."""
    rows = [facts.tier(pair, "slow") for pair in facts.pairs]
    room = largest_batches(facts)
    short = [r for r in rows if room[r["pair"]] < min(r["critical_batch"], facts.longest)]
    shown = max(short or rows, key=lambda r: r["critical_batch"] / room[r["pair"]])
    text = (
        "The lecture would run at the critical batch, the tokens in a step from which on arithmetic"
        f" takes longer than reading the weights. Memory is full before it in {len(short)} of"
        f" {len(rows)} pairs."
        f" {shown['pair']} has room for {number(room[shown['pair']])} sequences of"
        f" {number(facts.context)} tokens ({shown['plan']}); its critical batch is"
        f" {number(shown['critical_batch'])}."
    )
    verdict: Verdict = "contradicts" if 2 * len(short) > len(rows) else "neutral"
    return Finding(
        text, verdict, "largest batch that fits the slow tier's plan; critical_batch", "critical"
    )


def critical_batches(facts: Facts, board: Blackboard) -> Finding:
    """Compare the one critical batch of the blackboard with those of the blocks of a pair."""
    row = facts.tier(facts.shown, "slow")
    named = {
        "attention projections": row["critical_batch_attention"],
        "dense layers and head": row["critical_batch_dense"],
        "routed experts": row["critical_batch_experts"],
    }
    blocks = {name: value for name, value in named.items() if value is not None}
    apart = max(blocks.values()) / min(blocks.values())
    verdict: Verdict = "contradicts" if apart > APART else "agrees"
    each = listed([f"{number(value)} for the {name}" for name, value in blocks.items()])
    text = (
        f"The blackboard has one critical batch, {number(board.critical_batch)} tokens. The same"
        f" formula gives {number(row['critical_batch'])} for {facts.label(facts.shown)}. With the"
        f" plan that serves it cheapest ({row['plan']}) each block has its own: {each}. They "
    )
    text += f"differ by up to {times(apart)}" if verdict == "contradicts" else "lie close together"
    if (
        verdict == "contradicts"
        and blocks.get("routed experts", 0) < blocks["attention projections"]
    ):
        text += ": weights held in several copies need more tokens, since each copy is read"
    return Finding(f"{text}.", verdict, "critical_batch columns of the slow tier", "critical")


def inverse(facts: Facts, board: Blackboard) -> Finding | None:
    """Say what a price and a speed imply about the batch, in the lecture's form and in this run."""
    wishes, closed = facts.settings, board.closed
    found = same_plan_sale(facts, facts.shown)
    if found is None:
        return None
    normal, fast = found
    price, gain = sale(normal, fast)
    implied, real = fast_mode(price, gain).weight_share_fast, shares(fast)["t_weights_s"]
    verdict: Verdict = "agrees" if implied <= NEAR * real else "contradicts"
    text = (
        "The lecture's inverse: if a step is one read of the weights plus a cost for each"
        f" sequence, {times(wishes.price_ratio)} the price at {times(wishes.speed_ratio)} the speed"
        f" means a batch {number(closed.batch_ratio, 4)} times smaller, and reading weights is"
        f" {percent(closed.weight_share_slow, 3)} of the normal step and"
        f" {percent(closed.weight_share_fast, 3)} of the fast one. Here, on unchanged chips"
        f" ({normal['plan']}), {facts.label(facts.shown)} goes from batch {number(normal['batch'])}"
        f" to {number(fast['batch'])}, {times(normal['batch'] / fast['batch'])} smaller, for"
        f" {times(price)} the price and {times(gain)} the speed. Read the same way, weights would"
        f" be {percent(implied)} of that fast step; they are {percent(real)} of its parts, and"
        f" {percent(fixed_share(fast))} are launches, other fixed costs and the network."
    )
    return Finding(
        text, verdict, "rows of the normal tier's plan; roofrack.cost.money.fast_mode", "inverse"
    )


def shape(facts: Facts) -> Finding | None:
    """Say whether cost over batch is a hyperbola above a constant, as a step in a line makes it."""
    bends = {pair: found for pair in facts.pairs if (found := bend(facts, pair))}
    if facts.shown not in bends:
        return None
    straight = sum(abs(off) <= NEAR - 1 for off, _ in bends.values())
    off, row = bends[facts.shown]
    verdict: Verdict = "agrees" if 2 * straight > len(bends) else "contradicts"
    text = (
        "In the lecture cost against batch is a hyperbola above a constant, since the step grows"
        f" in a straight line with the batch. Here {straight} of {len(bends)} pairs keep within"
        f" {percent(NEAR - 1)} of such a line; {facts.label(facts.shown)} leaves it by at most"
        f" {percent(abs(off))} (at batch {number(row['batch'])})."
    )
    worst = max(bends, key=lambda pair: bends[pair][0])
    off, row = bends[worst]
    first = facts.of(facts.home, worst).sort("batch").row(0, named=True)
    touched, before = row["experts_touched"] or 0.0, first["experts_touched"] or 0.0
    if off > NEAR - 1 and touched > 2 * before > 0:
        text += (
            f" {facts.label(worst)} is {percent(off)} above it at batch {number(row['batch'])}:"
            f" small batches read few experts, {number(before)} of a layer at batch"
            f" {number(first['batch'])} and {number(touched)} at batch {number(row['batch'])}."
        )
    return Finding(text, verdict, "all batches of the slow tier's plan", "step")


def lecture_penalty(facts: Facts, board: Blackboard) -> Finding:
    """Say how much batching saves on the blackboard itself."""
    bare, held = board.contexts[0], board.contexts[-1]
    verdict: Verdict = (
        "agrees" if board.penalty(held) * NEAR >= facts.settings.penalty else "contradicts"
    )
    text = (
        "On the blackboard's own round numbers a token at batch 1 costs"
        f" {times(board.penalty(bare), 3)} the cheapest one if contexts are left out, close to the"
        f" critical batch of {number(board.critical_batch)}"
    )
    text += (
        f", and {times(board.penalty(held), 3)} with contexts of {number(held)} tokens, whose KV"
        " reads no batch spreads."
        if held > bare
        else "."
    )
    return Finding(text, verdict, "job blackboard", "blackboard")


def prices(facts: Facts) -> Finding:
    """Say how far the rental price moves the result, and whether the order of machines survives."""
    pair = facts.shown
    row = facts.tier(pair, "slow")
    low, high = (usd(row[COST] * factor) for factor in price_range(facts, pair))
    date = facts.configs[pair]["hardware"].get("price_date") or "undated"
    text = (
        "Costs follow the rental price in proportion. The cheapest million tokens of"
        f" {facts.label(pair)}, {cost(row)}, cost {low} to {high} over the range of prices known"
        f" ({date})."
    )
    rows = [facts.tier(other, "slow") for other in facts.pairs if other[1] == pair[1]]
    if len(rows) > 1:
        best = min(rows, key=lambda r: r[COST])
        ranges = {r["hardware"]: price_range(facts, (r["hardware"], r["model"])) for r in rows}
        dearest = best[COST] * ranges[best["hardware"]][1]
        rival = min(r[COST] * ranges[r["hardware"]][0] for r in rows if r is not best)
        text += f" {best['machine']} serves {best['model_name']} cheapest at the price taken"
        text += (
            ", and at any price in these ranges."
            if dearest < rival
            else "; within these ranges another machine can be cheaper."
        )
    return Finding(text, "neutral", "usd_per_chip_hour, _low and _high of each machine", "tiers")


def left_out(facts: Facts) -> Finding | None:
    """Say which pairs cannot be served at all, and why."""
    reasons = []
    for pair in (pair for pair in facts.configs if pair not in facts.pairs):
        row = facts.of(facts.counts, pair).row(0, named=True)
        if not row["runs"]:
            why = f"none of {number(row['tried'])} plans and batches can run"
        elif not row["one_rack"]:
            why = "no plan stays within one rack"
        else:
            why = (
                f"at least {quantity(row['weights'], 'B')} of weights a chip,"
                f" {quantity(row['room'], 'B')} of room"
            )
        reasons.append(f"{facts.label(pair)} ({why})")
    if not reasons:
        return None
    text = f"Not served by any plan tried: {listed(reasons)}."
    return Finding(text, "neutral", "valid, racks and fits of all rows")


def findings(facts: Facts, board: Blackboard) -> tuple[Finding, ...]:
    """Return all findings whose premise holds, the most important first."""
    found = (
        price_of_speed(facts),
        spread_of_speed(facts),
        latency_floor(facts),
        batch_one(facts),
        what_binds(facts),
        memory_cap(facts),
        critical_batches(facts, board),
        inverse(facts, board),
        shape(facts),
        lecture_penalty(facts, board),
        prices(facts),
        left_out(facts),
    )
    return tuple(finding for finding in found if finding is not None)
