"""Traffic on deployments: lanes, and what is measured of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from roofrack import traffic
from roofrack.cost.caches import transfer_s
from roofrack.cost.passes import Places, places, prefill_pass
from roofrack.cost.site import site
from roofrack.errors import InputError
from roofrack.nouns import Scenario
from roofrack.simulation.asked import DRAWN, POLICIES, Asked
from roofrack.simulation.capacity import capacity
from roofrack.simulation.clocks import Reach, clock
from roofrack.simulation.deployments import Deployment
from roofrack.simulation.lanes import Lane, Ran, Stream, play, size_of
from roofrack.simulation.state import ASSIGNED, LEAST_LOADED, ROUND_ROBIN
from roofrack.traffic import Requests

Floats = npt.NDArray[np.float64]
REQUESTS = 5000
"""Requests drawn if nothing says how many."""
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.05)
"""Rates over what a deployment can do, where they are chosen for the user."""
WARMUP = 0.1
"""Share of drawn requests that find a service which has not filled up yet."""


@dataclass(frozen=True)
class Played:
    """One lane: what ran, on what, at which rate, and what each request saw.

    `requests` in order of arrival, `arrival_s` as they came in this lane; `first_s` and `done_s`
    absolute, NaN where a request was rejected; `admitted_s` when its prompt began to be computed,
    `cached` tokens of it found in a cache. `counted` tells who counts in percentiles, `settled`
    who came after the warm-up; `scales` whether replicas come and go.
    """

    deployment: Deployment
    rate: float
    seed: int
    requests: Requests
    arrival_s: Floats
    first_s: Floats
    done_s: Floats
    admitted_s: Floats
    cached: npt.NDArray[np.int64]
    counted: npt.NDArray[np.bool_]
    settled: npt.NDArray[np.bool_]
    ran: Ran
    prefill: Ran | None
    scales: bool


def simulate(
    deployments: Sequence[Deployment], asked: Asked, rates: Sequence[float] | None = None
) -> list[Played]:
    """Run every deployment at every rate, with every seed.

    `rates` are requests per second, those of `asked` if not given; of a trace without any, its own
    times `traffic.speed`.
    """
    made = Maker(asked)
    rates = asked.rates if rates is None else rates
    jobs = []
    for deployment in deployments:
        for rate in rates or made.rates_of(deployment):
            for n in range(int(asked.traffic.seeds)):
                jobs.append(made.job(deployment, rate, int(asked.traffic.seed) + n))
    return played_of(jobs)


def played_of(jobs: Sequence["Job"]) -> list[Played]:
    """Run jobs: first the prompts that are computed apart, then all lanes."""
    first = [job for job in jobs if job.first is not None]
    ran = dict(zip(map(id, first), play([job.first for job in first if job.first]), strict=True))
    mains = [job.main(ran.get(id(job))) for job in jobs]
    return [
        job.played(lane, run, ran.get(id(job)))
        for job, lane, run in zip(jobs, mains, play(mains), strict=True)
    ]


@dataclass(frozen=True)
class Job:
    """A lane to be: its stream, and the lane of its prompts where these are computed apart."""

    deployment: Deployment
    rate: float
    seed: int
    requests: Requests
    stream: Stream
    stretch: float
    lane: Lane
    first: Lane | None
    way: tuple[float, float]
    warmup: float

    def main(self, first: Ran | None) -> Lane:
        """Return the lane to run; after its prompts where they were computed apart."""
        if first is None:
            return self.lane
        stream, _ = self._handed(first)
        # who waited for others did so before the prompt
        return self.lane._replace(stream=stream, stretch=1.0, prefilled=True, wait_s=0.0)

    def _handed(self, first: Ran) -> tuple[Stream, npt.NDArray[np.int64]]:
        """Return requests as they come to the pool that decodes, and which they are."""
        fixed, per_token = self.way
        ready = first.first_s + fixed + per_token * self.stream.prompt
        decodes = np.flatnonzero(np.isfinite(ready) & (self.stream.passes > 0))
        if not decodes.size:
            raise InputError("no request has more than one token; nothing is decoded")
        order = decodes[np.argsort(ready[decodes], kind="stable")]
        columns = {name: column[order] for name, column in self.stream._asdict().items()}
        return Stream(**columns | {"arrival_s": ready[order]}), order

    def played(self, lane: Lane, ran: Ran, first: Ran | None) -> Played:
        """Return what each request saw."""
        arrival = self.stream.arrival_s * self.stretch
        first_s, done_s, admitted_s = ran.first_s, ran.done_s, ran.admitted_s
        if first is not None:
            _, order = self._handed(first)
            done_s, admitted_s = first.first_s.copy(), first.admitted_s
            done_s[order] = ran.done_s
            first_s = np.where(np.isfinite(done_s), first.first_s, np.nan)
        settled = np.arange(len(done_s)) >= int(self.warmup * len(done_s))
        counted = np.isfinite(done_s) & settled
        return Played(
            self.deployment, self.rate, self.seed, self.requests, arrival, first_s, done_s,
            admitted_s, self.stream.cached, counted, settled, ran, first, self.lane.scale_at > 0,
        )  # fmt: skip


class Maker:
    """Makes jobs, and keeps what several of them share: traces, streams and clocks."""

    def __init__(self, asked: Asked) -> None:
        """Read the trace, if it is one."""
        self.asked = asked
        self._kept: dict[Any, Any] = {}
        self.trace: Requests | None = None
        self.lengths: traffic.Lengths | None = None
        t = asked.traffic
        if t.source not in DRAWN:
            self.trace = _cut(traffic.read(t.source), int(t.requests), t.duration_s)
        if t.lengths:
            lengths = self._once("lengths", lambda: traffic.read(t.lengths))
            self.lengths = traffic.lengths_from(lengths)

    def rates_of(self, of: Deployment) -> tuple[float, ...]:
        """Return the rates of a deployment that are not told as numbers.

        `auto` goes up to a little more than it can do; a trace has its own, times its speeds.
        """
        if self.asked.auto:
            most = capacity(of, *self._means(of))
            return tuple(float(share * most) for share in SHARES)
        if self.trace is None:
            raise InputError(
                f"traffic={self.asked.traffic.source}: give workload.arrivals_per_s, requests per "
                "second, one or several, or auto"
            )
        rate = self.trace.rate
        if not 0 < rate < np.inf:
            raise InputError(f"traffic={self.asked.traffic.source}: its requests have no rate")
        return tuple(rate * speed for speed in self.asked.traffic.speed)

    def job(self, of: Deployment, rate: float, seed: int) -> Job:
        """Return the lane of one deployment at one rate."""
        s, engine = of.scenario, self.asked.engine
        requests, stretch = self._requests(of, rate, seed)
        stream = self._stream(of, requests, seed)
        longest = float((requests.prompt + requests.output).max())
        # lanes of one call share the nodes of their batches
        reach = Reach(
            size_of(of.slots), longest, float(requests.prompt.max()),
            float(max(of.budget, requests.prompt.max())), of.policy == "chunked",
        )  # fmt: skip
        routing = {"round_robin": ROUND_ROBIN, "least_loaded": LEAST_LOADED, "prefix": ASSIGNED}
        main = Lane(
            stream=stream,
            clock=self._once(("clock", id(s), reach), lambda: clock(s, reach)),
            slots=of.slots,
            blocks=int(of.cache_tokens // engine.block),
            block=int(engine.block),
            budget=of.budget,
            policy=POLICIES.index(of.policy),
            stretch=stretch,
            reserve=engine.reserve,
            wait_s=float(s.workload.wait_s),
            replicas=of.replicas,
            routing=routing[of.routing],
            scale_at=engine.scale_at,
            least=int(min(engine.least, of.replicas)),
            start_s=engine.start_s,
            idle_s=engine.idle_s,
        )
        first, way = None, (0.0, 0.0)
        if of.prefill_instances:
            first = self._first(of, main, reach)
            way = self._once(("way", id(s)), lambda: _way(s))
        t = self.asked.traffic
        warmup = t.warmup if t.warmup >= 0 else (WARMUP if self.trace is None else 0.0)
        return Job(of, rate, seed, requests, stream, stretch, main, first, way, warmup)

    def _means(self, of: Deployment) -> tuple[float, float]:
        """Return the mean prompt and output of the traffic."""
        source = self.trace
        if source is None and self.asked.traffic.lengths:
            source = self._once("lengths", lambda: traffic.read(self.asked.traffic.lengths))
        if source is not None:
            return float(source.prompt.mean()), float(source.output.mean())
        w = of.scenario.workload
        return float(w.prompt), float(w.output)

    def _once(self, key: Any, make: Any) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def _first(self, of: Deployment, main: Lane, reach: Reach) -> Lane:
        """Return the lane of the pool that computes prompts; their first token is all it makes."""
        s = of.scenario
        reach = _of_prompts(reach)
        only = main.stream._replace(
            output=np.ones_like(main.stream.output), passes=np.zeros_like(main.stream.passes)
        )
        return main._replace(
            stream=self._once(("only", id(main.stream)), lambda: only),
            clock=self._once(("first", id(s), reach), lambda: clock(s, reach, prefill=True)),
            slots=PROMPTS_AT_ONCE,
            blocks=int(main.stream.prompt.max() // main.block + 2) * PROMPTS_AT_ONCE,
            policy=POLICIES.index("prefill_first"),
            reserve=False,
            replicas=of.prefill_instances * of.replicas,
            scale_at=0.0,
            routing=LEAST_LOADED if main.routing == LEAST_LOADED else ROUND_ROBIN,
        )

    def _requests(self, of: Deployment, rate: float, seed: int) -> tuple[Requests, float]:
        """Return requests, and what their times are multiplied by to come at a rate."""
        w, t = of.scenario.workload, self.asked.traffic
        if self.trace is not None:
            if self.lengths is not None:
                raise InputError("traffic.lengths: a trace has lengths of its own")
            own = self.trace.rate
            return self.trace, (own / rate if 0 < own < np.inf else 1.0)
        # a day is as long at any rate
        drawn_at = rate if t.source == "diurnal" else 1.0
        shape = (
            w.prompt,
            w.output,
            w.cached,
            *(_cv(w, n) for n in ("prompt", "output", "arrival")),
        )
        count: dict[str, Any] = {"n": int(t.requests) or REQUESTS}
        if t.duration_s:
            count = {"duration_s": t.duration_s * rate / drawn_at}
        key = ("requests", t.source, drawn_at, seed, *map(float, shape), *count.items())
        return self._once(key, lambda: self._drawn(w, drawn_at, seed, count)), drawn_at / rate

    def _drawn(self, w: Any, rate: float, seed: int, count: Mapping[str, Any]) -> Requests:
        t = self.asked.traffic
        lengths = self.lengths or traffic.lognormal(
            float(w.prompt), float(w.output), _cv(w, "prompt"), _cv(w, "output"), float(w.cached)
        )
        if t.source == "diurnal":
            return traffic.diurnal(
                rate, t.peak_over_mean, t.period_s, lengths=lengths, seed=seed, **count
            )
        cv = _cv(w, "arrival") if t.source == "gamma" else 1.0
        return traffic.gamma(rate, cv, lengths=lengths, seed=seed, **count)

    def _stream(self, of: Deployment, requests: Requests, seed: int) -> Stream:
        w, engine = of.scenario.workload, self.asked.engine
        draft, accept = float(w.draft_tokens), float(w.acceptance)
        if not draft.is_integer():
            raise InputError(f"workload.draft_tokens={draft:g}: a simulation drafts whole tokens")
        cached, replica = requests.cached, np.zeros(len(requests), np.int64)
        hits: tuple[Any, ...] = ()
        if requests.hashes is not None and engine.prefix_tokens >= 0:
            kept = engine.prefix_tokens or of.cache_tokens
            routing = "prefix" if of.routing == "prefix" else "round_robin"
            hits = (kept, of.replicas, routing)
            cached, replica = self._once(
                ("hits", id(requests), *hits), lambda: traffic.prefix_hits(requests, *hits)
            )
        elif of.routing == "prefix":
            raise InputError("engine.routing=prefix: this traffic has no prefix blocks (hash_ids)")
        return self._once(
            ("stream", id(requests), draft, accept, seed, *hits),
            lambda: Stream(
                requests.arrival_s, requests.prompt, cached, requests.output,
                traffic.passes(requests.output, int(draft), accept, seed), replica,
            ),
        )  # fmt: skip


PROMPTS_AT_ONCE = 256
"""Prompts that an instance of a pool for prompts takes into one pass at most; tokens bind first."""


def _of_prompts(reach: Reach) -> Reach:
    """Return how far the clock of a pool for prompts has to reach."""
    return reach._replace(slots=PROMPTS_AT_ONCE, mixed=False)


def _cut(requests: Requests, count: int, duration_s: float) -> Requests:
    if duration_s:
        requests = requests.window(0.0, duration_s)
    return requests.first(count) if count else requests


def _cv(w: Any, name: str) -> float:
    return float(getattr(w, f"{name}_cv"))


def _way(s: Scenario) -> tuple[float, float]:
    """Return the seconds of a prompt's cache between the pools: fixed, and for each token."""

    def of(prompt: float) -> float:
        longer = replace(s, workload=replace(s.workload, prompt=prompt, cached=0.0))
        at: Places = places(site(longer))
        # of one prompt, not of those that a rank computes together
        one = prefill_pass(at.prefill, 1.0)._replace(sequences=at.prefill.plan.attention_ranks)
        return float(transfer_s(at, one))

    least, most = 1024.0, 4096.0
    per_token = (of(most) - of(least)) / (most - least)
    return of(least) - least * per_token, per_token
