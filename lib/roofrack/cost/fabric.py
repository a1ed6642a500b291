"""A parallel group as the fabric meets it: how many members each level joins, and how well.

MODEL section 4. Levels are nested, innermost first; a group may be spread over several dimensions
of the plan, each with its own stride.
"""

from typing import NamedTuple

import numpy as np

from roofrack.arithmetic import Number, choose, divide, floor, least, log2, look_up, most, round_up
from roofrack.calibration import Calibration
from roofrack.cost.layout import Layout
from roofrack.hardware import Hardware, Level
from roofrack.tables import TOPOLOGIES

_AXES = np.array([t.axes for t in TOPOLOGIES.values()])
_FULL_MESH = np.array([t.full_mesh for t in TOPOLOGIES.values()])

Dimension = tuple[Number, Number]
"""Members of a group along one dimension of the plan, and the chips from one to the next."""


class Wire(NamedTuple):
    """One level as a group meets it.

    `members` of the group in one domain of the level, counted in domains of the level below;
    `reach` members in one domain, counted in chips; `bytes_per_s` reachable by one chip for a
    collective, `hop_bytes_per_s` to one other chip; `latency_s` of one message, its ramp included;
    `closed` 1 if torus rings have a way around.
    """

    members: Number
    reach: Number
    bytes_per_s: Number
    hop_bytes_per_s: Number
    latency_s: Number
    launch_s: Number
    torus_axes: Number
    closed: Number
    in_network: Number
    quantize: Number


Wires = list[Wire]
"""A group laid over all levels, innermost first."""


def wires(
    hw: Hardware, cal: Calibration, *group: Dimension, most_axes: Number | None = None
) -> Wires:
    """Lay a group over the fabric: `max(1, min(size, floor(chips / stride)))` members in a domain.

    Of several dimensions the members multiply. The outermost level joins whatever is left. The
    innermost level is calibrated as `scale_up`, all others as `scale_out`. `most_axes` bounds the
    torus axes that the group lies along, where another group takes the others.
    """
    laid: Wires = []
    inside: Number = 1.0
    for depth, level in enumerate(hw.fabric):
        reach: Number = 1.0
        for size, stride in group:
            last = depth == len(hw.fabric) - 1
            fits = size if last else most(1.0, least(size, floor(level.chips / stride)))
            reach = reach * fits
        reach = most(inside, reach)
        members = reach / inside
        axes = look_up(_AXES, level.topology)
        taken = axes if most_axes is None else least(axes, most_axes)
        link = cal.scale_up if depth == 0 else cal.scale_out
        closed = _closed(level, _side(members, taken, cal.quantize), axes)
        reached = _usable(level, members, taken, axes) * closed * link.efficiency
        laid.append(
            Wire(
                members=members,
                reach=reach,
                bytes_per_s=reached,
                hop_bytes_per_s=_to_one(level, axes) * link.efficiency,
                # m/(m + half) of the bandwidth is m bytes, and half more for each message
                latency_s=level.latency_s + link.half_bytes / reached,
                launch_s=link.launch_s,
                torus_axes=taken,
                closed=closed,
                in_network=level.in_network_reduction,
                quantize=cal.quantize,
            )
        )
        inside = reach
    return laid


class Roads(NamedTuple):
    """The groups of a plan over the fabric of its machine.

    `attention` the chips that attention is tensor parallel over, `tensor` those of the dense FFN,
    `columns` and `rows` the two of them that a 2-D weight-stationary FFN has, `context`, `experts`
    (all chips that hold the experts once) and `pipeline`.
    """

    attention: Wires
    tensor: Wires
    columns: Wires
    rows: Wires
    context: Wires
    experts: Wires
    pipeline: Wires


def roads(hw: Hardware, cal: Calibration, plan: Layout) -> Roads:
    """Lay all groups of a plan over the fabric in the order of its placement."""
    at = plan.strides
    columns = plan.tp / plan.tp_rows
    in_tp = least(plan.tp, plan.expert_span)
    in_cp = least(plan.cp, plan.expert_span / in_tp)
    experts = ((in_tp, at.tp), (in_cp, at.cp), (plan.expert_span / in_tp / in_cp, at.ep))
    axes = most(look_up(_AXES, hw.fabric[0].topology) - 1.0, 1.0)
    return Roads(
        attention=wires(hw, cal, (plan.attention_tp, at.tp)),
        tensor=wires(hw, cal, (plan.tp, at.tp)),
        columns=wires(hw, cal, (columns, at.tp), most_axes=axes),
        rows=wires(hw, cal, (plan.tp_rows, at.tp * columns), most_axes=1.0),
        context=wires(hw, cal, (plan.cp, at.cp)),
        experts=wires(hw, cal, *experts),
        pipeline=wires(hw, cal, (plan.pp, at.pp)),
    )


class Link(NamedTuple):
    """The way from one chip to others anywhere within a number of chips."""

    bytes_per_s: Number
    latency_s: Number
    launch_s: Number
    depth: Number


def link(hw: Hardware, cal: Calibration, chips: Number) -> Link:
    """Return the way between chips that lie anywhere among `chips`: the first level to join them.

    Beyond the outermost level it is that level's.
    """
    found = _link(hw.fabric[0], cal, 0)
    for depth in range(1, len(hw.fabric)):
        further = chips > hw.fabric[depth - 1].chips
        # levels that only fill up the fabric join nothing new
        more = further & (hw.fabric[depth].chips > hw.fabric[depth - 1].chips)
        outer = _link(hw.fabric[depth], cal, depth)
        found = Link(*(choose(more, b, a) for a, b in zip(found, outer, strict=True)))
    return found


def _link(level: Level, cal: Calibration, depth: int) -> Link:
    kind = cal.scale_up if depth == 0 else cal.scale_out
    reached = level.bytes_per_s / level.oversubscription * kind.efficiency
    latency = level.latency_s + kind.half_bytes / reached
    return Link(reached, latency, kind.launch_s, depth * 1.0)


def _usable(level: Level, members: Number, axes: Number, all_axes: Number) -> Number:
    """Return the bandwidth of a chip that a group can use: of a mesh or torus only its own links.

    Full mesh: one link for each other member. Torus: 2 members use one axis, 4 two, 8 three.
    """
    mesh = look_up(_FULL_MESH, level.topology)
    mesh_share = least(1.0, divide(members - 1.0, level.chips - 1.0, 1.0))
    torus_share = divide(axes_used(members, axes), all_axes, 1.0)
    ways = choose(mesh > 0, most(mesh_share, 1e-9), torus_share)
    return level.bytes_per_s / level.oversubscription * ways


def side(wire: Wire) -> Number:
    """Return the longest side of a group's block on a torus: 8 chips on 2 axes are 4 x 2."""
    return _side(wire.members, wire.torus_axes, wire.quantize)


def _side(members: Number, axes: Number, quantize: Number) -> Number:
    log = log2(most(members, 1.0)) / axes_used(members, axes)
    return 2.0 ** round_up(log, quantize)


def axes_used(members: Number, axes: Number) -> Number:
    """Return the torus axes that a group lies along: blocks double one axis after the other."""
    return most(1.0, least(log2(most(members, 2.0)), axes))


def _closed(level: Level, side: Number, axes: Number) -> Number:
    """Return 1 where rings close, else 1/2: a line moves half as much, in twice the steps."""
    open_line = (axes > 0) & (side < level.ring_closes_at * (1.0 - 1e-6))
    return choose(open_line, 0.5, 1.0)


def _to_one(level: Level, axes: Number) -> Number:
    """Return the bandwidth from a chip to one neighbour: a mesh or torus has a link for each."""
    mesh = look_up(_FULL_MESH, level.topology)
    links = choose(mesh > 0, most(level.chips - 1.0, 1.0), most(2.0 * axes, 1.0))
    return level.bytes_per_s / level.oversubscription / links
