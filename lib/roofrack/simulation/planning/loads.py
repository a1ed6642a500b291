"""The highest load that keeps a promise: rates over a range, then between the last two."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from roofrack.simulation.asked import Limits
from roofrack.simulation.deployments import Deployment
from roofrack.simulation.planning.runs import Case, Player, Run

FIRST = (0.03, 0.06, 0.12, 0.25, 0.5, 0.75, 1.1)
"""Rates of the first round, over what full batches all the time could do."""
BETWEEN, ROUNDS = 4, 2
"""Rates between the last that keeps and the first that does not, and how often."""
LOWER, HIGHER = 3, 4
"""How often rates are lowered or raised where all or none of them fail."""
FARTHER = 4.0
"""By how much."""


@dataclass(frozen=True)
class Highest:
    """The highest rate simulated that keeps (None: not even the lowest), the next one that fails.

    No rate below the highest failed: where a lower one does, the highest is below that.
    """

    deployment: Deployment
    limits: Limits
    run: Run | None
    fails: Run | None

    @property
    def rate(self) -> float | None:
        """Requests per second of all replicas."""
        return None if self.run is None else self.run.case.rate


def highest(player: Player, cases: Sequence[tuple[Deployment, Limits]]) -> list[Highest]:
    """Return the highest load of each deployment, all rates of a round in one call."""
    ran: list[dict[float, Run]] = [{} for _ in cases]
    todo = {
        i: tuple(share * player.capacity(d) * d.replicas for share in FIRST)
        for i, (d, _) in enumerate(cases)
    }
    left = [ROUNDS] * len(cases)
    moved = [0] * len(cases)
    while todo:
        asked = [(i, rate) for i, rates in todo.items() for rate in rates]
        runs = player.play([Case(cases[i][0], rate, cases[i][1]) for i, rate in asked])
        for (i, rate), run in zip(asked, runs, strict=True):
            ran[i][rate] = run
        following = {}
        for i in todo:
            kept, fails = edge({rate: run.kept for rate, run in ran[i].items()})
            if kept is not None and fails is not None:
                if left[i] > 0:
                    left[i] -= 1
                    following[i] = tuple(np.geomspace(kept, fails, BETWEEN + 2)[1:-1].tolist())
            elif moved[i] < (LOWER if kept is None else HIGHER):
                moved[i] += 1
                following[i] = (min(ran[i]) / FARTHER if kept is None else max(ran[i]) * 2.0,)
        todo = following
    return [_highest(d, limits, by) for (d, limits), by in zip(cases, ran, strict=True)]


def edge(kept: dict[float, bool]) -> tuple[float | None, float | None]:
    """Return the last rate below which all keep, itself included, and the first that does not."""
    last = None
    for rate in sorted(kept):
        if not kept[rate]:
            return last, rate
        last = rate
    return last, None


def _highest(deployment: Deployment, limits: Limits, ran: dict[float, Run]) -> Highest:
    last, fails = edge({rate: run.kept for rate, run in ran.items()})
    return Highest(
        deployment,
        limits,
        None if last is None else ran[last],
        None if fails is None else ran[fails],
    )
