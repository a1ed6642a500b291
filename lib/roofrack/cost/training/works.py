"""What one chip computes for a micro-batch, by kind of layer and direction. MODEL sections 3 and 7.

Forward is what inference computes. Backward, each matrix product Y = X W has two more of as many
FLOP: the gradient of its input, dX = dY W', and of its weights, dW = X' dY, which is added to what
earlier micro-batches left. Between products are passes over activations, counted here by what each
kernel reads and writes: an estimate, for kernels that are not fused with others.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, least, most
from roofrack.cost import attention, ffn, moe
from roofrack.cost.roofline import Work
from roofrack.cost.shares import Format, Pass, Share, bytes_of
from roofrack.cost.site import Site

FLASH_BACKWARD = 2.5
"""FLOP of the backward core over those of the forward one: five products for two, as scores are
computed again (Dao, arXiv:2307.08691)."""

FLASH_SLOWER = 73.0 / 63.0
"""Share of the peak that FlashAttention-2 reaches forward (73 %) over that backward (63 %), on
A100 (arXiv:2307.08691 section 4.1)."""

RECURRENT_BACKWARD = 2.0
"""The same for indexers and linear layers, whose products have one gradient for each operand."""

MASK_BYTES = 1.0
"""Bytes of one element of a dropout mask."""

LOGIT_BYTES = 14.0
"""Bytes moved for each logit, forward and again backward: cast to FP32 (2 + 4), then read and
written once. An estimate for a cross entropy in a few kernels."""


class Legs(NamedTuple):
    """The work of one kind of layer: forward, and for the gradients of inputs and of weights."""

    forward: list[Work]
    inputs: list[Work]
    weights: list[Work]


def works(at: Site, mine: Share, p: Pass) -> dict[str, Legs]:
    """Return the work of all layers by block (forward.BLOCKS), each layer counted once.

    `at` has its stages alike (`imbalance` 1) and one of them (`pp` 1): what a stage has of each
    kind of layer is counted elsewhere.
    """
    m, counts, plan = at.s.model, at.counts, at.plan
    routed = moe.routed(at, mine, moe.skew(at, mine), own_rows=True)
    own, shared = m.d_ff / plan.tp, m.d_ff_shared * m.shared_experts / plan.attention_tp
    return {
        "attention_projections": _legs(
            at, mine, attention.projection_products(at, mine, expanded=True)
        ),
        "attention_core": _core(at, mine, p),
        "dense_ffn": _joined(
            _legs(at, mine, ffn.dense_products(at, mine)),
            _again(at, [ffn.whole_model(at, mine)], at.formats.weights.bytes),
            _activated(at, mine.tokens, own, counts.dense_layers),
        ),
        "router": _legs(at, mine, ffn.router_products(at, mine)),
        "routed_experts": _again(at, routed, at.formats.experts.bytes),
        "shared_experts": _joined(
            _legs(at, mine, ffn.shared_products(at, mine)),
            _activated(at, mine.attention_tokens, shared, m.moe_layers),
        ),
        "head": _joined(_legs(at, mine, ffn.head_products(at, mine)), _loss(at, mine)),
        "residual": _normed(at, mine),
    }


def _joined(*some: Legs) -> Legs:
    forward, inputs, weights = (
        [w for leg in legs for w in leg] for legs in zip(*some, strict=True)
    )
    return Legs(forward, inputs, weights)


def _legs(at: Site, mine: Share, asked: list[ffn.Product]) -> Legs:
    """Return products forward, and the two products that each of them has backward."""
    stored = Format(mine.b_activations * at.s.cost.activation_io, 0.0, None)
    turned = [p._replace(columns=p.depth, depth=p.columns) for p in asked]
    outer = [
        p._replace(of=p.of._replace(bytes=stored.bytes), rows=p.depth, depth=p.rows) for p in asked
    ]
    gradients = [
        # what it multiplies are activations; what it adds to are gradients
        w._replace(
            weight_bytes=_some(p) * p.depth * p.columns * _added(at, stored.bytes),
            io_bytes=w.io_bytes + w.weight_bytes,
        )
        for w, p in zip(ffn.products(at, outer), asked, strict=True)
    ]
    return Legs(ffn.products(at, asked), ffn.products(at, turned), gradients)


def _some(p: ffn.Product) -> Number:
    return choose(p.rows > 0, 1.0, 0.0)


def _added(at: Site, written: Number) -> Number:
    """Return bytes of adding a gradient to what is there, of which `written` is counted already."""
    return most(2.0 * bytes_of(at.s.workload.dtype.gradients) - written, 0.0)


def _again(at: Site, works: list[Work], stored: Number) -> Legs:
    """Return work whose gradients each take the same FLOP again: grouped products, given totals.

    Gradients of `stored` bytes of weights are read and written; rows are in place by then, so that
    only a launch is fixed.
    """
    added = 2.0 * bytes_of(at.s.workload.dtype.gradients) / stored
    gradients = [
        w._replace(weight_bytes=w.weight_bytes * added, fixed_s=least(w.fixed_s, w.kernel.launch_s))
        for w in works
    ]
    return Legs(works, works, gradients)


def _passes(at: Site, elements: Number, more_bytes: Number, times: Number) -> Work:
    """Return a pass over activations: `elements` read and written, and bytes besides."""
    moved = elements * at.formats.activations + more_bytes
    io = moved * (1.0 - at.counts.abstract) * at.s.cost.activation_io
    return ffn.totals(at.formats.weights, 0.0, 0.0)._replace(io_bytes=io, times=times)


def _normed(at: Site, mine: Share) -> Legs:
    """Return norms, residual adds, dropout and rotary embedding of all layers.

    Forward, twice a layer and for each element of d_model: a norm reads 1 and writes 1, an add
    reads 2 and writes 1; dropout writes its mask. Backward: a norm reads 2 and writes 1 for its
    input and reads 2 again for its scale (two kernels in NVIDIA Apex), the sum of both branches
    reads 2 and writes 1; dropout reads 1, its mask, and writes 1. Sequence
    parallelism divides these tokens over the tensor-parallel chips. Queries and keys are turned,
    read and written once, by their own chips in either direction.
    """
    s, m, plan = at.s, at.s.model, at.plan
    ways = choose(s.plan.sequence_parallel > 0, plan.attention_tp, 1.0)
    wide = mine.attention_tokens * m.d_model / ways
    mask, dropped = 2.0 * MASK_BYTES * wide * s.workload.dropout, s.workload.dropout
    mla = choose(m.kv_lora > 0, 1.0, 0.0)
    turned = mla * (m.heads * m.qk_rope_dim) + (1.0 - mla) * (m.heads + m.kv_heads) * m.head_dim
    rotary = 2.0 * mine.attention_tokens * turned / plan.attention_tp
    forward = _passes(at, 10.0 * wide + rotary, mask, m.layers)
    backward = _passes(at, (16.0 + 4.0 * dropped) * wide + rotary, mask, m.layers)
    return Legs([forward], [backward], [])


def _activated(at: Site, rows: Number, hidden: Number, layers: Number) -> Legs:
    """Return the activation function of an FFN: plain reads and writes, gated reads two.

    Backward it reads what it read and the gradient, and writes as many gradients as it read.
    """
    ways = at.s.model.ffn_matrices
    forward = _passes(at, rows * hidden * ways, 0.0, layers)
    backward = _passes(at, rows * hidden * (2.0 * ways - 1.0), 0.0, layers)
    return Legs([forward], [backward], [])


def _loss(at: Site, mine: Share) -> Legs:
    """Return the cross entropy over the logits of each chip."""
    logits = mine.head_rows * at.s.model.vocab / at.plan.tp
    each = _passes(at, 0.0, LOGIT_BYTES * logits, 1.0)
    return Legs([each], [each], [])


def _core(at: Site, mine: Share, p: Pass) -> Legs:
    """Return the cores of all layers: fused, or with the scores written to memory.

    Only layers that attend to all tokens or to a window have an unfused form.
    """
    full, windowed, index, picked, linear = attention.cores(at, mine, p)
    fused = choose(at.s.plan.flash_attention > 0, 1.0, 0.0)
    forward = [w._replace(times=w.times * fused) for w in (full, windowed)]
    forward = [*forward, index, picked, linear]
    softmax = FLASH_BACKWARD * FLASH_SLOWER
    factors = (softmax, softmax, RECURRENT_BACKWARD, softmax, RECURRENT_BACKWARD)
    inputs = [
        w._replace(
            flops=w.flops * factor,
            kv_bytes=2.0 * w.kv_bytes,
            io_bytes=2.0 * w.io_bytes,
            fixed_s=w.fixed_s * factor,
        )
        for w, factor in zip(forward, factors, strict=True)
    ]
    return _joined(Legs(forward, inputs, []), _unfused(at, mine, p, 1.0 - fused))


def _unfused(at: Site, mine: Share, p: Pass, used: Number) -> Legs:
    """Return the core as two products and passes over all scores, masked ones included.

    Softmax reads and writes the scores, as does dropout, which writes a mask besides (Korthikanti
    et al. 2022, arXiv:2205.05198 section 4.1). Backward, softmax reads its output and the gradient.
    """
    s, m, plan = at.s, at.s.model, at.plan
    layers = (at.counts.full_layers + m.window_layers) * used
    layers = layers * choose(m.heads > 0, 1.0, 0.0) * s.cost.attention_core
    mla = choose(m.kv_lora > 0, 1.0, 0.0)
    depth = mla * (m.qk_nope_dim + m.qk_rope_dim) + (1.0 - mla) * m.head_dim
    value = mla * m.v_head_dim + (1.0 - mla) * m.head_dim
    of = Format(mine.b_activations, mine.of.core_peak, at.formats.weights.fit)
    rows = mine.attention_tokens * m.heads / plan.attention_tp
    scores = ffn.Product(of, rows, p.prompt, depth, layers)
    mixed = ffn.Product(of, rows, value, p.prompt, layers)
    forward = ffn.products(at, [scores, mixed])
    # the gradients of a product of two activations are two products of the same three sizes
    turned = [
        scores,
        scores._replace(columns=depth, depth=p.prompt),
        mixed,
        mixed._replace(columns=p.prompt, depth=value),
    ]
    pairs, dropped = rows * p.prompt, s.workload.dropout
    masks = MASK_BYTES * pairs * dropped
    spread = _passes(at, (2.0 + 2.0 * dropped) * pairs, masks, layers)
    gathered = _passes(at, (3.0 + 2.0 * dropped) * pairs, masks, layers)
    return Legs([*forward, spread], [*ffn.products(at, turned), gathered], [])


def train_pass(at: Site) -> Pass:
    """Return the pass of one micro-batch: whole sequences, a prediction for every token."""
    length = at.s.workload.sequence
    return Pass(False, at.plan.microbatch, length, 0.0, length, trains=True)
