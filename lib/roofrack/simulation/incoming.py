"""What comes to a deployment: requests drawn or of a trace, and what it finds of them in caches."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from roofrack import traffic
from roofrack.errors import InputError
from roofrack.simulation.asked import DRAWN, Asked
from roofrack.simulation.deployments import Deployment
from roofrack.simulation.jobs import Whole
from roofrack.simulation.lanes import Stream
from roofrack.traffic import Requests

REQUESTS = 5000
"""Requests drawn if nothing says how many."""


class Coming(NamedTuple):
    """Requests of a lane, what they follow from (equal keys, equal streams), and whether each is
    `assigned` to a replica."""

    stream: Stream
    key: tuple[Any, ...]
    assigned: bool


class Incoming:
    """Traffic, and what several lanes share of it."""

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
            lengths = self.once("lengths", lambda: traffic.read(t.lengths))
            self.lengths = traffic.lengths_from(lengths)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what was made for a key; a key is compared by value, and kept."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def means(self, of: Deployment) -> tuple[float, float]:
        """Return the mean prompt and output of the traffic."""
        source = self.trace
        if source is None and self.asked.traffic.lengths:
            source = self.once("lengths", lambda: traffic.read(self.asked.traffic.lengths))
        if source is not None:
            return float(source.prompt.mean()), float(source.output.mean())
        w = of.scenario.workload
        return float(w.prompt), float(w.output)

    def requests(self, of: Deployment, rate: float, seed: int) -> tuple[Requests, float]:
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
        lasts = t.duration_s * rate / drawn_at
        count: dict[str, Any] = {"n": int(t.requests) or REQUESTS}
        if lasts and not t.requests:
            count = {"duration_s": lasts}
        key = ("requests", t.source, drawn_at, seed, *map(float, shape), *count.items(), lasts)

        def drawn() -> Requests:
            found = self._drawn(w, drawn_at, seed, count)
            return found.window(0.0, lasts) if lasts and t.requests else found

        return self.once(key, drawn), drawn_at / rate

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

    def stream(
        self, of: Deployment, requests: Requests, seed: int, fits: tuple[int, int]
    ) -> Coming:
        """Return requests as a lane has them.

        `fits`: tokens of a block and blocks, in which a request has to fit to be accepted.
        """
        w = of.scenario.workload
        draft, accept = float(w.draft_tokens), float(w.acceptance)
        if not draft.is_integer():
            raise InputError(f"workload.draft_tokens={draft:g}: a simulation drafts whole tokens")
        how = self._looked_up(of, requests)
        cached, replica = requests.cached, np.zeros(len(requests), np.int64)
        if how:
            key: tuple[Any, ...] = ("hits", requests, *how, *fits)
            cached, replica = self.once(key, lambda: _hits(requests, how, fits))
        key = ("stream", requests, draft, accept, seed, *(how and (*how, *fits)))
        found = self.once(
            key,
            lambda: Stream(
                requests.arrival_s, requests.prompt, cached, requests.output,
                traffic.passes(requests.output, int(draft), accept, seed), replica,
            ),
        )  # fmt: skip
        return Coming(found, key, bool(how))

    def _looked_up(self, of: Deployment, requests: Requests) -> tuple[Any, ...]:
        """Return how prefix blocks are looked up: tokens kept, replicas, routing; none: not.

        Where a request goes is then known before anything is timed. Raises InputError where it is
        not.
        """
        engine = self.asked.engine
        if requests.hashes is None:
            if of.routing == "prefix":
                raise InputError(
                    "engine.routing=prefix: this traffic has no prefix blocks (hash_ids)"
                )
            return ()
        kept = engine.prefix_tokens or of.prompt_cache_tokens
        replicas = of.replicas * (of.prefill_instances or 1)
        if kept < requests.hashes.block_tokens and of.routing != "prefix":
            return ()
        if replicas > 1 and (of.routing == "least_loaded" or engine.scale_at):
            told = f"routing={of.routing}"
            if engine.scale_at:
                told = f"scale_at={engine.scale_at:g}"
            raise InputError(
                f"engine.{told}: prefix blocks (hash_ids) are found only where it is known before "
                "where a request goes; allowed is engine.routing=round_robin or prefix without "
                "engine.scale_at, or engine.prefix_tokens=1, which keeps none"
            )
        return kept, replicas, "prefix" if of.routing == "prefix" else "round_robin"


def fitting(requests: Requests, block: int, blocks: int) -> np.ndarray:
    """Tell which requests fit into an empty cache of so many blocks."""
    return np.asarray(-(-(requests.prompt + requests.output) // block) <= blocks)


def _hits(requests: Requests, how: tuple[Any, ...], fits: tuple[int, int]) -> tuple[Whole, Whole]:
    """Return cached tokens and replicas; requests that are rejected take no turn."""
    accepted = np.flatnonzero(fitting(requests, *fits))
    cached, replica = np.zeros((2, len(requests)), np.int64)
    if accepted.size:
        cached[accepted], replica[accepted] = traffic.prefix_hits(requests.take(accepted), *how)
    return cached, replica


def _cut(requests: Requests, count: int, duration_s: float) -> Requests:
    if duration_s:
        requests = requests.window(0.0, duration_s)
    return requests.first(count) if count else requests


def _cv(w: Any, name: str) -> float:
    return float(getattr(w, f"{name}_cv"))
