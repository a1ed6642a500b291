"""From the words of a question to its answer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from roofrack.errors import InputError
from roofrack.simulation.command import all_deployments as composed
from roofrack.simulation.deployments import Deployment
from roofrack.simulation.planning.asked import Plan, plan_asked
from roofrack.simulation.planning.least import Fleet, least_fleets
from roofrack.simulation.planning.owning import Owned, owned
from roofrack.simulation.planning.runs import Player
from roofrack.simulation.planning.tiers import LARGEST, Tiered, tiered, wanted
from roofrack.simulation.planning.waits import Waited, waited

Answer = list[Fleet] | list[Owned] | Tiered | list[Waited]


@dataclass(frozen=True)
class Planned:
    """The answer to a question, what all deployments share, and how it was found.

    `answer`: of `chips` a `Fleet` for each deployment and rate, of `own` an `Owned` for each
    deployment, of `tiers` one `Tiered`, of `wait` a `Waited` for each deployment, rate and wait.
    """

    asked: Plan
    labels: dict[str, str]
    answer: Answer
    runs: int
    short: bool
    notes: tuple[str, ...]


def answer(words: Sequence[str], config_dir: str | Path | None = None) -> Planned:
    """Return what these words ask for; raise InputError or InfeasibleError."""
    plan = plan_asked(words)
    player = Player(plan.run)
    deployments, labels, refused = composed(plan.run, config_dir)
    found: Answer
    if plan.question == "chips":
        cases = [(d, rate) for rate in player.rates(deployments[0]) for d in deployments]
        found = least_fleets(player, cases, plan.max_chips)
    elif plan.question == "own":
        found = owned(player, deployments, plan)
    elif plan.question == "tiers":
        found = _tiers(player, deployments, plan, config_dir)
    else:
        found = waited(player, deployments, plan.waits)
    return Planned(plan, labels, found, player.runs, player.short, tuple(refused))


def _tiers(
    player: Player, deployments: Sequence[Deployment], plan: Plan, config_dir: str | Path | None
) -> Tiered:
    """Return the tiers of one deployment, composed with each cap of its sequences."""
    if len(deployments) != 1:
        raise InputError(
            f"plan tiers: one fleet has tiers; given are {len(deployments)} deployments"
        )
    fits = max(1, int(deployments[0].cache_tokens / player.lengths(deployments[0]).held))
    told = [int(one["batch"]) for one in plan.tiers.values() if "batch" in one]
    for batch in told:
        if batch > fits:
            raise InputError(f"tiers: batch={batch}: {fits:,} sequences fit into memory")
    batches = wanted(plan, min(fits, LARGEST))
    overrides = (*plan.run.overrides, f"workload.batch=[{','.join(map(str, batches))}]")
    found, _, refused = composed(replace(plan.run, overrides=overrides), config_dir)
    by = {int(d.scenario.workload.batch): d for d in found}
    if refused or len(by) != len(batches):
        raise InputError(f"plan tiers: not all caps of the sequences can run; {' '.join(refused)}")
    return tiered(player, by, fits, plan)
