"""Traffic on deployments: lanes, run together."""

from collections.abc import Sequence

import numpy as np

from roofrack.errors import InputError
from roofrack.simulation.asked import POLICIES, Asked
from roofrack.simulation.capacity import capacity
from roofrack.simulation.clocks import Reach, clock
from roofrack.simulation.deployments import Deployment
from roofrack.simulation.incoming import Incoming, fitting
from roofrack.simulation.jobs import Floats, Job, Played, Whole, taken
from roofrack.simulation.lanes import Lane, Stream, play, size_of
from roofrack.simulation.moving import fetches_s, transfers_s
from roofrack.simulation.state import ASSIGNED, LEAST_LOADED, ROUND_ROBIN

SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.05)
"""Rates over what a deployment can do, where they are chosen for the user."""
WARMUP = 0.1
"""Share of drawn requests that find a service which has not filled up yet."""
PROMPTS_AT_ONCE = 256
"""Prompts that an instance of a pool for prompts takes into one pass at most; tokens bind first."""


def simulate(deployments: Sequence[Deployment], asked: Asked) -> list[Played]:
    """Run every deployment at every rate that is asked for, with every seed.

    Without rates those of the trace times `traffic.speed`, or with `auto` some up to what a
    deployment can do.
    """
    made = Maker(asked)
    jobs = []
    for deployment in deployments:
        for rate in asked.rates or made.rates_of(deployment):
            for n in range(int(asked.traffic.seeds)):
                jobs.append(made.job(deployment, rate, int(asked.traffic.seed) + n))
    return played_of(jobs)


def played_of(jobs: Sequence[Job]) -> list[Played]:
    """Run jobs; prompts that are computed apart come before what decodes after them."""
    apart = [i for i, job in enumerate(jobs) if job.after is not None]
    entering = dict(zip(apart, play([jobs[i].entering for i in apart]), strict=True))
    lanes = [
        (job.following(entering[i]) if i in entering else None) or job.entering
        for i, job in enumerate(jobs)
    ]
    return [
        job.played(entering[i], ran) if i in entering else job.played(ran, None)
        for i, (job, ran) in enumerate(zip(jobs, play(lanes), strict=True))
    ]


class Maker:
    """Makes jobs, and keeps what several of them share: traces, streams and clocks."""

    def __init__(self, asked: Asked) -> None:
        """Read the trace, if it is one."""
        self.asked = asked
        self.incoming = Incoming(asked)
        self.trace = self.incoming.trace

    def rates_of(self, of: Deployment) -> tuple[float, ...]:
        """Return the rates of a deployment that are not told as numbers.

        `auto` goes up to a little more than it can do; a trace has its own, times its speeds.
        """
        if self.asked.auto:
            most = capacity(of, *self.incoming.means(of))
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
        s, once = of.scenario, self.incoming.once
        requests, stretch = self.incoming.requests(of, rate, seed)
        block, blocks = (
            int(self.asked.engine.block),
            int(of.cache_tokens // self.asked.engine.block),
        )
        stream, key, assigned = self.incoming.stream(of, requests, seed, (block, blocks))
        longest = float((requests.prompt + requests.output).max())
        # lanes of one call share the nodes of their batches
        reach = Reach(
            size_of(of.slots), longest, float(requests.prompt.max()),
            float(max(of.budget, requests.prompt.max())), of.policy == "chunked",
        )  # fmt: skip
        entering, after = self._lane(of, stream, reach)._replace(stretch=stretch), None
        fits = np.ones(len(requests), bool)
        way_s, fetch_s = np.zeros((2, len(requests)))
        if of.prefill_instances:
            after, entering = entering, self._first(of, entering, reach, key)
            way_s = once(("way", s, key), lambda: transfers_s(s, stream.prompt))
            fits = fitting(requests, block, blocks)
            if not fits.any():  # all are rejected there
                entering, fits = entering._replace(blocks=0), ~fits
        if assigned:
            entering = entering._replace(routing=ASSIGNED)
        if s.workload.cache_tier > 0 and stream.cached.any():
            fetch_s = once(("fetch", s, key), lambda: fetches_s(s, stream.cached))
        entering, order = _entered(entering, fits, fetch_s)
        t = self.asked.traffic
        warmup = t.warmup if t.warmup >= 0 else (WARMUP if self.trace is None else 0.0)
        return Job(
            of, rate, seed, requests, stream, stretch, entering, order, fetch_s, after, way_s,
            warmup,
        )  # fmt: skip

    def _lane(self, of: Deployment, stream: Stream, reach: Reach) -> Lane:
        """Return the lane of the instances that decode."""
        s, engine = of.scenario, self.asked.engine
        return Lane(
            stream=stream,
            clock=self.incoming.once(("clock", s, reach), lambda: clock(s, reach)),
            slots=of.slots,
            blocks=int(of.cache_tokens // engine.block),
            block=int(engine.block),
            budget=of.budget,
            each=of.each,
            policy=POLICIES.index(of.policy),
            reserve=engine.reserve,
            wait_s=float(s.workload.wait_s),
            replicas=of.replicas,
            routing=LEAST_LOADED if of.routing == "least_loaded" else ROUND_ROBIN,
            scale_at=engine.scale_at,
            least=int(min(engine.least, of.replicas)),
            start_s=engine.start_s,
            idle_s=engine.idle_s,
        )

    def _first(self, of: Deployment, main: Lane, reach: Reach, key: tuple[object, ...]) -> Lane:
        """Return the lane of the pool that computes prompts; their first token is all it makes."""
        s, once = of.scenario, self.incoming.once
        reach = reach._replace(slots=PROMPTS_AT_ONCE, mixed=False)
        return main._replace(
            stream=once(("only", key), lambda: _prompts_of(main.stream)),
            clock=once(("first", s, reach), lambda: clock(s, reach, prefill=True)),
            slots=PROMPTS_AT_ONCE,
            blocks=int(main.stream.prompt.max() // main.block + 2) * PROMPTS_AT_ONCE,
            policy=POLICIES.index("prefill_first"),
            reserve=False,
            replicas=of.prefill_instances * of.replicas,
            scale_at=0.0,
        )


def _prompts_of(stream: Stream) -> Stream:
    """Return requests that are done with their first token."""
    return stream._replace(output=np.ones_like(stream.output), passes=np.zeros_like(stream.passes))


def _entered(lane: Lane, fits: np.ndarray, fetch_s: Floats) -> tuple[Lane, Whole]:
    """Return a lane with those requests that enter it, when their cached tokens are there."""
    if fits.all() and not fetch_s.any():
        return lane, np.arange(len(fits))
    enters = lane.stream.arrival_s * lane.stretch + fetch_s
    order = np.flatnonzero(fits)
    order = order[np.argsort(enters[order], kind="stable")]
    return lane._replace(stream=taken(lane.stream, order, enters), stretch=1.0), order
