"""Bytes that one chip holds during a phase, by kind. MODEL sections 5 and 6."""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, least, most
from roofrack.cost import attention
from roofrack.cost.layout import Layout
from roofrack.cost.shares import Pass, Share
from roofrack.cost.site import Site, drafter
from roofrack.nouns import Scenario


class Memory(NamedTuple):
    """Bytes on the fullest chip, and what it has room for."""

    weights: Number
    kv: Number
    activation: Number
    total: Number
    capacity: Number


def memory(at: Site, passes: tuple[Pass, ...], tokens: Number, without_ffn: Number = 0.0) -> Memory:
    """Return the memory of the fullest chip with `tokens` cached per sequence in flight.

    The first of `passes` is what the sequences in flight run; buffers are as large as the largest
    of all needs. `without_ffn` is 1 where the FFNs are on other chips.
    """
    s, plan = at.s, at.plan
    mine = at.share(passes[0])
    weights = attention_bytes(at) + end_bytes(at) + (1.0 - without_ffn) * ffn_bytes(at)
    kv = cache_bytes(at, mine, tokens)
    if s.draft is not None:
        drafts = choose(s.workload.draft_tokens > 0, 1.0, 0.0)
        small = drafter(at)
        own_end = 0.0 if s.draft.model is None else end_bytes(small)
        weights = weights + drafts * (attention_bytes(small) + ffn_bytes(small) + own_end)
        kv = kv + drafts * cache_bytes(small, mine, tokens) * plan.in_flight / plan.microbatch
    activation: Number = 0.0
    for p in passes:
        activation = most(activation, activation_bytes(s, plan, at.share(p), p))
    return _filled(at, weights, kv, activation)


def ffn_memory(far: Site, p: Pass) -> Memory:
    """Return the memory of the fullest chip of a pool that has only FFNs."""
    mine = far.share(p)
    return _filled(far, ffn_bytes(far), 0.0, activation_bytes(far.s, far.plan, mine, p))


def _filled(at: Site, weights: Number, kv: Number, activation: Number) -> Memory:
    capacity = at.s.hardware.hbm_bytes * at.s.calibration.hbm_usable
    return Memory(weights, kv, activation, weights + kv + activation, capacity)


def attention_bytes(at: Site) -> Number:
    """Return attention weights on one chip of the fullest stage, which has 1/P of the layers."""
    routers = at.s.model.moe_layers * at.counts.router * at.formats.weights.bytes
    out = attention.out_params(at.s, at.counts, at.plan)
    into = attention.params(at.s, at.counts, at.plan) - out
    held = into * at.formats.attention.bytes + out * at.formats.attention_out.bytes + routers
    return held * at.plan.imbalance / at.plan.pp


def ffn_bytes(at: Site) -> Number:
    """Return weights of FFNs and experts on one chip of the fullest stage.

    Given totals count as one of these: nothing is known of their attention.
    """
    m, counts, plan = at.s.model, at.counts, at.plan
    routed = m.moe_layers * plan.slots / plan.ep * counts.expert / plan.expert_tp
    others = (
        counts.dense_layers * counts.dense_ffn / plan.tp
        + m.moe_layers * counts.shared / plan.attention_tp
    )
    ways = choose(m.experts > 0, plan.expert_span, plan.tp)
    others = others + counts.abstract * counts.total / ways
    held = routed * at.formats.experts.bytes + others * at.formats.weights.bytes
    return held * plan.imbalance / plan.pp


def end_bytes(at: Site) -> Number:
    """Return input embedding and head on one chip.

    First and last stage hold one of the two matrices each; one stage holds both unless tied.
    """
    matrices = choose(at.plan.pp > 1.0, 1.0, 2.0 - at.s.model.tied_embeddings)
    return matrices * at.counts.head / at.plan.tp * at.formats.head.bytes


def cache_bytes(at: Site, mine: Share, tokens: Number) -> Number:
    """Return the cache on one chip: every sequence in flight, the layers of its stage.

    A prefix that all sequences share is held once for each rank.
    """
    s, plan = at.s, at.plan
    sequences = mine.attention_sequences * plan.in_flight / plan.microbatch
    whole = attention.cache_of(s, at.counts, tokens)
    shared = attention.cache_of(s, at.counts, least(s.workload.shared_prefix, tokens), prefix=True)
    once = least(sequences, 1.0)
    kv = (sequences * (whole.kv - shared.kv) + once * shared.kv) / plan.kv_shards
    index = (sequences * (whole.index - shared.index) + once * shared.index) / plan.cp
    state = sequences * whole.state / plan.attention_tp
    return (kv + index + state) * plan.imbalance / plan.pp


def activation_bytes(s: Scenario, plan: Layout, mine: Share, p: Pass) -> Number:
    """Return the working buffers of one pass: residual in and out, the widest block, the logits.

    A lower estimate of what an engine reserves; nothing is kept for a backward pass.
    """
    m = s.model
    mla = choose(m.kv_lora > 0, 1.0, 0.0)
    head = mla * (m.qk_nope_dim + m.qk_rope_dim + m.v_head_dim) + (1 - mla) * 2 * m.head_dim
    qkv = m.heads * head / plan.attention_tp
    dense = m.ffn_matrices * m.d_ff / plan.tp
    sharded = m.ffn_matrices * m.d_ff_expert / plan.expert_tp
    visits = mine.group_tokens * divide(m.experts_per_token, plan.ep)
    expert = visits * (m.d_model + sharded) * choose(m.moe_layers > 0, 1.0, 0.0)
    widest = most(most(mine.attention_tokens * qkv, mine.tokens * dense), expert)
    elements = 2.0 * mine.attention_tokens * m.d_model + widest
    logits = mine.head_rows * m.vocab / plan.tp * 4.0  # sampled in FP32
    return elements * mine.b_activations + logits
