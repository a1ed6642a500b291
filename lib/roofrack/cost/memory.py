"""Bytes that one chip holds during a phase, by kind. MODEL sections 5 and 6."""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, most
from roofrack.cost.attention import cache_length, kv_bytes_per_layer, projection_params
from roofrack.cost.layout import Layout
from roofrack.cost.shares import Pass, Share, share
from roofrack.model import Counts
from roofrack.nouns import Scenario


class Memory(NamedTuple):
    """Bytes on the fullest chip, and what it has room for."""

    weights: Number
    kv: Number
    activation: Number
    total: Number
    capacity: Number


def memory(
    s: Scenario, counts: Counts, plan: Layout, p: Pass, tokens: Number, others: tuple[Pass, ...]
) -> Memory:
    """Return the memory of the fullest chip with `tokens` cached per sequence in flight.

    `p` is the pass that the sequences in flight run; buffers are as large as the largest of it and
    `others` needs.
    """
    mine = share(s, plan, p)
    weights = held_params(s, counts, plan) * mine.b_weights
    kv = cache_bytes(s, counts, plan, mine, tokens)
    activation = activation_bytes(s, plan, mine, p)
    for other in others:
        activation = most(activation, activation_bytes(s, plan, share(s, plan, other), other))
    capacity = s.hardware.hbm_bytes * s.calibration.hbm_usable
    return Memory(weights, kv, activation, weights + kv + activation, capacity)


def held_params(s: Scenario, counts: Counts, plan: Layout) -> Number:
    """Return parameters on one chip of the fullest stage, which has 1/P of the layers."""
    m = s.model
    per_stage = plan.imbalance / plan.pp
    layers = (
        m.layers * projection_params(counts, m.kv_heads, plan)
        + counts.dense_layers * counts.dense_ffn / plan.tp
        + m.moe_layers * m.experts / plan.ep * counts.expert / plan.expert_tp
        + m.moe_layers * (counts.shared / plan.attention_tp + counts.router)
    )
    ways = choose(m.experts > 0, plan.expert_span, plan.tp)
    whole = counts.abstract * counts.total / ways
    # first and last stage hold one of the two matrices each; one stage holds both unless tied
    matrices = choose(plan.pp > 1.0, 1.0, 2.0 - m.tied_embeddings)
    return (layers + whole) * per_stage + matrices * counts.head / plan.tp


def cache_bytes(s: Scenario, counts: Counts, plan: Layout, mine: Share, tokens: Number) -> Number:
    """Return KV cache on one chip: every sequence in flight, the layers of its stage."""
    m = s.model
    per_layer = mine.attention_sequences * kv_bytes_per_layer(s, counts) / plan.kv_shards
    full = (m.layers - m.window_layers) * tokens
    windowed = m.window_layers * cache_length(tokens, m.window)
    passes = plan.in_flight / plan.microbatch
    return per_layer * (full + windowed) * passes * plan.imbalance / plan.pp


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
    rows = mine.tokens / p.new * (1.0 if p.decode else plan.cp)
    logits = rows * m.vocab / plan.tp * 4.0  # sampled in FP32
    return elements * mine.b_activations + logits
