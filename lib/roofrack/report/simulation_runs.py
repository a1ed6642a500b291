"""Figures of single runs on the page of a simulation: what happens in them, request by request."""

import math

import polars as pl

from roofrack.report import simulation_charts as charts
from roofrack.report import simulation_words as words
from roofrack.report.format import number, percent
from roofrack.report.page import Figure
from roofrack.report.simulation_figures import shown
from roofrack.report.simulation_loads import RATE, Curve, Row
from roofrack.simulation.command import Simulated


def runs_of(of: tuple[Curve, ...], curve: Curve) -> list[tuple[str, Row]]:
    """Return the runs to show one by one: loads of a deployment, or deployments at one load."""
    points = charts.few(curve)
    if len(points) > 1 or len(of) == 1:
        return [(words.rate(p[RATE]), p) for p in points]
    return [(c.name, c.served[0]) for c in shown(of)[:6]]


def distribution(found: Simulated, of: tuple[Curve, ...], curve: Curve) -> Figure:
    """Draw which share of requests had their first token by when."""
    rows, order = [], []
    for name, point in runs_of(of, curve):
        some = found.requests.filter(pl.col("lane").is_in(point["lanes"]) & pl.col("counted"))
        rows.append(charts.quantiles(some["ttft_s"]).with_columns(run=pl.lit(name)))
        order.append(name)
    frame = pl.concat(rows)
    who = f" {curve.name}." if len(of) > 1 and len(curve.served) > 1 else ""
    return Figure(
        "distribution",
        "Which share has its first token by when",
        charts.shares(frame, order, "TTFT", "s", found.asked.limits.ttft_s),
        "; ".join(
            f"{name}: half within {words.seconds(p['ttft_p50_s'])}, 95 % within"
            f" {words.seconds(p['ttft_p95_s'])}"
            for name, p in runs_of(of, curve)
        )
        + ".",
        f"A steep line is an even service; a flat end is a tail.{who}",
        frame,
        {"value": "s"},
        {"value": "TTFT", "share": "Share, %", "run": "Run"},
    )


def moment(curve: Curve) -> Row:
    """Return the load to look at over time: the highest before the queue takes over."""
    return (curve.steady or curve.served)[-1]


def series(found: Simulated, lane: int) -> pl.DataFrame:
    """Return a run over time, without a last stretch that stands for all that came after it.

    Passes are booked where they begin, so a stretch may hold more time than it is long: its means
    are taken over that time.
    """
    some = found.series.filter(pl.col("lane") == lane).drop("lane")
    lasts = found.rows.filter(pl.col("lane") == lane)["duration_s"][0]
    held = pl.max_horizontal(pl.col("busy"), pl.lit(1.0))
    even = some.with_columns(pl.col("running", "waiting", "kv_share", "busy") / held)
    if even.height < 2:
        return even
    width = even["time_s"][1] - even["time_s"][0]
    return even if even["time_s"][-1] + width / 2.0 >= lasts * (1.0 - 1e-9) else even.head(-1)


def over_time(found: Simulated, curve: Curve) -> Figure:
    """Draw batch, queue and cache over time at the load of `moment`."""
    point = moment(curve)
    played = series(found, point["lanes"][0])
    top = float(played["running"].max() or 0.0)  # type: ignore[arg-type]
    queued = float(played["waiting"].max() or 0.0)  # type: ignore[arg-type]
    filled = float(played["kv_share"].max() or 0.0)  # type: ignore[arg-type]
    return Figure(
        "time",
        f"One run over time, at {words.rate(point[RATE])}",
        charts.over_time(played),
        f"At most {number(top)} sequences, {number(queued)} requests waiting and"
        f" {percent(filled)} of the cache in use.",
        f"{curve.name}, the highest load before the queue takes over; sums over its replicas.",
        played,
        {"time_s": "s"},
        {"running": "Batch", "waiting": "Queue", "kv_share": "KV cache in use"},
    )


def queues(found: Simulated, of: tuple[Curve, ...], curve: Curve) -> Figure:
    """Draw the queue over each run: at which load it grows without end."""
    rows, order = [], []
    for name, point in runs_of(of, curve):
        some = series(found, point["lanes"][0])
        part = 100.0 * pl.col("time_s") / point["duration_s"]
        rows.append(
            charts.thinned(some.select(part.alias("part"), "waiting")).with_columns(
                run=pl.lit(name)
            )
        )
        order.append(name)
    frame = pl.concat(rows)
    most = frame.group_by("run", maintain_order=True).agg(pl.col("waiting").max())
    return Figure(
        "queue",
        "Where the queue grows",
        charts.waiting(frame, order),
        "; ".join(f"{run}: at most {number(top)} waiting" for run, top in most.iter_rows()) + ".",
        "A queue that rises until the last arrival is one that never ends: the load is too high.",
        frame,
        {},
        {"part": "Part of the run, %", "waiting": "Requests waiting", "run": "Run"},
    )


def batches(found: Simulated, of: tuple[Curve, ...], curve: Curve) -> Figure:
    """Draw the share of time with at most so many sequences."""
    rows, order = [], []
    for name, point in runs_of(of, curve):
        some = series(found, point["lanes"][0])
        rows.append(charts.quantiles(some["running"]).with_columns(run=pl.lit(name)))
        order.append(name)
    frame = pl.concat(rows)
    return Figure(
        "batches",
        "How long a batch has which size",
        charts.shares(frame, order, "Batch", "sequences", math.inf),
        "; ".join(
            f"{name}: a mean of {number(p['batch_at_load'])}" for name, p in runs_of(of, curve)
        )
        + ".",
        "Share of the time with at most so many sequences, means over short stretches, sums over"
        " replicas.",
        frame,
        {},
        {"value": "Batch", "share": "Share of the time, %", "run": "Run"},
    )
