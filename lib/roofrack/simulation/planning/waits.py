"""What waiting longer for others to join would save, and cost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite

from roofrack.simulation.deployments import Deployment
from roofrack.simulation.planning.loads import Highest, highest
from roofrack.simulation.planning.runs import Case, Player, Run
from roofrack.simulation.planning.tiers import waiting

LITTLE = 0.02
"""Share of the busy time below which a saving is none: runs differ by as much."""


@dataclass(frozen=True)
class Waited:
    """One wait at one rate. `saved` of the busy time without waiting; `most` that full batches do.

    `highest` the highest load under the limits, where there are any.
    """

    deployment: Deployment
    rate: float
    wait_s: float
    run: Run
    saved: float
    most: float
    highest: Highest | None

    @property
    def released(self) -> float:
        """Chips that the time saved amounts to, if those of an idle instance can be used else."""
        return self.saved * self.run["busy_share"] / (1.0 - self.saved) * self.run["chips"]


def waited(
    player: Player, deployments: Sequence[Deployment], waits: Sequence[float]
) -> list[Waited]:
    """Return every wait at every rate, those of a deployment and rate together, 0 first."""
    limits = player.asked.limits
    promised = isfinite(limits.ttft_s)
    made = [(d, x, _waiting(d, x)) for d in deployments for x in waits]
    rates = player.rates(deployments[0])
    runs = iter(player.play([Case(of, rate, limits) for _, _, of in made for rate in rates]))
    by = {(id(d), x, rate): next(runs) for d, x, _ in made for rate in rates}
    loads: dict[tuple[int, float], Highest | None] = {(id(d), x): None for d, x, _ in made}
    if promised:
        tops = highest(player, [(of, limits) for _, _, of in made])
        loads = {(id(d), x): top for (d, x, _), top in zip(made, tops, strict=True)}
    found = []
    for deployment in deployments:
        for rate in rates:
            zero = by[id(deployment), 0.0, rate]
            for x in waits:
                run = by[id(deployment), x, rate]
                found.append(
                    Waited(
                        deployment, rate, x, run, saved_share(zero, run),
                        _most(player, run, zero), loads[id(deployment), x],
                    )
                )  # fmt: skip
    return found


def _waiting(of: Deployment, wait_s: float) -> Deployment:
    return replace(waiting(of, wait_s), shown=dict(of.shown) | {"wait_s": wait_s})


def busy_s(run: Run) -> float:
    """Return the seconds with a pass under way for each request, of one instance."""
    return run["busy_share"] * run["duration_s"] * run.case.deployment.replicas / run["requests"]


def saved_share(zero: Run, run: Run) -> float:
    """Return the share of the busy time per request that waiting saves."""
    return 1.0 - busy_s(run) / busy_s(zero)


def _most(player: Player, run: Run, zero: Run) -> float:
    """Return the share that full batches all the time would save: no waiting saves more."""
    return max(0.0, 1.0 - 1.0 / player.capacity(run.case.deployment) / busy_s(zero))
