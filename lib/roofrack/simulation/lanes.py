"""Lanes: from deployments, traffic and rules to the arrays that the compiled loop runs."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from roofrack.simulation.clocks import Clock, tables
from roofrack.simulation.state import BINS, Outcome, Rules, Streams

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

TOGETHER = (1, 4, 16, 32)
"""Lanes of one call of the compiled loop: few numbers, or it would be compiled for each."""
CELLS = 40_000
"""Slots of all cells of a call, about: more do not fit in the cache of a core."""
THREADS = 2


class Stream(NamedTuple):
    """Requests in order of arrival, [N] each: see `state.Streams`."""

    arrival_s: Floats
    prompt: Whole
    cached: Whole
    output: Whole
    passes: Whole
    replica: Whole


class Lane(NamedTuple):
    """One run. `blocks` of `block` tokens; the rest as in `state.Rules`."""

    stream: Stream
    clock: Clock
    slots: int
    blocks: int
    block: int
    budget: int
    policy: int
    each: int = 1
    stretch: float = 1.0
    reserve: bool = False
    wait_s: float = 0.0
    replicas: int = 1
    routing: int = 0
    prefilled: bool = False
    scale_at: float = 0.0
    least: int = 1
    start_s: float = 0.0
    idle_s: float = 0.0


class Ran(NamedTuple):
    """What came of a lane: of each request [N], and of the whole; seconds of each replica [R].

    `by_time` [BINS, 3]: integrals of 1, sequences and cached tokens over passes that begin in parts
    of `bin_s` seconds.
    """

    first_s: Floats
    done_s: Floats
    admitted_s: Floats
    preemptions: Whole
    replica: Whole
    busy_s: Floats
    paid_s: Floats
    by_time: Floats
    bin_s: float
    prompt_tokens: int
    decoded: int
    passes: int
    steps: int


def play(lanes: Sequence[Lane]) -> list[Ran]:
    """Run lanes, alike ones together, two calls at a time."""
    calls = _calls(lanes)
    found: dict[int, Ran] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        outcomes = pool.map(_call, [[lanes[i] for i in numbers] for numbers in calls])
        for numbers, ran in zip(calls, outcomes, strict=True):
            found |= dict(zip(numbers, ran, strict=True))
    return [found[i] for i in range(len(lanes))]


def _calls(lanes: Sequence[Lane]) -> list[list[int]]:
    """Return the numbers of the lanes of each call: those of one shape, the busiest together."""
    shapes: dict[tuple[int, ...], list[int]] = {}
    for number, lane in enumerate(lanes):
        nodes = lane.clock.seconds.shape[-1]
        sizes = size_of(lane.slots), _power(lane.replicas), size_of(len(lane.stream.prompt))
        shapes.setdefault((*sizes, nodes), []).append(number)
    calls = []
    for (slots, replicas, *_), numbers in shapes.items():
        fit = max(1, CELLS // (slots * replicas))
        most = max((n for n in TOGETHER if n <= fit), default=1)
        if len(numbers) > 1:  # on both cores
            most = min(most, next(n for n in TOGETHER if 2 * n >= min(len(numbers), 64)))
        calls += [numbers[i : i + most] for i in range(0, len(numbers), most)]
    return calls


def _power(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()


def size_of(count: int) -> int:
    """Return a size of arrays: the next of 2^k and 1.5 * 2^k."""
    power = _power(count)
    return power * 3 // 4 if power >= 8 and count <= power * 3 // 4 else power


def _call(lanes: Sequence[Lane]) -> list[Ran]:
    """Run lanes in one call of the compiled loop."""
    from roofrack.simulation.engine import run

    size = next(n for n in TOGETHER if n >= len(lanes))
    padded = [*lanes, *[lanes[0]] * (size - len(lanes))]
    slots = size_of(max(lane.slots for lane in lanes))
    streams = list({id(lane.stream): lane.stream for lane in padded}.values())
    clocks = list({id(lane.clock): lane.clock for lane in padded}.values())
    stream_of = {id(one): i for i, one in enumerate(streams)}
    clock_of = {id(one): i for i, one in enumerate(clocks)}
    bins = [_bin_s(lane) for lane in padded]

    def each(values: Sequence[float | bool]) -> npt.NDArray[np.generic]:
        return np.array(values)

    rules = Rules(
        stream=each([stream_of[id(lane.stream)] for lane in padded]),
        stretch=each([lane.stretch for lane in padded]),
        clock=each([clock_of[id(lane.clock)] for lane in padded]),
        bin_s=each(bins),
        **{
            name: each([getattr(lane, name) for lane in padded])
            for name in Rules._fields
            if name in Lane._fields and name not in ("stream", "stretch", "clock")
        },
    )
    clocks += [clocks[0]] * (_power(len(clocks)) - len(clocks))
    streams += [streams[0]] * (_power(len(streams)) - len(streams))
    replicas = _power(max(lane.replicas for lane in lanes))
    most = size_of(max(len(one.prompt) for one in streams))
    outcome = run(
        _stacked(streams, most), rules, tables(clocks, slots), slots=slots, replicas=replicas
    )
    arrays = Outcome(*(np.asarray(value) for value in outcome))
    return [_ran(arrays, i, lane, bins[i]) for i, lane in enumerate(lanes)]


def _bin_s(lane: Lane) -> float:
    """Return the width of the parts of a run: the traffic, and half as long again after it."""
    last = float(lane.stream.arrival_s[-1]) * lane.stretch
    return max(last * 1.5, 1.0) / BINS


def _stacked(streams: Sequence[Stream], most: int) -> Streams:
    """Return streams side by side; who is not there never arrives."""

    def column(name: str, empty: float) -> npt.NDArray[np.float64]:
        out = np.full((most, len(streams)), empty)
        for i, one in enumerate(streams):
            values = getattr(one, name)
            out[: len(values), i] = values
        return out

    empty = {"arrival_s": np.inf, "prompt": 1.0, "output": 1.0}
    return Streams(**{name: column(name, empty.get(name, 0.0)) for name in Streams._fields})


def _ran(of: Outcome, i: int, lane: Lane, bin_s: float) -> Ran:
    count = len(lane.stream.prompt)
    there = of.replica[:count, i] >= 0

    def times(values: Floats) -> Floats:
        return np.where(there, values[:count, i], np.nan)

    return Ran(
        first_s=times(of.first_s),
        done_s=times(of.done_s),
        admitted_s=times(of.admitted_s),
        preemptions=of.preemptions[:count, i],
        replica=of.replica[:count, i],
        busy_s=of.busy_s[: lane.replicas, i],
        paid_s=of.paid_s[: lane.replicas, i],
        by_time=of.by_time[:, i],
        bin_s=bin_s,
        prompt_tokens=int(of.prompt_tokens[i]),
        decoded=int(of.decoded[i]),
        passes=int(of.passes[i]),
        steps=int(of.steps),
    )
