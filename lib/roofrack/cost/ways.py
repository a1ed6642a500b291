"""The ways of the collectives of a group: ring, tree, level by level. MODEL section 4."""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, most
from roofrack.cost.fabric import Link, Wire, Wires, link

NEVER_S = 1e6
"""Fixed time of a protocol that is not there: any other is faster. Finite, for derivatives."""


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
    MODEL section 4. Either also by the protocol for small messages, where there is one.
    """
    gathered = [(wire, link(wire, "all_gather")) for wire in laid]
    reduced = [(wire, link(wire, "all_reduce")) for wire in laid]
    return Group(
        laid,
        (_by_level(gathered, 1.0, False), _one_ring(gathered, 1.0), _small(gathered, 1.0)),
        (
            _by_level(reduced, 2.0, False),
            _by_level(reduced, 2.0, True),
            _one_ring(reduced, 2.0),
            _tree(reduced),
            _small(reduced, 2.0),
        ),
    )


Laid = list[tuple[Wire, Link]]
"""A group over all levels, with what one of its collectives meets on each."""


def _by_level(laid: Laid, rounds: float, in_switch: bool) -> Way:
    way = Way([], [], [])
    shard: Number = 1.0
    for wire, via in laid:
        g = wire.members
        sent, steps = rounds * (g - 1.0) / g * shard, rounds * wire.steps
        if in_switch:  # up to the switch and down again
            sent = choose(wire.in_network, (g + 1.0) / g * shard, sent)
            steps = choose(wire.in_network, 2.0, steps)
        way.fixed_s.append(steps * wire.latency_s + via.launch_s + via.staged_s)
        way.sent.append(sent)
        way.s_per_byte.append((sent + via.own * shard) / via.bytes_per_s)
        shard = shard / g
    return way


def _small(laid: Laid, rounds: float) -> Way:
    """Return the protocol for small messages: each word brings its own flag, nobody waits in turns.

    Engines' all-reduces (`direct`) read the whole buffers of all others at once. One level is
    after the other, each with the whole buffer. Where any level has no such protocol it never ends.
    """
    way = Way([], [], [])
    for wire, via in laid:
        g = wire.members
        none = wire.active & (via.low_latency <= 0) & (via.direct <= 0)
        sent = choose(via.direct > 0, g - 1.0, rounds * (g - 1.0) / g * via.low_latency)
        way.fixed_s.append(choose(none, NEVER_S, wire_s(wire) + via.launch_s))
        way.sent.append(choose(none, 0.0, sent))
        own = via.own * choose(via.direct > 0, 1.0, via.low_latency)
        way.s_per_byte.append((way.sent[-1] + choose(none, 0.0, own)) / via.bytes_per_s)
    return way


def wire_s(wire: Wire) -> Number:
    """Return the time of one message on a level; 0 where it is idle."""
    return choose(wire.active, wire.latency_s, 0.0)


def _one_ring(laid: Laid, rounds: float) -> Way:
    """Return `rounds` turns of one ring through all members, chips of a domain side by side.

    Every boundary of a domain is crossed by as many parallel rings as it has chips, each with the
    link of one of them; the others go on inside. All links work at once: the slowest sets the pace.
    """
    size = laid[-1][0].reach
    each = rounds * (size - 1.0) / size
    hops, sent = [], []
    inside: Number = 1.0
    for wire, _ in laid:
        outermost = wire.reach >= size
        beyond = choose(outermost, 0.0, 1.0 / wire.reach)
        # hops at this level and not further out; the last one, which would close the ring, is not
        hops.append(rounds * (size * (1.0 / inside - beyond) - choose(outermost, 1.0, 0.0)))
        sent.append(each * (1.0 / inside - beyond))
        inside = wire.reach
    hops = [choose(wire.active, h, 0.0) for (wire, _), h in zip(laid, hops, strict=True)]
    return _side_by_side(laid, hops, sent)


def _tree(laid: Laid) -> Way:
    """Return a reduction up a binary tree and a broadcast down, pipelined over two trees.

    A tree over a torus has long branches: it takes as many hops as the rings there.
    """
    inside = [1.0, *(wire.reach for wire, _ in laid[:-1])]
    hops = [2.0 * wire.steps for wire, _ in laid]
    return _side_by_side(laid, hops, [2.0 / i for i in inside])


def _side_by_side(laid: Laid, hops: list[Number], sent: list[Number]) -> Way:
    """Return levels that move their bytes at once; each level stands for what it adds."""
    way = Way([], [], [])
    slowest: Number = 0.0
    launch: Number = 0.0
    for (wire, via), steps, share in zip(laid, hops, sent, strict=True):
        moved = choose(wire.active, share, 0.0)
        pace = (moved + choose(moved > 0, via.own, 0.0)) / via.bytes_per_s
        fixed = via.launch_s + via.staged_s
        way.s_per_byte.append(most(pace - slowest, 0.0))
        way.fixed_s.append(steps * wire.latency_s + most(fixed - launch, 0.0))
        way.sent.append(moved)
        slowest, launch = most(slowest, pace), most(launch, fixed)
    return way
