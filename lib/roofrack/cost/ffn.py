"""Blocks whose weights meet every token: dense FFN, shared experts, router, head, residual."""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, padded
from roofrack.cost.kernels import gemm
from roofrack.cost.roofline import Work
from roofrack.cost.shares import Format, Share
from roofrack.cost.site import Site

RESIDUAL_ELEMENTS = 12.0
"""Elements moved per token, layer and unit of d_model by norms, residual adds and rotary embedding:
a norm reads 1 and writes 1, an add reads 2 and writes 1, twice a layer, rounded up for the casts
and quantisation between them. An estimate; it matched served models in a calibration study."""


class Product(NamedTuple):
    """`times` products of `rows` tokens with weights of depth x columns on each chip."""

    of: Format
    rows: Number
    columns: Number
    depth: Number
    times: Number


def products(at: Site, asked: list[Product]) -> list[Work]:
    """Return the work of matrix products on the chips of a site."""
    s = at.s
    return gemm.works(
        [
            gemm.Product(
                gemm.Shape(p.rows, p.columns, p.depth),
                p.times,
                p.of.bytes,
                p.of.peak,
                p.of.fit,
            )
            for p in asked
        ],
        s.hardware.hbm_bytes_per_s,
        s.hardware.sms,
        b_activations=at.formats.activations * s.cost.activation_io,
        quantize=s.calibration.quantize,
        fused=s.calibration.fused_quantization,
    )


def block(
    at: Site, of: Format, rows: Number, hidden: Number, width: Number, times: Number
) -> list[Product]:
    """Return an FFN: into `hidden` of each of its in-projections at once, and back to `width`."""
    inward = (at.s.model.ffn_matrices - 1.0) * hidden
    return [Product(of, rows, inward, width, times), Product(of, rows, width, hidden, times)]


def dense(at: Site, mine: Share) -> list[Work]:
    """Return the dense FFNs, sharded tp ways; for given totals without experts, the whole model."""
    return [*products(at, dense_products(at, mine)), whole_model(at, mine)]


def dense_products(at: Site, mine: Share) -> list[Product]:
    """Return the products of the dense FFNs.

    A 2-D weight-stationary FFN divides d_ff by tp / tp_rows only, and d_model by tp_rows.
    """
    m, counts, plan = at.s.model, at.counts, at.plan
    layers = counts.dense_layers * plan.imbalance * (1.0 - counts.abstract)
    hidden, width = m.d_ff * plan.tp_rows / plan.tp, m.d_model / plan.tp_rows
    return block(at, mine.of.weights, mine.tokens, hidden, width, layers)


def whole_model(at: Site, mine: Share) -> Work:
    """Return the work on given totals without experts."""
    counts, plan, of = at.counts, at.plan, mine.of.weights
    whole = choose(at.s.model.experts > 0, 0.0, 1.0) * counts.abstract * plan.imbalance / plan.tp
    rows = padded(mine.tokens, of.fit.tile, at.s.calibration.quantize)
    return totals(of, counts.active * whole * rows, counts.total * whole)


def totals(of: Format, met: Number, read: Number) -> Work:
    """Return the work on given totals, in which no product can be told from another: no launches.

    `met` pairs of a parameter and a row, `read` parameters.
    """
    return Work(
        flops=2.0 * met,
        peak=of.peak,
        weight_bytes=read * of.bytes,
        kv_bytes=0.0,
        io_bytes=0.0,
        fixed_s=0.0,
        kernel=of.fit,
    )


def shared(at: Site, mine: Share) -> list[Work]:
    """Return the shared experts, on the tokens of an attention rank and sharded as attention is."""
    return products(at, shared_products(at, mine))


def shared_products(at: Site, mine: Share) -> list[Product]:
    """Return the products of the shared experts."""
    m, plan = at.s.model, at.plan
    layers = m.moe_layers * plan.imbalance * (1.0 - at.counts.abstract)
    hidden = m.d_ff_shared * m.shared_experts / plan.attention_tp
    return block(at, mine.of.weights, mine.attention_tokens, hidden, m.d_model, layers)


def router(at: Site, mine: Share) -> list[Work]:
    """Return the routers, replicated on every chip."""
    return products(at, router_products(at, mine))


def router_products(at: Site, mine: Share) -> list[Product]:
    """Return the products of the routers."""
    m = at.s.model
    layers = m.moe_layers * at.plan.imbalance * (1.0 - at.counts.abstract)
    return [Product(mine.of.weights, mine.attention_tokens, m.experts, m.d_model, layers)]


def head(at: Site, mine: Share) -> list[Work]:
    """Return the head: one row per sampled token, sharded tp ways.

    `cost.read_embedding` adds the bytes of the whole input embedding, which is only gathered from.
    """
    s, counts, of = at.s, at.counts, mine.of.head
    table = counts.embedding / at.plan.tp * s.cost.read_embedding
    return [*products(at, head_products(at, mine)), totals(of, 0.0, table)]


def head_products(at: Site, mine: Share) -> list[Product]:
    """Return the product of the head."""
    s, counts, plan = at.s, at.counts, at.plan
    # equal stages leave no slack: the last one has the head on top, and all wait for it
    even = (s.calibration.quantize > 0) & (plan.imbalance == 1.0)
    times = choose(even, plan.pp, 1.0) * (1.0 - counts.abstract)
    return [Product(mine.of.head, mine.head_rows, s.model.vocab / plan.tp, s.model.d_model, times)]


def residual(at: Site, mine: Share) -> list[Work]:
    """Return norms, residual adds and the like: memory traffic only, every token on every chip.

    Sequence parallelism divides the tokens between blocks over the tp chips of the attention.
    """
    s, m, plan = at.s, at.s.model, at.plan
    ways = choose(s.plan.sequence_parallel > 0, plan.attention_tp, 1.0)
    elements = (
        RESIDUAL_ELEMENTS * mine.attention_tokens * m.d_model * m.layers * plan.imbalance / ways
    )
    io = elements * (1.0 - at.counts.abstract) * mine.b_activations * s.cost.activation_io
    return [totals(mine.of.weights, 0.0, 0.0)._replace(io_bytes=io)]
