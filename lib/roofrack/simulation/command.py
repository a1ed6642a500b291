"""From the words of a question to what a simulation found, as tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from roofrack import config
from roofrack.conversion import to_study
from roofrack.errors import InfeasibleError
from roofrack.simulation.asked import DRAWN, STEADY, Asked, asked
from roofrack.simulation.closed import closed_forms, trusted
from roofrack.simulation.deployments import Deployment, deployments
from roofrack.simulation.jobs import Played
from roofrack.simulation.measured import ends, grows, kept_limits, row, series
from roofrack.simulation.played import simulate


@dataclass(frozen=True)
class Simulated:
    """What a simulation found.

    `rows`: one for each run, its columns those of `measured.row` after what tells deployments
    apart, and `closed_*` of the closed forms; `series` means over time of each run (`lane` is its
    row); `requests` of each request of each run; `most` for each deployment the highest rate that
    keeps the limits. `labels` are the files chosen by all; `traffic` says in words what came.
    """

    asked: Asked
    labels: dict[str, str]
    traffic: str
    rows: pl.DataFrame
    series: pl.DataFrame
    requests: pl.DataFrame
    most: pl.DataFrame
    notes: tuple[str, ...]


def answer(words: Sequence[str], config_dir: str | Path | None = None) -> Simulated:
    """Return what a simulation of these words finds; raise InputError or InfeasibleError."""
    question = asked(words)
    found, labels, refused = all_deployments(question, config_dir)
    played = simulate(found, question)
    return collected(question, labels, played, refused)


def all_deployments(
    question: Asked, config_dir: str | Path | None
) -> tuple[list[Deployment], dict[str, str], tuple[str, ...]]:
    """Return all deployments; those that cannot run are told, unless there is but one."""
    jobs = config.jobs(question.overrides, config_dir, study=False)
    common = {word for word in jobs[0] if all(word in job for job in jobs)}
    found: list[Deployment] = []
    refused: list[str] = []
    labels: list[dict[str, str]] = []
    for job in jobs:
        own = dict(word.split("=", 1) for word in job if word not in common and "=" in word)
        study = to_study(config.compose(job, config_dir))
        labels.append({k: v for k, v in study.labels.items() if v is not None})
        try:
            found += deployments(study, question.engine, own)
        except InfeasibleError as error:
            if len(jobs) == 1:
                raise
            named = ", ".join(f"{k}={v}" for k, v in own.items())
            refused.append(f"{named}: {error}")
    if not found:
        raise InfeasibleError(f"none of {len(jobs)} deployments can run; the first: {refused[0]}")
    shared = {k: v for k, v in labels[0].items() if all(one.get(k) == v for one in labels)}
    return found, shared, tuple(refused)


def collected(
    question: Asked, labels: dict[str, str], played: Sequence[Played], refused: Sequence[str] = ()
) -> Simulated:
    """Return the tables of runs."""
    forms = closed_forms(played, question.limits, question.engine)
    rows = []
    for one, form in zip(played, forms, strict=True):
        steady = question.traffic.source in STEADY
        both = row(one, question.limits) | form
        both["queue_grows"] = steady and grows(both | ends(one), question.limits)
        drawn = question.traffic.source in DRAWN
        rows.append(both | trusted(both, int(one.counted.sum()), drawn))
    every = pl.DataFrame(
        [{"lane": i, **one} for i, one in enumerate(rows)], infer_schema_length=None
    )
    over_time = [
        pl.DataFrame(series(one)).with_columns(lane=pl.lit(i, pl.Int64))
        for i, one in enumerate(played)
    ]
    requests = [_requests(one, question, i) for i, one in enumerate(played)]
    return Simulated(
        asked=question,
        labels=labels,
        traffic=told(question, played[0]),
        rows=every,
        series=pl.concat(over_time),
        requests=pl.concat(requests),
        most=most_load(every, question),
        notes=tuple(refused),
    )


def _requests(one: Played, question: Asked, lane: int) -> pl.DataFrame:
    output = one.requests.output
    tpot = (one.done_s - one.first_s) / np.maximum(output - 1, 1)
    frame = pl.DataFrame(
        {
            "lane": np.full(len(output), lane),
            "arrival_s": one.arrival_s,
            "prompt": one.requests.prompt,
            "cached": one.cached,
            "output": output,
            "admitted_s": one.admitted_s,
            "first_s": one.first_s,
            "done_s": one.done_s,
            "ttft_s": one.first_s - one.arrival_s,
            "tpot_s": np.where(output > 1, tpot, np.nan),
            "kept": kept_limits(one, question.limits),
            "counted": one.counted,
        }
    )
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))


def shown_columns(rows: pl.DataFrame) -> list[str]:
    """Return the columns that tell deployments apart: those before the rate."""
    names = rows.columns
    return names[1 : names.index("arrivals_per_s")]


def most_load(rows: pl.DataFrame, question: Asked) -> pl.DataFrame:
    """Return for each deployment the highest rate whose share of requests keeps the limits.

    Means over seeds; between the last rate that keeps them and the next, the share and the bill
    are taken to be linear in the rate. A queue that grows keeps no limit. Without limits there is
    none; where no rate or each of them keeps them, as `told`.
    """
    limits = question.limits
    if not (np.isfinite(limits.ttft_s) or np.isfinite(limits.tpot_s)):
        return pl.DataFrame()
    by = shown_columns(rows)
    mean = rows.group_by([*by, "arrivals_per_s"], maintain_order=True).agg(
        pl.col("goodput", "usd_per_mtok_at_load", "chips").mean(), pl.col("queue_grows").any()
    )
    found = []
    groups = mean.group_by(by, maintain_order=True) if by else [((), mean)]
    for _, group in groups:
        ordered = group.sort("arrivals_per_s")
        found.append({n: ordered[n][0] for n in by} | _crossing(ordered, limits.share))
    return pl.DataFrame(found, infer_schema_length=None)


def _crossing(ordered: pl.DataFrame, share: float) -> dict[str, Any]:
    rates, kept = ordered["arrivals_per_s"].to_numpy(), ordered["goodput"].to_numpy()
    cost = ordered["usd_per_mtok_at_load"].to_numpy()
    chips = float(ordered["chips"][0])
    grown = ordered["queue_grows"].to_numpy()
    fails = np.flatnonzero((kept < share) | grown)
    if not fails.size:
        i = len(rates) - 1
        told, rate, usd = "at least: no rate tried breaks the limits", rates[i], cost[i]
    elif fails[0] == 0:
        told, rate, usd = "below every rate tried", None, None
    else:
        i = int(fails[0])
        # a queue that grows keeps promises only as long as the run is short
        part = (kept[i - 1] - share) / (kept[i - 1] - kept[i]) if kept[i] < share else 0.0
        rate = rates[i - 1] + part * (rates[i] - rates[i - 1])
        bill = cost * rates  # what hardly changes with the load
        usd = (bill[i - 1] + part * (bill[i] - bill[i - 1])) / rate
        told = "between two rates" if kept[i] < share else "the queue grows at the next rate"
    return {
        "chips": chips,
        "most_per_s": None if rate is None else float(rate),
        "most_per_s_per_chip": None if rate is None else float(rate) / chips,
        "usd_per_mtok_at_load": None if usd is None else float(usd),
        "told": told,
    }


def told(question: Asked, one: Played) -> str:
    """Say what traffic came."""
    t, r = question.traffic, one.requests
    lengths = f"prompts of {r.prompt.mean():,.0f} and outputs of {r.output.mean():,.0f} tokens"
    told = f"{len(r):,} requests a run, {t.source}, {lengths} on average"
    if r.rejected or r.out_of_order:
        gone = ", ".join(f"{n:,} {why}" for why, n in r.rejected.items())
        told += f"; rows left out: {gone or 'none'}; out of order: {r.out_of_order:,}"
    return told
