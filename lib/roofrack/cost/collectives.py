"""Time and traffic of the collectives of a group laid over nested levels. MODEL section 4.

Every function returns a Transfer: seconds and bytes by level, so that what stays in the rack and
what leaves it can be told apart; an idle level costs nothing. The ways themselves (ring, tree,
level by level) belong to the group: `ways.group`.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, least
from roofrack.cost.ways import Group, Way


class Transfer(NamedTuple):
    """What a collective takes: seconds by level, one after the other, and bytes a chip sends."""

    seconds: list[Number]
    sent_bytes: list[Number]


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


def all_gather(at: Group, size_bytes: Number) -> Transfer:
    """Return the transfer until every member has all of `size_bytes`, each holding a share.

    By the fastest way for that size. A reduce-scatter takes as long.
    """
    return _fastest(at.gather, size_bytes)


def all_reduce(at: Group, size_bytes: Number) -> Transfer:
    """Return the transfer of summing `size_bytes` held by every member, by the fastest way."""
    return _fastest(at.reduce, size_bytes)


def _fastest(ways: tuple[Way, ...], size_bytes: Number) -> Transfer:
    """Return a transfer by the fastest of several ways; the first of equals."""
    best, best_s = ways[0], _seconds(ways[0], size_bytes)
    for way in ways[1:]:
        seconds = _seconds(way, size_bytes)
        better = seconds < best_s
        best = Way(
            *(
                [choose(better, b, a) for a, b in zip(x, y, strict=True)]
                for x, y in zip(best, way, strict=True)
            )
        )
        best_s = least(best_s, seconds)
    return Transfer(
        [a + b * size_bytes for a, b in zip(best.fixed_s, best.s_per_byte, strict=True)],
        [b * size_bytes for b in best.sent],
    )


def _seconds(way: Way, size_bytes: Number) -> Number:
    return sum(way.fixed_s) + sum(way.s_per_byte) * size_bytes
