"""Bytes that a chip holds while training, by kind; the fullest stage counts. MODEL sections 5, 6.

Activations after Korthikanti et al. 2022 (arXiv:2205.05198 sections 4 and 5), for any shape: what
each operation keeps for its gradient, masks and scores as far as there are any.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, least, most
from roofrack.cost import moe, schedules
from roofrack.cost.attention import kv_ways
from roofrack.cost.layout import microbatches
from roofrack.cost.shares import Share, bytes_of
from roofrack.cost.site import Site
from roofrack.cost.training.legs import MASK_BYTES
from roofrack.cost.training.optimizer import divided_bytes, state_bytes
from roofrack.cost.training.ranks import Held, Ranks, held
from roofrack.cost.training.readings import ALTERNATE, recomputed, taken
from roofrack.cost.training.stages import Stage, Stages


class Memory(NamedTuple):
    """Bytes on one chip by kind; `stage` is its number from 0."""

    weights: Number
    gradients: Number
    optimizer: Number
    activation: Number
    buffers: Number
    stage: Number

    @property
    def total(self) -> Number:
        """All of them together."""
        return self.weights + self.gradients + self.optimizer + self.activation + self.buffers


def memory(
    at: Site,
    mine: Share,
    of: Stages,
    ranks: Ranks,
    full_layers: Number,
    exchange: moe.Exchange,
) -> Memory:
    """Return the memory of the fullest chip; `exchange` is that of the experts."""
    layer = layer_bytes(at, mine, full_layers)
    buffers = _buffers(at, mine, full_layers, exchange)
    found = [_stage_memory(at, of, one, ranks, layer, buffers) for one in of.all]
    fullest = found[0]
    for one in found[1:]:
        more = one.total > fullest.total
        fullest = Memory(*(choose(more, a, b) for a, b in zip(one, fullest, strict=True)))
    return fullest


def _stage_memory(
    at: Site, of: Stages, stage: Stage, ranks: Ranks, layer: "LayerBytes", buffers: "Buffers"
) -> Memory:
    s, plan, size = at.s, at.plan, bytes_of(at.s.workload.dtype.gradients)
    has = resident(at, of, stage)
    weights = divided_bytes(at, ranks, 3.0, has.weight_bytes)
    gradients = divided_bytes(at, ranks, 2.0, (has.dense * size, has.experts * size))
    m, v = microbatches(s, plan.dp), s.plan.virtual_stages
    inside = schedules.held(s.plan.schedule, plan.pp, m, v, stage.number)
    kept = inside * sum(n * b for n, b in zip(stage.has[:3], layer, strict=True))
    with_head, routes, dense = (
        choose(n > 0, 1.0, 0.0) for n in (stage.has.head, stage.has.experts, stage.has.dense)
    )
    # weights of two layers where they are not at hand; embedding and head stay gathered (FSDP2)
    parts = choose(s.plan.zero >= 3, 1.0, 0.0)
    away = most(parts, s.plan.offload_weights)
    ends = has.ends * at.formats.head.bytes
    fetched = 2.0 * away * divide(sum(has.weight_bytes) - ends, stage.has.every) + parts * ends
    again = buffers.every + most(dense * buffers.dense, routes * buffers.experts)
    return Memory(
        weights=weights * (1.0 - s.plan.offload_weights),
        gradients=gradients,
        optimizer=state_bytes(at, ranks, has) * (1.0 - s.plan.offload_optimizer),
        activation=kept * (1.0 - s.plan.offload_activations),
        buffers=with_head * buffers.logits + again + routes * buffers.travelling + fetched,
        stage=stage.number,
    )


def resident(at: Site, of: Stages, stage: Stage) -> Held:
    """Return the parameters on a chip of a stage; of two, where it serves two directions."""
    has = held(at, stage)
    return has.plus(has, of.paired)


def fullest(at: Site, of: Stages, ranks: Ranks) -> Held:
    """Return the parameters on a chip of the stage with the most optimiser state."""
    found = resident(at, of, of.first)
    for stage in of.all[1:]:
        has = resident(at, of, stage)
        more = state_bytes(at, ranks, has) > state_bytes(at, ranks, found)
        counts = [choose(more, a, b) for a, b in zip(has[:3], found[:3], strict=True)]
        stored = [
            choose(more, a, b) for a, b in zip(has.weight_bytes, found.weight_bytes, strict=True)
        ]
        found = Held._make([*counts, (stored[0], stored[1])])
    return found


class LayerBytes(NamedTuple):
    """Bytes kept of one micro-batch by what every layer has, by a dense FFN, and by experts."""

    every: Number
    dense: Number
    experts: Number


def layer_bytes(at: Site, mine: Share, full_layers: Number) -> LayerBytes:
    """Return the bytes that a chip keeps of one layer for the backward pass.

    Recomputed layers keep their input (2sbh in 16 bit, divided by sequence parallelism).
    """
    whole, cores = recomputed(at, full_layers)
    kept = _kept(at, mine, 1.0 - most(cores, 0.0))
    wide = mine.attention_tokens * at.s.model.d_model * mine.b_activations / _sequence_ways(at)
    known = 1.0 - at.counts.abstract
    stored = [(1.0 - whole) * part * known for part in kept]
    stored = [stored[0] + whole * wide * known, *stored[1:]]
    second = choose(at.s.plan.recompute == ALTERNATE, 1.0, 0.0)
    share = taken(at, full_layers)
    some = [
        known * (share * few + (1.0 - share) * all_of)
        for few, all_of in zip(_alternate(at, mine), kept, strict=True)
    ]
    return LayerBytes(*(a + second * (b - a) for a, b in zip(stored, some, strict=True)))


def _alternate(at: Site, mine: Share) -> LayerBytes:
    """Return what is kept where every second product is computed again.

    Of a token its input, queries, values, the core's output (and its scores, unfused), and of an
    FFN one inward product.
    """
    m, plan, b = at.s.model, at.plan, mine.b_activations
    mla = choose(m.kv_lora > 0, 1.0, 0.0)
    value = mla * m.v_head_dim + (1.0 - mla) * m.head_dim
    query = m.heads * (mla * (m.qk_nope_dim + m.qk_rope_dim) + (1.0 - mla) * m.head_dim)
    kv = choose(m.kv_heads > 0, m.kv_heads / kv_ways(at.s, plan), m.heads / plan.attention_tp)
    across = (query + m.heads * value) / plan.attention_tp + kv * value
    rows = moe.busiest_rows(at, mine)
    shared = mine.attention_tokens * m.d_ff_shared * m.shared_experts / plan.attention_tp
    scores = _kept(at, mine, 1.0).every - _kept(at, mine, 0.0).every
    return LayerBytes(
        every=mine.attention_tokens * (m.d_model / _sequence_ways(at) + across) * b + scores,
        dense=mine.tokens * m.d_ff / plan.tp * b,
        experts=(rows * m.d_ff_expert / plan.expert_tp + shared) * b,
    )


def _sequence_ways(at: Site) -> Number:
    return choose(at.s.plan.sequence_parallel > 0, at.plan.attention_tp, 1.0)


def _kept(at: Site, mine: Share, with_scores: Number) -> LayerBytes:
    """Return what a layer keeps that is not recomputed.

    For a token, in elements: both norms' inputs and outputs (4 d_model), queries, keys, values and
    the core's output; MLA's latents before and after their norms. Unfused cores keep the softmax's
    output (and under dropout its mask and their product) of every pair of tokens. Dense FFN: input
    and output of its activation (two inputs if gated). Experts: for each copy of a token its input
    and output besides, which the gradient of the router needs; an estimate for kernels that weight
    outputs after the last product.
    """
    s, m, plan = at.s, at.s.model, at.plan
    tokens, b, dropped = mine.attention_tokens, mine.b_activations, s.workload.dropout
    ways = plan.attention_tp
    mla = choose(m.kv_lora > 0, 1.0, 0.0)
    latents = m.q_lora * 2.0 + mla * (2.0 * m.kv_lora + m.qk_rope_dim)
    spread = m.heads * 2.0 * (m.qk_nope_dim + m.qk_rope_dim + m.v_head_dim)
    kv_ways = choose(m.kv_heads > 0, least(ways, most(m.kv_heads, 1.0)), ways)
    plain = 2.0 * m.heads * m.head_dim / ways + 2.0 * m.kv_heads * m.head_dim / kv_ways
    attention = mla * spread / ways + (1.0 - mla) * plain
    softmax = divide(at.counts.softmax_layers, m.layers)
    linear = divide(m.linear_layers, m.layers)
    state = 2.0 * (
        m.linear_key_heads * m.linear_key_dim + m.linear_value_heads * m.linear_value_dim
    )
    attention = softmax * (attention + latents) + linear * state / ways
    unfused = choose(s.plan.flash_attention > 0, 0.0, 1.0) * with_scores
    unfused = unfused * divide(at.counts.full_layers + m.window_layers, m.layers)
    scores = unfused * m.heads / ways * s.workload.sequence * (b + dropped * (b + MASK_BYTES))
    wide = (4.0 * b + dropped * 2.0 * MASK_BYTES) * m.d_model / _sequence_ways(at)
    rows = moe.busiest_rows(at, mine)
    expert = rows * (2.0 * m.d_model + m.ffn_matrices * m.d_ff_expert / plan.expert_tp)
    shared = tokens * m.ffn_matrices * m.d_ff_shared * m.shared_experts / ways
    return LayerBytes(
        every=tokens * (attention * b + scores + wide),
        dense=mine.tokens * m.ffn_matrices * m.d_ff / plan.tp * b,
        experts=(expert + shared) * b,
    )


class Buffers(NamedTuple):
    """What of a micro-batch is not kept but there for a moment: where there is a head, what is
    computed again of one layer (`every` of them, its `dense` FFN or its `experts`), and tokens on
    their way to experts and back."""

    logits: Number
    every: Number
    dense: Number
    experts: Number
    travelling: Number


def _buffers(at: Site, mine: Share, full_layers: Number, exchange: moe.Exchange) -> Buffers:
    """Return working buffers."""
    known = 1.0 - at.counts.abstract
    logits = mine.head_rows * at.s.model.vocab / at.plan.tp * at.s.plan.loss_bytes
    whole, cores = recomputed(at, full_layers)
    layers = known * choose(whole > 0, 1.0, 0.0)
    once = _kept(at, mine, 1.0)
    scores = once.every - _kept(at, mine, 0.0).every
    return Buffers(
        known * logits,
        layers * once.every + known * most(cores, 0.0) * scores,
        layers * once.dense,
        layers * once.experts,
        (exchange.dispatch_bytes + exchange.combine_bytes) * exchange.happens,
    )
