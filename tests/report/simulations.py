"""Small simulations made by hand, for the tests of their text and page: no engine runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from roofrack.simulation.asked import Asked, asked
from roofrack.simulation.command import Simulated, most_load

TIMES = ("ttft", "tpot", "e2e")


def row(rate: float, **changes: Any) -> dict[str, Any]:
    """Return a run of 1,000 requests at a load: cost falls with it, times rise."""
    made: dict[str, Any] = {"arrivals_per_s": rate, "seed": 0, "requests": 1000, "rejected": 0}
    for name, base in zip(TIMES, (0.1, 0.01, 1.0), strict=True):
        many = (("mean", 1), ("p50", 1), ("p95", 2), ("p99", 3))
        made |= {f"{name}_{part}_s": base * times * rate for part, times in many}
    made |= {
        "queue_s": 0.01 * rate, "busy_share": 0.9, "prefill_busy_share": None,
        "batch_at_load": 8.0 * rate, "kv_share": 0.1, "preemptions": 0, "recomputed_tokens": 0.0,
        "cached_share": 0.0, "tokens_per_s": 50.0 * rate, "requests_per_s": rate,
        "duration_s": 1000.0 / rate, "goodput": 1.0, "goodput_per_s": rate, "chips": 8.0,
        "usd_per_hour": 36.0, "usd_per_mtok_at_load": 24.0 / rate, "passes": 500, "steps": 100,
    }  # fmt: skip
    for name in ("ttft_p50_s", "ttft_p95_s", "ttft_p99_s", "tpot_p50_s", "tpot_p95_s",
                 "tpot_p99_s", "queue_s", "batch_at_load", "usd_per_mtok_at_load",
                 "goodput"):  # fmt: skip
        made[f"closed_{name}"] = made[name]
    made |= {"utilization": rate / 8.0, "capacity_per_s": 8.0, "slots_at_load": 64.0}
    return made | {"queue_grows": False, "closed_off": 0.0, "trust": "either"} | changes


def requests(lane: int, of: Mapping[str, Any], count: int = 100) -> pl.DataFrame:
    """Return requests of a run; every tenth is slow to its first token."""
    slow = [i % 10 == 0 for i in range(count)]
    ttft = [5.0 if s else of["ttft_p50_s"] or 0.0 for s in slow]
    return pl.DataFrame(
        {
            "lane": [lane] * count,
            "arrival_s": [float(i) for i in range(count)],
            "prompt": [100] * count,
            "cached": [0] * count,
            "output": [50] * count,
            "admitted_s": [float(i) for i in range(count)],
            "first_s": [i + t for i, t in enumerate(ttft)],
            "done_s": [i + t + 1.0 for i, t in enumerate(ttft)],
            "ttft_s": ttft,
            "tpot_s": [of["tpot_p50_s"]] * count,
            "kept": [not s for s in slow],
            "counted": [True] * count,
        },
        schema_overrides={"tpot_s": pl.Float64},
    )


def series(lane: int, of: Mapping[str, Any]) -> pl.DataFrame:
    """Return ten stretches of a run."""
    width = of["duration_s"] / 10.0
    return pl.DataFrame(
        {
            "time_s": [(i + 0.5) * width for i in range(10)],
            "running": [float(i) for i in range(10)],
            "waiting": [0.1 * i for i in range(10)],
            "kv_share": [0.05 * i for i in range(10)],
            "busy": [1.0] * 10,
            "lane": [lane] * 10,
        }
    )


def simulated(
    rows: Sequence[Mapping[str, Any]],
    words: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
) -> Simulated:
    """Return a simulation with these rows."""
    question: Asked = asked(words)
    frame = pl.DataFrame(
        [{"lane": i, **one} for i, one in enumerate(rows)], infer_schema_length=None
    )
    return Simulated(
        asked=question,
        labels=dict(labels or {"model": "llama", "hardware": "h100"}),
        traffic="1,000 requests a run, poisson",
        rows=frame,
        series=pl.concat([series(i, one) for i, one in enumerate(rows)]),
        requests=pl.concat([requests(i, one) for i, one in enumerate(rows)]),
        most=most_load(frame, question),
        notes=(),
    )
