"""The routed experts: which of them a pass reads, and the all-to-all that takes tokens to them.

MODEL sections 2 and 4.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, expm1, least, log1p, most, round_up
from roofrack.cost.collectives import Transfer, repeated, together
from roofrack.cost.ffn import totals
from roofrack.cost.kernels import experts
from roofrack.cost.layout import Layout
from roofrack.cost.roads import Path
from roofrack.cost.roofline import Chip, Work
from roofrack.cost.routing import Routing, all_to_all, expected_skew, route
from roofrack.cost.shares import Share
from roofrack.cost.site import Site
from roofrack.model import Model
from roofrack.nouns import Scenario


def distinct_experts(
    experts: Number, per_token: Number, tokens: Number, spread: Number = 0.0
) -> Number:
    """Return how many experts of a layer `tokens` tokens visit: E (1 - (1 - k/E)^t) if all alike.

    With popularities of deviation `spread` over their mean fewer are visited: popularity taken as
    gamma distributed, an expert is missed with probability (1 + spread^2 x)^(-1/spread^2), x =
    -t log(1 - k/E) (the negative binomial's; e^-x without spread). 0 for a model without experts; E
    where every token visits all.
    """
    rate = divide(per_token, experts)
    every = rate >= 1.0
    visits = -tokens * log1p(-choose(every, 0.5, rate))
    square = spread * spread
    uneven = square > 0
    log_miss = choose(uneven, -divide(log1p(square * visits), choose(uneven, square, 1.0)), -visits)
    return choose(every, experts * 1.0, -experts * expm1(log_miss))


def slots_read(m: Model, plan: Layout, tokens: Number, spread: Number) -> Number:
    """Return how many experts' places of a layer `tokens` tokens visit.

    Of an expert with a second copy each copy is visited half as often.
    """
    copied = plan.slots - m.experts
    once = distinct_experts(m.experts, m.experts_per_token, tokens, spread)
    twice = distinct_experts(m.experts, m.experts_per_token / 2.0, tokens, spread)
    return once + divide(copied, m.experts) * (2.0 * twice - once)


def routed(at: Site, mine: Share, uneven: Number, own_rows: bool = False) -> list[Work]:
    """Return the routed experts of all MoE layers on one chip.

    A rank holds 1/ep of the experts (of their slots, where busy ones have a second copy) and reads
    those that the tokens of its whole expert group visit. Given totals are read whole, as the
    lecture has it. `own_rows`: passes over the activations go over the rank's rows only, as none
    of the group's others ever reach it.
    """
    s, counts, plan, of = at.s, at.counts, at.plan, mine.of.experts
    m, quantize = s.model, s.calibration.quantize
    layers = m.moe_layers * plan.imbalance
    tokens = mine.group_tokens
    # the experts of the busiest rank are visited as if there were that many more tokens
    touched = slots_read(m, plan, tokens * uneven, s.workload.routing_spread)
    # it reads whole experts, each with at least one row
    local = least(round_up(touched / plan.ep, quantize), plan.slots / plan.ep)
    mean_rows = tokens * m.experts_per_token / plan.ep
    rows = choose(quantize > 0, most(mean_rows, local), mean_rows) * uneven
    work = experts.work(
        experts.Shape(
            d_model=m.d_model,
            d_ff=m.d_ff_expert / plan.expert_tp,
            matrices=m.ffn_matrices,
            b_weights=of.bytes,
            b_activations=mine.b_activations * s.cost.activation_io,
        ),
        experts.Load(
            tokens / plan.ep if own_rows else tokens,
            m.experts_per_token,
            plan.slots / plan.ep,
            local,
            rows,
        ),
        Chip(of.peak, s.hardware.hbm_bytes_per_s, s.hardware.sms),
        of.fit,
        times=layers * choose(counts.expert > 0, 1.0, 0.0),
    )
    whole = choose(m.experts > 0, 1.0, 0.0) * counts.abstract * plan.imbalance
    return [
        work,
        totals(
            of,
            counts.active * whole * tokens / plan.expert_span * uneven,
            counts.total * whole / plan.expert_span,
        ),
    ]


def skew(at: Site, mine: Share) -> Number:
    """Return the load of the busiest expert rank over the mean: as given, times as expected."""
    m = at.s.model
    expected = expected_skew(
        at.uneven, m.experts, m.experts_per_token, at.plan.ep, mine.group_tokens,
        at.s.cost.routing_noise,
    )  # fmt: skip
    return at.s.workload.routing_skew * expected


def busiest_rows(at: Site, mine: Share) -> Number:
    """Return the copies of tokens that the experts of the busiest rank meet."""
    per_rank = at.s.model.experts_per_token / at.plan.ep
    return mine.group_tokens * per_rank * skew(at, mine)


class Exchange(NamedTuple):
    """The all-to-all of one pass: dispatch and combine of all MoE layers.

    `transfer` by level and `exposed` (levels run at once: the longest); `happens` is 0 where tokens
    need not travel; bytes that one chip sends per layer, copies that stay home included.
    """

    transfer: Transfer
    exposed: Number
    happens: Number
    routing: Routing
    dispatch_bytes: Number
    combine_bytes: Number


def exchange(at: Site, mine: Share) -> Exchange:
    """Return the experts' all-to-all over the group that holds all experts once.

    Inside one tensor-parallel group of the attention every chip already holds the tokens: experts
    then add up in the all-reduce that a dense FFN would need, and nothing is dispatched.
    """
    s, m, plan, laid = at.s, at.s.model, at.plan, at.roads.experts
    # one copy per rank at most; an expert sharded over chips needs the token on each of them
    copies = least(m.experts_per_token, plan.ep)
    routing = route(laid, copies, plan.expert_tp, m.node_limit, s.plan.dedup)
    across = (plan.expert_span > plan.attention_tp) & (m.experts_per_token > 0)
    happens = choose(across, 1.0, 0.0)
    # the busiest chip sends its own tokens, or receives more than the mean
    received = mine.group_tokens / plan.expert_span * skew(at, mine)
    tokens = most(mine.own_tokens, received)
    held = plan.slots / plan.ep
    ways = ("all_to_all",)  # a library's, or the engine's own kernels
    sizes = m.d_model * mine.of.dispatch, m.d_model * mine.of.combine
    out = all_to_all(laid, routing, sizes[0], tokens, ("dispatch", *ways), held)
    back = all_to_all(laid, routing, sizes[1], tokens, ("combine", *ways), held)
    times = happens * m.moe_layers * plan.imbalance
    copy = mine.own_tokens * copies * plan.expert_tp * m.d_model * happens
    return Exchange(
        transfer=repeated(together(out.transfer, back.transfer), times),
        exposed=(out.longest + back.longest) * times,
        happens=happens,
        routing=routing,
        dispatch_bytes=copy * mine.of.dispatch,
        combine_bytes=copy * mine.of.combine,
    )


class Crossing(NamedTuple):
    """Seconds of a pass that tokens travel from attention chips to FFN chips, and back."""

    out: Number
    back: Number
    sent_bytes: Number


def crossing(
    s: Scenario, plan: Layout, ffn: Layout, way: Path, mine: Share, far: Share, uneven: Number
) -> Crossing:
    """Return the traffic between pools of attention and of FFN chips (MegaScale-Infer, Step-3).

    In an MoE layer a token goes to the chips of its experts, in a dense one to a data-parallel rank
    and is gathered there. Both ends count: what an attention chip sends, and what reaches an FFN
    chip; the slower end sets the time. `mine` and `far` are the shares of the two pools.
    """
    m = s.model
    copies = least(m.experts_per_token, ffn.ep) * ffn.expert_tp
    dense, routed_layers = (m.layers - m.moe_layers) * plan.imbalance, m.moe_layers * plan.imbalance
    own, arriving = mine.own_tokens, far.group_tokens / ffn.expert_span

    def elements(layer_bytes: Number) -> Number:
        visits = copies + choose(m.shared_experts > 0, 1.0, 0.0)
        sent = own * (dense * mine.b_activations + routed_layers * visits * layer_bytes)
        received = far.tokens / ffn.tp * dense * mine.b_activations
        received = received + far.tokens / ffn.tp * (visits - copies) * routed_layers * layer_bytes
        received = received + arriving * copies * uneven * routed_layers * layer_bytes
        return m.d_model * most(sent, received)

    fixed = (dense + routed_layers) * (way.latency_s + way.launch_s)
    out, back = elements(mine.of.dispatch), elements(mine.of.combine)
    return Crossing(out / way.bytes_per_s + fixed, back / way.bytes_per_s + fixed, out + back)
