"""What hides behind what: from the parts of a pass to its time. MODEL section 3.

The readings are named: `ideal` hides all behind the longest resource, `matmul` weights behind
arithmetic, `none` nothing; `smooth` takes each block at its roofline and hides a stated share of
communication. Two-batch overlap and attention/FFN disaggregation are one thing: batches that take
turns on two resources.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, least, most
from roofrack.cost import attention
from roofrack.cost.exchanges import context_parallel
from roofrack.cost.forward import Forward, Parts, Side, part_of, total
from roofrack.cost.roofline import block_time
from roofrack.cost.shares import Pass
from roofrack.cost.site import Site


class Bounds(NamedTuple):
    """Seconds of a pass: the estimate under the chosen overlap, and what brackets it."""

    estimate: Number
    lower: Number
    upper: Number


def bounds(at: Site, f: Forward) -> Bounds:
    """Combine the parts of a pass under the scenario's overlap.

    Hops and fixed overheads are on the critical path of the pass in every reading. `lower` hides
    all else behind the longest resource, `upper` nothing.
    """
    both = _both(f.attention, f.ffn)
    # of several batches one's overheads pass while another communicates
    own = most(both.parts.compute, _memory(both.parts)) + both.parts.overhead
    turns = most(f.batches * own, f.batches * both.comm)
    lower = most(turns, _longest(both) + both.parts.overhead) + f.fixed
    upper = sum(f.parts)
    estimate = _estimate(at, f, both, lower, upper)
    if isinstance(f.apart, float) and f.apart == 0.0:
        return Bounds(estimate, lower, upper)
    lower_apart = _apart(f, [_longest(x) + x.parts.overhead for x in (f.attention, f.ffn)])
    apart = upper if at.s.overlap == "none" else lower_apart
    if at.s.overlap in ("smooth", "matmul"):
        apart = most(_apart(f, [_alone(at, x) for x in (f.attention, f.ffn)]), lower_apart)
    is_apart = f.apart > 0
    return Bounds(choose(is_apart, apart, estimate), choose(is_apart, lower_apart, lower), upper)


def _both(a: Side, b: Side) -> Side:
    parts = Parts(*(x + y for x, y in zip(a.parts, b.parts, strict=True)))
    return Side(parts, a.busy + b.busy, a.comm + b.comm)


def _memory(t: Parts) -> Number:
    return t.weights + t.kv + t.activation


def _longest(side: Side) -> Number:
    """Return the longest resource of a side: the rest hides behind it."""
    return most(most(side.parts.compute, _memory(side.parts)), side.comm)


def _work(at: Site, side: Side) -> Number:
    """Return the seconds of a side that are not communication, its overheads included."""
    t = side.parts
    if at.s.overlap == "matmul":
        return t.kv + most(t.compute, t.weights) + t.activation + t.overhead
    return side.busy + t.overhead


def _hidden(at: Site, side: Side) -> Number:
    """Return the seconds of communication that hide behind blocks of the same batch."""
    if at.s.overlap == "matmul":
        return 0.0
    return at.s.calibration.comm_overlap * least(side.busy, side.comm)


def _alone(at: Site, side: Side) -> Number:
    return _work(at, side) + side.comm - _hidden(at, side)


def _estimate(at: Site, f: Forward, both: Side, lower: Number, upper: Number) -> Number:
    """Return the time of a pass whose blocks share their chips.

    Of several batches one computes while another communicates: the busier of the two never waits,
    and one batch takes at least its own way through.
    """
    if at.s.overlap == "ideal":
        return lower
    if at.s.overlap == "none":
        return upper
    turns = most(f.batches * _work(at, both), f.batches * both.comm)
    # what is computed beside another block still needs the units and the memory
    return most(most(turns, _alone(at, both)) + f.fixed, lower)


def _apart(f: Forward, sides: list[Number]) -> Number:
    """Return the time of a pass whose attention and FFN are on different machines.

    Batches play ping-pong (MegaScale-Infer, arXiv:2504.02263 section 4.1): with enough of them the
    busiest of attention, FFN and the two directions of the network sets the pace; a single one
    waits for each in turn.
    """
    near, far = sides
    way = f.crossing
    once = near + far + way.out + way.back
    busiest = most(most(near, far), most(way.out, way.back))
    return most(f.batches * busiest, once) + f.fixed


def cached_more_s(at: Site, passes: tuple[Pass, ...], f: Forward, tokens: Number) -> Number:
    """Return seconds that `tokens` more cached tokens before the last of `passes` add to pass `f`.

    The attention core changes, and what context parallelism gathers. The difference is formed part
    by part, since that of two whole passes would lose its digits in single precision. Prompts are
    not computed where attention and FFN are apart.
    """
    s, m = at.s, f.batches
    p = part_of(passes[-1], m)
    later = p._replace(cached=p.cached + tokens)
    mine = at.share(p)
    before, after = (
        [block_time(w, s.hardware.hbm_bytes_per_s) for w in attention.cores(at, mine, each)]
        for each in (p, later)
    )
    compute, kv, busy = (
        total(after, part) - total(before, part) for part in ("compute", "kv", "busy")
    )
    gathered = (sum(context_parallel(at, mine, each).seconds) for each in (p, later))
    comm = -next(gathered) + next(gathered)
    both = _both(f.attention, f.ffn)
    t = both.parts
    if s.overlap == "ideal":
        now = (t.compute, _memory(t), both.comm)
        return m * _raised(now, (compute, kv, comm))
    if s.overlap == "none":
        return m * (compute + kv + comm)
    work, hidden = (
        busy,
        -s.calibration.comm_overlap * _raised((-both.busy, -both.comm), (-busy, -comm)),
    )
    if s.overlap == "matmul":
        work, hidden = kv + _raised((t.compute, t.weights), (compute, 0.0)), 0.0
    now = (m * _work(at, both), m * both.comm, _alone(at, both))
    return _raised(now, (m * work, m * comm, work + comm - hidden))


def _raised(values: tuple[Number, ...], more: tuple[Number, ...]) -> Number:
    """Return by how much the largest of `values` rises when each rises by its `more`."""
    top = values[0]
    for value in values[1:]:
        top = most(top, value)
    rise = more[0] - (top - values[0])
    for value, extra in zip(values[1:], more[1:], strict=True):
        rise = most(rise, extra - (top - value))
    return rise
