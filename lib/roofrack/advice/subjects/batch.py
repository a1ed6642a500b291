"""How many sequences a pass has: toward the critical batch, to what fits, within limits."""

from collections.abc import Callable, Iterator

import numpy as np

from roofrack.advice.case import Case, Change, Row
from roofrack.advice.words import room
from roofrack.report.format import number

BATCH = "workload.batch"
LARGEST = 2.0**20
NEARLY = 0.02
"""How much more may be paid for a batch to be called as cheap."""
FASTER = 0.8
"""Time over that of now from which on a smaller batch is worth a note."""


def critical(case: Case) -> float:
    """Return the sequences of a pass with as many tokens as the critical batch has."""
    each = 1.0 + case.now("workload.draft_tokens")
    if case.phase == "prefill":
        each = case.now("workload.prompt") - case.now("workload.cached")
    return float(case.row["critical_batch"] or 0.0) / max(each, 1.0)


def ladder(case: Case) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return batch sizes, doublings of the one there is and some up to the largest that fits."""
    now = case.now(BATCH)
    doubled = np.clip(np.round(now * 2.0 ** np.arange(-20, 21)), 1.0, max(LARGEST, now))
    sizes = np.unique([now, *doubled])
    found = case.columns({BATCH: sizes})
    able = np.flatnonzero(found["kept"])
    if able.size and able[-1] + 1 < sizes.size:
        low, high = sizes[able[-1]], sizes[able[-1] + 1]
        # sixteenths of an octave: the largest that fits, to 6 %
        between = np.round(np.linspace(low, high, 17)[1:-1])
        sizes = np.unique(np.concatenate([sizes, between]))
        found = case.columns({BATCH: sizes})
    return sizes, found


def propose(case: Case) -> Iterator[Change]:
    """Yield a batch that is worth its wait, and the cheapest."""
    if case.phase == "train":
        return
    sizes, found = ladder(case)
    speed = case.waits[0]
    kept = found["kept"]
    if not np.any(kept):
        return
    knee = int(np.argmin(np.where(kept, found["goal"] * found[speed], np.inf)))
    cheapest = int(np.argmin(np.where(kept, found["goal"], np.inf)))
    why = "the cheapest within the limits" if case.limits else "the cheapest that fits"
    for key, row, said in (
        ("knee", knee, "where cost times wait is least"),
        ("cheapest", cheapest, why),
    ):
        if sizes[row] != case.now(BATCH):
            yield Change("batch", key, {BATCH: float(sizes[row])}, _lead(case, sizes[row], said))


def _lead(case: Case, size: float, why: str) -> Callable[[Row, Row], str]:
    now, most = case.now(BATCH), critical(case)
    there = f"; critical is {number(most, 2) if most < 100 else f'{most:,.0f}'}" if most else ""
    return lambda before, after: (
        f"you run batch {now:,g}{there}; at {size:,g}, {why} ({room(after)})"
    )


def smaller(case: Case) -> tuple[float, float, float] | None:
    """Return a smaller batch that is nearly as cheap and much faster: it, time and cost ratios."""
    if case.phase == "train" or not case.runs:
        return None
    sizes, found = ladder(case)
    speed = case.waits[0]
    now = float(found["goal"][np.flatnonzero(sizes == case.now(BATCH))[0]])
    before = float(case.row[speed])
    good = found["kept"] & (found["goal"] <= (1 + NEARLY) * now) & (sizes < case.now(BATCH))
    good &= found[speed] <= FASTER * before
    if not np.any(good):
        return None
    row = int(np.argmin(np.where(good, found[speed], np.inf)))
    return float(sizes[row]), float(found[speed][row] / before), float(found["goal"][row] / now)
