"""A training step: what is kept, divided, overlapped, and how it is cut into micro-batches."""

from collections.abc import Iterator

import numpy as np

from roofrack.advice.case import Case, Change
from roofrack.advice.words import counted, same
from roofrack.planning.candidates import divisors
from roofrack.tables import RECOMPUTE, SCHEDULES

LEARNING = "how a model learns with larger steps is not modelled"
_OVERLAPS = {
    "overlap_tp": "exchanges of tensor parallelism hidden in the backward pass",
    "overlap_ep": "exchanges of experts hidden behind another micro-batch",
    "overlap_dp": "gradients and weights sent while layers are computed",
    "overlap_pp": "hops between stages hidden behind another micro-batch",
}


def propose(case: Case) -> Iterator[Change]:
    """Yield changes of one leaf of the plan or of the step, and of schedules with their parts."""
    if case.phase != "train":
        return
    yield from _kept(case)
    yield from _schedules(case)
    for name, said in _OVERLAPS.items():
        if not case.now(f"parallelism.{name}"):
            yield _one(case, name, 1.0, said)
    if case.at.tp > 1 and not case.now("parallelism.sequence_parallel"):
        yield _one(case, "sequence_parallel", 1.0, "tokens between blocks split over tp")
    step = case.now("workload.global_batch")
    for ways in (2.0, 4.0, 8.0):
        values = {"workload.global_batch": step * ways}
        m = case.now("parallelism.microbatches")
        if m:
            values["parallelism.microbatches"] = m * ways
        said = f"{step * ways:,g} sequences in a step instead of {step:,g}"
        yield Change("step", "global_batch", values, same(said), assumes=LEARNING)


def _one(case: Case, name: str, value: float, said: str) -> Change:
    return Change("training", name, {f"parallelism.{name}": value}, same(said))


def _kept(case: Case) -> Iterator[Change]:
    """Yield what is computed again and divided among ranks: time for memory, or back."""
    for code, how in enumerate(RECOMPUTE):
        if code != case.now("parallelism.recompute"):
            values = {"parallelism.recompute": float(code)}
            if case.now("parallelism.recompute_layers"):
                values["parallelism.recompute_layers"] = 0.0
            said = f"recompute {how} instead of {RECOMPUTE[int(case.now('parallelism.recompute'))]}"
            yield Change("training", "recompute", values, same(said))
    for stage in range(4):
        if stage != case.now("parallelism.zero") and case.at.dp > 1:
            said = f"ZeRO stage {stage} instead of {case.now('parallelism.zero'):g}"
            yield _one(case, "zero", float(stage), said)


def _schedules(case: Case) -> Iterator[Change]:
    """Yield micro-batches, and orders of them in a pipeline."""
    ranks = float(case.at.dp)
    share = case.now("workload.global_batch") / ranks
    now = case.now("parallelism.microbatches") or share
    each = divisors(int(share)) if share == int(share) else np.empty(0)
    for m in each:
        if m != now:
            each_has = counted(share / m, "sequence")
            said = f"{counted(m, 'micro-batch')} of {each_has} on each rank, not {now:g}"
            yield _one(case, "microbatches", float(m), said)
    if case.at.pp <= 1:
        return
    for code, how in enumerate(SCHEDULES):
        for parts in (1.0, 2.0, 4.0, 8.0):
            if (parts > 1) != (how == "interleaved"):
                continue
            values = {"parallelism.schedule": float(code), "parallelism.virtual_stages": parts}
            values = {p: v for p, v in values.items() if v != case.now(p)}
            if values:
                cut = f", {parts:g} parts of the layers on each stage" if parts > 1 else ""
                said = f"the pipeline in the order {how}{cut}"
                yield Change("training", "schedule", values, same(said))
