"""Runs of a plan: deployments of any number of replicas at any rate, all of a round in one call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from roofrack.nouns import Scenario
from roofrack.simulation.asked import STEADY, Asked, Limits
from roofrack.simulation.capacity import capacity
from roofrack.simulation.deployments import Deployment
from roofrack.simulation.jobs import Played
from roofrack.simulation.measured import ends, grows, row
from roofrack.simulation.played import Maker, played_of

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
        """Whether as many requests as promised had what they are promised, and no queue grew."""
        return (self.values["goodput"] or 0.0) >= self.case.limits.share and not self.grew

    @property
    def grew(self) -> bool:
        """Whether first tokens came later and later: a longer run would break the promise."""
        return grows(self.values, self.case.limits)

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
        self._capacity: dict[Scenario, float] = {}

    def rates(self, of: Deployment) -> tuple[float, ...]:
        """Return the rates that were asked for, or those of the trace."""
        return self.asked.rates or self.maker.rates_of(of)

    def play(self, cases: Sequence[Case]) -> list[Run]:
        """Run all cases with all seeds, in one call of the simulator."""
        t = self.asked.traffic
        seeds = [int(t.seed) + n for n in range(int(t.seeds))]
        played = played_of(
            [self.maker.job(c.deployment, c.rate, seed) for c in cases for seed in seeds]
        )
        self.runs += len(played)
        groups = [played[i : i + len(seeds)] for i in range(0, len(played), len(seeds))]
        return [self._run(case, group) for case, group in zip(cases, groups, strict=True)]

    def _run(self, case: Case, played: Sequence[Played]) -> Run:
        values, spread = _mean([self._row(one, case.limits) for one in played])
        run = Run(case, values, spread)
        self.short = self.short or (run.kept and run.short)
        return run

    def _row(self, of: Played, limits: Limits) -> dict[str, object]:
        """Return the columns of a run, and what its middle and last fifth of requests waited."""
        told = self.asked.traffic.source in STEADY
        late = {name: value if told else None for name, value in ends(of).items()}
        return {**row(of, limits), **late}

    def capacity(self, of: Deployment) -> float:
        """Return the most requests per s of a replica, by the closed forms."""
        if of.scenario not in self._capacity:
            lengths = self.lengths(of)
            most = capacity(of, lengths.prompt, lengths.output)
            self._capacity[of.scenario] = most / float(of.scenario.plan.replicas)
        return self._capacity[of.scenario]

    def lengths(self, of: Deployment) -> Lengths:
        """Return the tokens of the requests that a deployment meets, of the first seed."""
        job = self.maker.job(of, 1.0, int(self.asked.traffic.seed))
        prompt, output = float(job.requests.prompt.mean()), float(job.requests.output.mean())
        # whoever looks finds long outputs more often: half of E[l^2] / E[l] is there
        held = prompt + float((job.requests.output.astype(float) ** 2).mean()) / output / 2.0
        return Lengths(prompt, float(job.stream.cached.mean()), output, held)


def replicated(of: Deployment, replicas: int) -> Deployment:
    """Return a deployment with another number of replicas; chips and cost go with it."""
    per = replicas / of.replicas
    row = {**of.row, **{name: of.row[name] * per for name in ("chips", "usd_per_hour")}}
    return replace(of, replicas=replicas, row=row)


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
