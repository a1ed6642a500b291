"""The collectives of tensor and context parallelism in one pass. MODEL sections 4 and 5."""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, most
from roofrack.cost import attention
from roofrack.cost.collectives import (
    Transfer,
    all_gather,
    all_reduce,
    either,
    repeated,
    together,
)
from roofrack.cost.shares import Pass, Share
from roofrack.cost.site import Site
from roofrack.cost.ways import Group

NORM_BYTES = 4.0
"""Bytes of a sum of squares."""


class TensorParallel(NamedTuple):
    """What the chips of a tensor-parallel group exchange, by the block that needs it."""

    attention: Transfer
    ffn: Transfer


def tensor_parallel(
    at: Site, far: Site, mine: Share, theirs: Share, exchanged: Number, apart: Number
) -> TensorParallel:
    """Return the all-reduces of a pass: one per sharded block and layer.

    The attention output is reduced over its tp chips; so is an FFN's, at `far` with the share
    `theirs`. Where experts exchange tokens, only shared experts still need it. Where tokens are
    divided in between (sequence parallelism, attention-DP, an exchange of experts) it is a
    reduce-scatter and an all-gather: the same bytes, but nothing for the switches to add up.
    """
    s, m, plan = at.s, at.s.model, at.plan
    row = m.d_model * mine.b_activations
    # attention is divided over all tp chips or over none of them
    among = choose(plan.attention_tp > 1.0, 1.0, 0.0)
    whole = repeated(all_reduce(at.roads.tensor, mine.attention_tokens * row), among)
    split = repeated(all_gather(at.roads.tensor, mine.attention_tokens * row), 2.0 * among)
    whole_ffn = all_reduce(far.roads.tensor, theirs.tokens * row)
    split_ffn = repeated(all_gather(far.roads.tensor, theirs.tokens * row), 2.0)
    sequence = s.plan.sequence_parallel
    divided = most(far.s.plan.sequence_parallel, far.s.plan.attention_dp)
    # layers whose experts exchange tokens, and those of them with shared experts to add up
    exchanging = m.moe_layers * exchanged * plan.imbalance
    elsewhere = m.moe_layers * apart * plan.imbalance  # what experts send back is added on arrival
    adding = choose(m.shared_experts > 0, exchanging + elsewhere, 0.0)
    far_among = choose(far.plan.attention_tp > 1.0, 1.0, 0.0)
    divided_shared = repeated(
        all_gather(far.roads.tensor, theirs.attention_tokens * row), 2.0 * far_among
    )
    plain = m.layers * plan.imbalance - exchanging
    # sums of squares of a token's queries and keys, in single precision
    squares = all_reduce(at.roads.tensor, mine.attention_tokens * 2.0 * NORM_BYTES)
    normed = m.qk_norm_all_heads * among * m.layers * plan.imbalance
    one = either(divided > 0, split_ffn, whole_ffn)
    dense = one
    if far.roads.columns is not None and far.roads.rows is not None:
        flat = two_dimensional(far, theirs, far.roads.columns, far.roads.rows)
        dense = either(far.plan.tp_rows > 1.0, flat, one)
    summed = m.moe_layers * (1.0 - exchanged - apart) * plan.imbalance
    return TensorParallel(
        attention=together(
            repeated(either(sequence > 0, split, whole), plain),
            repeated(split, exchanging),
            repeated(squares, normed),
        ),
        ffn=together(
            repeated(divided_shared, adding),
            repeated(dense, at.counts.dense_layers * plan.imbalance),
            repeated(one, summed),
        ),
    )


def two_dimensional(at: Site, mine: Share, columns: Group, rows: Group) -> Transfer:
    """Return the collectives of one 2-D weight-stationary FFN (Pope et al. 2022, section 3.2.2).

    Weights are divided tp_rows ways along d_model and tp / tp_rows ways along d_ff. The input is
    gathered over the columns, hidden activations are reduced over the rows (of each in-projection)
    and gathered again, the output is reduced over the columns.
    """
    m, plan = at.s.model, at.plan
    outer = mine.tokens * m.d_model * mine.b_activations / plan.tp_rows
    hidden = mine.tokens * m.d_ff * mine.b_activations * plan.tp_rows / plan.tp
    return together(
        repeated(all_gather(columns, outer), 2.0),
        repeated(all_gather(rows, hidden), m.ffn_matrices),
    )


def context_parallel(at: Site, mine: Share, p: Pass) -> Transfer:
    """Return what context parallelism exchanges in a pass for the sequences of one kind.

    Decode: partial outputs of each head are summed over the cp chips. Prefill: every chip gets the
    keys and values that the others hold, cached ones too (ring attention: an all-gather); of a
    linear layer the state.
    """
    s, m, plan, counts = at.s, at.s.model, at.plan, at.counts
    laid = at.roads.context
    each = plan.imbalance * mine.attends
    layers = counts.softmax_layers * each
    if p.decode:
        value = choose(m.kv_lora > 0, m.kv_lora, m.head_dim) * m.heads / plan.attention_tp
        size = mine.attention_tokens * value * mine.b_activations
        return repeated(all_reduce(laid, size), layers)
    layer = attention.kv_bytes_per_layer(s, counts) / (plan.kv_shards / plan.cp)
    kept = attention.held(p, 0.0)
    size = mine.attention_sequences * layer
    state = mine.attention_sequences * counts.state_bytes / plan.attention_tp
    return together(
        repeated(all_gather(laid, size * kept), layers - m.window_layers * each),
        repeated(
            all_gather(laid, size * attention.cache_length(kept, m.window)),
            m.window_layers * each,
        ),
        repeated(all_gather(laid, state), m.linear_layers * each),
    )
