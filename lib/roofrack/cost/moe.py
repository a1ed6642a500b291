"""The routed experts: which of them a pass reads, and the all-to-all that takes tokens to them.

MODEL sections 2 and 4.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, expm1, least, log1p, most, padded, round_up
from roofrack.cost.collectives import Routing, all_to_all, route, wires
from roofrack.cost.layout import Layout
from roofrack.cost.roofline import Work
from roofrack.cost.shares import Share
from roofrack.model import Counts
from roofrack.nouns import Scenario


def distinct_experts(experts: Number, per_token: Number, tokens: Number) -> Number:
    """Return how many experts of a layer `tokens` tokens visit: E (1 - (1 - k/E)^t).

    Routing is uniform; 0 for a model without experts; E where every token visits all.
    """
    rate = divide(per_token, experts)
    every = rate >= 1.0
    log_miss = log1p(-choose(every, 0.5, rate))
    return choose(every, experts * 1.0, -experts * expm1(tokens * log_miss))


def routed(s: Scenario, counts: Counts, plan: Layout, mine: Share) -> Work:
    """Return the routed experts of all MoE layers on one chip.

    A rank holds 1/ep of the experts and reads those that the tokens of its whole expert group
    visit. Given totals are read whole, as the lecture has it.
    """
    m, quantize = s.model, s.calibration.quantize
    kernel = s.calibration.kernel.moe
    layers = m.moe_layers * plan.imbalance
    tokens = mine.group_tokens
    touched = distinct_experts(m.experts, m.experts_per_token, tokens)
    # the busiest rank reads whole experts, each with at least one row
    local = least(round_up(touched / plan.ep, quantize), m.experts / plan.ep)
    mean_rows = tokens * m.experts_per_token / plan.ep
    rows = choose(quantize > 0, most(mean_rows, local), mean_rows) * s.workload.routing_skew
    tile_rows = local * padded(divide(rows, local), kernel.tile, quantize)
    expert = counts.expert / plan.expert_tp
    width = 2.0 * m.d_model + m.ffn_matrices * m.d_ff_expert / plan.expert_tp
    has = choose(counts.expert > 0, 1.0, 0.0)
    whole = choose(m.experts > 0, 1.0, 0.0) * counts.abstract * plan.imbalance
    mean_tokens = tokens / plan.expert_span * s.workload.routing_skew
    return Work(
        flops=2.0 * expert * tile_rows * layers + 2.0 * counts.active * whole * mean_tokens,
        peak=mine.peak,
        weight_bytes=(expert * local * layers + counts.total * whole / plan.expert_span)
        * mine.b_weights,
        kv_bytes=0.0,
        io_bytes=rows * width * layers * mine.b_activations * has * s.cost.activation_io,
        calls=2.0 * layers * has,
        kernel=kernel,
    )


class Exchange(NamedTuple):
    """The all-to-all of one pass: dispatch and combine of all MoE layers.

    `seconds` by level and `exposed` (levels run at once: the longest); `happens` is 0 where tokens
    need not travel; bytes that one chip sends per layer, copies that stay home included.
    """

    seconds: list[Number]
    exposed: Number
    happens: Number
    routing: Routing
    dispatch_bytes: Number
    combine_bytes: Number


def exchange(s: Scenario, plan: Layout, mine: Share) -> Exchange:
    """Return the experts' all-to-all.

    Inside one tensor-parallel group of the attention every chip already holds the tokens: experts
    then add up in the all-reduce that a dense FFN would need, and nothing is dispatched.
    """
    m = s.model
    laid = wires(s.hardware, s.calibration, plan.expert_span, 1.0)
    # one copy per rank at most; an expert sharded over chips needs the token on each of them
    copies = least(m.experts_per_token, plan.ep)
    routing = route(laid, copies, plan.expert_tp, m.node_limit, s.plan.dedup)
    across = (plan.expert_span > plan.attention_tp) & (m.experts_per_token > 0)
    happens = choose(across, 1.0, 0.0)
    tokens = mine.own_tokens * s.workload.routing_skew
    out = all_to_all(laid, routing, m.d_model * mine.b_dispatch, tokens)
    back = all_to_all(laid, routing, m.d_model * mine.b_combine, tokens)
    times = happens * m.moe_layers * plan.imbalance
    copy = mine.own_tokens * copies * plan.expert_tp * m.d_model * happens
    longest_out, longest_back = out[0], back[0]
    for one, two in zip(out[1:], back[1:], strict=True):
        longest_out, longest_back = most(longest_out, one), most(longest_back, two)
    return Exchange(
        seconds=[(a + b) * times for a, b in zip(out, back, strict=True)],
        exposed=(longest_out + longest_back) * times,
        happens=happens,
        routing=routing,
        dispatch_bytes=copy * mine.b_dispatch,
        combine_bytes=copy * mine.b_combine,
    )
