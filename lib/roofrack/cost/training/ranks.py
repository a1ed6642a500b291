"""Groups of chips that hold the same parameters, and what they exchange once or more a step.

MODEL sections 5 and 7. Each group adds up gradients, and where its members divide weights, gathers
them (ZeRO, Rajbhandari et al. 2019, arXiv:1910.02054).
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, least, most
from roofrack.cost import attention, schedules
from roofrack.cost.collectives import Transfer, all_gather, all_reduce, either, repeated, together
from roofrack.cost.fabric import trunks, wires
from roofrack.cost.layout import near_ranks
from roofrack.cost.roads import path
from roofrack.cost.shares import bytes_of
from roofrack.cost.site import Site
from roofrack.cost.training.exchanges import seconds
from roofrack.cost.training.readings import Reading
from roofrack.cost.training.stages import Stage
from roofrack.cost.ways import Group, group


class Ranks(NamedTuple):
    """The chips with the same dense parameters and those with the same experts: how many, where."""

    dense: Number
    experts: Number
    dense_group: Group
    experts_group: Group


def ranks(at: Site) -> Ranks:
    """Lay both groups over the fabric, around what a plan places inside them.

    Where a chip has two stages (DualPipe), so has another chip of its pipeline: they count as ranks
    that divide what both have; what these two exchange is not told apart from the rest.
    """
    s, plan, strides = at.s, at.plan, at.plan.strides
    in_tp = least(plan.tp, plan.expert_span)
    in_cp = least(plan.cp, plan.expert_span / in_tp)
    spanned = plan.expert_span / in_tp / in_cp
    near = near_ranks(s, plan.dp, most(plan.expert_span / (plan.tp * plan.cp), 1.0))
    beyond = (plan.dp / near, plan.tp * plan.cp * near * plan.pp)
    dense = ((plan.cp, strides.cp), (near, strides.ep), beyond)
    copies = (
        (plan.tp / in_tp, strides.tp * in_tp),
        (plan.cp / in_cp, strides.cp * in_cp),
        (most(near / spanned, 1.0), strides.ep * spanned),
        beyond,
    )
    levels, quantize = trunks(s.hardware, s.calibration), s.calibration.quantize
    twice = choose(plan.pp > 1.0, schedules.copies(s.plan.schedule), 1.0)
    return Ranks(
        plan.dp * plan.cp * twice,
        plan.expert_copies * twice,
        group(wires(levels, quantize, *dense)),
        group(wires(levels, quantize, *copies)),
    )


class Held(NamedTuple):
    """Parameters of one stage on one chip: dense ones, those of experts, and ends (of `dense`).

    `weight_bytes` of each of the first two, in their formats.
    """

    dense: Number
    experts: Number
    ends: Number
    weight_bytes: tuple[Number, Number]

    def plus(self, other: "Held", times: Number) -> "Held":
        """Return this with `times` another."""
        counts = (a + times * b for a, b in zip(self[:3], other[:3], strict=True))
        dense, experts = (
            a + times * b for a, b in zip(self.weight_bytes, other.weight_bytes, strict=True)
        )
        return Held._make([*counts, (dense, experts)])


def held(at: Site, stage: Stage) -> Held:
    """Return the parameters of a stage on one chip; norms and biases are left out."""
    s, counts, plan, has = at.s, at.counts, at.plan, stage.has
    m, of = s.model, at.formats
    share = has.every / m.layers
    out = attention.out_params(s, counts, plan) * share
    into = attention.params(s, counts, plan) * share - out
    others = has.dense * counts.dense_ffn / plan.tp
    others = others + has.experts * (counts.router + counts.shared / plan.attention_tp)
    ends = stage.ends * counts.head / plan.tp
    experts = has.experts * plan.slots / plan.ep * counts.expert / plan.expert_tp
    # given totals: with experts they are all experts, as nothing is known of the rest
    whole = counts.abstract * counts.total * share
    spread = choose(m.experts > 0, 1.0, 0.0)
    others = others + (1.0 - spread) * whole / plan.tp
    experts = experts + spread * whole / plan.expert_span
    stored = into * of.attention.bytes + out * of.attention_out.bytes
    stored = stored + others * of.weights.bytes + ends * of.head.bytes
    return Held(into + out + others + ends, experts, ends, (stored, experts * of.experts.bytes))


class Updates(NamedTuple):
    """Transfers of a step between the ranks: of gradients and of weights, and how many of each.

    `gradients` are reduced `reductions` times; weights gathered `forward` and `backward` times.
    """

    gradients: Transfer
    weights: Transfer
    reductions: Number
    forward: Number
    backward: Number


def updates(at: Site, of: Ranks, has: Held, m: Number) -> Updates:
    """Return what ranks exchange in a step of `m` micro-batches.

    Whole copies: one all-reduce of the gradients. ZeRO-1: a reduce-scatter, and the new weights
    gathered once. ZeRO-2 and 3 keep only their part of the gradients, so that each micro-batch is
    reduced; ZeRO-3 gathers weights for each forward and each backward pass.
    """
    s = at.s
    zero, b_gradient = s.plan.zero, bytes_of(s.workload.dtype.gradients)
    sums, gathers = [], []
    for group_of, params, stored in zip(
        (of.dense_group, of.experts_group), has[:2], has.weight_bytes, strict=True
    ):
        size = params * b_gradient
        whole, scattered = all_reduce(group_of, size), all_gather(group_of, size)
        some = choose(params > 0, 1.0, 0.0)
        sums.append(repeated(either(zero > 0, scattered, whole), some))
        gathers.append(repeated(all_gather(group_of, stored), some))
    return Updates(
        gradients=together(*sums),
        weights=together(*gathers),
        reductions=choose(zero >= 2, m, 1.0),
        forward=choose(zero >= 3, m, choose(zero > 0, 1.0, 0.0)),
        backward=choose(zero >= 3, m, 0.0),
    )


class Waits(NamedTuple):
    """Seconds of a step that a stage waits for other ranks: for gradients, and for weights."""

    gradients: Number
    weights: Number


def exposed_s(at: Site, of: Updates, one: Reading, layers: Number) -> Waits:
    """Return the seconds of a step that a stage waits for other ranks.

    Layer by layer, gradients travel while earlier layers are computed backward and weights while
    earlier ones are computed forward (or backward, in ZeRO-3): one layer's part never hides, nor
    what takes longer than a pass. Computation loses `overlap_loss` of its speed beside it. In
    ZeRO-3 both share the backward pass; gradients of ZeRO-2 have until the next micro-batch's.
    """
    hides = at.s.plan.overlap_dp

    def waits(one_s: Number, behind: Number, times: Number) -> Number:
        kept = (1.0 - at.s.hardware.overlap_loss) * one_s
        return times * (one_s - hides * least(kept, behind) * (1.0 - least(1.0, 1.0 / layers)))

    once = divide(1.0, of.reductions)
    behind = one.backward + choose(of.backward > 0, 0.0, (1.0 - once) * one.forward)
    sums, gathers = seconds(of.gradients), seconds(of.weights) * of.backward * once
    backward = waits(sums + gathers, behind, of.reductions)
    share = divide(sums, sums + gathers)
    forward = waits(seconds(of.weights), one.forward, of.forward)
    return Waits(share * backward, (1.0 - share) * backward + forward)


def all_updates(of: Updates) -> Transfer:
    """Return all transfers of a step between ranks."""
    return together(
        repeated(of.gradients, of.reductions), repeated(of.weights, of.forward + of.backward)
    )


def tied_ends(at: Site) -> Transfer:
    """Return the sum of the gradients of a matrix that first and last stage both hold.

    An all-reduce of two members: each sends all it has. Over the first level that joins them.
    """
    s, plan = at.s, at.plan
    way = path(s.hardware, s.calibration, plan.chips)
    both = s.model.tied_embeddings * choose(plan.pp > 1.0, 1.0, 0.0)
    size = both * at.counts.head / plan.tp * bytes_of(s.workload.dtype.gradients)
    time = divide(size, way.bytes_per_s) + both * (way.latency_s + way.launch_s)
    levels = [choose(way.depth == depth, 1.0, 0.0) for depth in range(len(s.hardware.fabric))]
    return Transfer([on * time for on in levels], [on * size for on in levels])
