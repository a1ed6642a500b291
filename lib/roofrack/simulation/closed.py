"""Closed forms beside a simulation: the same load, without playing it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from roofrack.simulation.asked import Engine, Limits
from roofrack.simulation.capacity import at_load
from roofrack.simulation.jobs import Played

COLUMNS = (
    "ttft_p50_s",
    "ttft_p95_s",
    "ttft_p99_s",
    "tpot_p50_s",
    "tpot_p95_s",
    "tpot_p99_s",
    "queue_s",
    "batch_at_load",
    "usd_per_mtok_at_load",
    "goodput",
)
"""Columns that both have."""
OWN = ("utilization", "capacity_per_s", "slots_at_load")
"""Columns that only the closed forms have."""
CLOSE = 0.1
"""Relative difference up to which the two agree."""
FEW = 400
"""Counted requests below which chance moves a 95th percentile by more than that."""
COMPARED = ("ttft_p50_s", "ttft_p95_s", "tpot_p50_s", "tpot_p95_s")


def closed_forms(played: Sequence[Played], limits: Limits, engine: Engine) -> list[dict[str, Any]]:
    """Return the closed forms of each run, as `closed_*` where a simulation has the column too.

    None of a cache of another size than the machines', or of replicas that come and go.
    """
    if engine.cache_tokens or engine.scale_at:
        return [dict.fromkeys((*(f"closed_{name}" for name in COLUMNS), *OWN)) for _ in played]
    return [_closed(one, limits) for one in played]


def trusted(row: Mapping[str, Any], counted: int, drawn: bool) -> dict[str, Any]:
    """Return how far closed forms are from a run (`closed_off`), and which of both to `trust`.

    `closed_off` is the largest relative difference among COMPARED. Closed forms are of a steady
    state with memoryless arrivals of one kind; a run is of a sample. So where they differ the run
    counts, unless it is of few requests that were drawn just so.
    """
    off = [
        abs(row[f"closed_{name}"] / row[name] - 1.0)
        for name in COMPARED
        if row[name] and row[f"closed_{name}"] is not None
    ]
    if len(off) < len(COMPARED):
        return {"closed_off": None, "trust": "simulation"}
    if max(off) <= CLOSE:
        return {"closed_off": max(off), "trust": "either"}
    few = drawn and counted < FEW
    return {"closed_off": max(off), "trust": "closed forms" if few else "simulation"}


def _closed(one: Played, limits: Limits) -> dict[str, Any]:
    r = one.requests
    prompt, output = float(r.prompt.mean()), float(r.output.mean())
    gaps = np.diff(one.arrival_s)
    found = at_load(
        one.deployment,
        arrivals_per_s=one.rate,
        arrival_cv=float(gaps.std() / gaps.mean()) if len(gaps) and gaps.mean() > 0 else 1.0,
        prompt=prompt,
        output=output,
        cached=float(one.cached.mean()),
        prompt_cv=float(r.prompt.std()) / prompt,
        output_cv=float(r.output.std()) / output,
        ttft_limit_s=limits.ttft_s,
        tpot_limit_s=limits.tpot_s,
    )
    values = {name: _plain(found[name]) for name in (*COLUMNS, *OWN)}
    return {f"closed_{name}": values[name] for name in COLUMNS} | {n: values[n] for n in OWN}


def _plain(value: Any) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None
