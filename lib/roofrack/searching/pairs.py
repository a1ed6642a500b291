"""Disaggregated serving: settings of one pool paired with settings of the other.

A pool is as good as its speed, so of instances with the same chips and the same way to the other
pool only those matter that no other beats in both time of a pass and requests per second:
`cost.pools.together` is monotone in both. What is left of one side is paired with what is left of
the other, in every ratio of whole numbers of instances that the chips allow and that can be best:
for some instances that decode, the prefill instances that keep them just busy or not quite.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from roofrack.cost.pools import Side, decode_side, prefill_side
from roofrack.errors import InputError
from roofrack.leaves import put
from roofrack.nouns import Scenario
from roofrack.searching.candidates import MARGIN, Excluded, Keeper, Nearest, show, unbeaten, usable
from roofrack.searching.meeting import SAME_FIRST, SAME_MAIN, Meeting, groups
from roofrack.searching.points import Points, joined
from roofrack.searching.scan import Pass, scan
from roofrack.searching.space import LEVELS, Case, Space

COLUMNS = (
    "ttft_s", "tpot_s", "tokens_per_s_per_user", "tokens_per_s_per_chip", "usd_per_mtok",
)  # fmt: skip
"""What can be the goal or a limit: monotone in how fast either pool is."""
TOGETHER = 4096
"""Settings that decode and are paired before it is asked again which can still matter."""
ROUNDED = MARGIN / 10
"""Relative width of what is kept beside the unbeaten settings: ten times what rounding does."""

_SIDE = Side._fields


def check(columns: Sequence[str]) -> None:
    """Raise InputError for a goal or limit that pairs cannot be compared by."""
    for name in columns:
        if name not in COLUMNS:
            raise InputError(
                f"{name}: where prompts are computed on a pool of their own a search knows "
                f"{', '.join(COLUMNS)}; give workload.serving=aggregated for other goals and limits"
            )


class Sides(NamedTuple):
    """The settings of both pools, block by block, as they are evaluated."""

    mains: Iterator[Points]
    firsts: Iterator[Points]


def sides(space: Space, cases: Mapping[int, Case]) -> Sides:
    """Begin to evaluate every setting of either pool."""
    return Sides(*(scan(cases, over) for over in _passes(space)))


def _passes(space: Space) -> tuple[Pass, Pass]:
    return Pass(_main, _SIDE, space.main), Pass(_first, _SIDE, space.first, "prefill.")


def add_pairs(
    space: Space,
    columns: tuple[str, ...],
    found: Sides,
    keepers: Sequence[Keeper],
    best: Nearest,
    counts: Excluded,
) -> None:
    """Show the keepers all pairs of settings that may matter.

    First all keepers are shown the pairs of unbeaten settings, the cheapest first: the best of all
    and the frontier are among them. Settings that are behind what has been found by then, however
    good their partner, are left out. Then `best` is shown those that can still be among its first
    few plans, by the least that the other pool adds. `columns` are wanted; `counts` is told of the
    sides.
    """
    mains, firsts = (
        _settings(points, over, space, counts)
        for points, over in zip(found, _passes(space), strict=True)
    )
    meetings = [
        Meeting(space, space.cases[n], _at(space, n, step), columns, main, firsts[n, step])
        for (n, step), main in mains.items()
        if (n, step) in firsts
    ]
    for meeting in meetings:
        first = _fastest(meeting.first, SAME_FIRST)
        main = meeting.ahead(meeting.main, first, keepers)
        counts.behind += len(meeting.main) - len(main)
        main = _fastest(main, SAME_MAIN)
        while len(main):
            ahead = meeting.ahead(main, first, keepers)
            counts.behind += len(main) - len(ahead)
            now, main = ahead.take(slice(TOGETHER)), ahead.take(slice(TOGETHER, None))
            for block in meeting.pairs(now, first):
                counts.add(block.columns)
                show(block, keepers)
    for meeting in meetings:
        for block in meeting.pairs(*meeting.hopeful(best)):
            show(block, (best,))


def _main(s: Scenario) -> dict[str, object]:
    return decode_side(s)._asdict()


def _first(s: Scenario) -> dict[str, object]:
    return prefill_side(s)._asdict()


def _at(space: Space, number: int, step: int) -> Scenario:
    case = space.cases[number]
    values = space.shared.values(np.array(step))
    return put(case.scenario, {case.numbered(p): v[()] for p, v in values.items()}, LEVELS)


def _settings(
    blocks: Iterator[Points], over: Pass, space: Space, counts: Excluded
) -> dict[tuple[int, int], Points]:
    """Return what of each plan may matter of one pool, by case and step along the shared axes."""
    found: dict[tuple[int, int], list[Points]] = {}
    for points in blocks:
        counts.add_side(points.columns)
        left = points.take(usable(points.columns, MARGIN))
        shared = _shared(space, over, left.place["step"])
        for step in np.unique(shared):
            some = left.take(shared == step)
            key = (int(some.place["case"][0]), int(step))
            kept = unbeaten(*_speed(some), some.place["plan"], ROUNDED)
            found.setdefault(key, []).append(some.take(kept))
    return {key: joined(some) for key, some in found.items()}


def _speed(points: Points) -> tuple[np.ndarray, np.ndarray]:
    """Return time of a pass, and of a request."""
    seconds = points.columns["pass_s"].astype(np.float64)
    return seconds, seconds / points.columns["requests"]


def _shared(space: Space, over: Pass, steps: np.ndarray) -> np.ndarray:
    """Return the step along the axes that both pools know of."""
    shared = np.zeros(len(steps), np.int64)
    index = over.grid.index(steps)
    for axis in space.shared.axes:
        shared = shared * len(axis) + index[axis.path]
    return shared


def _fastest(points: Points, same: tuple[str, ...]) -> Points:
    """Return the settings that none with the same numbers beats."""
    return points.take(unbeaten(*_speed(points), groups(points, same), ROUNDED))
