"""Settings of two pools in pairs, in every ratio of whole instances that can be best."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from roofrack.cost.pools import Side, between_s, together
from roofrack.leaves import put
from roofrack.nouns import Scenario
from roofrack.searching.candidates import MARGIN, Keeper, Nearest, within
from roofrack.searching.points import Points, placed
from roofrack.searching.space import LEVELS, Case, Space, plan_leaves

BLOCK = 1 << 17
"""Pairs looked at together."""
OWN_MAIN, OWN_FIRST = ("tpot_s", "tokens_per_s_per_user"), ("ttft_s",)
"""What one side alone decides."""
SAME_MAIN = ("chips", "senders")
SAME_FIRST = ("chips", "senders", "each", "retrieve_s")
"""What has to agree for the faster of two settings to be better with any partner."""


class Pairs(NamedTuple):
    """Some pairs: their columns, and where they are.

    `at` are places in an array of (fewer or more prefill instances, rows that decode, settings
    that prefill), `firsts` instances in that array; row i stands for `mains[i]` of setting
    `rows[i]`.
    """

    columns: dict[str, np.ndarray]
    at: np.ndarray
    firsts: np.ndarray
    rows: np.ndarray
    mains: np.ndarray
    main: Points
    first: Points

    def take(self, some: np.ndarray) -> Points:
        """Return some of the pairs as points."""
        at = self.at[some]
        _, i, j = np.unravel_index(at, self.firsts.shape)
        main, first = self.main.take(self.rows[i]), self.first.take(j)
        return placed(
            main.place["case"],
            main.place["plan"],
            main.place["step"],
            {name: column[some] for name, column in self.columns.items()},
            first=first.place["plan"],
            first_step=first.place["step"],
            firsts=self.firsts.ravel()[at].astype(np.int64),
            mains=self.mains[i],
        )


@dataclass(frozen=True)
class Meeting:
    """Settings of both pools of a case, at one place along the axes that both know of."""

    space: Space
    case: Case
    s: Scenario
    columns: tuple[str, ...]
    main: Points
    first: Points

    def between(self, main: Points, first: Points) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return how long caches are on their way, by group of each side, and the groups."""
        of_main, of_first = groups(main, SAME_MAIN), groups(first, SAME_FIRST)
        one = np.unique(of_main, return_index=True)[1]
        other = np.unique(of_first, return_index=True)[1]
        assert self.case.prefill is not None
        there = plan_leaves(self.case.plans.take(main.place["plan"][one]))
        here = plan_leaves(self.case.prefill.take(first.place["plan"][other]), "prefill.")
        here = {**here, **self.space.first.values(first.place["step"][other])}
        values = {path: value[:, None] for path, value in there.items()} | {
            self.case.numbered(path): value[None, :] for path, value in here.items()
        }
        with np.errstate(all="ignore"):
            seconds = between_s(put(self.s, values, LEVELS))
        seconds = np.broadcast_to(np.float32(seconds), (len(one), len(other)))
        return seconds, of_main, of_first

    def hopeful(self, best: Nearest) -> tuple[Points, Points]:
        """Return the settings of each side that can be in one of the best plans asked for.

        A setting is as good as with the best partner there is, in a ratio that need not be whole
        and with no way in between; what is not among the best even so is left out.
        """
        kept = []
        for side, alone, own in (
            (self.main, self.together(_side(self.main), _side(self.first, [0])), OWN_MAIN),
            (self.first, self.together(_side(self.main, [0]), _side(self.first)), OWN_FIRST),
        ):
            limits = {n: v for n, v in best.limits.limits.items() if n in own}
            holds = [within(alone[n], n, limit, MARGIN) for n, limit in limits.items()]
            kept.append(side.take(np.all([np.ones(len(side), bool), *holds], axis=0)))
        main, first = kept
        if not len(main) or not len(first):
            return main.take([]), first.take([])
        return (
            main.take(best.hopes(self.best_main(main, first, best.of))),
            first.take(best.hopes(self.best_first(main, first, best.of))),
        )

    def best_main(self, main: Points, first: Points, name: str) -> np.ndarray:
        """Return a column of settings that decode as with the best partner there is.

        That is in a ratio that need not be whole, and with no way in between: no pair is better.
        """
        partner = _side(first, [_price(first, name).argmin()])
        return np.broadcast_to(self.together(_side(main), partner)[name], (len(main),))

    def best_first(self, main: Points, first: Points, name: str) -> np.ndarray:
        """Return a column of settings that prefill as with the best partner there is."""
        partner = _side(main, [_price(main, name).argmin()])
        return np.broadcast_to(self.together(partner, _side(first))[name], (len(first),))

    def ahead(self, main: Points, first: Points, keepers: Sequence[Keeper]) -> Points:
        """Return the settings that decode of which a keeper may still want a pair, cheapest first.

        Each column is as with the partner that is best for it: what no keeper wants even so, it
        wants with no partner.
        """
        columns = {name: self.best_main(main, first, name) for name in self.columns}
        columns |= {"room": np.ones(len(main)), "why_invalid": np.zeros(len(main))}
        ahead = np.any([keeper.wants(columns) for keeper in keepers], axis=0)
        order = np.argsort(columns["usd_per_mtok"][ahead], kind="stable")
        return main.take(np.flatnonzero(ahead)[order])

    def together(self, main: Side, first: Side) -> dict[str, np.ndarray]:
        """Return what sides are together if as much of the second is there as the first needs."""
        needed = main.requests / main.pass_s / _rate(first)
        return together(self.s, first, main, 0.0, needed, 1.0)

    def pairs(self, main: Points, first: Points) -> Iterator[Pairs]:
        """Yield the settings of both sides in pairs, in all ratios that can be best."""
        if not len(main) or not len(first):
            return
        way, of_main, of_first = self.between(main, first)
        most = np.floor((self.space.chips - first.columns["chips"].min()) / main.columns["chips"])
        most = np.maximum(most.astype(np.int64), 0)
        rows = np.repeat(np.arange(len(main)), most)
        mains = np.arange(len(rows)) - np.repeat(np.cumsum(most) - most, most) + 1
        size = max(BLOCK // len(first), 1)

        for start in range(0, len(rows), size):  # threads would only wait for each other
            some = slice(start, start + size)
            there = way[of_main[rows[some]]][:, of_first]
            yield self._block(main, first, there, rows[some], mains[some])

    def _block(
        self, main: Points, first: Points, way: np.ndarray, rows: np.ndarray, mains: np.ndarray
    ) -> Pairs:
        """Return so many instances of settings that decode with all that prefill."""
        a, b = Side(*(v[:, None] for v in _side(main, rows))), _side(first)
        count = mains[:, None].astype(np.float32)
        room = np.floor((self.space.chips - count * a.chips) / b.chips)
        period = np.maximum(b.pass_s, np.maximum(way, b.retrieve_s))
        even = np.floor(count * (a.requests / a.pass_s) * (period / b.requests))
        firsts = np.stack([np.clip(even, 1, room), np.clip(even + 1, 1, room)])
        ratios = np.broadcast_to(room >= 1, firsts.shape).copy()
        ratios[1] &= firsts[1] > firsts[0]
        # two of each are no other ratio than one of each
        ratios &= np.gcd(firsts.astype(np.int32), mains[:, None].astype(np.int32)) == 1
        found = together(self.s, b, a, way, firsts, count)
        columns = {
            name: np.broadcast_to(found[name], ratios.shape)[ratios] for name in self.columns
        }
        columns["room"] = np.broadcast_to(np.minimum(a.room, b.room), ratios.shape)[ratios]
        columns["why_invalid"] = np.zeros(len(columns["room"]), np.float32)
        return Pairs(columns, np.flatnonzero(ratios), firsts, rows, mains, main, first)


def groups(points: Points, same: tuple[str, ...]) -> np.ndarray:
    """Return a number for each point, equal where all these columns are."""
    found = np.zeros(len(points), np.int64)
    for name in same:
        values, index = np.unique(points.columns[name], return_inverse=True)
        found = np.unique(found * len(values) + index.reshape(-1), return_inverse=True)[1]
    return found.reshape(-1)


def _side(points: Points, rows: Any = slice(None)) -> Side:
    return Side(*(points.columns[name][rows] for name in Side._fields))


def _rate(first: Side) -> np.ndarray:
    """Return requests per second of an instance that prefills, if sending them on takes no time."""
    rate: np.ndarray = first.requests / np.maximum(first.pass_s, first.retrieve_s)
    return rate


def _price(points: Points, goal: str) -> np.ndarray:
    """Return what a setting adds to a goal, whatever it is paired with: less is better."""
    side = _side(points)
    if goal in ("usd_per_mtok", "tokens_per_s_per_chip"):
        paid = side.usd_per_s if goal == "usd_per_mtok" else side.chips
        return paid / _rate(side)
    return side.pass_s + side.retrieve_s
