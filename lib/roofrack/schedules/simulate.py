"""One step of a pipeline, operation by operation: what the closed forms must agree with."""

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from roofrack.errors import InputError
from roofrack.schedules.orders import (
    BACKWARD,
    FORWARD,
    INPUTS,
    KINDS,
    WEIGHTS,
    Op,
    Schedule,
    Slot,
)


class Times(NamedTuple):
    """Seconds of one micro-batch on the layers of one stage: numbers, or arrays where they differ.

    `f` forward, `b` whole backward, `w` its part for the gradient of the weights, `fb` a forward
    and a backward overlapped (DualPipe; by the chunk of the forward): whatever broadcasts to
    [stages, chunks], so [stages, 1] for stages that differ. `hop_s` seconds that a message takes
    from one stage to another.
    """

    f: Any
    b: Any
    w: Any = 0.0
    fb: Any = 0.0
    hop_s: float = 0.0


class Event(NamedTuple):
    """One operation as it ran; `overlapped` with another that has the same stage and times."""

    stage: int
    op: Op
    start_s: float
    end_s: float
    overlapped: bool


class Run(NamedTuple):
    """One simulated step.

    `events` by stage, then start; `makespan_s` from the first start to the last end; by stage
    `busy_s`, `idle_s` between its own first start and last end, and `held`, the most micro-batches
    whose activations it keeps at one time, in whole stages: from the start of a forward to the end
    of its backward (where that is split: of its last part).
    """

    schedule: Schedule
    events: tuple[Event, ...]
    makespan_s: float
    busy_s: tuple[float, ...]
    idle_s: tuple[float, ...]
    held: tuple[float, ...]

    @property
    def period_s(self) -> float:
        """Return seconds from step to step if no stage waits for all others between them.

        The longest time from first start to last end of a stage. With a barrier after each step it
        is the makespan: longer under the zero-bubble schedules, whose last stages begin and end
        late.
        """
        return max(b + i for b, i in zip(self.busy_s, self.idle_s, strict=True))


Key = tuple[str, int, int, int]
"""What others wait for: its kind (a whole backward gives INPUTS), stage, micro-batch, chunk."""


def simulate(schedule: Schedule, times: Times, blocking: bool = False) -> Run:
    """Run a schedule: every stage does its slots in order, each as soon as what it needs is there.

    A forward needs that of the stage before; a backward its own forward and the backward of the
    stage after; the gradient of the weights that of the inputs. `blocking`: a stage does nothing
    else while its message is on the way. Raises InputError if stages wait for each other for ever,
    or if an operation is missing or there twice.
    """
    _whole(schedule)
    ways, seconds, hop_s = _Ways(schedule), _seconds(schedule, times), times.hop_s
    done: dict[Key, float] = {}
    waiting: dict[Key, list[int]] = {}
    at, free = [0] * schedule.stages, [0.0] * schedule.stages
    events: list[list[Event]] = [[] for _ in range(schedule.stages)]
    ready = deque(range(schedule.stages))
    while ready:
        stage = ready.popleft()
        order = schedule.orders[stage]
        while at[stage] < len(order):
            slot = order[at[stage]]
            start, missing = free[stage], None
            for need in (need for op in slot for need in ways.needs(stage, op)):
                if need not in done:
                    missing = need
                    break
                start = max(start, done[need] + (hop_s if need[1] != stage else 0.0))
            if missing is not None:
                waiting.setdefault(missing, []).append(stage)
                break
            end = start + seconds(stage, slot)
            leaves = blocking and any(ways.leaves(stage, op) for op in slot)
            free[stage] = end + (hop_s if leaves else 0.0)
            for op in slot:
                events[stage].append(Event(stage, op, start, end, len(slot) > 1))
                key = _gives(stage, op)
                done[key] = end
                ready.extend(waiting.pop(key, ()))
            at[stage] += 1
    _ended(schedule, waiting)
    return _run(schedule, events, seconds)


def _gives(stage: int, op: Op) -> Key:
    return (INPUTS if op.kind == BACKWARD else op.kind, stage, op.microbatch, op.chunk)


class _Ways:
    """Who waits for whom."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.positions = [{at: position for position, at in enumerate(w)} for w in schedule.ways]

    def beside(self, stage: int, op: Op, steps: int) -> tuple[tuple[int, int], ...]:
        """Return the (stage, chunk) so many steps along the way of a micro-batch; or nothing."""
        number = self.schedule.way[op.microbatch]
        position = self.positions[number][stage, op.chunk] + steps
        return self.schedule.ways[number][position : position + 1] if position >= 0 else ()

    def needs(self, stage: int, op: Op) -> list[Key]:
        """Return what an operation waits for."""
        k = op.microbatch
        if op.kind == WEIGHTS:
            return [(INPUTS, stage, k, op.chunk)]
        if op.kind == FORWARD:
            return [(FORWARD, at, k, chunk) for at, chunk in self.beside(stage, op, -1)]
        after = [(INPUTS, at, k, chunk) for at, chunk in self.beside(stage, op, 1)]
        return [(FORWARD, stage, k, op.chunk), *after]

    def leaves(self, stage: int, op: Op) -> bool:
        """Return whether the result of an operation goes to another stage."""
        if op.kind == WEIGHTS:
            return False
        to = self.beside(stage, op, 1 if op.kind == FORWARD else -1)
        return any(at != stage for at, _ in to)


def _seconds(schedule: Schedule, times: Times) -> Callable[[int, Slot], float]:
    """Return the function that says how long a slot takes on a stage."""
    shape = (schedule.stages, schedule.chunks)
    f, b, w, fb = (
        (np.broadcast_to(np.asarray(value, float), shape) / schedule.parts).tolist()
        for value in (times.f, times.b, times.w, times.fb)
    )
    one = {FORWARD: f, BACKWARD: b, WEIGHTS: w}

    def seconds(stage: int, slot: Slot) -> float:
        kind, _, chunk = slot[0]
        if len(slot) > 1:
            return fb[stage][chunk]
        if kind == INPUTS:
            return b[stage][chunk] - w[stage][chunk]
        return one[kind][stage][chunk]

    return seconds


def _whole(schedule: Schedule) -> None:
    """Raise InputError unless every stage does all of every micro-batch once, on each chunk."""
    for stage, order in enumerate(schedule.orders):
        counts = Counter(op for slot in order for op in slot)
        places = {
            (k, chunk)
            for k, way in enumerate(schedule.way)
            for at, chunk in schedule.ways[way]
            if at == stage
        }
        for op, count in counts.items():
            if op.kind not in KINDS or op[1:] not in places:
                raise InputError(f"{_named(stage, op)}: the schedule has no such operation")
            if count > 1:
                raise InputError(f"{_named(stage, op)} comes {count} times")
        for place in sorted(places):
            kinds = "".join(kind for kind in KINDS if Op(kind, *place) in counts)
            if kinds not in ("FB", "FIW"):
                raise InputError(
                    f"{_named(stage, Op(FORWARD, *place))}: one forward and one backward are "
                    f"needed (F and B, or F, I and W), not {kinds or 'nothing'}"
                )


def _named(stage: int, op: Op) -> str:
    return f"stage {stage}: {op.kind} of micro-batch {op.microbatch}, chunk {op.chunk}"


def _ended(schedule: Schedule, waiting: dict[Key, list[int]]) -> None:
    """Raise InputError if stages still wait."""
    for (kind, stage, microbatch, chunk), stages in waiting.items():
        wanted = _named(stage, Op(kind, microbatch, chunk))
        raise InputError(
            f"schedule={schedule.name} cannot run: stage {stages[0]} waits for ever for {wanted}"
        )


def _run(
    schedule: Schedule, events: list[list[Event]], seconds: Callable[[int, Slot], float]
) -> Run:
    """Return a run with its totals."""
    busy, idle, held = [], [], []
    for stage, (order, ran) in enumerate(zip(schedule.orders, events, strict=True)):
        kept = most = 0
        for slot in order:
            kept += sum(op.kind == FORWARD for op in slot)
            most = max(most, kept)
            kept -= sum(op.kind in (BACKWARD, WEIGHTS) for op in slot)
        held.append(most / schedule.parts)
        busy.append(sum(seconds(stage, slot) for slot in order))
        idle.append(ran[-1].end_s - ran[0].start_s - busy[-1])
    everything = tuple(event for ran in events for event in ran)
    ends = max(event.end_s for event in everything)
    makespan = ends - min(event.start_s for event in everything)
    return Run(schedule, everything, makespan, tuple(busy), tuple(idle), tuple(held))
