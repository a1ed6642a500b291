"""A parallel group as the fabric meets it: how many members each level joins, and how well.

MODEL section 4. Levels are nested, innermost first; a group may be spread over several dimensions
of the plan, each with its own stride.
"""

from typing import NamedTuple

import numpy as np

from roofrack.arithmetic import Number, choose, divide, floor, least, log2, look_up, most, round_up
from roofrack.calibration import Calibration, Links
from roofrack.hardware import Hardware, Level
from roofrack.tables import TOPOLOGIES

_AXES = np.array([t.axes for t in TOPOLOGIES.values()])
_FULL_MESH = np.array([t.full_mesh for t in TOPOLOGIES.values()])

Dimension = tuple[Number, Number]
"""Members of a group along one dimension of the plan, and the chips from one to the next."""


class Trunk(NamedTuple):
    """One level of the fabric as any group meets it.

    Bandwidth of one chip with all its links, and with those to one other chip; `links` what
    collectives reach of it.
    """

    chips: Number
    bytes_per_s: Number
    hop_bytes_per_s: Number
    latency_s: Number
    links: Links
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


def _trunk(level: Level, links: Links) -> Trunk:
    axes, mesh = look_up(_AXES, level.topology), look_up(_FULL_MESH, level.topology)
    carried = level.bytes_per_s / level.oversubscription
    # a mesh or torus has a link for each neighbour
    neighbours = choose(mesh > 0, most(level.chips - 1.0, 1.0), most(2.0 * axes, 1.0))
    return Trunk(
        chips=level.chips,
        bytes_per_s=carried,
        hop_bytes_per_s=carried / neighbours,
        latency_s=level.latency_s,
        links=links,
        torus_axes=axes,
        full_mesh=mesh,
        ring_closes_at=level.ring_closes_at,
        in_network=level.in_network_reduction,
    )


class Wire(NamedTuple):
    """One level as a group meets it.

    `members` of the group in one domain of the level, counted in domains of the level below;
    `reach` members in one domain, counted in chips; `active` if there are several; `bytes_per_s`
    of one chip for a collective, `hop_bytes_per_s` to one other chip, of which `links` says what is
    reached; `latency_s` of one message. `steps` hops in sequence of a collective, the fewer of g-1
    (ring) and log2 g (halving), which is `doublings`; `load` links that a copy between two random
    members takes. An idle level has no steps.
    """

    members: Number
    reach: Number
    active: Number
    bytes_per_s: Number
    hop_bytes_per_s: Number
    latency_s: Number
    links: Links
    in_network: Number
    steps: Number
    doublings: Number
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
        latency_s=level.latency_s,
        links=level.links,
        in_network=active & (level.in_network > 0),
        steps=steps,
        doublings=log,
        load=choose(torus, most(1.0, hops), 1.0),
        exchange_steps=choose(torus, steps, choose(active, 1.0, 0.0)),
        quantize=quantize,
    )


class Link(NamedTuple):
    """What one collective meets on a level: bandwidth that one chip reaches, and fixed times.

    `launch_s` of the protocol for small messages; that for large ones takes `staged_s` more. `own`
    share of the buffer is copied besides; each copy of a token costs `row_s`, each expert of a chip
    `expert_s`. An idle level has no fixed times.
    """

    bytes_per_s: Number
    launch_s: Number
    staged_s: Number
    own: Number
    low_latency: Number
    direct: Number
    row_s: Number
    expert_s: Number


def link(wire: Wire, kind: str) -> Link:
    """Return what a collective of a kind (a field of Links) meets on a level."""
    of = getattr(wire.links, kind)
    return Link(
        bytes_per_s=wire.bytes_per_s * of.efficiency,
        launch_s=choose(wire.active, of.launch_s + of.step_s * wire.doublings, 0.0),
        staged_s=choose(wire.active, of.staged_s, 0.0),
        own=choose(wire.active, of.own, 0.0),
        low_latency=of.low_latency,
        direct=of.direct,
        row_s=choose(wire.active, of.row_s, 0.0),
        expert_s=choose(wire.active, of.expert_s, 0.0),
    )
