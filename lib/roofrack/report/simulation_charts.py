"""Charts of a simulation: what a load costs and how long it waits, one idea each."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report.simulation_loads import RATE, Curve, Row

SIMULATED, CLOSED = "simulated", "closed forms"
KINDS = (SIMULATED, CLOSED)
LOAD = "Load"
LOAD_UNIT = "requests/s"
SPAN = 4.0
"""Largest over smallest from which on an axis is logarithmic."""
POINTS = 200
"""Points of a line at most."""
LABEL_ROOM = 1.22
"""Factor by which a logarithmic axis reaches beyond the last point, for a label."""


def spans(values: Sequence[float | None]) -> bool:
    """Tell whether values are all above 0 and so far apart that their axis is logarithmic."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    return bool(known) and min(known) > 0 and max(known) >= SPAN * min(known)


def long(curves: Sequence[Curve], columns: dict[str, str], share: float | None) -> pl.DataFrame:
    """Return points as rows of `deployment`, `what`, `kind`, the load, `value`, and `within`.

    `columns` gives each column of the rows its words; closed forms follow where they have it.
    `within` tells whether the limits are kept; without limits (`share` None) all are.
    """
    rows = []
    for curve in curves:
        for point in curve.points:
            within = share is None or (point["goodput"] or 0.0) >= share
            for column, words in columns.items():
                for kind, name in ((SIMULATED, column), (CLOSED, f"closed_{column}")):
                    if point.get(name) is not None:
                        rows.append(
                            {
                                "deployment": curve.name,
                                "what": words,
                                "kind": kind,
                                RATE: point[RATE],
                                "value": float(point[name]),
                                "within": within,
                            }
                        )
    schema = {"deployment": pl.String, "what": pl.String, "kind": pl.String, RATE: pl.Float64,
              "value": pl.Float64, "within": pl.Boolean}  # fmt: skip
    return pl.DataFrame(rows, schema=schema)


def against_load(
    frame: pl.DataFrame, by: str, title: str, unit: str, limit: float = math.inf
) -> Any:
    """Draw `value` against the load: a line for each value of `by`, closed forms dashed.

    Hollow points break the limits; `limit` is drawn as a line of its own if finite.
    """
    order = frame[by].unique(maintain_order=True).to_list()
    x, y = _axes(frame, title, unit, limit, room=by == "what" and len(order) > 1)
    simulated, closed = (frame.filter(pl.col("kind") == kind) for kind in KINDS)
    named = by == "what" and _labelled(simulated, order)
    colour, shape, dash = _channels(frame, by, order, legend=len(order) > 1 and not named)
    layers = [
        alt.Chart(closed).mark_line(strokeWidth=1.8, opacity=0.9).encode(x, y, colour, dash),
        alt.Chart(simulated).mark_line().encode(x, y, colour, dash),
    ]
    for within, filled in ((True, True), (False, False)):
        some = simulated.filter(pl.col("within") == within)
        if some.height:
            points = alt.Chart(some).mark_point(filled=filled, strokeWidth=2, size=70)
            layers.append(
                theme.tooltips(
                    points.encode(x, y, colour, shape),
                    ("deployment", "Deployment", None),
                    ("what", "What", None),
                    (RATE, LOAD, LOAD_UNIT),
                    ("value", title, unit),
                )
            )
    if named:
        layers.append(_names(simulated, x, y, colour))
    if math.isfinite(limit):
        layers += limit_line(frame, x, y, limit)
    return alt.layer(*layers)


def _channels(
    frame: pl.DataFrame, by: str, order: list[str], legend: bool
) -> tuple[alt.Color, alt.Shape, alt.StrokeDash]:
    """Return colour and shape of the values of `by`, and the dashes of KINDS."""
    channels = theme.series(by, "", order, by="shape")
    if legend:
        colour, shape = channels["color"].title(None), channels["shape"].title(None)
    else:
        colour, shape = channels["color"].legend(None), channels["shape"].legend(None)
    dash = alt.StrokeDash(
        "kind:N",
        title=None,
        sort=list(KINDS),
        scale=alt.Scale(domain=list(KINDS), range=[[1, 0], [4, 4]]),
        # beside a legend of colours there is no room for another: the caption says what is dashed
        legend=alt.Legend(symbolType="stroke", symbolSize=450)
        if frame["kind"].n_unique() > 1 and not legend
        else None,
    )
    return colour, shape, dash


def _axes(
    frame: pl.DataFrame, title: str, unit: str, limit: float, room: bool
) -> tuple[alt.X, alt.Y]:
    loads, values = frame[RATE].to_list(), frame["value"].to_list()
    if math.isfinite(limit):
        values = [*values, limit]
    low, high = min(loads), max(loads)
    log = spans(loads)
    end = high * LABEL_ROOM if log else high + (LABEL_ROOM - 1.0) * (high - low) * 0.5
    domain = [low / 1.06 if log else max(0.0, low - 0.03 * (high - low)), end if room else
              (high * 1.06 if log else high + 0.03 * (high - low))]  # fmt: skip
    x = theme.axis(alt.X, RATE, LOAD, LOAD_UNIT, log=log, domain=domain if high > low else None)
    return x, _value(alt.Y, values, title, unit)


def _value(channel: Any, values: Sequence[float | None], title: str, unit: str) -> Any:
    """Return the axis of `value`: from zero, or logarithmic and just as long as it has to be."""
    if not spans(values):
        return theme.axis(channel, "value", title, unit, zero=True)
    known = [v for v in values if v is not None and math.isfinite(v)]
    ends = [min(known) / 1.15, max(known) * 1.15]
    return theme.axis(channel, "value", title, unit, log=True, domain=ends)


def _last(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the row of the highest load of each line."""
    return frame.sort(RATE).group_by("what", maintain_order=True).last()


def _labelled(frame: pl.DataFrame, order: Sequence[str]) -> bool:
    """Tell whether lines can be named at their ends: few, and far enough apart."""
    if not 1 < len(order) <= 4 or frame.is_empty():
        return False
    ends = sorted(_last(frame)["value"].to_list())
    values = frame["value"].to_list()
    scale = math.log if spans(values) else float
    whole = scale(max(values)) - (scale(min(values)) if spans(values) else 0.0)
    if whole <= 0 or min(ends) <= 0:
        return False
    gaps = [scale(b) - scale(a) for a, b in itertools.pairwise(ends)]
    return min(gaps) / whole > 0.045


def _names(frame: pl.DataFrame, x: alt.X, y: alt.Y, colour: alt.Color) -> alt.Chart:
    text = alt.Chart(_last(frame)).mark_text(align="left", dx=8, fontWeight=600)
    return text.encode(x, y, colour, text="what:N")


def limit_line(frame: pl.DataFrame, x: alt.X, y: alt.Y, limit: float) -> list[Any]:
    """Return a line across the chart at a limit, and its name where lines are far from it."""
    loads = frame[RATE]
    # shares fall with the load, times rise: name the line at the end that they leave
    falls = frame.sort(RATE)["value"][-1] < limit
    at = loads.max() if falls else loads.min()
    data = pl.DataFrame({RATE: [at], "value": [limit], "words": ["limit"]})
    rule = alt.Chart(data).mark_rule(strokeDash=[6, 4], strokeWidth=1.4).encode(y)
    name = alt.Chart(data).mark_text(align="right" if falls else "left", baseline="bottom", dy=-4)
    return [rule, name.encode(x, y, text="words:N")]


def few(curve: Curve, most: int = 6) -> list[Row]:
    """Return points of a deployment spread over its loads, at most so many."""
    points = list(curve.served)
    if len(points) <= most:
        return points
    step = (len(points) - 1) / (most - 1)
    return [points[round(i * step)] for i in range(most)]


def shares(frame: pl.DataFrame, order: list[str], title: str, unit: str, limit: float) -> Any:
    """Draw which share lies below a value, a line for each of `run`; `limit` as a vertical line."""
    values = frame["value"].to_list() + ([limit] if math.isfinite(limit) else [])
    x = _value(alt.X, values, title, unit)
    y = theme.axis(alt.Y, "share", "Share", "%", domain=[0, 100], values=[0, 25, 50, 75, 95, 100])
    chart = alt.Chart(frame).mark_line(interpolate="step-after").encode(x, y)
    chart = chart.encode(alt.Order("share:Q"), **theme.series("run", "", order))
    chart = theme.tooltips(
        chart, ("run", "Run", None), ("value", title, unit), ("share", "Share", "%")
    )
    if not math.isfinite(limit):
        return chart
    data = pl.DataFrame({"value": [limit], "share": [4.0], "words": ["limit"]})
    rule = alt.Chart(data).mark_rule(strokeDash=[6, 4], strokeWidth=1.4).encode(x)
    name = alt.Chart(data).mark_text(align="left", dx=5).encode(x, y, text="words:N")
    return alt.layer(chart, rule, name)


def quantiles(values: pl.Series) -> pl.DataFrame:
    """Return POINTS / 2 values with the share, in percent, at or below each."""
    ordered = values.drop_nulls().sort()
    count = min(POINTS // 2, ordered.len())
    places = [round(i * (ordered.len() - 1) / max(count - 1, 1)) for i in range(count)]
    return pl.DataFrame(
        {
            "value": ordered.gather(places),
            "share": [100.0 * (i + 1) / ordered.len() for i in places],
        }
    )


def thinned(series: pl.DataFrame) -> pl.DataFrame:
    """Return means over time of at most POINTS stretches."""
    step = -(-series.height // POINTS)
    if step <= 1:
        return series
    part = (pl.int_range(pl.len()) // step).alias("_stretch")
    return series.group_by(part, maintain_order=True).agg(pl.all().mean()).drop("_stretch")


def over_time(series: pl.DataFrame) -> Any:
    """Draw batch, queue and cache of a run over time, side by side."""
    data = thinned(series).with_columns(kv_percent=pl.col("kv_share") * 100.0)
    shown = (
        ("running", "Batch", "sequences", 0),
        ("waiting", "Queue", "requests", 1),
        ("kv_percent", "KV cache in use", "%", 2),
    )
    panels = []
    for column, title, unit, colour in shown:
        used = (data[column] > 0).any()  # an axis for nothing but zeros would reach below it
        chart = alt.Chart(data.select("time_s", column))
        chart = chart.mark_line(strokeWidth=1.4, color=theme.PALETTE[colour])
        chart = chart.encode(
            theme.axis(alt.X, "time_s", "Time", "s"),
            theme.axis(alt.Y, column, title, unit, zero=True, domain=None if used else [0, 1]),
        )
        tips = (("time_s", "Time", "s"), (column, title, unit))
        panels.append(theme.tooltips(chart, *tips).properties(height=220))
    return theme.columns(*panels)


def waiting(frame: pl.DataFrame, order: list[str]) -> Any:
    """Draw requests in the queue over the share of a run, a line for each of `run`."""
    chart = alt.Chart(frame).mark_line(strokeWidth=1.8)
    chart = chart.encode(
        theme.axis(alt.X, "part", "Part of the run that has passed", "%", domain=[0, 100]),
        theme.axis(alt.Y, "waiting", "Requests waiting", "", zero=True),
        **theme.series("run", "", order),
    )
    return theme.tooltips(
        chart, ("run", "Run", None), ("waiting", "Waiting"), ("part", "Part", "%")
    )
