"""How long cached tokens are on their way: between pools, and from where they waited."""

from roofrack.arithmetic import Number, choose, divide, least, most
from roofrack.cost import attention, money
from roofrack.cost.passes import Places
from roofrack.cost.shares import Pass
from roofrack.cost.site import Site, way_from


def transfer_s(at: Places, p: Pass) -> Number:
    """Return the time that the caches of a rank's prompts take from prefill to decode chips.

    The chips of a rank send what only they hold, one prompt after the other; the slower side sets
    the pace.
    """
    bytes_per_s: Number = float("inf")
    fixed: Number = 0.0
    for one in (at.prefill, at.main):
        way = way_from(one, at.main, at.prefill)
        bytes_per_s = least(bytes_per_s, one.plan.kv_shards * one.plan.pp * way.bytes_per_s)
        fixed = most(fixed, way.latency_s + way.launch_s)
    prompts = p.sequences / at.prefill.plan.attention_ranks
    kept = attention.cache_of(at.main.s, at.main.counts, at.main.s.workload.prompt)
    return prompts * sum(kept) / bytes_per_s + fixed


def retrieve_s(at: Site, p: Pass) -> Number:
    """Return the time that cached tokens take from the tier they waited in; 0 from HBM."""
    s, plan = at.s, at.plan
    bandwidth = money.tier(s).bytes_per_s * plan.kv_shards * plan.pp
    prompts = most(p.sequences * p.new / p.prompt / plan.attention_ranks, 1.0)
    kept = sum(attention.cache_of(s, at.counts, s.workload.cached))
    fetched = choose(s.workload.cached > 0, kept, 0.0)
    return choose(s.workload.cache_tier > 0, divide(prompts * fetched, bandwidth), 0.0)
