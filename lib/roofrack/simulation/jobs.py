"""Jobs: one lane or, where prompts are computed apart, two; and what each request saw in them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roofrack.errors import InputError
from roofrack.simulation.deployments import Deployment
from roofrack.simulation.lanes import Lane, Ran, Stream
from roofrack.traffic import Requests

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Played:
    """One lane: what ran, on what, at which rate, and what each request saw.

    `requests` in order of arrival, `arrival_s` as they came in this lane; `first_s` and `done_s`
    absolute, NaN where a request was rejected; `queued_s` when it joined the queue, its cached
    tokens there, `admitted_s` when its prompt began to be computed, `cached` tokens of it found in
    a cache. `counted` tells who counts in percentiles, `settled`
    who came after the warm-up; `scales` whether replicas come and go.
    """

    deployment: Deployment
    rate: float
    seed: int
    requests: Requests
    arrival_s: Floats
    queued_s: Floats
    first_s: Floats
    done_s: Floats
    admitted_s: Floats
    cached: Whole
    counted: npt.NDArray[np.bool_]
    settled: npt.NDArray[np.bool_]
    ran: Ran
    prefill: Ran | None
    scales: bool


@dataclass(frozen=True)
class Job:
    """A lane to be, with all its requests in `stream`, in order of arrival.

    `entering` is the lane that they enter, `order` which of them do, in its order, and `fetch_s`
    how long after its arrival each does; `after` the lane that decodes where prompts are computed
    apart, `way_s` how long the cache of each is on its way there.
    """

    deployment: Deployment
    rate: float
    seed: int
    requests: Requests
    stream: Stream
    stretch: float
    entering: Lane
    order: Whole
    fetch_s: Floats
    after: Lane | None
    way_s: Floats
    warmup: float

    def following(self, ran: Ran) -> Lane | None:
        """Return the lane that decodes what came out of the other, if there is one."""
        if self.after is None:
            return None
        ready, order = self._handed(ran)
        # who waited for others did so before the prompt
        return self.after._replace(
            stream=taken(self.stream, order, ready), stretch=1.0, prefilled=True, wait_s=0.0
        )

    def _handed(self, ran: Ran) -> tuple[Floats, Whole]:
        """Return when requests come to the pool that decodes, and which do, in that order."""
        ready = self._all(ran.first_s) + self.way_s
        decodes = np.flatnonzero(np.isfinite(ready) & (self.stream.passes > 0))
        if not decodes.size:
            if np.isfinite(ready).any():
                raise InputError("no request has more than one token; nothing is decoded")
            ready, decodes = self.stream.arrival_s * self.stretch, np.arange(len(ready))
        return ready, decodes[np.argsort(ready[decodes], kind="stable")]

    def _all(self, values: Floats) -> Floats:
        """Return values of the lane's requests as those of all, NaN where one did not enter."""
        found = np.full(len(self.stream.prompt), np.nan)
        found[self.order] = values
        return found

    def played(self, entered: Ran, after: Ran | None) -> Played:
        """Return what each request saw.

        Where prompts are computed apart, the pool that decodes passes on the first token when it
        takes the request over.
        """
        arrival = self.stream.arrival_s * self.stretch
        first_s, done_s, admitted_s = map(
            self._all, (entered.first_s, entered.done_s, entered.admitted_s)
        )
        if after is not None:
            _, order = self._handed(entered)
            first_s[order], done_s[order] = after.admitted_s, after.done_s
        settled = np.arange(len(done_s)) >= int(self.warmup * len(done_s))
        return Played(
            deployment=self.deployment,
            rate=self.rate,
            seed=self.seed,
            requests=self.requests,
            arrival_s=arrival,
            queued_s=arrival + self.fetch_s,
            first_s=first_s,
            done_s=done_s,
            admitted_s=admitted_s,
            cached=self.stream.cached,
            counted=np.isfinite(done_s) & settled,
            settled=settled,
            ran=entered if after is None else after,
            prefill=None if after is None else entered,
            scales=self.entering.scale_at > 0,
        )


def taken(stream: Stream, order: Whole, arrival_s: Floats) -> Stream:
    """Return these requests of a stream, in this order, arriving at other times."""
    columns = {name: column[order] for name, column in stream._asdict().items()}
    return Stream(**columns | {"arrival_s": arrival_s[order]})
