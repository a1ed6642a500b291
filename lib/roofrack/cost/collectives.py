"""Time and traffic of the collectives of a group laid over nested levels. MODEL section 4.

Every function returns a Transfer: seconds and bytes by level, so that what stays in the rack and
what leaves it can be told apart; an idle level costs nothing.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, least, log2, most, round_up
from roofrack.cost.fabric import Wire, Wires, axes_used, side


class Transfer(NamedTuple):
    """What a collective takes: seconds by level, one after the other, and bytes a chip sends."""

    seconds: list[Number]
    sent_bytes: list[Number]


def idle(laid: Wires) -> Transfer:
    """Return a transfer of nothing."""
    return Transfer([0.0] * len(laid), [0.0] * len(laid))


def repeated(one: Transfer, times: Number) -> Transfer:
    """Return a transfer made `times` times."""
    return Transfer([t * times for t in one.seconds], [b * times for b in one.sent_bytes])


def together(*some: Transfer) -> Transfer:
    """Return several transfers, one after the other."""
    return Transfer(
        [sum(level) for level in zip(*(t.seconds for t in some), strict=True)],
        [sum(level) for level in zip(*(t.sent_bytes for t in some), strict=True)],
    )


def either(condition: Number, this: Transfer, other: Transfer) -> Transfer:
    """Return one of two transfers."""
    return Transfer(
        [choose(condition, a, b) for a, b in zip(this.seconds, other.seconds, strict=True)],
        [choose(condition, a, b) for a, b in zip(this.sent_bytes, other.sent_bytes, strict=True)],
    )


def faster(*some: Transfer) -> Transfer:
    """Return the fastest of several ways of doing the same; the first of equals."""
    best = some[0]
    for other in some[1:]:
        best = either(sum(best.seconds) <= sum(other.seconds), best, other)
    return best


def steps(wire: Wire) -> Number:
    """Return hops in sequence: the fewer of g-1 (ring) and log2 g (halving).

    On a torus rings run both ways: half a ring per axis, all of it where the ring is open.
    """
    halving = round_up(log2(most(wire.members, 1.0)), wire.quantize)
    axes = axes_used(wire.members, wire.torus_axes)
    rings = axes * side(wire) / 2.0 / wire.closed
    ring = most(wire.members - 1.0, 0.0)
    return choose(wire.torus_axes > 0, least(rings, ring), least(halving, ring))


def active(wire: Wire, amount: Number) -> Number:
    """Return an amount where the group has several members on a level, else 0."""
    return choose(wire.members > 1.0, amount, 0.0)


def all_gather(laid: Wires, size_bytes: Number) -> Transfer:
    """Return the transfer until every member has all of `size_bytes`, each holding a share.

    The faster of level by level (V/W (g-1)/g each, on V shrunk by the levels below) and one ring
    over all members. A reduce-scatter takes as long.
    """
    seconds: list[Number] = []
    sent: list[Number] = []
    shard = size_bytes
    for wire in laid:
        moved = shard * (wire.members - 1.0) / wire.members
        time = moved / wire.bytes_per_s + steps(wire) * wire.latency_s + wire.launch_s
        seconds.append(active(wire, time))
        sent.append(moved)
        shard = shard / wire.members
    return faster(Transfer(seconds, sent), _one_ring(laid, size_bytes, rounds=1.0))


def all_reduce(laid: Wires, size_bytes: Number) -> Transfer:
    """Return the transfer of summing `size_bytes` held by every member; the fastest of three.

    Hierarchical: reduce-scatter inside, all-reduce of the shard across, all-gather inside:
    2 V/W (g-1)/g per level on V shrunk by the levels below; with in-network reduction V/W (g+1)/g
    where that is less. One ring over all members; one tree. Patarasuk and Yuan 2009; Sanders,
    Speck and Traeff 2009 (two trees use both directions); MODEL section 4.
    """
    seconds: list[Number] = []
    sent: list[Number] = []
    shard = size_bytes
    for wire in laid:
        g = wire.members
        ring_bytes, switch_bytes = 2.0 * (g - 1.0) / g * shard, (g + 1.0) / g * shard
        ring = ring_bytes / wire.bytes_per_s + 2.0 * steps(wire) * wire.latency_s
        # up to the switch and down again
        switch = switch_bytes / wire.bytes_per_s + 2.0 * wire.latency_s
        in_switch = (wire.in_network > 0) & (switch < ring)
        seconds.append(active(wire, choose(in_switch, switch, ring) + wire.launch_s))
        sent.append(active(wire, choose(in_switch, switch_bytes, ring_bytes)))
        shard = shard / g
    hierarchical = Transfer(seconds, sent)
    return faster(hierarchical, _one_ring(laid, size_bytes, rounds=2.0), _tree(laid, size_bytes))


def _one_ring(laid: Wires, size_bytes: Number, rounds: float) -> Transfer:
    """Return `rounds` turns of one ring through all members, chips of a domain side by side.

    Every boundary of a domain is crossed by as many parallel rings as it has chips, each with the
    link of one of them. All links work at once: the slowest sets the pace.
    """
    size = laid[-1].reach
    hops, sent = [], []
    inside: Number = 1.0
    for wire in laid:
        outside = choose(wire.reach < size, size / wire.reach, 1.0)
        hops.append(size / inside - outside)  # boundaries at this level and not further out
        sent.append(active(wire, rounds * size_bytes * (size - 1.0) / size / inside))
        inside = wire.reach
    delays = [rounds * h * w.latency_s for h, w in zip(hops, laid, strict=True)]
    return _side_by_side(laid, sent, delays)


def _tree(laid: Wires, size_bytes: Number) -> Transfer:
    """Return a reduction up a binary tree and a broadcast down, pipelined over two trees."""
    sent, delays = [], []
    inside: Number = 1.0
    for wire in laid:
        halving = round_up(log2(most(wire.members, 1.0)), wire.quantize)
        depth = choose(wire.torus_axes > 0, steps(wire), halving)  # branches of a torus are long
        sent.append(active(wire, 2.0 * size_bytes / inside))
        delays.append(2.0 * depth * wire.latency_s)
        inside = wire.reach
    return _side_by_side(laid, sent, delays)


def _side_by_side(laid: Wires, sent: list[Number], delays: list[Number]) -> Transfer:
    """Return levels that move their bytes at once; each level stands for what it adds."""
    seconds: list[Number] = []
    slowest: Number = 0.0
    launch: Number = 0.0
    for wire, size, delay in zip(laid, sent, delays, strict=True):
        moved = active(wire, size / wire.bytes_per_s)
        launched = active(wire, wire.launch_s)
        more = most(moved - slowest, 0.0) + most(launched - launch, 0.0)
        seconds.append(more + active(wire, delay))
        slowest, launch = most(slowest, moved), most(launch, launched)
    return Transfer(seconds, sent)
