"""The ways of the collectives of a group: ring, tree, level by level. MODEL section 4."""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, most
from roofrack.cost.fabric import Wires


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
