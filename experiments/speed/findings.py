"""What the rows say about the price of speed, in sentences. Each is computed; none is canned.

A finding takes the facts and returns a sentence with its verdict, or None where its premise does
not hold in this run. Verdicts compare the run's numbers with what the lecture says.
"""

from typing import Any

import polars as pl

from roofrack.cost.money import fast_mode
from roofrack.report.format import number, percent, quantity, times
from roofrack.report.page import Finding, Verdict

from ..shared import listed
from .blackboard import Blackboard
from .rows import COST, PAIR, SPEED, Facts

PARTS = {
    "t_compute_s": "arithmetic",
    "t_weights_s": "reading weights",
    "t_kv_s": "reading the KV cache",
    "t_activation_s": "moving activations",
    "t_scale_up_s": "the network between chips",
    "t_scale_out_s": "the network between racks",
    "t_pipeline_s": "hops between pipeline stages",
    "t_overhead_s": "launching kernels and other fixed costs",
}
"""Parts of a step in words; they sum to `step_upper_s`."""
NEAR = 1.25
"""Two numbers within this factor are called alike."""


def usd(row: dict[str, Any]) -> str:
    """Write the cost of a row."""
    return quantity(row[COST], "USD/Mtok").replace("/Mtok", "")


def speed(row: dict[str, Any]) -> str:
    """Write the speed of a row, without its unit."""
    return number(row[SPEED], 3)


def shares(row: dict[str, Any]) -> dict[str, float]:
    """Return the share of each part in a step in which nothing is hidden, the largest first."""
    found = {part: (row[part] or 0.0) / row["step_upper_s"] for part in PARTS}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def fixed_share(row: dict[str, Any]) -> float:
    """Return the share of launches, other fixed costs and the network in a step."""
    parts = shares(row)
    return sum(parts[p] for p in ("t_overhead_s", "t_scale_up_s", "t_scale_out_s", "t_pipeline_s"))


def price_of_speed(facts: Facts) -> Finding:
    """What `price_ratio` times the price buys on the pair shown."""
    wishes, pair = facts.settings, facts.shown
    normal, fast = facts.tier(pair, "normal"), facts.tier(pair, "fast")
    price, gain = fast[COST] / normal[COST], fast[SPEED] / normal[SPEED]
    verdict: Verdict = "agrees" if gain * NEAR >= wishes.speed_ratio else "contradicts"
    against = (
        f"The lecture sets {times(wishes.speed_ratio)} the speed against {times(wishes.price_ratio)} "
        f"the price: here it is {'within reach' if verdict == 'agrees' else 'out of reach'}."
    )
    text = (
        f"{facts.label(pair)}: paying {times(price)} the normal price buys {times(gain)} the speed, "
        f"{speed(fast)} instead of {speed(normal)} tokens/s per user. What is paid for is a smaller batch, "
        f"{number(fast['batch'])} instead of {number(normal['batch'])} sequences. {against}"
    )
    return Finding(text, verdict, f"tiers normal and fast of {facts.label(pair)}", "bought")


def spread_of_speed(facts: Facts) -> Finding | None:
    """How far the pairs differ in what the same price buys."""
    gains = {
        pair: facts.tier(pair, "fast")[SPEED] / facts.tier(pair, "normal")[SPEED] for pair in facts.pairs
    }
    if len(gains) < 2:
        return None
    wanted = facts.settings.speed_ratio
    least, most = min(gains, key=gains.__getitem__), max(gains, key=gains.__getitem__)
    reached = sum(gain >= wanted for gain in gains.values())
    verdict: Verdict = "contradicts" if 2 * reached < len(gains) else "agrees"
    held = facts.tier(least, "fast")
    cause = PARTS[next(iter(shares(held)))]
    text = (
        f"What {times(facts.settings.price_ratio)} the price buys differs: from {times(gains[least])} the speed "
        f"({facts.label(least)}) to {times(gains[most])} ({facts.label(most)}). {reached} of {len(gains)} pairs "
        f"of a model and a machine reach {times(wanted)}. The slowest gain is held back by {cause}, "
        f"{percent(shares(held)[next(iter(shares(held)))])} of its fast step."
    )
    return Finding(text, verdict, "tiers normal and fast of all pairs", "bought")


def penalties(facts: Facts) -> pl.DataFrame:
    """Return per pair what a token costs at the smallest batch over the cheapest one.

    `searched` with the plan that is cheapest at that batch, `same` with the plan of the slow tier
    (null where that plan has no row at that batch).
    """
    start = pl.col("batch") == facts.smallest
    slow = facts.tiers.filter(pl.col("tier") == "slow").select(*PAIR, "pair", cheapest=COST, slow_plan="plan")
    one = facts.best.filter(start).select(*PAIR, small=COST, small_plan="plan", chips="chips")
    same = facts.home.filter(start).select(*PAIR, kept=COST)
    joined = slow.join(one, on=PAIR, how="left", maintain_order="left")
    joined = joined.join(same, on=PAIR, how="left", maintain_order="left")
    return joined.with_columns(
        searched=pl.col("small") / pl.col("cheapest"), same=pl.col("kept") / pl.col("cheapest")
    )


def batch_one(facts: Facts) -> Finding | None:
    """Whether a token without batching costs as much more as the lecture says."""
    table = penalties(facts).drop_nulls(["searched", "same"])
    if table.is_empty():
        return None
    claim, at = facts.settings.penalty, number(facts.smallest)
    high, low = (table.sort("same", descending=d).row(0, named=True) for d in (True, False))
    best = table.sort("searched", descending=True).row(0, named=True)
    reaching = table.filter(pl.col("same") * NEAR >= claim).height
    kept = f"With the chips that serve the cheapest token, a token at batch {at} costs "
    if table.height == 1:
        kept += f"{times(high['same'])} as much ({high['pair']})"
    else:
        kept += f"{times(low['same'])} ({low['pair']}) to {times(high['same'])} ({high['pair']}) as much"
    verdict: Verdict = "agrees" if reaching else "contradicts"
    said = (
        f"; {number(claim)}x is reached by {reaching} of {table.height} pairs" if reaching
        else f"; {number(claim)}x is not reached"
    )  # fmt: skip
    text = (
        f"{kept}{said}. Who knows that the batch stays at {at} and takes a plan for it, with fewer chips, pays at "
        f"most {times(best['searched'])} ({best['pair']}): half of the famous penalty is a rack standing idle."
        if best["searched"] * 2 <= high["same"]
        else f"{kept}{said}. Choosing another plan for batch {at} helps little: still up to {times(best['searched'])}."
    )
    return Finding(text, verdict, f"rows with batch={at} against the cheapest row of each pair", "penalty")


def latency_floor(facts: Facts) -> Finding:
    """What the quickest step consists of; the lecture: of reading the weights."""
    pair = facts.shown
    row = facts.tier(pair, "fastest")
    parts = shares(row)
    weights, fixed = parts["t_weights_s"], fixed_share(row)
    verdict: Verdict = "agrees" if weights >= 0.5 else "contradicts"
    others = [facts.tier(p, "fastest") for p in facts.pairs]
    count = sum(shares(o)["t_weights_s"] < 0.5 for o in others)
    said = (
        "as the lecture has it, the time to read the weights decides"
        if verdict == "agrees"
        else "the lecture's floor is the time to read the weights"
    )
    text = (
        f"However much is paid, {facts.label(pair)} answers no faster than {speed(row)} tokens/s per user, "
        f"{quantity(row['tpot_s'], 's')} per token (batch {number(row['batch'])}, {row['plan']}, {usd(row)} per "
        f"million tokens). Of that step {percent(fixed)} are launches, other fixed costs and the network, and "
        f"{percent(weights)} reads weights; {said}. Weights are less than half of the floor in {count} of "
        f"{len(others)} pairs."
    )
    return Finding(text, verdict, "the fastest row of each pair", "floor")


def what_binds(facts: Facts) -> Finding:
    """Whether the cheapest token is compute-bound, as above the critical batch it should be."""
    rows = [facts.tier(pair, "slow") for pair in facts.pairs]
    core = {r["pair"]: r["block_attention_core_s"] / blocks_s(r) for r in rows}
    bound = [r for r in rows if r["bound"] == "compute"]
    matmul = [r for r in bound if core[r["pair"]] < 0.5]
    kv = max(rows, key=lambda r: shares(r)["t_kv_s"])
    verdict: Verdict = "agrees" if 2 * len(matmul) > len(rows) else "contradicts"
    attention = [r for r in bound if core[r["pair"]] >= 0.5]
    note = (
        f" In {listed([r['pair'] for r in attention])} it is the attention over the context that computes, "
        "which no batch makes cheaper."
        if attention
        else ""
    )
    text = (
        f"The cheapest token is bound by the arithmetic of matmuls in {len(matmul)} of {len(rows)} pairs. At a context of "
        f"{number(facts.context)} tokens every further sequence brings its own KV cache to be read, so a larger "
        f"batch does not end in pure arithmetic: KV reads are up to {percent(shares(kv)['t_kv_s'])} of the cheapest step "
        f"({kv['pair']}).{note}"
    )
    return Finding(text, verdict, "the slow tier of each pair: `bound`, and parts over step_upper_s", "shares")


def blocks_s(row: dict[str, Any]) -> float:
    """Return the busy time of all blocks of a row."""
    return sum(value or 0.0 for key, value in row.items() if key.startswith("block_"))


def memory_cap(facts: Facts) -> Finding:
    """Whether memory ends the batch before the critical batch is reached."""
    rows = [facts.tier(pair, "slow") for pair in facts.pairs]
    largest = {r["pair"]: r["batch"] for r in facts.home.sort("batch").iter_rows(named=True)}
    short = [r for r in rows if largest[r["pair"]] < r["critical_batch"]]
    text = (
        f"The batch in use stays below the critical batch in {len(short)} of {len(rows)} pairs because memory is full first: "
        if short
        else f"In none of {len(rows)} pairs does memory end the batch before the critical batch: "
    )
    shown = max(short or rows, key=lambda r: r["critical_batch"] / largest[r["pair"]])
    filled = shown["mem_total_bytes"] / shown["mem_capacity_bytes"]
    text += (
        f"{shown['pair']} has room for {number(largest[shown['pair']])} sequences of {number(facts.context)} tokens "
        f"({shown['plan']}), its critical batch is {number(shown['critical_batch'], 4)}. "
        f"At its cheapest, {percent(filled)} of the usable memory is taken."
    )
    verdict: Verdict = "contradicts" if 2 * len(short) > len(rows) else "neutral"
    return Finding(text, verdict, "largest batch of the slow tier's plan that fits; critical_batch", "critical")


def inverse(facts: Facts, board: Blackboard) -> Finding | None:
    """What a price and a speed imply about the batch, in the lecture's form and in this run."""
    pair, wishes = facts.shown, facts.settings
    found = same_plan_sale(facts, pair)
    closed = board.closed
    said = (
        f"If a step is one weight read plus a cost per sequence, {times(wishes.price_ratio)} the price at "
        f"{times(wishes.speed_ratio)} the speed implies a batch ratio of {number(closed.batch_ratio)}, and weight reads are "
        f"{percent(closed.weight_share_slow, 3)} of the normal step and {percent(closed.weight_share_fast, 3)} of the fast one."
    )
    if found is None:
        return None
    normal, fast, price, gain = found
    implied = fast_mode(price, gain).weight_share_fast
    real = shares(fast)["t_weights_s"]
    verdict: Verdict = "agrees" if implied <= NEAR * real else "contradicts"
    text = (
        f"{said} In this run, {facts.label(pair)} on unchanged chips ({normal['plan']}) goes from batch "
        f"{number(normal['batch'])} to {number(fast['batch'])} for {times(price)} the price and {times(gain)} the speed. "
        f"The same reading would make weight reads {percent(implied)} of that fast step; they are {percent(real)}, "
        f"and {percent(fixed_share(fast))} are launches, fixed costs and the network."
    )
    return Finding(text, verdict, "rows of the normal tier's plan; roofrack.cost.money.fast_mode", "inverse")


def same_plan_sale(
    facts: Facts, pair: tuple[str, str]
) -> tuple[dict[str, Any], dict[str, Any], float, float] | None:
    """Return (normal row, fast row, price ratio, speed ratio) with only the batch changed.

    None where that plan has no smaller batch within the price.
    """
    normal = facts.tier(pair, "normal")
    rows = facts.of(facts.away, pair).filter(
        pl.col(COST) <= facts.settings.price_ratio * normal[COST], pl.col("batch") < normal["batch"]
    )
    if rows.is_empty():
        return None
    fast = rows.sort("batch").row(0, named=True)
    price, gain = fast[COST] / normal[COST], fast[SPEED] / normal[SPEED]
    return (normal, fast, price, gain) if price > 1 and gain >= 1 else None


def bend(facts: Facts, pair: tuple[str, str]) -> tuple[float, dict[str, Any]] | None:
    """Return how far the step leaves the straight line over batch between its ends, and where.

    Of the slow tier's plan, smallest batch to largest; the number is relative, above the line > 0.
    """
    rows = facts.of(facts.home, pair).sort("batch")
    if rows.height < 3:
        return None
    first, last = rows.row(0, named=True), rows.row(-1, named=True)
    slope = (last["step_s"] - first["step_s"]) / (last["batch"] - first["batch"])
    line = first["step_s"] + slope * (pl.col("batch") - first["batch"])
    off = rows.with_columns(off=pl.col("step_s") / line - 1.0)
    row = off.sort(pl.col("off").abs(), descending=True).row(0, named=True)
    return row["off"], row


def shape(facts: Facts) -> Finding | None:
    """Whether cost over batch is a hyperbola above a constant: whether the step grows linearly."""
    bends = {pair: found for pair in facts.pairs if (found := bend(facts, pair))}
    if facts.shown not in bends:
        return None
    straight = sum(abs(off) <= NEAR - 1 for off, _ in bends.values())
    off, row = bends[facts.shown]
    first = facts.of(facts.home, facts.shown).sort("batch").row(0, named=True)
    touched, before = row["experts_touched"] or 0.0, first["experts_touched"] or 0.0
    verdict: Verdict = "agrees" if abs(off) <= NEAR - 1 else "contradicts"
    text = (
        f"Cost against batch is a hyperbola above a constant where the step grows in a straight line with the batch. "
        f"For {facts.label(facts.shown)} ({row['plan']}) it is off that line by at most {percent(abs(off))}, at batch "
        f"{number(row['batch'])}; {straight} of {len(bends)} pairs stay within {percent(NEAR - 1)}."
    )
    if verdict == "contradicts" and off > 0 and touched > 2 * before > 0:
        text += (
            f" The step lies above the line because batches fill the experts: a layer reads {number(before)} of its "
            f"experts at batch {number(first['batch'])} and {number(touched)} at batch {number(row['batch'])}."
        )
    return Finding(text, verdict, "all batches of the slow tier's plan", "step")


def critical_batches(facts: Facts, board: Blackboard) -> Finding:
    """The critical batch on the blackboard, and of the blocks of the pair shown."""
    row = facts.tier(facts.shown, "slow")
    blocks = {
        "attention projections": row["critical_batch_attention"],
        "dense layers and head": row["critical_batch_dense"],
        "routed experts": row["critical_batch_experts"],
    }
    parts = listed([f"{number(v, 4)} ({name})" for name, v in blocks.items() if v is not None])
    values = [v for v in blocks.values() if v is not None]
    wide = max(values) / min(values)
    verdict: Verdict = "contradicts" if wide > 1 + NEAR else "agrees"
    text = (
        f"The blackboard's model on the blackboard's machine has one critical batch: {number(board.critical_batch, 4)} tokens. "
        f"{facts.label(facts.shown)} has {number(row['critical_batch'], 4)} by the same formula at its own speeds, but one for "
        f"each block with the plan that serves it cheapest ({row['plan']}): {parts}."
    )
    text += (
        f" They differ by {times(wide)}: chips that hold copies of the attention weights need a larger batch to pay for reading them."
        if verdict == "contradicts"
        else " They are close together."
    )
    return Finding(text, verdict, "critical_batch columns of the slow tier", "critical")


def lecture_penalty(facts: Facts, board: Blackboard) -> Finding:
    """The blackboard's own cost curve: how much batching saves there."""
    contexts = board.contexts
    claim = facts.settings.penalty
    values = {c: board.penalty(c) for c in contexts}
    with_context = values[contexts[-1]]
    verdict: Verdict = "agrees" if with_context * NEAR >= claim else "contradicts"
    first = f"On the blackboard itself a token at batch 1 costs {times(values[contexts[0]], 3)} the cheapest one"
    text = (
        f"{first} when contexts are left out, which is the order of the critical batch ({number(board.critical_batch, 4)}), and "
        f"{times(with_context, 3)} at a context of {number(contexts[-1])} tokens, where KV reads set the floor."
        if len(contexts) > 1
        else f"{first} (no context; critical batch {number(board.critical_batch, 4)})."
    )
    return Finding(text, verdict, "job blackboard", "blackboard")


def prices(facts: Facts) -> Finding:
    """How far the rental price moves the result, and whether the order of machines survives it."""
    pair = facts.shown
    row = facts.tier(pair, "slow")
    low, high = (row[COST] * f for f in price_range(facts, pair))
    rows = [facts.tier(p, "slow") for p in facts.pairs if p[1] == pair[1]]
    text = (
        f"Costs move in proportion to the rental price. The cheapest token of {facts.label(pair)}, {usd(row)} per million, is "
        f"{quantity(low, 'USD')} to {quantity(high, 'USD')} over the price range known "
        f"({facts.configs[pair]['hardware'].get('price_date', 'undated')})."
    )
    if len(rows) > 1:
        best = min(rows, key=lambda r: r[COST])
        rivals = [r for r in rows if r is not best]
        top = best[COST] * price_range(facts, (best["hardware"], best["model"]))[1]
        bottom = min(r[COST] * price_range(facts, (r["hardware"], r["model"]))[0] for r in rivals)
        text += (
            f" {best['machine']} serves {best['model_name']} cheapest at typical prices"
            + (", and at any prices in their ranges." if top < bottom
               else "; within the ranges another machine can be cheaper.")  # fmt: skip
        )
    return Finding(text, "neutral", "usd_per_chip_hour, _low and _high of each machine", "tiers")


def price_range(facts: Facts, pair: tuple[str, str]) -> tuple[float, float]:
    """Return the factors from the price paid to the lowest and to the highest price known."""
    config = facts.configs[pair]
    suffix = {"low": "_low", "typical": "", "high": "_high"}
    hardware, paid = config["hardware"], config["economics"]["price"]
    now = hardware["usd_per_chip_hour" + suffix.get(paid, "")]
    return hardware["usd_per_chip_hour_low"] / now, hardware["usd_per_chip_hour_high"] / now


def left_out(facts: Facts) -> Finding | None:
    """Which pairs cannot be served at all, and why."""
    gone = [pair for pair in facts.configs if pair not in facts.pairs]
    if not gone:
        return None
    reasons = []
    for pair in gone:
        row = facts.of(facts.counts, pair).row(0, named=True)
        name = facts.label(pair)
        if not row["runs"]:
            reasons.append(f"{name} (none of {number(row['tried'])} plans can run)")
        elif not row["one_rack"]:
            reasons.append(f"{name} (no plan stays within one rack)")
        else:
            reasons.append(
                f"{name} (the weights alone take {quantity(row['weights'], 'B')} of the "
                f"{quantity(row['room'], 'B')} a chip has for use)"
            )
    return Finding(f"Not served by any plan tried: {listed(reasons)}.", "neutral", "valid, racks and fits of all rows")


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
