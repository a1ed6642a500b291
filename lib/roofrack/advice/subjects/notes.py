"""What is worth to know of a scenario although there is nothing to change about it."""

from collections.abc import Iterator

from roofrack.advice.case import CHIP, Case
from roofrack.advice.subjects import batch, machine
from roofrack.advice.words import free
from roofrack.point import elasticities
from roofrack.report.format import number, percent, quantity, times

BOUGHT = 3
"""Numbers of the machine that are told."""
FELT = 0.05
"""Elasticity from which on a number of the machine is told."""
_CACHE = 0.3
"""Share of the memory in use from which on the cache is told."""


def notes(case: Case) -> Iterator[str]:
    """Yield a line for each thing worth knowing, of the scenario's own numbers."""
    yield from _batches(case)
    yield from _context(case)
    yield from _memory(case)
    yield from _waiting(case)
    yield from _buying(case)
    if case.goal == CHIP:
        yield "The machine has no price: advice is ranked by the chip time of a token"
    if case.row["step_s_rel_std"] is None:
        yield "No error bars: this calibration is not fitted"
    if machine.own(case):
        yield "Other machines are not compared: numbers of this one were changed by hand"


def _batches(case: Case) -> Iterator[str]:
    if case.phase == "train":
        return
    now, most = case.now(batch.BATCH), batch.critical(case)
    if most and now >= most:
        yield (
            f"Batch {now:,g} is past the critical {most:,.0f}: reading weights costs no more than "
            "the arithmetic on them"
        )
    found = batch.smaller(case)
    if found is not None:
        size, time, cost = found
        dearer = f"costs {percent(cost - 1)} more" if cost > 1 else "costs no more"
        yield (
            f"Batch {now:,g} buys little: with batch={size:,g} a token {dearer} and is there "
            f"{times(1 / time)} as fast"
        )


def _context(case: Case) -> Iterator[str]:
    knee, context = case.row["context_knee_tokens"], case.now("workload.context")
    if case.phase == "decode" and knee and context > knee:
        yield (
            f"At {context:,g} tokens decoding is never compute-bound, whatever the batch: each "
            f"sequence reads its own cache, which takes longer than its matmuls from {knee:,.0f} "
            "tokens on"
        )


def _memory(case: Case) -> Iterator[str]:
    row = case.row
    cache = (row["mem_kv_bytes"] or 0.0) / row["mem_total_bytes"]
    if cache >= _CACHE and case.phase != "train":
        left = f", {percent(free(row))} of all is free" if row["fits"] else ""
        yield f"The cache is {percent(cache)} of the memory needed{left}"
    held = case.now("workload.hold_s")
    if not case.now("workload.cached") or not held or case.phase == "train":
        return
    tier = ("hbm", "host", "flash")[int(case.now("workload.cache_tier"))]
    limit = row[f"break_even_{tier}_s"]
    if limit is not None:
        word = "longer" if held > limit else "shorter"
        better = "computing them again costs less" if held > limit else "keeping them pays"
        yield (
            f"Cached tokens wait {quantity(held, 's')} in {tier}, {word} than the "
            f"{quantity(limit, 's')} that cost as much as computing them again: {better}"
        )


def _waiting(case: Case) -> Iterator[str]:
    paid = case.now("economics.utilization")
    if paid < 1:
        yield (
            f"{percent(1 - paid)} of the paid hours are idle (economics.utilization): every token "
            f"costs {times(1 / paid)} what it would on busy machines"
        )
    busy = case.row["utilization"]
    if busy is not None:
        rate = number(case.now("workload.arrivals_per_s"))
        over = ": more arrives than can be served" if busy >= 1 else ""
        yield f"{rate} requests/s are {percent(busy)} of what the service can do{over}"


def _buying(case: Case) -> Iterator[str]:
    if case.row["usd_per_mtok"]:
        found = elasticities(case.study)
    elif case.row["tokens_per_s"]:
        found = {path: -v for path, v in elasticities(case.study, "tokens_per_s").items()}
    else:
        return
    worth = [
        (path, -value)
        for path, value in found.items()
        if path.startswith("hardware") and value <= -FELT and "usd" not in path
    ]
    told = [f"{path} {number(value, 2)} %" for path, value in worth[:BOUGHT]]
    if told:
        yield f"What to buy next: 1 % more of these saves, at the same price: {', '.join(told)}"
