"""What would make a scenario fit that does not: fewer sequences, other plans, more chips, less of
everything."""

from collections.abc import Iterator

import numpy as np

from roofrack.advice.case import Case, Change
from roofrack.advice.subjects import batch, formats, machine, money, serving, training
from roofrack.advice.subjects.plans import counts, evaluated, listed, plan_of, table, values_of
from roofrack.advice.words import same
from roofrack.planning import LEAVES, Plans

SHORTER = "shorter texts are another question"
_LENGTH = {"decode": "workload.context", "serve": "workload.prompt", "prefill": "workload.prompt",
           "train": "workload.sequence"}  # fmt: skip
_OFFLOADED = ("offload_optimizer", "offload_weights", "offload_activations")


def propose(case: Case) -> Iterator[Change]:
    """Yield changes of every kind; those that do not fit either are dropped by who asks."""
    yield from _smaller(case)
    yield from _plans(case)
    yield from formats.propose(case)
    yield from _all_narrower(case)
    yield from training.propose(case)
    yield from _offloaded(case)
    yield from serving.propose(case)
    yield from money.propose(case)
    yield from machine.propose(case)
    yield from _shorter(case)


def _smaller(case: Case) -> Iterator[Change]:
    """Yield the cheapest batch that will do."""
    if case.phase == "train":
        return
    sizes, found = batch.ladder(case)
    if np.any(found["kept"]):
        size = float(sizes[np.argmin(np.where(found["kept"], found["goal"], np.inf))])
        said = same(f"batch {size:,g} instead of {case.now(batch.BATCH):,g}")
        yield Change("batch", "batch", {batch.BATCH: size}, said)


def _plans(case: Case) -> Iterator[Change]:
    """Yield the cheapest plan on the same chips, and on the least number of more that will do."""
    for key, chips in (("plan", counts(case)[:1]), *(("chips", [c]) for c in counts(case, True))):
        found = table(case, chips)
        row = None if found is None else found.best(found.columns["kept"])
        if found is None or row is None:
            continue
        plan, n = plan_of(found, row), found.plans.chips[row]
        said = f"{n:,g} chips as {plan}"
        yield Change("plan", key, values_of(case, found, row), same(said))
        if key == "chips":
            return
    yield from _one_by_one(case)


def _one_by_one(case: Case) -> Iterator[Change]:
    """Yield the cheapest plan with one sequence: where nothing else fits, this may."""
    if case.phase == "train":
        return
    # one in each stage
    every = [*counts(case), *counts(case, more=True)]
    some = [one for c in every if (one := listed(case, c)) is not None]
    if not some:
        return
    alone = Plans({n: np.concatenate([p[n] for p in some]) for n in LEAVES})
    found = evaluated(case, alone, np.ones(len(alone)))
    row = found.best(found.columns["kept"])
    if row is not None:
        said = f"{alone.chips[row]:,g} chips and one sequence in each pass"
        yield Change("plan", "one", values_of(case, found, row), same(said))


def _all_narrower(case: Case) -> Iterator[Change]:
    """Yield weights and cache in eight and in four bits together."""
    every = list(formats.propose(case))
    for name in formats.NARROWER:
        values: dict[str, float] = {}
        for change in every:
            if change.key.endswith(f".{name}") and not change.key.startswith("math"):
                values |= change.values
        if len(values) > 1:
            said = same(f"weights, cache and what travels in {name}")
            yield Change("format", f"all.{name}", values, said, assumes=formats.PHYSICS)


def _offloaded(case: Case) -> Iterator[Change]:
    if case.phase == "train" and case.now("hardware.tiers.host.bytes"):
        for name in _OFFLOADED:
            said = f"{name.removeprefix('offload_')} kept in the host's memory"
            yield Change("training", name, {f"parallelism.{name}": 1.0}, same(said))


def _shorter(case: Case) -> Iterator[Change]:
    """Yield the longest text that fits, of halves of the one there is."""
    path = _LENGTH[case.phase]
    now = case.now(path)
    lengths = np.unique(np.floor(now * 2.0 ** -np.arange(1.0, 12.0)))
    lengths = lengths[lengths > case.now("workload.cached")]
    if lengths.size:
        able = np.flatnonzero(case.columns({path: lengths})["kept"])
        if able.size:
            length = float(lengths[able[-1]])
            said = same(f"{path.partition('.')[2]} {length:,g} instead of {now:,g} tokens")
            yield Change("length", "length", {path: length}, said, assumes=SHORTER)
