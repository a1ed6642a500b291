"""Why there is no plan, and where there is one."""

from collections.abc import Mapping
from itertools import product
from math import lcm, prod
from typing import Any, NamedTuple

import numpy as np

from roofrack.cost.layout import REASONS
from roofrack.nouns import Scenario
from roofrack.planning.asked import DEGREES, allowed_of, check_chips, scalar
from roofrack.planning.candidates import chips_of, generate, rows_of, why

NEARBY = 64
"""Chip counts tried on each side for one that has plans."""


class Refusal(NamedTuple):
    """Why no plan can run: of `candidates` each reason rules out as many as `reasons` says.

    A candidate may have several reasons; the most frequent comes first. `nearest` are the chip
    counts next to `chips` that do have plans (`chips` itself if it has).
    """

    chips: int
    candidates: int
    reasons: dict[str, int]
    nearest: tuple[int, ...]

    @property
    def message(self) -> str:
        """All of it in one line."""
        found = ", ".join(f"{reason} ({count:,})" for reason, count in self.reasons.items())
        if not self.candidates:
            said = "no degrees that are allowed multiply to it"
        else:
            said = f"of {self.candidates:,} plans tried none can run: {found}"
        near = " and ".join(f"{count:,}" for count in self.nearest)
        return f"chips={self.chips}: {said}" + (
            f"; there are plans of {near} chips" if near else ""
        )


def why_none(s: Scenario, chips: int, *, within: Mapping[str, Any] | None = None) -> Refusal:
    """Return why no plan of `chips` chips can run, and which chip counts nearby have plans.

    Looks at the NEARBY counts on each side that the degrees allowed can make up. Errors as `plans`.

    >>> import roofrack
    >>> s = roofrack.scenario("hardware=gb200_nvl72", "model=deepseek_v3", "batch=512")
    >>> print(why_none(s, 72, within={"ep": "stage", "pp": 1}).message)
    chips=72: of 108 plans tried none can run: ep does not divide the experts (108), \
tp does not divide the query heads (30); there are plans of 64 and 128 chips
    """
    s = scalar(s)
    check_chips(s, chips)
    allowed = allowed_of(s, within or {})
    table = generate(s, np.array([chips], float), allowed, prune=False)
    masks = why(s, table)
    counts = {reason: int(np.sum(masks >> bit & 1)) for bit, reason in enumerate(REASONS)}
    ordered = sorted(((r, n) for r, n in counts.items() if n), key=lambda item: -item[1])
    return Refusal(
        int(chips),
        len(masks),
        dict(ordered),
        (int(chips),) if np.any(masks == 0) else _nearest_counts(s, int(chips), allowed),
    )


def _nearest_counts(s: Scenario, chips: int, allowed: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    reachable = _counts_near(s, chips, allowed)
    fewer = [count for count in reachable[::-1] if count < chips]
    more = [count for count in reachable if count > chips]
    return tuple(
        count
        for side in (fewer, more)
        if (count := _first_with_plans(s, side, allowed)) is not None
    )


def _first_with_plans(
    s: Scenario, counts: list[int], allowed: Mapping[str, np.ndarray]
) -> int | None:
    for start in range(0, len(counts), 16):
        table = generate(s, np.array(counts[start : start + 16], float), allowed)
        run = set(chips_of(rows_of(table, why(s, table) == 0)).tolist())
        for count in counts[start : start + 16]:
            if count in run:
                return count
    return None


def _counts_near(s: Scenario, chips: int, allowed: Mapping[str, np.ndarray]) -> list[int]:
    """Return the counts next to `chips` that the degrees allowed can make up, in order.

    A degree that may be anything makes up all multiples of what the others come to; a stage has to
    hold whole groups of experts.
    """
    fixed = [[int(v) for v in allowed[name]] or [1] for name in DEGREES]
    groups = [int(v) or 1 for v in allowed["ep"]] if s.model.experts > 0 else []
    free = {name for name in DEGREES if allowed[name].size == 0}
    found: set[int] = set()
    for pp, *inside in product(*fixed):
        for ep in groups or [1]:
            unit = pp * (lcm(prod(inside), ep) if free - {"pp"} else prod(inside))
            if free:
                at = chips // unit
                near = range(max(at - NEARBY, 1), at + NEARBY + 1)
                found |= {unit * times for times in near}
            else:
                found.add(unit)
    reachable = sorted(c for c in found if c <= s.hardware.fabric[-1].chips and c != chips)
    below = [c for c in reachable if c < chips][-NEARBY:]
    return below + [c for c in reachable if c > chips][:NEARBY]
