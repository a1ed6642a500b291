"""The two sides of disaggregated serving, each by itself, and what they come to together.

A pool that decodes does not know how prompts were computed, and the other way round: what the two
share is the way of the caches between them and how many instances each has. So all pairs of
settings can be compared without evaluating each of them.
"""

from typing import Any, NamedTuple

from roofrack.arithmetic import Number, choose, divide, least, most
from roofrack.cost import money
from roofrack.cost.caches import retrieve_s, transfer_s
from roofrack.cost.columns import pools
from roofrack.cost.forward import forward
from roofrack.cost.layout import BATCH_REASONS, why_invalid
from roofrack.cost.memory import ffn_memory, memory
from roofrack.cost.overlap import bounds
from roofrack.cost.passes import Places, decode_pass, places, prefill_pass, tokens_per_pass
from roofrack.cost.serving import draft_seconds
from roofrack.cost.site import Site, site
from roofrack.nouns import Scenario
from roofrack.units import MILLION


class Side(NamedTuple):
    """One instance of a pool, for itself.

    `pass_s` of one of its passes, caches fetched from their tier not counted (`retrieve_s`);
    `requests` that a pass completes (decode) or begins (prefill), all micro-batches in flight;
    `each` prompts that a rank sends on together; `chips`, and `senders`: of those that hold
    one sequence how many hold different parts of it; `usd_per_s`; `room`, memory there is over
    memory needed (it fits from 1), and `why_invalid` of this pool alone.
    """

    pass_s: Number
    retrieve_s: Number
    requests: Number
    each: Number
    chips: Number
    senders: Number
    usd_per_s: Number
    room: Number
    why_invalid: Number


def decode_side(s: Scenario) -> Side:
    """Return the pool that decodes, FFN machines of its own included, always fed."""
    at = places(site(s))
    main, w = at.main, s.workload
    p = decode_pass(main)
    f = forward(main, (p,), at.ffn, at.apart)
    step = bounds(main, f).estimate + draft_seconds(main, p)
    gained = tokens_per_pass(w.draft_tokens, w.acceptance)
    m = memory(main, (p,), p.cached, at.apart)
    room = m.capacity / m.total
    chips, rent = main.plan.chips, money.usd_per_s(s, main.plan.chips)
    others = (other for name, other in pools(at).items() if name != "prefill")
    mask = _why(main)
    for other in others:
        mask = mask | _why(other)
    if at.ffn is not None:
        theirs = at.apart * at.ffn.plan.chips
        rent = rent + money.usd_per_s(at.ffn.s, theirs)
        chips = chips + theirs
        far = ffn_memory(at.ffn, p)
        room = choose(at.apart > 0, least(room, far.capacity / far.total), room)
    requests = main.plan.in_flight * gained / w.output
    return Side(step, 0.0, requests, 0.0, chips, _senders(main), rent, room, mask)


def prefill_side(s: Scenario) -> Side:
    """Return the pool that computes prompts."""
    at = places(site(s))
    first = at.prefill
    p = prefill_pass(first, 1.0)
    f = forward(first, (p,))
    m = memory(first, (p,), s.workload.prompt)
    tier_missing = (s.workload.cached > 0) & (money.tier(first.s).bytes <= 0)
    return Side(
        pass_s=bounds(first, f).estimate,
        retrieve_s=retrieve_s(first, p),
        requests=p.sequences * p.new * first.plan.pp / p.prompt,
        each=p.sequences / first.plan.attention_ranks,
        chips=first.plan.chips,
        senders=_senders(first),
        usd_per_s=money.usd_per_s(first.s, first.plan.chips),
        room=m.capacity / m.total,
        why_invalid=_why(first, tier_missing) & ~BATCH_REASONS,
    )


def _senders(at: Site) -> Number:
    return at.plan.kv_shards * at.plan.pp


def _why(at: Site, tier_missing: Number = False) -> Any:
    return why_invalid(at.s, at.plan, at.formats.least_peak, tier_missing=tier_missing)


def between_s(s: Scenario) -> Number:
    """Return the time that the caches of one rank's prompts take between the pools."""
    at: Places = places(site(s))
    return transfer_s(at, prefill_pass(at.prefill, 1.0))


def together(
    s: Scenario, first: Side, main: Side, between: Number, firsts: Number, mains: Number
) -> dict[str, Number]:
    """Return what `firsts` prefill instances and `mains` decode instances are together.

    Requests run at the pace of the slower pool; who waits is paid for all the same. `between` is
    `between_s`. Columns as in the result schema.
    """
    period = most(first.pass_s, most(between, first.retrieve_s))
    per_s = least(firsts * first.requests / period, mains * main.requests / main.pass_s)
    tokens = per_s * s.workload.output
    rent = firsts * first.usd_per_s + mains * main.usd_per_s
    chips = firsts * first.chips + mains * main.chips
    gained = tokens_per_pass(s.workload.draft_tokens, s.workload.acceptance)
    tpot = main.pass_s / gained
    return {
        "ttft_s": first.pass_s + between + first.retrieve_s,
        "tpot_s": tpot,
        "tokens_per_s": tokens,
        "tokens_per_s_per_chip": tokens / chips,
        "tokens_per_s_per_user": 1.0 / tpot,
        "usd_per_mtok": divide(rent / s.economics.utilization, tokens, float("inf")) * MILLION,
        "chips": chips,
    }
