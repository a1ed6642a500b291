"""Figures of the page of a simulation: which runs each chart shows, and its words."""

import math
from typing import Any

import polars as pl

from roofrack.report import simulation_charts as charts
from roofrack.report import simulation_words as words
from roofrack.report.format import number, percent, usd
from roofrack.report.page import Figure
from roofrack.report.simulation_loads import COST, RATE, Curve, limited
from roofrack.simulation.closed import CLOSE, COMPARED
from roofrack.simulation.command import Simulated, shown_columns

MOST_CURVES = 8
"""Deployments with a line of their own."""
LABELS = {
    RATE: "Load, requests/s",
    "usd_per_mtok_at_load": "$ per million generated tokens",
    "batch_at_load": "Batch",
    "goodput": "Share within the limits",
    "ttft_p50_s": "TTFT p50",
    "ttft_p95_s": "TTFT p95",
    "ttft_p99_s": "TTFT p99",
    "tpot_p50_s": "TPOT p50",
    "tpot_p95_s": "TPOT p95",
    "tpot_p99_s": "TPOT p99",
    "queue_s": "Mean wait in the queue",
    "kv_share": "KV cache in use",
    "most_per_s": "Highest load, requests/s",
    "most_per_s_per_chip": "for each chip",
    "utilization": "Utilisation",
}
UNITS = {name: "s" for name in LABELS if name.endswith("_s")} | {
    "value": "",
    "usd_per_mtok_at_load": "USD/Mtok",
    "duration_s": "s",
    "usd_per_hour": "USD/h",
}
UNITS.pop("most_per_s", None)
UNITS.pop(RATE, None)


def shown(of: tuple[Curve, ...]) -> tuple[Curve, ...]:
    """Return the deployments that charts show: the cheapest, if there are too many."""
    some = [c for c in of if c.served]
    if len(some) <= MOST_CURVES:
        return tuple(some)

    def cost(curve: Curve) -> float:
        under = curve.most[COST] if curve.most is not None else None
        least = min(p[COST] for p in curve.steady or curve.served)
        return math.inf if curve.most is not None and under is None else float(under or least)

    kept = sorted(some, key=cost)[:MOST_CURVES]
    return tuple(c for c in some if c in kept)


def _left_out(of: tuple[Curve, ...]) -> str:
    if len(of) <= MOST_CURVES:
        return ""
    return f" The {MOST_CURVES} cheapest of {len(of):,} deployments; the table of runs has all."


def _ends(of: tuple[Curve, ...], column: str, unit: str) -> str:
    """Say in words where each line begins and ends."""
    told = []
    for curve in of:
        first, last = curve.served[0], curve.served[-1]
        written = [
            usd(p[column]) if unit == "USD/Mtok" else words.seconds(p[column])
            if unit == "s" else number(p[column]) for p in (first, last)
        ]  # fmt: skip
        told.append(
            f"{curve.name}: {written[0]} at {words.rate(first[RATE])}, {written[1]} at"
            f" {words.rate(last[RATE])}"
        )
    return "; ".join(told) + "."


def _figure(
    found: Simulated, of: tuple[Curve, ...], key: str, title: str, columns: dict[str, str],
    axis: str, unit: str, caption: str, limit: float = math.inf,
) -> Figure:  # fmt: skip
    """Return a chart of columns against the load: of one deployment all, of several the last."""
    drawn = shown(of)
    share = found.asked.limits.share if limited(found) else None
    if len(drawn) > 1:
        columns = {list(columns)[-1]: list(columns.values())[-1]}
    frame = charts.long(drawn, columns, share)
    by = "deployment" if len(drawn) > 1 else "what"
    last = list(columns)[-1]
    if len(drawn) > 1 and columns[last]:
        axis = f"{axis} {columns[last]}"
    notes = " Dashed: closed forms." if "closed forms" in frame["kind"] else ""
    if share is not None and not frame["within"].all():
        notes += " Hollow points break the limits."
    return Figure(
        key,
        title,
        charts.against_load(frame, by, axis, unit, limit),
        _ends(drawn, last, unit),
        caption + notes + _left_out(of),
        _wide(drawn, list(columns)),
        UNITS,
        LABELS,
    )


def _wide(of: tuple[Curve, ...], columns: list[str]) -> pl.DataFrame:
    """Return the numbers behind a chart against the load."""
    every = [n for c in columns for n in (c, f"closed_{c}")]
    rows = [
        {"deployment": c.name, RATE: p[RATE]} | {n: p.get(n) for n in every}
        for c in of
        for p in c.points
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def cost(found: Simulated, of: tuple[Curve, ...]) -> Figure:
    """Draw the cost of a token against the load."""
    return _figure(
        found, of, "cost", "What a token costs at a load", {COST: ""}, "Cost", "USD/Mtok",
        "The bill is the same whatever comes, so a fuller machine makes cheaper tokens.",
    )  # fmt: skip


def latency(found: Simulated, of: tuple[Curve, ...], name: str) -> Figure:
    """Draw percentiles of TTFT or TPOT against the load."""
    title, limit, caption = {
        "ttft": ("How long the first token takes", found.asked.limits.ttft_s,
                 "From arrival to first token: the queue, then the prompt."),
        "tpot": ("How fast tokens follow", found.asked.limits.tpot_s,
                 "Time between the tokens of a request, its mean: a fuller batch is slower."),
    }[name]  # fmt: skip
    columns = {f"{name}_p{p}_s": f"p{p}" for p in (50, 99, 95)}
    if len(shown(of)) == 1:
        columns = dict(sorted(columns.items()))
    return _figure(found, of, name, title, columns, words.NAMES[name], "s", caption, limit)


def goodput(found: Simulated, of: tuple[Curve, ...]) -> Figure:
    """Draw the share of requests within the limits against the load."""
    promise = words.promise(found.asked.limits)
    return _figure(
        found, of, "goodput", "How many requests keep the limits", {"goodput": ""},
        "Share of requests within the limits", "", f"Promised: {promise}.",
        found.asked.limits.share,
    )  # fmt: skip


def batch(found: Simulated, of: tuple[Curve, ...]) -> Figure:
    """Draw the batch against the load."""
    return _figure(
        found, of, "batch", "How many share a batch", {"batch_at_load": ""}, "Batch", "sequences",
        "Sequences in flight in an instance, those whose prompt is computed included: a mean over"
        " the time that it works.",
    )  # fmt: skip


def closed(of: tuple[Curve, ...]) -> Figure:
    """Return closed forms beside the simulation, and which to trust."""
    rows: list[dict[str, Any]] = []
    for curve in of:
        for p in curve.served:
            pairs = [(n, p[f"closed_{n}"], p[n]) for n in COMPARED]
            off = p["closed_off"]
            row: dict[str, Any] = {"deployment": curve.name, RATE: p[RATE], "trust": p["trust"]}
            row["apart"] = None if off is None else percent(off)
            for name, form, simulated in pairs:
                row |= {name: simulated, f"closed_{name}": form}
            rows.append(row)
    return Figure(
        "closed",
        "Closed forms beside the simulation",
        None,
        "",
        f"Apart: the largest of the four differences; up to {percent(CLOSE)} both may be used.",
        pl.DataFrame(rows, infer_schema_length=None),
        UNITS | {f"closed_{n}": "s" for n in COMPARED},
        LABELS
        | {f"closed_{n}": f"{LABELS[n]}, closed form" for n in COMPARED}
        | {"apart": "Apart", "trust": "Trust"},
    )


def most(found: Simulated) -> Figure:
    """Return the highest load of each deployment under the limits."""
    return Figure(
        "most",
        "Highest load under the limits",
        None,
        "",
        "Cheapest first. Between two loads tried, the share within the limits is taken as linear.",
        found.most.sort(COST, nulls_last=True),
        UNITS,
        LABELS | {"told": "How it is known"},
    )


def runs(found: Simulated) -> Figure:
    """Return the table of all runs."""
    names = [
        *shown_columns(found.rows), RATE, "seed", "requests", "rejected", "utilization",
        "batch_at_load", "ttft_p50_s", "ttft_p95_s", "ttft_p99_s", "tpot_p50_s", "tpot_p95_s",
        "tpot_p99_s", "queue_s", "goodput", "usd_per_mtok_at_load", "tokens_per_s", "kv_share",
        "preemptions", "recomputed_tokens", "cached_share", "chips", "usd_per_hour", "duration_s",
    ]  # fmt: skip
    every = found.rows.select(n for n in names if n in found.rows.columns)
    kept = [n for n in every.columns if every[n].null_count() < every.height]
    return Figure("runs", "Every run", None, "", "A row a run.", every.select(kept), UNITS, LABELS)
