"""Runs of a plan: deployments of any number of replicas at any rate, all of a round in one call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from roofrack.simulation.asked import Asked, Limits
from roofrack.simulation.closed import closed_forms
from roofrack.simulation.deployments import Deployment
from roofrack.simulation.lanes import play
from roofrack.simulation.measured import row
from roofrack.simulation.played import Maker, Played

SHORT = 10.0
"""Times that requests are expected to last that a run should be long, or its end is mostly ramp."""


class Case(NamedTuple):
    """One thing to run: machines, requests per second, and what requests are promised."""

    deployment: Deployment
    rate: float
    limits: Limits


@dataclass(frozen=True)
class Run:
    """What came of a case: means over seeds of `measured.row`, and the deviation between seeds."""

    case: Case
    values: Mapping[str, float | None]
    spread: Mapping[str, float]

    @property
    def kept(self) -> bool:
        """Whether as many requests as promised had what they are promised."""
        return (self.values["goodput"] or 0.0) >= self.case.limits.share

    @property
    def short(self) -> bool:
        """Whether the run is too short to show a queue that grows slowly."""
        lasts = (self.values["e2e_mean_s"] or 0.0) + min(self.case.limits.ttft_s, 60.0)
        return (self.values["duration_s"] or 0.0) < SHORT * lasts

    def __getitem__(self, name: str) -> float:
        """Return a mean, NaN where there is none."""
        value = self.values[name]
        return float("nan") if value is None else float(value)


class Lengths(NamedTuple):
    """Mean tokens of the requests, `held` what one in flight holds on average."""

    prompt: float
    cached: float
    output: float
    held: float


class Player:
    """Plays cases, and keeps what several of them share."""

    def __init__(self, asked: Asked) -> None:
        """Read the trace, if there is one."""
        self.asked = asked
        self.maker = Maker(asked)
        self.runs = 0
        self.short = False
        self._capacity: dict[int, float] = {}
        self._alive: dict[int, Deployment] = {}  # the maker knows scenarios by their id

    def rates(self) -> tuple[float, ...]:
        """Return the rates that were asked for, or those of the trace."""
        return self.asked.rates or self.maker.own_rates()

    def play(self, cases: Sequence[Case]) -> list[Run]:
        """Run all cases with all seeds, in one call of the simulator."""
        t = self.asked.traffic
        seeds = [int(t.seed) + n for n in range(int(t.seeds))]
        for case in cases:
            self._alive.setdefault(id(case.deployment.scenario), case.deployment)
        jobs = [self.maker.job(c.deployment, c.rate, seed) for c in cases for seed in seeds]
        apart = [(i, job.first) for i, job in enumerate(jobs) if job.first is not None]
        numbers = [i for i, _ in apart]
        before = dict(zip(numbers, play([lane for _, lane in apart]), strict=True))
        mains = [job.main(before.get(i)) for i, job in enumerate(jobs)]
        ran = [
            job.played(lane, one, before.get(i))
            for i, (job, lane, one) in enumerate(zip(jobs, mains, play(mains), strict=True))
        ]
        self.runs += len(ran)
        groups = [ran[i : i + len(seeds)] for i in range(0, len(ran), len(seeds))]
        return [self._run(case, group) for case, group in zip(cases, groups, strict=True)]

    def _run(self, case: Case, played: Sequence[Played]) -> Run:
        of = id(case.deployment.scenario)
        if of not in self._capacity:
            form = closed_forms(played[:1], case.limits)[0]
            replicas = float(case.deployment.scenario.plan.replicas)
            self._capacity[of] = (form["capacity_per_s"] or float("nan")) / replicas
        values, spread = _mean([row(one, case.limits) for one in played])
        run = Run(case, values, spread)
        self.short = self.short or (run.kept and run.short)
        return run

    def capacity(self, of: Deployment) -> float:
        """Return the most requests per s of a replica that ran before, by the closed forms."""
        return self._capacity[id(of.scenario)]

    def lengths(self, of: Deployment) -> Lengths:
        """Return the tokens of the requests that a deployment meets, of the first seed."""
        self._alive.setdefault(id(of.scenario), of)
        job = self.maker.job(of, guess_per_s(of), int(self.asked.traffic.seed))
        prompt, output = float(job.requests.prompt.mean()), float(job.requests.output.mean())
        # whoever looks finds long outputs more often: half of E[l^2] / E[l] is there
        held = prompt + float((job.requests.output.astype(float) ** 2).mean()) / output / 2.0
        return Lengths(prompt, float(job.stream.cached.mean()), output, held)


def replicated(of: Deployment, replicas: int) -> Deployment:
    """Return a deployment with another number of replicas; chips and cost go with it."""
    per = replicas / of.replicas
    row = {**of.row, **{name: of.row[name] * per for name in ("chips", "usd_per_hour")}}
    return replace(of, replicas=replicas, row=row)


def guess_per_s(of: Deployment) -> float:
    """Return about how many requests per s a replica can do: full batches all the time."""
    output = float(of.scenario.workload.output)
    per_s = of.row["tokens_per_s"] / float(of.scenario.plan.replicas) / output
    return per_s if np.isfinite(per_s) and per_s > 0 else 1.0


def _mean(
    rows: Sequence[Mapping[str, object]],
) -> tuple[dict[str, float | None], dict[str, float]]:
    """Return means and sample deviations of the numbers of rows; no mean where one has none."""
    values: dict[str, float | None] = {}
    spread: dict[str, float] = {}
    for name in rows[0]:
        column = [one[name] for one in rows]
        numbers = [float(x) for x in column if isinstance(x, int | float)]
        if len(numbers) < len(column):
            values[name] = None
            continue
        values[name] = float(np.mean(numbers))
        if len(numbers) > 1:
            spread[name] = float(np.std(numbers, ddof=1))
    return values, spread
