"""What the rows say about the price of context, in sentences. Each is computed; none is canned.

A finding takes the facts and returns a sentence with its verdict, or None where its premise does
not hold in this run. Verdicts compare the run's numbers with what the lecture says.
"""

from roofrack.report.format import listed, number, percent, quantity, times, usd
from roofrack.report.page import Finding, Verdict

from ..common.columns import COST
from ..common.pages import error_bar
from ..common.pairs import not_served
from . import sheets
from .measures import (
    crossing,
    kv_bytes_for,
    lecture_kv_bytes,
    line,
)
from .price_findings import cached_price, cheapest_tier, output_over_input, surcharge
from .rows import CONTEXT, INPUT, PROMPT, Facts
from .words import APART, NEAR, tokens


def cost_of_context(facts: Facts) -> Finding | None:
    """Say what a token costs at the price tier over what it costs at a short context."""
    wishes = facts.settings
    ends = {
        p: (low, high)
        for p in facts.pairs
        if (low := facts.at(p, wishes.short_context))
        and (high := facts.at(p, wishes.price_tier))
        and low[CONTEXT] < high[CONTEXT]
    }
    if not ends:
        return None
    shown = facts.shown if facts.shown in ends else next(iter(ends))
    low, high = ends[shown]
    text = (
        f"{shown}: a generated token costs {usd(low[COST])} per million at a context of"
        f" {tokens(low[CONTEXT])} and {usd(high[COST])}{error_bar(high)} at"
        f" {tokens(high[CONTEXT])}, {times(high[COST] / low[COST])} as much. Each sequence"
        " reads its own cache, and memory holds fewer of them:"
        f" {number(high['batch'] / high['chips'])} instead of"
        f" {number(low['batch'] / low['chips'])} for each chip share a step."
    )
    if len(ends) > 1:
        ratio = {p: b[COST] / a[COST] for p, (a, b) in ends.items()}
        least, most = min(ratio, key=ratio.__getitem__), max(ratio, key=ratio.__getitem__)
        text += (
            f" Of {len(ends)} models the rise is smallest for {least} ({times(ratio[least])}) and"
            f" largest for {most} ({times(ratio[most])})."
        )
    return Finding(text, "neutral", "cheapest row of each pair and context: usd_per_mtok", "cost")


def price_knee(facts: Facts) -> Finding | None:
    """Compare the context where cache reads overtake matmuls with the price tier."""
    wishes = facts.settings
    rows = {p: facts.of(facts.best, p).row(0, named=True) for p in facts.pairs}
    rows = {p: r for p, r in rows.items() if r["context_knee_tokens"]}
    if not rows:
        return None
    lecture = lecture_kv_bytes(wishes)
    knees = {p: r["context_knee_tokens"] for p, r in rows.items()}
    far = [p for p, k in knees.items() if not 1 / APART <= k / wishes.price_tier <= APART]
    shown = facts.shown if facts.shown in rows else next(iter(rows))
    row = rows[shown]
    each = listed([f"{tokens(knees[p])} for {p}" for p in knees])
    verdict: Verdict = "contradicts" if 2 * len(far) > len(rows) else "agrees"
    text = (
        f"The lecture reads a price step at {tokens(wishes.price_tier)} as the knee: the context"
        " whose cache takes as long to read as the token's matmuls take to compute. With"
        f" {quantity(wishes.lecture_params_active)} active parameters and an intensity of"
        f" {number(wishes.lecture_intensity)} that means {number(lecture, 4)} bytes of cache per"
        f" token of context (it says about {number(wishes.lecture_kv_bytes)}). By the same formula"
        f" the knee is at {each}."
        f" {shown} holds {quantity(row['kv_bytes_per_token'], 'B')} per token; its knee"
        f" would be at {tokens(wishes.price_tier)} with"
        f" {quantity(kv_bytes_for(row, wishes.price_tier), 'B')}."
    )
    return Finding(text, verdict, "context_knee_tokens; roofrack.cost.money.context_knee", "knees")


def own_steps(facts: Facts) -> Finding | None:
    """Say at which context the run's own costs have risen as far as the sheets let prices rise."""
    wishes, start = facts.settings, facts.settings.short_context
    output = {
        p: crossing(facts.of(facts.best, p), CONTEXT, COST, wishes.surcharge, start)
        for p in facts.pairs
    }
    rise = max(float(r) for r in sheets.tiers()["input_rise"])
    prompt = {
        p: crossing(facts.of(facts.prompts, p), PROMPT, INPUT, rise, start) for p in facts.pairs
    }
    known = {p: at for p, at in output.items() if at}
    if not known:
        return None
    tier = wishes.price_tier
    early = [p for p, at in known.items() if at < tier / APART]
    spans = f"{tokens(min(known.values()))}"
    if len(known) > 1:
        spans += f" to {tokens(max(known.values()))}"
    text = (
        f"Costs know no step. Compared with {tokens(start)}, an output token costs"
        f" {times(wishes.surcharge)} as much from a context of {spans} on"
    )
    reads = {p: at for p, at in prompt.items() if at}
    if reads:
        text += (
            f", an input token {times(rise)} as much from prompts of {tokens(min(reads.values()))}"
        )
        text += f" to {tokens(max(reads.values()))}" if len(reads) > 1 else ""
    text += (
        f" on, since each new token attends to all before it. A sheet that waits until"
        f" {tokens(tier)} sells long contexts below that slope, or holds a smaller cache."
        if early
        else f" on, near the sheets' {tokens(tier)}."
    )
    verdict: Verdict = "contradicts" if 2 * len(early) > len(known) else "agrees"
    return Finding(text, verdict, "cheapest decode row and prompt row of each length", "cost")


def what_binds(facts: Facts) -> Finding | None:
    """Say what one more token of context adds: arithmetic or cache reads."""
    lines = {p: of for p in facts.pairs if (of := line(facts, p)) and of.kv_s > 0}
    if not lines:
        return None
    ratio = {p: of.compute_s / of.kv_s for p, of in lines.items()}
    bound = [p for p, r in ratio.items() if r > 1]
    most = max(ratio, key=ratio.__getitem__)
    of = lines[most]
    verdict: Verdict = "contradicts" if bound else "agrees"
    text = (
        "At long contexts, the lecture says, memory binds and never arithmetic. Here a further"
        " token of context adds more arithmetic than cache reads"
        f" {f'for {listed(bound)}' if bound else 'for no model'} (of {len(lines)})."
        f" It comes nearest with {most}: {quantity(of.compute_s, 's')} of arithmetic for each"
        f" {quantity(of.kv_s, 's')} of reading, {percent(ratio[most])}, at batch"
        f" {number(of.batch)}."
    )
    latent = [p for p in lines if facts.configs[p]["model"].get("kv_lora")]
    each = {p: _flops_per_byte(facts, p) for p in lines}
    if latent and each[latent[0]]:
        rest = [f"{number(f)} for {p}" for p, f in each.items() if p not in latent and f]
        text += (
            f" All heads of {latent[0]} share one compressed (latent) cache: its attention does"
            f" {number(each[latent[0]])} FLOP for each byte of it"
        )
        text += f", against {listed(rest)}." if rest else "."
    return Finding(
        text, verdict, "t_compute_s and t_kv_s of one plan and batch over context", "parts"
    )


def _flops_per_byte(facts: Facts, pair: str) -> float:
    row = facts.of(facts.best, pair).row(0, named=True)
    flops, size = row["attention_flops_per_context_token"], row["kv_bytes_per_token"]
    return flops / size if flops and size else 0.0


def shape(facts: Facts) -> Finding | None:
    """Say whether a step grows in a straight line, and what that makes of a whole answer."""
    lines = {p: of for p in facts.pairs if (of := line(facts, p))}
    if not lines:
        return None
    straight = [p for p, of in lines.items() if of.off <= NEAR - 1]
    shown = facts.shown if facts.shown in lines else next(iter(lines))
    of = lines[shown]
    verdict: Verdict = "agrees" if 2 * len(straight) > len(lines) else "contradicts"
    text = (
        "In the lecture a step grows in a straight line with the context. Here"
        f" {len(straight)} of {len(lines)} models keep within {percent(NEAR - 1)} of one."
        f" {shown} at batch {number(of.batch)} takes {quantity(of.fixed_s, 's')} and"
        f" {quantity(1e6 * of.per_token_s, 's')} for each million tokens"
    )
    text += (
        f"; context takes as long as all else from {tokens(of.equal_at)} on. "
        if of.equal_at and of.equal_at < of.last
        else ". "
    )
    text += (
        "What is written or read whole is the sum of such steps, a parabola in its length, while a"
        " price sheet is a straight line with one bend."
    )
    return Finding(text, verdict, "step_s of one plan and batch over context", "parts")


def what_changes_it(facts: Facts) -> Finding | None:
    """Say what would make a long context cheaper: format, bandwidth, or arithmetic."""
    now = facts.changed.get("")
    if not now or len(facts.changed) < 2:
        return None
    others = {words: cost / now for words, cost in facts.changed.items() if words}
    order = sorted(others, key=others.__getitem__)
    each = listed([f"{words} {times(others[words])}" for words in order])
    helps = others[order[0]] < 1 / 1.05
    text = (
        f"What would change the cost of {facts.shown} at {tokens(facts.settings.price_tier)}, each"
        f" alone, batch and plan chosen anew: {each} the cost of today ({usd(now)})."
    )
    text += f" The strongest is {order[0]}." if helps else " None of them by much."
    return Finding(text, "neutral", "study: something changed", "changed")


def findings(facts: Facts) -> tuple[Finding, ...]:
    """Return all findings whose premise holds, the most important first."""
    found = (
        cost_of_context(facts),
        what_changes_it(facts),
        surcharge(facts),
        price_knee(facts),
        own_steps(facts),
        what_binds(facts),
        output_over_input(facts),
        cached_price(facts),
        cheapest_tier(facts),
        shape(facts),
        not_served(facts.left),
    )
    return tuple(finding for finding in found if finding is not None)
