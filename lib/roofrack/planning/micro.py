"""How the sequences of a training step go through the stages: micro-batches and their schedule."""

from collections.abc import Mapping

import numpy as np

from roofrack.cost import schedules
from roofrack.cost.layout import REASONS
from roofrack.nouns import Scenario
from roofrack.planning.candidates import Table, cross, cross_by, divisors, rows_of

OWN_REASONS = sum(
    1 << REASONS.index(reason)
    for reason in (
        "the micro-batches do not divide the sequences of the ranks",
        "the schedule cannot run with these stages and micro-batches",
        "virtual stages do not divide the layers of a stage",
    )
)
"""Reasons that depend on what `scheduled` chooses."""


def scheduled(s: Scenario, table: Table, allowed: Mapping[str, np.ndarray]) -> Table:
    """Pair each plan with all micro-batches, schedules and virtual stages that it can run with.

    Plans come as they can run but for these leaves. A micro-batch is a whole number of sequences;
    one stage knows no schedule (the first that is allowed, without virtual stages).
    """
    table = cross_by(table, "microbatches", table["dp"], lambda dp: _counts(s, dp, allowed))
    table = cross(table, "schedule", allowed["schedule"], table["pp"] > 1)
    cut = table["schedule"] == schedules.INDEX["interleaved"]
    table = cross_by(
        table,
        "virtual_stages",
        np.where(cut & (table["pp"] > 1), table["pp"], 0.0),
        lambda pp: _parts(s, pp, allowed["virtual_stages"]),
    )
    count = np.where(
        table["microbatches"] > 0, table["microbatches"], s.workload.global_batch / table["dp"]
    )
    degrees = table["schedule"], table["pp"], count, table["virtual_stages"]
    clashes = [np.broadcast_to(clash, count.shape) for clash, _ in schedules.invalid(*degrees)]
    table = rows_of(table, ~np.any(clashes, axis=0))
    table = cross(table, "zero", allowed["zero"])
    return cross(table, "recompute", allowed["recompute"])


def _counts(s: Scenario, dp: int, allowed: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the micro-batches that divide a rank's sequences of a step."""
    each = float(s.workload.global_batch) / dp
    given = allowed["microbatches"]
    if each != int(each):
        return np.empty(0)
    if given.size == 0:
        return divisors(int(each))
    return given[(given == 0) | (each % np.where(given == 0, 1.0, given) == 0)]


def _parts(s: Scenario, pp: int, given: np.ndarray) -> np.ndarray:
    """Return how many parts the layers of each of `pp` stages may be cut into; 0: no schedule."""
    if pp == 0:
        return np.ones(1)
    each = int(np.ceil(s.model.layers / pp))
    every = divisors(each)
    every = every[every > 1]
    return every if given.size == 0 else given[np.isin(given, every)]
