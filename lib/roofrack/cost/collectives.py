"""Time of the collectives over a fabric of nested levels. MODEL section 4.

A parallel group of `size` members, `stride` chips apart, fills each level from the inside. Every
function returns seconds by level, so that what stays in the rack and what leaves it can be told
apart; an idle level costs nothing.
"""

from typing import NamedTuple

import numpy as np

from roofrack.arithmetic import (
    Number,
    choose,
    divide,
    expm1,
    floor,
    least,
    log1p,
    log2,
    look_up,
    most,
    round_up,
)
from roofrack.calibration import Calibration
from roofrack.hardware import Hardware, Level
from roofrack.tables import TOPOLOGIES

_AXES = np.array([t.axes for t in TOPOLOGIES.values()])
_FULL_MESH = np.array([t.full_mesh for t in TOPOLOGIES.values()])


class Wire(NamedTuple):
    """One level as a group meets it.

    `members` of the group in one domain of the level, counted in domains of the level below;
    `reach` members in one domain, counted in chips; `bytes_per_s` reachable by one chip for a
    collective, `hop_bytes_per_s` to one other chip; `closed` 1 if torus rings have a way around.
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


def wires(hw: Hardware, cal: Calibration, size: Number, stride: Number) -> list[Wire]:
    """Lay a group over the fabric: `max(1, min(size, floor(chips / stride)))` members in a domain.

    The outermost level joins whatever is left. The innermost level is calibrated as `scale_up`,
    all others as `scale_out`.
    """
    laid: list[Wire] = []
    inside: Number = 1.0
    for depth, level in enumerate(hw.fabric):
        room = floor(level.chips / stride)
        last = depth == len(hw.fabric) - 1
        reach = size if last else most(inside, most(1.0, least(size, room)))
        link = cal.scale_up if depth == 0 else cal.scale_out
        members = reach / inside
        axes = look_up(_AXES, level.topology)
        side = _side(members, axes, cal.quantize)
        closed = _closed(level, side, axes)
        laid.append(
            Wire(
                members=members,
                reach=reach,
                bytes_per_s=_usable(level, members, axes) * closed * link.efficiency,
                hop_bytes_per_s=_to_one(level, axes) * link.efficiency,
                latency_s=level.latency_s,
                launch_s=link.launch_s,
                torus_axes=axes,
                closed=closed,
                in_network=level.in_network_reduction,
                quantize=cal.quantize,
            )
        )
        inside = reach
    return laid


def _usable(level: Level, members: Number, axes: Number) -> Number:
    """Return the bandwidth of a chip that a group can use: of a mesh or torus only its own links.

    Full mesh: one link for each other member. Torus: 2 members use one axis, 4 two, 8 three.
    """
    mesh = look_up(_FULL_MESH, level.topology)
    mesh_share = least(1.0, divide(members - 1.0, level.chips - 1.0, 1.0))
    torus_share = divide(_axes_used(members, axes), axes, 1.0)
    return level.bytes_per_s * choose(mesh > 0, most(mesh_share, 1e-9), torus_share)


def _side(members: Number, axes: Number, quantize: Number) -> Number:
    """Return the longest side of a group's block on a torus: 8 chips on 2 axes are 4 x 2."""
    log = log2(most(members, 1.0)) / _axes_used(members, axes)
    return 2.0 ** round_up(log, quantize)


def _axes_used(members: Number, axes: Number) -> Number:
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
    return level.bytes_per_s / links


def _steps(wire: Wire) -> Number:
    """Return hops in sequence: the fewer of g-1 (ring) and log2 g (halving).

    On a torus rings run both ways: half a ring per axis, all of it where the ring is open.
    """
    log = log2(most(wire.members, 1.0))
    halving = round_up(log, wire.quantize)
    axes = _axes_used(wire.members, wire.torus_axes)
    rings = axes * _side(wire.members, wire.torus_axes, wire.quantize) / 2.0 / wire.closed
    ring = most(wire.members - 1.0, 0.0)
    return choose(wire.torus_axes > 0, least(rings, ring), least(halving, ring))


def _active(wire: Wire, seconds: Number) -> Number:
    return choose(wire.members > 1.0, seconds, 0.0)


def all_gather(laid: list[Wire], size_bytes: Number) -> list[Number]:
    """Return seconds by level until every member has all of `size_bytes`, each holding a share.

    V/W (g-1)/g per level, on V shrunk by the levels below; a reduce-scatter takes as long.
    """
    seconds: list[Number] = []
    shard = size_bytes
    for wire in laid:
        moved = shard / wire.bytes_per_s * (wire.members - 1.0) / wire.members
        seconds.append(_active(wire, moved + _steps(wire) * wire.latency_s + wire.launch_s))
        shard = shard / wire.members
    return seconds


def all_reduce(laid: list[Wire], size_bytes: Number) -> list[Number]:
    """Return seconds by level of summing `size_bytes` held by every member.

    Hierarchical: reduce-scatter inside, all-reduce of the shard across, all-gather inside:
    2 V/W (g-1)/g per level on V shrunk by the levels below; with in-network reduction
    V/W (g+1)/g where that is less. Patarasuk and Yuan 2009; MODEL section 4.
    """
    seconds: list[Number] = []
    shard = size_bytes
    for wire in laid:
        g = wire.members
        v = shard / wire.bytes_per_s
        ring = 2.0 * (g - 1.0) / g * v + 2.0 * _steps(wire) * wire.latency_s
        switch = (g + 1.0) / g * v + 2.0 * wire.latency_s  # up to the switch and down again
        shorter = choose(wire.in_network > 0, least(ring, switch), ring)
        seconds.append(_active(wire, shorter + wire.launch_s))
        shard = shard / g
    return seconds


class Routing(NamedTuple):
    """Where the copies of one token go when it visits `k` experts spread over a group.

    `copies` sent on each level per token; `domains` of the innermost level that a token touches,
    its own included; `leaving` copies that leave the innermost level over copies needed, those for
    experts at home included.
    """

    copies: list[Number]
    domains: Number
    leaving: Number


def route(
    laid: list[Wire], k: Number, fan_out: Number, node_limit: Number, dedup: Number
) -> Routing:
    """Count the copies of a token by level under uniform routing to `k` places of `fan_out` chips.

    Without de-duplication k/g of the copies stay home; the innermost level carries those for its
    own chips, every other one all that leave the domain below it. With de-duplication a token sends
    one copy to each remote domain that holds any of its experts (M(1-(1-1/M)^k) touched, M the
    domains or the node limit) and the rest is forwarded inside.
    """
    size = laid[-1].reach
    inner = laid[0].reach
    domains = size / inner
    reachable = choose(node_limit > 0, least(domains, node_limit), domains)
    # (1-1/M)^k through log1p: exact for many domains; one domain is touched once
    one = reachable <= 1.0
    log_miss = log1p(-1.0 / choose(one, 2.0, reachable))
    touched = choose(one, 1.0, -reachable * expm1(k * log_miss))
    forwarded = k * fan_out * (1.0 - 1.0 / inner)
    plain = k * fan_out * (inner - 1.0) / size
    copies = [choose((dedup > 0) & (domains > 1.0), forwarded, plain)]
    sent = choose(dedup > 0, touched, k * fan_out)
    for below in laid[:-1]:
        copies.append(sent * (size - below.reach) / size)
    out = copies[1] if len(copies) > 1 else 0.0
    return Routing(copies, touched, divide(out, k * fan_out))


def all_to_all(
    laid: list[Wire], routing: Routing, token_bytes: Number, tokens: Number
) -> list[Number]:
    """Return seconds by level of sending each of a chip's `tokens` to its experts' chips.

    Levels run at once: the exchange takes the longest of them. On a torus every copy travels
    side/4 hops per axis on average (both ways around), so links carry that many times more.
    """
    seconds: list[Number] = []
    for wire, copies in zip(laid, routing.copies, strict=True):
        axes = _axes_used(wire.members, wire.torus_axes)
        side = _side(wire.members, wire.torus_axes, wire.quantize)
        # side/4 is the mean with home, which `copies` leave out
        hops = axes * side / 4.0 * divide(wire.members, wire.members - 1.0, 1.0)
        load = choose(wire.torus_axes > 0, most(1.0, hops), 1.0)
        moved = tokens * copies * token_bytes * load / wire.bytes_per_s
        steps = choose(wire.torus_axes > 0, _steps(wire), 1.0)
        seconds.append(_active(wire, moved + steps * wire.latency_s + wire.launch_s))
    return seconds
