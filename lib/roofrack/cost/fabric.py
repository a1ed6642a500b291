"""A parallel group as the fabric meets it: how many members each level joins, and how well.

MODEL section 4. Levels are nested, innermost first; a group may be spread over several dimensions
of the plan, each with its own stride.
"""

from typing import NamedTuple

import numpy as np

from roofrack.arithmetic import Number, choose, divide, floor, least, log2, look_up, most, round_up
from roofrack.calibration import Calibration, Link
from roofrack.cost.layout import Layout
from roofrack.hardware import Hardware, Level
from roofrack.tables import TOPOLOGIES

_AXES = np.array([t.axes for t in TOPOLOGIES.values()])
_FULL_MESH = np.array([t.full_mesh for t in TOPOLOGIES.values()])

Dimension = tuple[Number, Number]
"""Members of a group along one dimension of the plan, and the chips from one to the next."""


class Trunk(NamedTuple):
    """One level of the fabric as any group meets it.

    Bandwidth that one chip reaches with all its links, and with those to one other chip.
    """

    chips: Number
    bytes_per_s: Number
    hop_bytes_per_s: Number
    latency_s: Number
    launch_s: Number
    half_bytes: Number
    torus_axes: Number
    full_mesh: Number
    ring_closes_at: Number
    in_network: Number


def trunks(hw: Hardware, cal: Calibration) -> list[Trunk]:
    """Return the levels of a fabric; the innermost is calibrated as `scale_up`, all others not."""
    return [
        _trunk(level, cal.scale_up if depth == 0 else cal.scale_out)
        for depth, level in enumerate(hw.fabric)
    ]


def _trunk(level: Level, link: Link) -> Trunk:
    axes, mesh = look_up(_AXES, level.topology), look_up(_FULL_MESH, level.topology)
    reached = level.bytes_per_s / level.oversubscription * link.efficiency
    # a mesh or torus has a link for each neighbour
    links = choose(mesh > 0, most(level.chips - 1.0, 1.0), most(2.0 * axes, 1.0))
    return Trunk(
        chips=level.chips,
        bytes_per_s=reached,
        hop_bytes_per_s=reached / links,
        latency_s=level.latency_s,
        launch_s=link.launch_s,
        half_bytes=link.half_bytes,
        torus_axes=axes,
        full_mesh=mesh,
        ring_closes_at=level.ring_closes_at,
        in_network=level.in_network_reduction,
    )


class Wire(NamedTuple):
    """One level as a group meets it.

    `members` of the group in one domain of the level, counted in domains of the level below;
    `reach` members in one domain, counted in chips; `active` if there are several; `bytes_per_s`
    reachable by one chip for a collective, `hop_bytes_per_s` to one other chip; `latency_s` of one
    message, its ramp included. `steps` hops in sequence of a collective, the fewer of g-1 (ring)
    and log2 g (halving); `load` links that a copy between two random members takes. An idle level
    has no steps and no launch.
    """

    members: Number
    reach: Number
    active: Number
    bytes_per_s: Number
    hop_bytes_per_s: Number
    latency_s: Number
    launch_s: Number
    in_network: Number
    steps: Number
    load: Number
    exchange_steps: Number
    quantize: Number


Wires = list[Wire]
"""A group laid over all levels, innermost first."""


def wires(
    levels: list[Trunk], quantize: Number, *group: Dimension, most_axes: Number | None = None
) -> Wires:
    """Lay a group over the fabric: `max(1, min(size, floor(chips / stride)))` members in a domain.

    Of several dimensions the members multiply. The outermost level joins whatever is left.
    `most_axes` bounds the torus axes that the group lies along, where another group takes the
    others.
    """
    laid: Wires = []
    inside: Number = 1.0
    for depth, level in enumerate(levels):
        reach: Number = 1.0
        for size, stride in group:
            last = depth == len(levels) - 1
            fits = size if last else most(1.0, least(size, floor(level.chips / stride)))
            reach = reach * fits
        reach = most(inside, reach)
        laid.append(_wire(level, quantize, reach / inside, reach, most_axes))
        inside = reach
    return laid


def _wire(
    level: Trunk, quantize: Number, members: Number, reach: Number, most_axes: Number | None
) -> Wire:
    """Return a level as `members` of a group meet it.

    Of a mesh or torus a group has only its own links. Full mesh: one for each other member. Torus:
    blocks double one axis after the other (8 chips on 2 axes are 4 x 2), so that 2 members use one
    axis, 4 two, 8 three; rings run both ways, half a ring per axis in sequence; where a ring does
    not close, a line moves half as much in twice the steps; a copy between random members travels
    side/4 hops per axis (with home, which copies leave out).
    """
    log = log2(most(members, 1.0))
    axes = level.torus_axes
    torus = axes > 0
    used = most(1.0, least(log, axes if most_axes is None else least(axes, most_axes)))
    doublings = round_up(choose(torus, log / used, log), quantize)
    side = 2.0**doublings
    open_line = torus & (side < level.ring_closes_at * (1.0 - 1e-6))
    closed = choose(open_line, 0.5, 1.0)
    mesh_share = most(least(1.0, divide(members - 1.0, level.chips - 1.0, 1.0)), 1e-9)
    ways = choose(level.full_mesh > 0, mesh_share, divide(used, axes, 1.0)) * closed
    reached = level.bytes_per_s * ways
    ring = members - 1.0
    active = members > 1.0
    steps = least(choose(torus, used * choose(open_line, side - 1.0, side / 2.0), doublings), ring)
    hops = used * side / 4.0 * divide(members, ring, 1.0)
    return Wire(
        members=members,
        reach=reach,
        active=active,
        bytes_per_s=reached,
        hop_bytes_per_s=level.hop_bytes_per_s,
        # m/(m + half) of the bandwidth is m bytes, and half more for each message
        latency_s=level.latency_s + level.half_bytes / reached,
        launch_s=choose(active, level.launch_s, 0.0),
        in_network=active & (level.in_network > 0),
        steps=steps,
        load=choose(torus, most(1.0, hops), 1.0),
        exchange_steps=choose(torus, steps, choose(active, 1.0, 0.0)),
        quantize=quantize,
    )


class Way(NamedTuple):
    """One algorithm of a collective on a group, linear in the size: by level, innermost first.

    Seconds are `fixed_s + s_per_byte * size`, bytes that a chip sends `sent * size`.
    """

    fixed_s: list[Number]
    s_per_byte: list[Number]
    sent: list[Number]


class Group(NamedTuple):
    """A group and the ways of its collectives; a reduce-scatter goes the ways of an all-gather."""

    wires: Wires
    gather: tuple[Way, ...]
    reduce: tuple[Way, ...]


def group(laid: Wires) -> Group:
    """Return a group with all its ways.

    All-gather: level by level, V/W (g-1)/g each on V shrunk by the levels below, or one ring over
    all members. All-reduce: hierarchical (reduce-scatter inside, all-reduce of the shard across,
    all-gather inside: twice that), the same with V/W (g+1)/g where switches add up, one ring, one
    tree. Patarasuk and Yuan 2009; Sanders, Speck and Traeff 2009 (two trees use both directions);
    MODEL section 4.
    """
    return Group(
        laid,
        (_by_level(laid, 1.0, False), _one_ring(laid, 1.0)),
        (
            _by_level(laid, 2.0, False),
            _by_level(laid, 2.0, True),
            _one_ring(laid, 2.0),
            _tree(laid),
        ),
    )


def _by_level(laid: Wires, rounds: float, in_switch: bool) -> Way:
    way = Way([], [], [])
    shard: Number = 1.0
    for wire in laid:
        g = wire.members
        sent, steps = rounds * (g - 1.0) / g * shard, rounds * wire.steps
        if in_switch:  # up to the switch and down again
            sent = choose(wire.in_network, (g + 1.0) / g * shard, sent)
            steps = choose(wire.in_network, 2.0, steps)
        way.fixed_s.append(steps * wire.latency_s + wire.launch_s)
        way.sent.append(sent)
        way.s_per_byte.append(sent / wire.bytes_per_s)
        shard = shard / g
    return way


def _one_ring(laid: Wires, rounds: float) -> Way:
    """Return `rounds` turns of one ring through all members, chips of a domain side by side.

    Every boundary of a domain is crossed by as many parallel rings as it has chips, each with the
    link of one of them; the others go on inside. All links work at once: the slowest sets the pace.
    """
    size = laid[-1].reach
    each = rounds * (size - 1.0) / size
    hops, sent = [], []
    inside: Number = 1.0
    for wire in laid:
        outermost = wire.reach >= size
        beyond = choose(outermost, 0.0, 1.0 / wire.reach)
        # hops at this level and not further out; the last one, which would close the ring, is not
        hops.append(rounds * (size * (1.0 / inside - beyond) - choose(outermost, 1.0, 0.0)))
        sent.append(each * (1.0 / inside - beyond))
        inside = wire.reach
    hops = [choose(wire.active, h, 0.0) for wire, h in zip(laid, hops, strict=True)]
    return _side_by_side(laid, hops, sent)


def _tree(laid: Wires) -> Way:
    """Return a reduction up a binary tree and a broadcast down, pipelined over two trees.

    A tree over a torus has long branches: it takes as many hops as the rings there.
    """
    inside = [1.0, *(wire.reach for wire in laid[:-1])]
    return _side_by_side(laid, [2.0 * wire.steps for wire in laid], [2.0 / i for i in inside])


def _side_by_side(laid: Wires, hops: list[Number], sent: list[Number]) -> Way:
    """Return levels that move their bytes at once; each level stands for what it adds."""
    way = Way([], [], [])
    slowest: Number = 0.0
    launch: Number = 0.0
    for wire, steps, share in zip(laid, hops, sent, strict=True):
        moved = choose(wire.active, share, 0.0)
        pace = moved / wire.bytes_per_s
        way.s_per_byte.append(most(pace - slowest, 0.0))
        way.fixed_s.append(steps * wire.latency_s + most(wire.launch_s - launch, 0.0))
        way.sent.append(moved)
        slowest, launch = most(slowest, pace), most(launch, wire.launch_s)
    return way


class Roads(NamedTuple):
    """The groups of a plan over the fabric of its machine.

    `tensor` the chips of tensor parallelism, `columns` and `rows` the two of them that a
    2-D weight-stationary FFN has, `context`, `experts` (all chips that hold the experts once) and
    `pipeline`.
    """

    tensor: Group
    columns: Group | None
    rows: Group | None
    context: Group
    experts: Wires
    pipeline: Wires


def roads(hw: Hardware, cal: Calibration, plan: Layout, with_rows: bool = True) -> Roads:
    """Lay all groups of a plan over the fabric in the order of its placement.

    `columns` and `rows` are None without `with_rows`.
    """
    at, levels, q = plan.strides, trunks(hw, cal), cal.quantize
    columns = plan.tp / plan.tp_rows
    in_tp = least(plan.tp, plan.expert_span)
    in_cp = least(plan.cp, plan.expert_span / in_tp)
    experts = ((in_tp, at.tp), (in_cp, at.cp), (plan.expert_span / in_tp / in_cp, at.ep))
    axes = most(levels[0].torus_axes - 1.0, 1.0)
    return Roads(
        tensor=group(wires(levels, q, (plan.tp, at.tp))),
        columns=group(wires(levels, q, (columns, at.tp), most_axes=axes)) if with_rows else None,
        rows=group(wires(levels, q, (plan.tp_rows, at.tp * columns), most_axes=1.0))
        if with_rows
        else None,
        context=group(wires(levels, q, (plan.cp, at.cp))),
        experts=wires(levels, q, *experts),
        pipeline=wires(levels, q, (plan.pp, at.pp)),
    )


class Path(NamedTuple):
    """The way from one chip to others anywhere within a number of chips."""

    bytes_per_s: Number
    latency_s: Number
    launch_s: Number
    depth: Number


def path(hw: Hardware, cal: Calibration, chips: Number) -> Path:
    """Return the way between chips that lie anywhere among `chips`: the first level to join them.

    Beyond the outermost level it is that level's.
    """
    levels = trunks(hw, cal)
    found = _path(levels[0], 0)
    for depth in range(1, len(levels)):
        inner, outer = levels[depth - 1].chips, levels[depth].chips
        # levels that only fill up the fabric join nothing new
        further = (chips > inner) & (outer > inner)
        more = _path(levels[depth], depth)
        found = Path(*(choose(further, b, a) for a, b in zip(found, more, strict=True)))
    return found


def _path(level: Trunk, depth: int) -> Path:
    latency = level.latency_s + level.half_bytes / level.bytes_per_s
    return Path(level.bytes_per_s, latency, level.launch_s, depth * 1.0)
