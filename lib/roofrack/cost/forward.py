"""One forward pass of one micro-batch, block by block, on the chips of a stage.

Everything a pass costs is put together here; each block is a page of its own.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, least, most
from roofrack.cost import attention, ffn, moe, pipeline
from roofrack.cost.collectives import all_gather, all_reduce, wires
from roofrack.cost.layout import Layout
from roofrack.cost.roofline import BlockTime, block_time
from roofrack.cost.shares import Pass, Share, share
from roofrack.model import Counts
from roofrack.nouns import Scenario

BLOCKS = (
    "attention_projections",
    "attention_core",
    "dense_ffn",
    "router",
    "routed_experts",
    "shared_experts",
    "head",
    "residual",
)
"""The blocks of a pass, in the order of a table."""


class Parts(NamedTuple):
    """Seconds of a pass by resource, nothing hidden: they sum to the upper bound."""

    compute: Number
    weights: Number
    kv: Number
    activation: Number
    scale_up: Number
    scale_out: Number
    pipeline: Number
    overhead: Number


class Forward(NamedTuple):
    """One pass: its parts, `blocks` (busy seconds of each block, as in BLOCKS), `comm` exposed
    seconds of collectives (levels that run at once counted once), traffic of the experts' exchange,
    and bytes of weights and cache that one chip reads.
    """

    parts: Parts
    blocks: tuple[Number, ...]
    comm: Number
    exchange: moe.Exchange
    read_bytes: Number


def forward(s: Scenario, counts: Counts, plan: Layout, p: Pass) -> Forward:
    """Evaluate one pass; all layers of all stages, one micro-batch."""
    mine = share(s, plan, p)
    exchange = moe.exchange(s, plan, mine)
    works = (
        (attention.projections(s, counts, plan, mine),),
        (
            attention.core(s, counts, plan, mine, p, windowed=False),
            attention.core(s, counts, plan, mine, p, windowed=True),
        ),
        (ffn.dense(s, counts, plan, mine),),
        (ffn.router(s, counts, plan, mine),),
        (moe.routed(s, counts, plan, mine),),
        (ffn.shared(s, counts, plan, mine),),
        (ffn.head(s, counts, plan, mine, p),),
        (ffn.residual(s, counts, plan, mine),),
    )
    timed = [[block_time(w, s.hardware.hbm_bytes_per_s) for w in block] for block in works]
    flat = [t for block in timed for t in block]
    reduces = tensor_parallel(s, counts, plan, mine, exchange.happens)
    spread = context_parallel(s, counts, plan, mine, p)
    levels = [sum(level) for level in zip(reduces, spread, exchange.seconds, strict=True)]
    parts = Parts(
        compute=_total(flat, "compute"),
        weights=_total(flat, "weights"),
        kv=_total(flat, "kv"),
        activation=_total(flat, "activation"),
        scale_up=levels[0],
        scale_out=sum(levels[1:], start=0.0),
        pipeline=pipeline.hops(s, plan, mine, p.decode),
        overhead=_total(flat, "launch")
        + s.calibration.layer_s * s.model.layers * plan.imbalance
        + s.calibration.step_s * plan.pp,
    )
    return Forward(
        parts=parts,
        blocks=tuple(_total(block, "busy") for block in timed),
        comm=sum(reduces) + sum(spread) + exchange.exposed,
        exchange=exchange,
        read_bytes=sum(w.weight_bytes + w.kv_bytes for block in works for w in block),
    )


def cached_more_s(
    s: Scenario, counts: Counts, plan: Layout, p: Pass, f: Forward, tokens: Number
) -> Number:
    """Return seconds that `tokens` more cached tokens before pass `p` add to it, `f`.

    The attention core changes, and what context parallelism gathers. The difference is formed part
    by part, since that of two whole passes would lose its digits in single precision.
    """
    mine = share(s, plan, p)
    hbm = s.hardware.hbm_bytes_per_s
    before, after = (
        [block_time(attention.core(s, counts, plan, mine, each, w), hbm) for w in (False, True)]
        for each in (p, p._replace(cached=p.cached + tokens))
    )
    compute, kv, busy = (
        _total(after, part) - _total(before, part) for part in ("compute", "kv", "busy")
    )
    comm = sum(
        b - a
        for a, b in zip(
            context_parallel(s, counts, plan, mine, p),
            context_parallel(s, counts, plan, mine, p._replace(cached=p.cached + tokens)),
            strict=True,
        )
    )
    t = f.parts
    memory = t.weights + t.kv + t.activation
    if s.overlap == "ideal":
        longest = most(most(t.compute, memory), f.comm)
        more = most(compute - (longest - t.compute), kv - (longest - memory))
        return most(more, comm - (longest - f.comm))
    if s.overlap == "matmul":
        return kv + comm + most(0.0, compute - most(t.weights - t.compute, 0.0))
    if s.overlap == "none":
        return compute + kv + comm
    total = sum(f.blocks)
    shorter = least(total, f.comm)
    hidden = least(total - shorter + busy, f.comm - shorter + comm)
    return busy + comm - s.calibration.comm_overlap * hidden


def _total(times: list[BlockTime], part: str) -> Number:
    return sum((getattr(t, part) for t in times), start=0.0)


def tensor_parallel(
    s: Scenario, counts: Counts, plan: Layout, mine: Share, exchanged: Number
) -> list[Number]:
    """Return seconds by level of the all-reduces of a pass: one per sharded block and layer.

    The attention output is reduced over its tp chips; so is an FFN's. Where experts exchange
    tokens, only shared experts still need it. Where tokens are divided in between (sequence
    parallelism, attention-DP, an exchange of experts) it is a reduce-scatter and an all-gather: the
    same bytes, but nothing for the switches to add up.
    """
    m = s.model
    row = m.d_model * mine.b_activations
    inner = wires(s.hardware, s.calibration, plan.attention_tp, 1.0)
    outer = wires(s.hardware, s.calibration, plan.tp, 1.0)
    whole_attention = all_reduce(inner, mine.attention_tokens * row)
    split_attention = [2.0 * t for t in all_gather(inner, mine.attention_tokens * row)]
    whole_ffn = all_reduce(outer, mine.tokens * row)
    split_ffn = [2.0 * t for t in all_gather(outer, mine.tokens * row)]
    sequence = s.plan.sequence_parallel
    divided = most(sequence, s.plan.attention_dp)
    # layers whose experts exchange tokens, and those of them with shared experts to add up
    exchanging = m.moe_layers * exchanged * plan.imbalance
    adding = choose(m.shared_experts > 0, exchanging, 0.0)
    plain = m.layers * plan.imbalance - exchanging
    ffn = (counts.dense_layers + m.moe_layers * (1.0 - exchanged)) * plan.imbalance
    return [
        plain * choose(sequence > 0, sa, wa)
        + (exchanging + adding) * sa
        + ffn * choose(divided > 0, sf, wf)
        for wa, sa, wf, sf in zip(
            whole_attention, split_attention, whole_ffn, split_ffn, strict=True
        )
    ]


def context_parallel(
    s: Scenario, counts: Counts, plan: Layout, mine: Share, p: Pass
) -> list[Number]:
    """Return seconds by level of what context parallelism exchanges in a pass.

    Decode: partial outputs of each head are summed over the cp chips. Prefill: every chip gets the
    keys and values that the others hold, cached ones too (ring attention: an all-gather).
    """
    m = s.model
    laid = wires(s.hardware, s.calibration, plan.cp, plan.tp)
    if p.decode:
        value = choose(m.kv_lora > 0, m.kv_lora, m.head_dim) * m.heads / plan.attention_tp
        seconds = all_reduce(laid, mine.attention_tokens * value * mine.b_activations)
    else:
        layer = attention.kv_bytes_per_layer(s, counts) / (plan.kv_shards / plan.cp)
        kept = p.cached + p.new
        size = mine.attention_sequences * layer
        full = all_gather(laid, size * kept)
        windowed = all_gather(laid, size * attention.cache_length(kept, m.window))
        share_windowed = m.window_layers / m.layers
        seconds = [f + share_windowed * (w - f) for f, w in zip(full, windowed, strict=True)]
    return [t * m.layers * plan.imbalance for t in seconds]


class Bounds(NamedTuple):
    """Seconds of a pass: the estimate under the chosen overlap, and what brackets it."""

    estimate: Number
    lower: Number
    upper: Number


def bounds(s: Scenario, f: Forward) -> Bounds:
    """Combine the parts of a pass under the scenario's overlap. MODEL section 3.

    Hops and fixed overheads are on the critical path of the pass in every reading. `lower` hides
    all else behind the longest resource, `upper` nothing.
    """
    t = f.parts
    serial = t.pipeline + t.overhead
    memory = t.weights + t.kv + t.activation
    lower = most(most(t.compute, memory), f.comm) + serial
    upper = sum(t)
    if s.overlap == "ideal":
        return Bounds(lower, lower, upper)
    if s.overlap == "matmul":
        estimate = t.kv + most(t.compute, t.weights) + t.activation + f.comm + serial
    elif s.overlap == "none":
        estimate = upper
    else:
        busy = sum(f.blocks)
        hidden = s.calibration.comm_overlap * choose(busy < f.comm, busy, f.comm)
        estimate = busy + f.comm - hidden + serial
    return Bounds(estimate, lower, upper)
