"""One forward pass of one micro-batch, block by block: what every part of it takes.

Everything a pass costs is put together here; each block is a page of its own, and `overlap` says
what hides behind what.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, least, most
from roofrack.calibration import Calibration
from roofrack.cost import attention, ffn, moe, pipeline
from roofrack.cost.collectives import Transfer, repeated, together
from roofrack.cost.exchanges import context_parallel, tensor_parallel
from roofrack.cost.roads import Path
from roofrack.cost.roofline import BlockTime, Work, block_times
from roofrack.cost.shares import Pass, Share
from roofrack.cost.shares import together as of_all
from roofrack.cost.site import Site, way_from

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

FFN_BLOCKS = ("dense_ffn", "routed_experts", "shared_experts")
"""Blocks that attention/FFN disaggregation moves to the FFN pool."""

CLASSES = {
    "gemm": (
        "attention_projections",
        "dense_ffn",
        "router",
        "shared_experts",
        "head",
        "residual",
    ),
    "core": ("attention_core",),
    "experts": ("routed_experts",),
}
"""Kernel classes, and the blocks that each makes up: their errors go together."""

COLLECTIVES = ("tp", "cp", "ep", "pp")
"""Kinds of traffic, by the dimension of the plan that causes it."""


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


class Side(NamedTuple):
    """What one kind of machine does for one of the batches that a pass is divided into.

    `parts` alone, `busy` blocks at their roofline, `comm` exposed seconds of collectives (levels
    that run at once counted once).
    """

    parts: Parts
    busy: Number
    comm: Number


class Forward(NamedTuple):
    """One pass of all layers of all stages, one micro-batch, in `batches` parts.

    The two sides and the crossing between them are of one part; `parts` and `blocks` (busy seconds
    of each block, as in BLOCKS) of the whole pass, as are `read_s`, seconds of each side's weights
    and cache at the full bandwidth of its chips, and `traffic`: bytes that a chip sends by level,
    for each of COLLECTIVES; `spread` standard errors in seconds by kernel class, then of the links,
    of the `serial` seconds of a pass whose blocks and collectives follow each other.
    `apart` is 1 where the FFN side is a pool of its own; `fixed` what each
    pass costs besides.
    """

    attention: Side
    ffn: Side
    crossing: moe.Crossing
    apart: Number
    batches: Number
    fixed: Number
    parts: Parts
    blocks: tuple[Number, ...]
    read_s: tuple[Number, Number]
    traffic: tuple[list[Number], ...]
    spread: tuple[Number, ...]
    serial: Number


def forward(
    at: Site, passes: tuple[Pass, ...], far: Site | None = None, apart: Number = 0.0
) -> Forward:
    """Evaluate one pass over sequences of one or more kinds (decoding, and chunks of prompts).

    `far` is where the FFNs are where `apart`; elsewhere it has to equal `at`.
    """
    s, plan = at.s, at.plan
    batches = s.plan.overlap_batches
    passes = tuple(part_of(p, batches) for p in passes)
    shares = [at.share(p) for p in passes]
    mine = of_all(shares)
    theirs = mine
    if far is not None:
        theirs = of_all([far.share(p) for p in passes])
    works = _works(at, far or at, mine, theirs, passes, shares)
    flat = iter(
        block_times([(w, _hbm(at, far, name)) for name, block in works.items() for w in block])
    )
    timed = {name: [next(flat) for _ in block] for name, block in works.items()}
    launched_beside = s.calibration.shared_beside * total(timed["shared_experts"], "launch")
    timed["shared_experts"] = _beside(
        timed["shared_experts"], timed["routed_experts"], s.calibration.shared_beside
    )
    moved = _moved(at, far or at, mine, theirs, passes, shares, apart)
    near, beyond = _sides(at, timed, moved)
    crossed = moved.crossing
    inside = moved.way_inside
    hops = sum(moved.hops.seconds) * batches
    layers_s = s.calibration.layer_s * s.model.layers * plan.imbalance
    near = near._replace(parts=near.parts._replace(overhead=near.parts.overhead + layers_s))
    whole = [batches * (a + b) for a, b in zip(near.parts, beyond.parts, strict=True)]
    parts = Parts(*whole)
    crossing_s = batches * (crossed.out + crossed.back)
    step_s = s.calibration.step_s * plan.pp
    parts = parts._replace(
        scale_up=parts.scale_up + crossing_s * inside,
        scale_out=parts.scale_out + crossing_s * (1.0 - inside),
        pipeline=hops,
        overhead=parts.overhead + step_s + batches * launched_beside,
    )
    return Forward(
        attention=near,
        ffn=beyond,
        crossing=crossed,
        apart=apart,
        batches=batches,
        fixed=hops + step_s,
        parts=parts,
        blocks=tuple(batches * total(timed[name], "busy") for name in BLOCKS),
        read_s=(
            _read_s(at, works, False) * batches,
            _read_s(far or at, works, True) * batches,
        ),
        traffic=tuple([batches * b for b in t.sent_bytes] for t in moved.kinds),
        spread=_spread(works, timed, near.comm + beyond.comm, s.calibration, batches),
        serial=batches * (_serial(near) + _serial(beyond)) + apart * crossing_s + hops + step_s,
    )


def _serial(side: Side) -> Number:
    return side.busy + side.parts.overhead + side.comm


def _spread(
    works: dict[str, list[Work]],
    timed: dict[str, list[BlockTime]],
    comm: Number,
    calibration: Calibration,
    batches: Number,
) -> tuple[Number, ...]:
    """Return seconds of standard error of each class: its calls are all wrong by one factor.

    That is the derivative of the pass by the logarithm of that factor, times its deviation.
    """
    found = []
    for blocks in CLASSES.values():
        error: Number = 0.0
        for name in blocks:
            for work, time in zip(works[name], timed[name], strict=True):
                error = error + (time.busy + time.launch) * work.kernel.rel_std
        found.append(batches * error)
    return (*found, batches * comm * calibration.link_rel_std)


def _beside(some: list[BlockTime], others: list[BlockTime], beside: Number) -> list[BlockTime]:
    """Return the times of blocks of which only what is longer than `others` is waited for.

    Where `beside` (1, else 0): engines compute shared experts on a stream of their own. What is
    waited for counts as busy, launches included: nothing says which of the two was hidden, and a
    launch on another stream is no overhead that every reading has to pay.
    """
    own, long = (total(b, "busy") + total(b, "launch") for b in (some, others))
    seen = choose(beside > 0, most(1.0 - divide(long, own), 0.0), 1.0)
    return [
        t._replace(
            busy=(t.busy + t.launch * beside) * seen,
            launch=t.launch * (1.0 - beside),
        )
        for t in some
    ]


def part_of(p: Pass, batches: Number) -> Pass:
    """Return one of the parts that a pass is divided into: fewer sequences, or shorter chunks."""
    if p.decode:
        return p._replace(sequences=p.sequences / batches)
    return p._replace(new=p.new / batches)


def _works(
    at: Site,
    far: Site,
    mine: Share,
    theirs: Share,
    passes: tuple[Pass, ...],
    shares: list[Share],
) -> dict[str, list[Work]]:
    """Return the work of each block: FFNs on the chips of `far`, all else on those of `at`."""
    return {
        "attention_projections": attention.projections(at, mine),
        "attention_core": [
            work
            for p, one in zip(passes, shares, strict=True)
            for work in attention.cores(at, one, p)
        ],
        "dense_ffn": ffn.dense(far, theirs),
        "router": ffn.router(at, mine),
        "routed_experts": moe.routed(far, theirs, moe.skew(far, theirs)),
        "shared_experts": ffn.shared(far, theirs),
        "head": ffn.head(at, mine),
        "residual": ffn.residual(at, mine),
    }


def _hbm(at: Site, far: Site | None, block: str) -> Number:
    """Return the memory bandwidth of the chips that compute a block."""
    return (far if far and block in FFN_BLOCKS else at).s.hardware.hbm_bytes_per_s


class _Moved(NamedTuple):
    """All that is sent in one part of a pass; `kinds` as in COLLECTIVES."""

    near: Transfer
    beyond: Transfer
    exposed: Number  # of the experts' exchange, in place of the sum of its levels
    kinds: tuple[Transfer, ...]
    hops: Transfer
    crossing: moe.Crossing
    way_inside: Number  # 1 if the crossing stays on the innermost level


def _moved(
    at: Site, far: Site, mine: Share, theirs: Share, passes: tuple[Pass, ...],
    shares: list[Share], apart: Number,
) -> _Moved:  # fmt: skip
    s, plan = at.s, at.plan
    exchange = moe.exchange(at, mine)
    here = 1.0 - apart
    tp = tensor_parallel(at, far, mine, theirs, exchange.happens * here, apart)
    cp = together(*(context_parallel(at, one, p) for one, p in zip(shares, passes, strict=True)))
    ep = repeated(exchange.transfer, here)
    decodes = [choose(p.sequences > 0, 1.0, 0.0) for p in passes if p.decode]
    hops = pipeline.hops(s, plan, at.roads.pipeline, mine, sum(decodes, start=0.0))
    crossing = moe.Crossing(0.0, 0.0, 0.0)
    inside: Number = 0.0
    sent = ep.sent_bytes
    if far is not at:
        way = _way(at, far)
        there = moe.crossing(s, plan, far.plan, way, mine, theirs, moe.skew(far, theirs))
        crossing = moe.Crossing(*(apart * value for value in there))
        inside = choose(way.depth == 0, 1.0, 0.0)
        sent = [
            size + choose(way.depth == depth, crossing.sent_bytes, 0.0)
            for depth, size in enumerate(sent)
        ]
    return _Moved(
        near=together(tp.attention, cp, ep),
        beyond=tp.ffn,
        exposed=here * exchange.exposed - sum(ep.seconds),
        kinds=(together(tp.attention, tp.ffn), cp, Transfer(ep.seconds, sent), hops),
        hops=hops,
        crossing=crossing,
        way_inside=inside,
    )


def _way(at: Site, far: Site) -> Path:
    """Return the way between two pools: the slower end's."""
    a, b = (way_from(one, at, far) for one in (at, far))
    return Path(
        least(a.bytes_per_s, b.bytes_per_s),
        most(a.latency_s, b.latency_s),
        most(a.launch_s, b.launch_s),
        a.depth,
    )


def _sides(at: Site, timed: dict[str, list[BlockTime]], moved: _Moved) -> tuple[Side, Side]:
    """Return the attention side and the FFN side of one part of a pass."""
    sides = []
    for far, sent in ((False, moved.near), (True, moved.beyond)):
        blocks = [t for name, block in timed.items() if (name in FFN_BLOCKS) == far for t in block]
        parts = Parts(
            compute=total(blocks, "compute"),
            weights=total(blocks, "weights"),
            kv=total(blocks, "kv"),
            activation=total(blocks, "activation"),
            scale_up=sent.seconds[0],
            scale_out=sum(sent.seconds[1:], start=0.0),
            pipeline=0.0,
            overhead=total(blocks, "launch"),
        )
        comm = sum(sent.seconds) + (0.0 if far else moved.exposed)
        sides.append(Side(parts, total(blocks, "busy"), comm))
    return sides[0], sides[1]


def _read_s(at: Site, works: dict[str, list[Work]], ffn_side: bool) -> Number:
    read = [
        work.read_bytes
        for name, block in works.items()
        if (name in FFN_BLOCKS) == ffn_side
        for work in block
    ]
    return sum(read) / at.s.hardware.hbm_bytes_per_s


def total(times: list[BlockTime], part: str) -> Number:
    """Return the sum of one part of several blocks."""
    return sum((getattr(t, part) for t in times), start=0.0)
