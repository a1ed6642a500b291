"""Closed forms beside a simulation: the same load, without playing it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from roofrack.simulation.asked import Limits
from roofrack.simulation.capacity import at_load
from roofrack.simulation.played import Played

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
COMPARED = ("ttft_p50_s", "ttft_p95_s", "tpot_p50_s", "tpot_p95_s")


def closed_forms(played: Sequence[Played], limits: Limits) -> list[dict[str, Any]]:
    """Return the closed forms of each run, as `closed_*` where a simulation has the column too."""
    return [_closed(one, limits) for one in played]


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
