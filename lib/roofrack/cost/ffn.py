"""Blocks whose weights meet every token: dense FFN, shared experts, router, head, residual."""

from roofrack.arithmetic import Number, choose, padded
from roofrack.cost.layout import Layout
from roofrack.cost.roofline import Work
from roofrack.cost.shares import Share
from roofrack.model import Counts
from roofrack.nouns import Scenario

RESIDUAL_ELEMENTS = 12.0
"""Elements moved per token, layer and unit of d_model by norms, residual adds and rotary embedding:
a norm reads 1 and writes 1, an add reads 2 and writes 1, twice a layer, rounded up for the casts
and quantisation between them. An estimate; it matched served models in a calibration study."""


def _gemm(
    s: Scenario, mine: Share, params: Number, rows: Number, io: Number, calls: Number
) -> Work:
    """Return matmuls of `rows` tokens with `params` parameters held on the chip."""
    gemm = s.calibration.kernel.gemm
    return Work(
        flops=2.0 * params * padded(rows, gemm.tile, s.calibration.quantize),
        peak=mine.peak,
        weight_bytes=params * mine.b_weights,
        kv_bytes=0.0,
        io_bytes=io * mine.b_activations * s.cost.activation_io,
        calls=calls,
        kernel=gemm,
    )


def dense(s: Scenario, counts: Counts, plan: Layout, mine: Share) -> Work:
    """Return the dense FFNs, sharded tp ways; for given totals without experts, the whole model.

    A 2-D weight-stationary FFN divides d_ff by tp / tp_rows only, and d_model by tp_rows.
    """
    m = s.model
    layers = counts.dense_layers * plan.imbalance
    counted = counts.dense_ffn * layers / plan.tp
    whole = choose(m.experts > 0, 0.0, 1.0) * counts.abstract * plan.imbalance / plan.tp
    width = 2.0 * m.d_model / plan.tp_rows + m.ffn_matrices * m.d_ff * plan.tp_rows / plan.tp
    io = mine.tokens * width * layers
    has = choose(m.d_ff > 0, 1.0, 0.0)
    work = _gemm(s, mine, counted, mine.tokens, io * has, 2.0 * layers * has)
    rows = padded(mine.tokens, s.calibration.kernel.gemm.tile, s.calibration.quantize)
    return work._replace(
        flops=work.flops + 2.0 * counts.active * whole * rows,
        weight_bytes=work.weight_bytes + counts.total * whole * mine.b_weights,
    )


def shared(s: Scenario, counts: Counts, plan: Layout, mine: Share) -> Work:
    """Return the shared experts, on the tokens of an attention rank and sharded as attention is."""
    m = s.model
    layers = m.moe_layers * plan.imbalance
    params = counts.shared * layers / plan.attention_tp
    has = choose(m.shared_experts > 0, 1.0, 0.0)
    width = 2.0 * m.d_model + m.ffn_matrices * m.d_ff_shared * m.shared_experts / plan.attention_tp
    io = mine.attention_tokens * width * layers * has
    return _gemm(s, mine, params, mine.attention_tokens, io, 2.0 * layers * has)


def router(s: Scenario, counts: Counts, plan: Layout, mine: Share) -> Work:
    """Return the routers, replicated on every chip."""
    layers = s.model.moe_layers * plan.imbalance
    has = choose(counts.router > 0, 1.0, 0.0)
    io = mine.attention_tokens * (s.model.d_model + s.model.experts) * layers * has
    return _gemm(s, mine, counts.router * layers, mine.attention_tokens, io, layers * has)


def head(s: Scenario, counts: Counts, plan: Layout, mine: Share) -> Work:
    """Return the head: one row per sampled token, sharded tp ways.

    `cost.read_embedding` adds the bytes of the whole input embedding, which is only gathered from.
    """
    rows = mine.head_rows
    io = rows * (s.model.d_model + s.model.vocab / plan.tp)
    has = choose(s.model.vocab > 0, 1.0, 0.0)
    work = _gemm(s, mine, counts.head / plan.tp, rows, io * has, has)
    # equal stages leave no slack: the last one has the head on top, and all wait for it
    even = (s.calibration.quantize > 0) & (plan.imbalance == 1.0)
    times = choose(even, plan.pp, 1.0)
    table = counts.embedding / plan.tp * mine.b_weights * s.cost.read_embedding
    return work._replace(
        flops=work.flops * times,
        weight_bytes=work.weight_bytes * times + table,
        io_bytes=work.io_bytes * times,
        calls=work.calls * times,
    )


def residual(s: Scenario, counts: Counts, plan: Layout, mine: Share) -> Work:
    """Return norms, residual adds and the like: memory traffic only, every token on every chip.

    Sequence parallelism divides the tokens between blocks over the tp chips of the attention.
    """
    m = s.model
    ways = choose(s.plan.sequence_parallel > 0, plan.attention_tp, 1.0)
    elements = (
        RESIDUAL_ELEMENTS * mine.attention_tokens * m.d_model * m.layers * plan.imbalance / ways
    )
    return _gemm(s, mine, 0.0, mine.tokens, elements * (1.0 - counts.abstract), 0.0)
