"""What is measured of a lane: percentiles, goodput, utilisation, and what a token comes to cost."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from roofrack.simulation.asked import Limits
from roofrack.simulation.jobs import Played
from roofrack.units import MILLION

Floats = npt.NDArray[np.float64]
PERCENTILES = (50, 95, 99)
GROWS, MATTERS = 1.5, 0.1
"""A queue grows where the end of a run waits so much longer, by so much of the promise."""


def row(of: Played, limits: Limits) -> dict[str, Any]:
    """Return the columns of one lane; None where there is no value.

    Times from arrival to first token (`ttft`), between tokens of a request on average (`tpot`),
    from arrival to the end (`e2e`), and in the queue, until its prompt begins (`queue_s`, a mean),
    over requests that count. `batch_at_load` sequences in flight of a replica, its prompts
    included, while it is busy; `busy_share` is the share of time with a pass under way. Rates over
    the whole time from the first arrival to the last token; shares and money over all machines.
    """
    r, d = of.requests, of.deployment
    done = np.isfinite(of.done_s)
    makespan = float(np.nanmax(of.done_s)) if done.any() else 0.0
    times = latencies(of)
    kept = kept_limits(of, limits)
    tokens = float(r.output[done].sum())
    busy, pools = float(of.ran.busy_s.sum()), len(of.ran.busy_s) * makespan
    passes_s, running = (float(x) for x in of.ran.by_time[:, :2].sum(0))
    # a prefill pool may work on after the last sequence, and all wait for it
    paid = float(of.ran.paid_s.sum()) if of.scales else d.replicas * makespan
    computed = of.ran.prompt_tokens if of.prefill is None else of.prefill.prompt_tokens
    needed = float((r.prompt - of.cached)[done].sum())
    found: dict[str, Any] = {
        **d.shown,
        "arrivals_per_s": of.rate,
        "seed": of.seed,
        "requests": len(r),
        "rejected": int((~done).sum()),
        **percentiles(times),
        "queue_s": mean((of.admitted_s - of.queued_s)[of.counted]),
        "busy_share": busy / pools if pools else None,
        "prefill_busy_share": None,
        "batch_at_load": running / passes_s if passes_s else None,
        "kv_share": kv_share(of),
        "preemptions": int(of.ran.preemptions.sum()),
        "recomputed_tokens": max(0.0, computed - needed),
        "cached_share": float(of.cached[done].sum() / r.prompt[done].sum()) if done.any() else None,
        "tokens_per_s": tokens / makespan if makespan else None,
        "requests_per_s": float(done.sum()) / makespan if makespan else None,
        "duration_s": makespan,
        "goodput": float(kept[of.settled].mean()) if len(kept) else None,
        "goodput_per_s": float(kept.sum()) / makespan if makespan else None,
        "chips": d.row["chips"],
        "replicas_on": paid / makespan if makespan else None,
        "usd_per_hour": d.row["usd_per_hour"],
        "usd_per_mtok_at_load": d.usd_per_s / d.replicas * paid / tokens * MILLION
        if tokens
        else None,
        "passes": of.ran.passes,
        "steps": of.ran.steps,
    }
    if of.prefill is not None and makespan:
        ran = of.prefill.busy_s
        found["prefill_busy_share"] = float(ran.sum()) / (len(ran) * makespan)
    return found


def latencies(of: Played) -> Mapping[str, Floats]:
    """Return times of the requests that count, in seconds; tpot of those with several tokens."""
    output = of.requests.output
    several = of.counted & (output > 1)
    return {
        "ttft": (of.first_s - of.arrival_s)[of.counted],
        "tpot": (of.done_s - of.first_s)[several] / (output[several] - 1),
        "e2e": (of.done_s - of.arrival_s)[of.counted],
    }


def percentiles(times: Mapping[str, Floats]) -> dict[str, float | None]:
    """Return the mean and PERCENTILES of each kind of time."""
    found: dict[str, float | None] = {}
    for name, values in times.items():
        found[f"{name}_mean_s"] = mean(values)
        for p in PERCENTILES:
            found[f"{name}_p{p}_s"] = float(np.percentile(values, p)) if values.size else None
    return found


def kept_limits(of: Played, limits: Limits) -> npt.NDArray[np.bool_]:
    """Tell which requests kept both limits; a rejected one did not."""
    output = of.requests.output
    tpot = (of.done_s - of.first_s) / np.maximum(output - 1, 1)
    with np.errstate(invalid="ignore"):
        kept = (of.first_s - of.arrival_s <= limits.ttft_s) & (tpot <= limits.tpot_s)
    return kept & np.isfinite(of.done_s)


def ends(of: Played) -> dict[str, float | None]:
    """Return the mean time to first token in the middle and in the last fifth of the requests."""
    late = of.first_s - of.arrival_s
    fifth = max(1, len(late) // 5)
    parts = {"ttft_middle_s": late[2 * fifth : 3 * fifth], "ttft_end_s": late[-fifth:]}
    return {name: mean(part[np.isfinite(part)]) for name, part in parts.items()}


def grows(values: Mapping[str, Any], limits: Limits) -> bool:
    """Tell whether first tokens come later and later: a longer run would have no steady state.

    From the middle fifth of the requests to the last by half, and by a tenth of what is promised
    or, without a promise, of what a request takes: choices, between chance and what ends badly.
    `values` are those of `row` and `ends`.
    """
    middle, end = values["ttft_middle_s"], values["ttft_end_s"]
    if middle is None or end is None:
        return False
    promised = limits.ttft_s if np.isfinite(limits.ttft_s) else values["e2e_p50_s"] or 0.0
    return bool(end > GROWS * middle and end - middle > MATTERS * promised)


def kv_share(of: Played) -> float | None:
    """Return the tokens that decoding sequences hold over what there is room for, while busy."""
    seconds, tokens = of.ran.by_time[:, 0].sum(), of.ran.by_time[:, 2].sum()
    return float(tokens / seconds / of.deployment.cache_tokens) if seconds else None


def series(of: Played) -> dict[str, Floats]:
    """Return means over parts of the run's time: batch, queue, KV share, and the share busy.

    Sums over replicas. `waiting` are requests in the queue until they are admitted first.
    """
    spent, running, tokens = of.ran.by_time.T
    width, replicas = of.ran.bin_s, len(of.ran.busy_s)
    used = np.flatnonzero(spent > 0)
    last = int(used[-1]) + 1 if used.size else 0
    if last == len(spent) and np.nanmax(of.done_s) > last * width:
        last -= 1  # what comes after the parts is in the last of them
    # passes count where they begin; more than one begins where it is busier than it can be
    over = np.maximum(spent / (width * replicas), 1.0) * width
    room = of.deployment.cache_tokens * replicas
    return {
        "time_s": (np.arange(last) + 0.5) * width,
        "running": (running / over)[:last],
        "waiting": _waiting(of, width, len(spent))[:last],
        "kv_share": (tokens / over)[:last] / room,
        "busy": (spent / over)[:last] / replicas,
    }


def _waiting(of: Played, width: float, parts: int) -> Floats:
    """Return the mean number of requests in the queue in each part of time."""
    there = np.isfinite(of.admitted_s)
    edges = width * np.arange(parts + 1.0)

    def before(times: Floats) -> Floats:
        """Return the sum of what lies of each time before each edge."""
        ordered = np.sort(times)
        sums = np.concatenate(([0.0], np.cumsum(ordered)))
        count = np.searchsorted(ordered, edges)
        return np.asarray(sums[count] + (len(ordered) - count) * edges)

    spent = np.diff(before(of.admitted_s[there]) - before(of.queued_s[there]))
    return np.maximum(spent, 0.0) / width


def mean(values: Floats) -> float | None:
    """Return the mean, None of nothing."""
    return float(values.mean()) if values.size else None
