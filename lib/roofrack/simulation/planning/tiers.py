"""Slow, normal and fast tiers of the same chips: fewer sequences, or waiting for more of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from roofrack.errors import InfeasibleError
from roofrack.simulation.asked import Limits
from roofrack.simulation.deployments import Deployment
from roofrack.simulation.planning.asked import TIERS, Plan
from roofrack.simulation.planning.loads import Highest, highest
from roofrack.simulation.planning.runs import Case, Player, Run

MULTIPLES = {"fast": 1.5, "normal": 3.0, "slow": 8.0}
"""Promised time per token over that of a sequence alone: assumed, where nothing says so."""
PATIENCE = 10.0
"""Promised time to first token of the slow tier over that of the others: assumed."""
LARGEST = 256
"""Most sequences in flight, where nothing says so: beyond, runs would have to be very long."""
EVERY = 4
"""Factor between the caps of the fast tier that are tried."""


@dataclass(frozen=True)
class Tier:
    """One tier: its promise, which of it is assumed, and the best way to keep it (None: none)."""

    name: str
    limits: Limits
    assumed: tuple[str, ...]
    batch: int
    wait_s: float
    policy: str
    best: Highest | None
    tried: int

    @property
    def run(self) -> Run | None:
        """The run at the highest load."""
        return None if self.best is None else self.best.run


@dataclass(frozen=True)
class Tiered:
    """All tiers; `alone` a sequence by itself; `fits` how many the memory holds."""

    tiers: tuple[Tier, ...]
    alone: Run
    fits: int
    largest: int


@dataclass(frozen=True)
class Way:
    """One way to serve a tier."""

    tier: str
    deployment: Deployment
    batch: int
    wait_s: float


def promises(plan: Plan, alone_s: float) -> dict[str, tuple[Limits, tuple[str, ...]]]:
    """Return what each tier promises, and which of it nobody told. `alone_s`: TPOT of one alone."""
    found: dict[str, tuple[Limits, tuple[str, ...]]] = {}
    for name in TIERS:
        told, limits = plan.tiers[name], plan.run.limits
        patience = PATIENCE if name == "slow" else 1.0
        assumed: tuple[str, ...] = (
            () if "tpot_s" in told else (f"tpot_s = {MULTIPLES[name]:g} x alone",)
        )
        if "ttft_s" not in told and name == "slow":
            assumed += (f"ttft_s = {PATIENCE:g} x limits.ttft_s",)
        found[name] = (
            Limits(
                told.get("ttft_s", limits.ttft_s * patience),
                told.get("tpot_s", alone_s * MULTIPLES[name]),
                limits.share,
            ),
            assumed,
        )
    return found


def caps(largest: int) -> list[int]:
    """Return the most sequences in flight that a fast tier may try: powers of EVERY, below."""
    found = [1]
    while found[-1] * EVERY < largest:
        found.append(found[-1] * EVERY)
    return found


def tiered(player: Player, of_batch: dict[int, Deployment], fits: int, plan: Plan) -> Tiered:
    """Return the tiers. `of_batch`: the deployment with every cap that a tier may have."""
    smallest = of_batch[min(of_batch)]
    alone_at = 0.02 * player.capacity(smallest) * smallest.replicas
    alone = player.play([Case(smallest, alone_at, plan.run.limits)])[0]
    promised = promises(plan, alone["tpot_mean_s"])
    ways = [way for name in TIERS for way in _ways(name, of_batch, plan)]
    loads = highest(player, [(way.deployment, promised[way.tier][0]) for way in ways])
    found = []
    for name in TIERS:
        mine = [(w, h) for w, h in zip(ways, loads, strict=True) if w.tier == name]
        # the same machines: who serves most is cheapest
        way, best = max(mine, key=lambda one: one[1].rate or 0.0)
        limits, assumed = promised[name]
        if name == "slow" and way.wait_s and "wait_s" not in plan.tiers["slow"]:
            assumed += ("wait_s = limits.ttft_s",)
        found.append(
            Tier(
                name, limits, assumed, way.batch, way.wait_s, way.deployment.policy,
                None if best.run is None else best, len(mine),
            )
        )  # fmt: skip
    if all(tier.best is None for tier in found):
        raise InfeasibleError(
            "plan tiers: no tier keeps its promise at any load; promise more time per token"
        )
    return Tiered(tuple(found), alone, fits, max(of_batch))


def _ways(name: str, of_batch: dict[int, Deployment], plan: Plan) -> list[Way]:
    """Return the ways to serve a tier: caps of the fast one, waiting and policies of the slow."""
    told = plan.tiers[name]
    largest = int(told.get("batch", largest_of(of_batch, plan)))
    wait = told.get("wait_s", 0.0)
    if name == "normal" or (name == "fast" and "batch" in told):
        return [_way(name, of_batch[largest], largest, wait)]
    if name == "fast":
        return [_way(name, of_batch[cap], cap, wait) for cap in caps(largest)]
    of = of_batch[largest]
    waits = (wait,) if "wait_s" in told else (0.0, plan.run.limits.ttft_s)
    policies = [of.policy] if of.prefill_instances else sorted({of.policy, "decode_first"})
    return [
        _way(name, replace(of, policy=policy), largest, one) for policy in policies for one in waits
    ]


def largest_of(of_batch: dict[int, Deployment], plan: Plan) -> int:
    """Return the cap of tiers that were told none: the largest that was not told."""
    told = {int(one["batch"]) for one in plan.tiers.values() if "batch" in one}
    free = [batch for batch in of_batch if batch not in told]
    return max(free or of_batch)


def _way(name: str, of: Deployment, batch: int, wait_s: float) -> Way:
    return Way(name, waiting(of, wait_s), batch, wait_s)


def waiting(of: Deployment, wait_s: float) -> Deployment:
    """Return a deployment whose requests wait for others."""
    s = of.scenario
    return replace(of, scenario=replace(s, workload=replace(s.workload, wait_s=wait_s)))


def wanted(plan: Plan, largest: int) -> Sequence[int]:
    """Return all caps that are needed: those of the fast tier, the largest, and what was told."""
    told = {int(one["batch"]) for one in plan.tiers.values() if "batch" in one}
    return sorted({*caps(largest), largest, *told})
