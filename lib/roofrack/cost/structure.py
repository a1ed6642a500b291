"""The columns that say how model, plan and machine fit each other, whatever the phase makes."""

from roofrack.arithmetic import Number, ceil, choose, divide, largest, most
from roofrack.cost import attention, moe, money
from roofrack.cost.forward import Parts
from roofrack.cost.serving import NONE
from roofrack.cost.shares import Format, Share
from roofrack.cost.site import Site


def structure(at: Site, mine: Share, exchange: moe.Exchange) -> dict[str, Number]:
    """Return the columns that say how model, plan and machine fit each other."""
    s, counts, plan = at.s, at.counts, at.plan
    m = s.model
    dense = _ridge(at, at.formats.weights) * at.formats.weights.bytes / 2.0
    experts = _ridge(at, at.formats.experts) * at.formats.experts.bytes / 2.0
    # weights held in several copies: each needs its own tokens; cp divides those of a prompt
    divided = plan.cp if s.workload.phase in ("prefill", "train") else 1.0
    copies_of_attention = plan.attention_ranks * divided
    return {
        "params_total": counts.total,
        "params_active": counts.active,
        "params_attention": counts.softmax_layers * counts.attention
        - m.shared_kv_layers * counts.attention_kv
        + m.linear_layers * counts.linear
        + m.sparse_layers * counts.indexer,
        "params_router": counts.router * m.moe_layers,
        "kv_bytes_per_token": kv_bytes_per_token(at),
        "attention_flops_per_context_token": counts.core_flops_absorbed * counts.softmax_layers,
        "state_bytes": counts.state_bytes * m.linear_layers,
        "sparsity": divide(m.experts, m.experts_per_token, 1.0),
        "critical_batch": dense * counts.total / counts.active,
        "critical_batch_attention": dense * copies_of_attention,
        "critical_batch_dense": dense * plan.dp * divided,
        "critical_batch_experts": experts
        * plan.expert_copies
        * divide(m.experts, m.experts_per_token, NONE),
        "critical_batch_shared": choose(m.shared_experts > 0, dense * copies_of_attention, NONE),
        "experts_touched": moe.slots_read(m, plan, mine.group_tokens, s.workload.routing_spread),
        "scale_out_fraction": exchange.happens * exchange.routing.leaving,
        "domains_touched": choose(exchange.happens > 0, exchange.routing.domains, NONE),
        "copies_leaving": exchange.happens * sum(exchange.routing.copies[1:2], start=0.0),
        "dispatch_bytes": exchange.dispatch_bytes,
        "combine_bytes": exchange.combine_bytes,
        "expert_skew": choose(m.experts > 0, moe.skew(at, mine), NONE),
        "bubble_fraction": 0.0,
    }


def racks(at: Site) -> Number:
    """Return how many innermost fabric domains one instance spans."""
    return ceil(at.plan.chips / at.s.hardware.fabric[0].chips)


def bound(t: Parts) -> Number:
    """Return the position in Parts of what binds: the longest resource.

    Weights, cache and activations share the memory: their sum competes, the largest names it.
    """
    memory = t.weights + t.kv + t.activation
    top = most(most(t.weights, t.kv), t.activation)
    competing = t._replace(
        **{
            name: choose(getattr(t, name) >= top, memory, 0.0)
            for name in ("weights", "kv", "activation")
        }
    )
    return largest(tuple(competing))


def waiting(at: Site) -> dict[str, Number]:
    """Return what the memory's price says about contexts and waiting caches (MODEL section 8)."""
    s, hw = at.s, at.s.hardware
    kv = kv_bytes_per_token(at)
    gemm = at.formats.weights
    flop_s = divide(2.0 * at.counts.active, gemm.peak * gemm.fit.compute_efficiency)
    again = money.usd_per_s(s, 1.0) * flop_s
    return {
        "context_knee_tokens": money.context_knee(at.counts.active, _ridge(at, gemm), kv),
        "hbm_drain_s": money.drain_s(hw.hbm_bytes, hw.hbm_bytes_per_s),
        **{
            f"break_even_{name}_s": choose(of.bytes > 0, money.break_even_s(of, kv, again), NONE)
            for name, of in money.tiers(s).items()
        },
    }


def kv_bytes_per_token(at: Site) -> Number:
    """Return KV bytes that one more token of context adds in all layers, windows not yet full."""
    s, counts, m = at.s, at.counts, at.s.model
    layers = counts.softmax_layers - m.shared_kv_layers
    index = attention.cache_of(s, counts, 1.0).index
    return attention.kv_bytes_per_layer(s, counts) * layers + index


def _ridge(at: Site, of: Format) -> Number:
    """Return FLOP per byte where arithmetic and memory traffic on some weights take as long."""
    reached = at.s.hardware.hbm_bytes_per_s * of.fit.hbm_efficiency
    return divide(of.peak * of.fit.compute_efficiency, reached)
