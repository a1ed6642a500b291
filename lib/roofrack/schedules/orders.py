"""In which order every stage of a pipeline works: the schedules of `tables.SCHEDULES`, in full.

A schedule is fixed before a step runs: a list of slots for each stage, and for each micro-batch the
way it takes through the stages. How long a slot takes is not known here.
"""

from collections.abc import Iterator
from typing import NamedTuple

from roofrack.errors import InputError, nearest
from roofrack.tables import SCHEDULES

KINDS = ("F", "B", "I", "W")
"""Forward; whole backward; and its two parts: the gradient of the inputs, and of the weights."""

FORWARD, BACKWARD, INPUTS, WEIGHTS = KINDS


class Op(NamedTuple):
    """One piece of work: a micro-batch (from 0) on one chunk (from 0) of a stage's layers."""

    kind: str
    microbatch: int
    chunk: int = 0


Slot = tuple[Op, ...]
"""What a stage does at one time: one operation, or a forward and a backward, overlapped."""


class Schedule(NamedTuple):
    """The order of work of every stage, and the ways of the micro-batches.

    `orders[stage]` the slots of a stage; `ways[way]` the (stage, chunk) that a forward passes in
    turn (the backward comes back the same way) and `way[microbatch]` which of them it takes;
    `parts` in how many parts the layers of a stage are cut: an operation is 1 / parts of a stage.
    """

    name: str
    orders: tuple[tuple[Slot, ...], ...]
    ways: tuple[tuple[tuple[int, int], ...], ...]
    way: tuple[int, ...]
    parts: int

    @property
    def stages(self) -> int:
        """Return the number of stages."""
        return len(self.orders)

    @property
    def chunks(self) -> int:
        """Return how many chunks of layers a stage holds: parts, and directions of DualPipe."""
        return 1 + max(chunk for way in self.ways for _, chunk in way)


def schedule(name: str, stages: int, microbatches: int, virtual_stages: int = 1) -> Schedule:
    """Return one step of a schedule of `tables.SCHEDULES`.

    Raises InputError for an unknown name and for sizes that the schedule is not defined for.
    """
    if name not in SCHEDULES:
        allowed = ", ".join(SCHEDULES)
        raise InputError(f"schedule={name}: allowed are {allowed}.{nearest(name, SCHEDULES)}")
    _check(name, stages, microbatches, virtual_stages)
    if name == "dualpipe":
        return _dualpipe(stages, microbatches)
    if name == "interleaved" and virtual_stages > 1:
        return _interleaved(stages, microbatches, virtual_stages)
    if name == "interleaved" or stages == 1:  # nothing to interleave, nothing to run ahead for
        name = "1f1b"
    order = {"1f1b": _one_forward_one_backward, "gpipe": _gpipe, "zb_h1": _h1, "zb_h2": _h2}[name]
    orders = tuple(tuple((op,) for op in order(stages, microbatches, i)) for i in range(stages))
    way = tuple((stage, 0) for stage in range(stages))
    return Schedule(name, orders, (way,), (0,) * microbatches, 1)


def _check(name: str, stages: int, microbatches: int, virtual_stages: int) -> None:
    """Raise InputError for sizes that a schedule is not defined for (cost.schedules.REASONS)."""
    for key, value in (
        ("stages", stages),
        ("microbatches", microbatches),
        ("virtual_stages", virtual_stages),
    ):
        if value < 1:
            raise InputError(f"{key}={value}: at least 1")
    if virtual_stages > 1 and name != "interleaved":
        raise InputError(
            f"virtual_stages={virtual_stages}: schedule={name} takes 1, only interleaved takes more"
        )
    if virtual_stages > 1 and microbatches % stages:
        raise InputError(
            f"microbatches={microbatches}: schedule=interleaved on {stages} stages takes multiples "
            f"of {stages}"
        )
    if name == "dualpipe" and stages % 2:
        raise InputError(f"stages={stages}: schedule=dualpipe takes an even number")
    if name == "dualpipe" and (microbatches % 2 or microbatches < 2 * stages):
        raise InputError(
            f"microbatches={microbatches}: schedule=dualpipe on {stages} stages takes an even "
            f"number, at least {2 * stages}"
        )


def _gpipe(stages: int, m: int, stage: int) -> Iterator[Op]:
    """Yield all forwards, then all backwards, the last micro-batch first (arXiv:1811.06965)."""
    yield from (Op(FORWARD, k) for k in range(m))
    yield from (Op(BACKWARD, k) for k in reversed(range(m)))


def _one_forward_one_backward(stages: int, m: int, stage: int) -> Iterator[Op]:
    """Yield forwards until the first backward can come, then turn about (arXiv:2104.04473)."""
    ahead = min(stages - stage - 1, m)
    yield from (Op(FORWARD, k) for k in range(ahead))
    for k in range(m):
        if k + ahead < m:
            yield Op(FORWARD, k + ahead)
        yield Op(BACKWARD, k)


def _h1(stages: int, m: int, stage: int) -> Iterator[Op]:
    """Yield ZB-H1: 1F1B whose weight gradients lag `stage` micro-batches behind."""
    return _zero_bubble(m, stages - stage, stage)


def _h2(stages: int, m: int, stage: int) -> Iterator[Op]:
    """Yield ZB-H2: as many more forwards before the first backward as fill the wait for it."""
    return _zero_bubble(m, 2 * (stages - stage) - 1, 2 * stage)


def _zero_bubble(m: int, ahead: int, lag: int) -> Iterator[Op]:
    """Yield a handcrafted zero-bubble order (arXiv:2401.10241, section 2 and figures 2 and 3).

    `ahead` forwards before the first backward; the gradient of the weights `lag` micro-batches
    after that of the inputs, so that all stages have as many under way; what is left of it ends
    the step.
    """
    yield from (Op(FORWARD, k) for k in range(min(ahead, m)))
    for k in range(m):
        yield Op(INPUTS, k)
        if k >= lag:
            yield Op(WEIGHTS, k - lag)
        if k + ahead < m:
            yield Op(FORWARD, k + ahead)
    yield from (Op(WEIGHTS, k) for k in range(max(m - lag, 0), m))


def _interleaved(stages: int, m: int, parts: int) -> Schedule:
    """Return interleaved 1F1B (arXiv:2104.04473, section 2.2; order as in Megatron-LM).

    Micro-batches go in groups of as many as there are stages; each chunk does a group before the
    next chunk does it.
    """
    turns = [
        (group + k, chunk)
        for group in range(0, m, stages)
        for chunk in range(parts)
        for k in range(stages)
    ]
    orders = []
    for stage in range(stages):
        ahead = min(2 * (stages - stage - 1) + (parts - 1) * stages, len(turns))
        slots = [Op(FORWARD, *turn) for turn in turns[:ahead]]
        for at, (k, chunk) in enumerate(turns):
            if at + ahead < len(turns):
                slots.append(Op(FORWARD, *turns[at + ahead]))
            slots.append(Op(BACKWARD, k, parts - 1 - chunk))
        orders.append(tuple((op,) for op in slots))
    way = tuple((stage, chunk) for chunk in range(parts) for stage in range(stages))
    return Schedule("interleaved", tuple(orders), (way,), (0,) * m, parts)


def _dualpipe(stages: int, m: int) -> Schedule:
    """Return DualPipe: half of the micro-batches from each end (arXiv:2412.19437, figure 5).

    Chunk 0 of a stage serves those from the first stage, chunk 1 those from the last; the order of
    the phases is that of the authors' code (github.com/deepseek-ai/DualPipe, step 1 to 8).
    """
    orders = tuple(tuple(_Dual(stages, m, stage).order()) for stage in range(stages))
    down = tuple((stage, 0) for stage in range(stages))
    up = tuple((stage, 1) for stage in reversed(range(stages)))
    half = m // 2
    return Schedule("dualpipe", orders, (down, up), (0,) * half + (1,) * half, 1)


class _Dual:
    """The order of one stage under DualPipe; `near` micro-batches come from the nearer end."""

    def __init__(self, stages: int, m: int, stage: int) -> None:
        self.half = m // 2
        self.inner = min(stage, stages - 1 - stage)  # stages between this one and the nearer end
        self.outer = stages // 2 - 1 - self.inner
        self.main = self.half - stages + self.inner + 1
        self.near = int(stage >= stages // 2)
        self.done = {(kind, end): 0 for kind in (FORWARD, BACKWARD) for end in (0, 1)}
        self.owed: list[Op] = []  # gradients of weights put off, first in first out

    def take(self, kind: str, far: int) -> Op:
        """Return the next operation of a kind; `far`: on a micro-batch from the farther end."""
        end = self.near ^ far
        k = self.done[kind, end]  # how many of this kind and end went before
        self.done[kind, end] += 1
        return Op(kind, k + end * self.half, end)

    def split(self, far: int) -> Op:
        """Return the first part of a backward whose second part is put off."""
        op = self.take(BACKWARD, far)
        self.owed.append(op._replace(kind=WEIGHTS))
        return op._replace(kind=INPUTS)

    def order(self) -> Iterator[Slot]:
        """Yield the slots of the eight phases."""
        for _ in range(2 * self.outer):
            yield (self.take(FORWARD, 0),)
        for _ in range(self.inner + 1):
            yield (self.take(FORWARD, 0),)
            yield (self.take(FORWARD, 1),)
        for _ in range(self.outer):
            yield (self.split(1),)
            yield (self.owed.pop(0),)
            yield (self.take(FORWARD, 1),)
        for turn in range(self.main):
            pair = self.take(FORWARD, 0), self.take(BACKWARD, 1)
            # the two middle stages wait less if their first pair is not overlapped
            yield from ((op,) for op in pair) if turn == 0 and self.outer == 0 else (pair,)
            yield (self.take(FORWARD, 1), self.take(BACKWARD, 0))
        for _ in range(self.outer):
            yield (self.take(BACKWARD, 1),)
            yield (self.take(FORWARD, 1), self.take(BACKWARD, 0))
        for turn in range(2 * (self.inner + 1)):  # the second half leaves its weights for later
            far = 1 - turn % 2
            late = turn > self.inner
            yield (self.split(far) if late else self.take(BACKWARD, far),)
        for _ in range(self.outer):
            yield (self.owed.pop(0),)
            yield (self.split(0),)
        for _ in range(self.inner + 1):
            yield (self.owed.pop(0),)
