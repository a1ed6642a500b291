"""What one chip computes for a micro-batch, by kind of layer and direction. MODEL sections 3 and 7.

Forward is what inference computes. Backward, each matrix product Y = X W has two more of as many
FLOP: the gradient of its input, dX = dY W', and of its weights, dW = X' dY, which is added to what
earlier micro-batches left. Between products are passes over activations, counted here by what each
kernel reads and writes: an estimate, for kernels that are not fused with others.
"""

from dataclasses import replace

from roofrack.arithmetic import Number, choose, least, most
from roofrack.cost import attention, ffn, moe
from roofrack.cost.roofline import Work
from roofrack.cost.shares import Format, Pass, Share, bytes_of
from roofrack.cost.site import Site
from roofrack.cost.training.core import cores
from roofrack.cost.training.legs import MASK_BYTES, Legs, joined, passes

LOGIT_BYTES = 14.0
"""Bytes moved for each logit, forward and again backward: cast to FP32 (2 + 4), then read and
written once. An estimate for a cross entropy in a few kernels."""


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
        "attention_core": cores(at, mine, p),
        "dense_ffn": joined(
            _legs(at, mine, ffn.dense_products(at, mine)),
            _again(at, [ffn.whole_model(at, mine)], at.formats.weights.bytes),
            _activated(at, mine.tokens, own, counts.dense_layers),
        ),
        "router": _legs(at, mine, ffn.router_products(at, mine)),
        "routed_experts": joined(
            _again(at, routed, at.formats.experts.bytes), _quantised(at, _of_experts(at, mine))
        ),
        "shared_experts": joined(
            _legs(at, mine, ffn.shared_products(at, mine)),
            _activated(at, mine.attention_tokens, shared, m.moe_layers),
        ),
        "head": joined(_legs(at, mine, ffn.head_products(at, mine)), _loss(at, mine)),
        "residual": _normed(at, mine),
    }


def _legs(at: Site, mine: Share, asked: list[ffn.Product]) -> Legs:
    """Return products forward, the two that each of them has backward, and passes beside them."""
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
    products = Legs(ffn.products(at, asked), ffn.products(at, turned), gradients)
    return joined(products, _quantised(at, asked))


def _quantised(at: Site, asked: list[ffn.Product]) -> Legs:
    """Return the passes beside products, forward and backward.

    What is multiplied in fewer bits is quantised by kernels of their own: inputs forward, gradients
    of outputs backward. Each is written twice, for the product at hand by rows and for that of the
    weights' gradients by columns (NVIDIA Transformer Engine's user guide, FP8 primer).
    """
    read = at.formats.activations
    into: Number = 0.0
    out: Number = 0.0
    for p in asked:
        narrow = choose(p.of.multiplied < read, read + 2.0 * p.of.multiplied, 0.0)
        into = into + p.times * p.rows * p.depth * narrow
        out = out + p.times * p.rows * p.columns * narrow
    return Legs([passes(at, 0.0, into, 1.0)], [passes(at, 0.0, out, 1.0)], [])


def _some(p: ffn.Product) -> Number:
    return choose(p.rows > 0, 1.0, 0.0)


def _added(at: Site, written: Number) -> Number:
    """Return bytes of adding a gradient to what is there, of which `written` is counted already."""
    return most(2.0 * bytes_of(at.s.workload.dtype.gradients) - written, 0.0)


def _again(at: Site, works: list[Work], stored: Number) -> Legs:
    """Return work whose gradients each take the same FLOP again: grouped products, given totals.

    Gradients of `stored` bytes of weights are read and written; rows are in place by then, so that
    only a launch is fixed. Fits of fused experts may tell their losses as passes over rows:
    products for gradients reach no more of the peak than a plain product does.
    """
    reached = at.formats.weights.fit.compute_efficiency
    added = 2.0 * bytes_of(at.s.workload.dtype.gradients) / stored
    slower = [
        w._replace(
            kernel=replace(w.kernel, compute_efficiency=least(w.kernel.compute_efficiency, reached))
        )
        for w in works
    ]
    gradients = [
        w._replace(weight_bytes=w.weight_bytes * added, fixed_s=least(w.fixed_s, w.kernel.launch_s))
        for w in slower
    ]
    return Legs(works, slower, gradients)


def _of_experts(at: Site, mine: Share) -> list[ffn.Product]:
    """Return what the experts of a chip multiply, as plain products: for passes beside them."""
    m, plan = at.s.model, at.plan
    rows = moe.busiest_rows(at, mine)
    layers = m.moe_layers * choose(at.counts.expert > 0, 1.0, 0.0)
    hidden = m.d_ff_expert / plan.expert_tp
    return ffn.block(at, mine.of.experts, rows, hidden, m.d_model, layers)


def _normed(at: Site, mine: Share) -> Legs:
    """Return norms, residual adds, dropout and rotary embedding of all layers.

    Forward, twice a layer and for each element of d_model: a norm reads 1 and writes 1, an add
    reads 2 and writes 1; dropout writes its mask. Backward: a norm reads 2 and writes 1 for its
    input and reads 2 again for its scale (two kernels in NVIDIA Apex), the sum of both branches
    reads 2 and writes 1; dropout reads 1, its mask, and writes 1. The gradient of a bias is the sum
    of its outputs' gradients over all tokens, which are read once more. Sequence
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
    apart = (m.heads + 2.0 * m.kv_heads) * m.head_dim + (m.ffn_matrices - 1.0) * m.d_ff
    biases = m.biases * (2.0 * wide + mine.attention_tokens * apart / plan.attention_tp)
    forward = passes(at, 10.0 * wide + rotary, mask, m.layers)
    backward = passes(at, (16.0 + 4.0 * dropped) * wide + rotary + biases, mask, m.layers)
    return Legs([forward], [backward], [])


def _activated(at: Site, rows: Number, hidden: Number, layers: Number) -> Legs:
    """Return the activation function of an FFN: plain reads and writes, gated reads two.

    Backward it reads what it read and the gradient, and writes as many gradients as it read.
    """
    ways = at.s.model.ffn_matrices
    forward = passes(at, rows * hidden * ways, 0.0, layers)
    backward = passes(at, rows * hidden * (2.0 * ways - 1.0), 0.0, layers)
    return Legs([forward], [backward], [])


def _loss(at: Site, mine: Share) -> Legs:
    """Return the cross entropy over the logits of each chip."""
    logits = mine.head_rows * at.s.model.vocab / at.plan.tp
    each = passes(at, 0.0, LOGIT_BYTES * logits, 1.0)
    return Legs([each], [each], [])


def train_pass(at: Site) -> Pass:
    """Return the pass of one micro-batch: whole sequences, a prediction for every token."""
    length = at.s.workload.sequence
    return Pass(False, at.plan.microbatch, length, 0.0, length, trains=True)
