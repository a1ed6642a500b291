"""Charts about waiting: cost and times over the load, and what a larger batch saves."""

import altair as alt
import polars as pl

from roofrack.report import live, theme
from roofrack.report.controls import Control
from roofrack.report.format import number, percent, quantity, usd
from roofrack.report.page import Figure

from .found import bar
from .measures import BATCH, GROWS, RATE, error_of, points, scaled
from .rows import AT_LOAD, Facts

TIMES = {
    "ttft_p50_s": "first token, 50 %",
    "ttft_p95_s": "first token, 95 %",
    "tpot_p50_s": "each further token, 50 %",
    "tpot_p95_s": "each further token, 95 %",
    "train_wait_s": "wait for the next pass, mean",
}
BANDS = ("ttft_p95_s", "tpot_p95_s")
"""Columns whose error the chart shows."""
FACTORS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
UNITS = {
    "cost": "USD/Mtok", "full_usd": "USD/Mtok", "seconds": "s", "tpot_s": "s",
    "chunk": "tokens",
    **{name: "s" for name in TIMES}, AT_LOAD: "USD/Mtok",
}  # fmt: skip
LABELS = {
    RATE: "Load, requests/s", BATCH: "Batch at most", "cost": "Cost", "what": "What",
    "seconds": "Time", "full_usd": "Cost with a full batch", "tpot_s": "Time per token",
    "fill_per_s": "Arrivals that fill it, 1/s", "low": "Passes faster",
    "high": "Passes slower", "error": "Error of a step", "chunk": "Chunk of a prompt",
    "slots_at_load": "Sequences that fit", "utilization": "Share of what can be served",
}  # fmt: skip


def controls(facts: Facts) -> dict[str, Control]:
    """Return what the reader moves: the cap of the batch and the price of a chip."""
    caps = tuple(sorted(set(_curves(facts)[BATCH])))
    return {
        "batch": Control("batch", "Batch at most", caps, facts.cap, "sequences"),
        "price": Control("price", "Price of a chip, over that of the run", FACTORS, 1.0, "x"),
    }


def _curves(facts: Facts) -> pl.DataFrame:
    """Return the own plan's rows whose queue does not grow."""
    return facts.home.filter(pl.col("utilization") < GROWS)


def datasets(facts: Facts) -> dict[str, pl.DataFrame]:
    """Return the tables that live charts read."""
    return {"load": _costs(facts), "times": _times(facts)}


def _costs(facts: Facts) -> pl.DataFrame:
    return _curves(facts).select(
        BATCH, RATE, cost=pl.col(AT_LOAD).cast(pl.Float64),
        utilization=pl.col("utilization").cast(pl.Float64),
    )  # fmt: skip


def _times(facts: Facts) -> pl.DataFrame:
    """Return a row for each cap, rate and kind of time, with the ends of its error band."""
    long = _curves(facts).unpivot(
        list(TIMES), index=[BATCH, RATE], variable_name="what", value_name="seconds"
    )
    long = long.drop_nulls("seconds").join(_bands(facts), on=[BATCH, RATE, "what"], how="left")
    return long.with_columns(
        pl.col("what").replace_strict(TIMES), pl.col("seconds").cast(pl.Float64)
    )


def _bands(facts: Facts) -> pl.DataFrame:
    """Return `low` and `high` of BANDS; null where slower passes would make the queue grow."""
    rows = []
    for (cap,), curve in _curves(facts).group_by(BATCH, maintain_order=True):
        error = error_of(curve.row(0, named=True))
        for column in BANDS if error else ():
            line = points(curve, column)
            rows += [
                (cap, rate, column, scaled(line, rate, 1 - error), scaled(line, rate, 1 + error))
                for rate, _ in line
            ]
    names = {BATCH: pl.Float64, RATE: pl.Float64, "what": pl.String, "low": pl.Float64,
             "high": pl.Float64}  # fmt: skip
    return pl.DataFrame(rows, schema=names, orient="row")


def _x() -> alt.X:
    return theme.axis(alt.X, RATE, "Load", "requests/s", log=True)


def cost(facts: Facts) -> Figure:
    """Draw the cost of a token over the load."""
    of = controls(facts)
    made = live.scaled(live.chart("load", [of["batch"]]), "cost", of["price"])
    made = made.mark_line(point=True).encode(
        _x(), theme.axis(alt.Y, "cost", "Cost", "USD/Mtok", log=True)
    )
    made = theme.tooltips(
        made, (RATE, "Load", "requests/s"), ("cost", "Cost", "USD/Mtok"),
        ("utilization", "Share of what can be served"),
    )  # fmt: skip
    rows = facts.curve
    low, high = rows.row(0, named=True), rows.row(-1, named=True)
    return Figure(
        "cost",
        "What a token costs at a load",
        made.add_params(*live.parameters([of["batch"], of["price"]])),
        f"{facts.shown}, batch at most {number(facts.cap)}: {usd(low[AT_LOAD])} at"
        f" {number(low[RATE])} requests/s, {usd(high[AT_LOAD])} at {number(high[RATE])}.",
        f"One copy on {facts.full['plan']}, idle time paid for. The line ends where more arrive"
        f" than a batch of that size serves{bar(facts.error)}; below, cost is rent over tokens, and"
        " no error of a pass is in it.",
        live.rows_at_start(_costs(facts), [of["batch"]]),
        UNITS,
        LABELS,
    )


def waits(facts: Facts) -> Figure:
    """Draw how long first and further tokens take over the load."""
    of = controls(facts)
    y = theme.axis(alt.Y, "seconds", "Time", "s", log=True)
    series = theme.series("what", "", tuple(TIMES.values()))
    lines = live.chart("times", [of["batch"]]).mark_line().encode(_x(), y, **series)
    lines = theme.tooltips(
        lines, ("what", "What", None), (RATE, "Load", "requests/s"), ("seconds", "Time", "s"),
        ("low", "Passes faster", "s"), ("high", "Passes slower", "s"),
    )  # fmt: skip
    band = live.chart("times", [of["batch"]]).transform_filter(
        "isValid(datum.low) && isValid(datum.high)"
    )
    band = band.mark_area(opacity=1, fillOpacity=0.2).encode(
        _x(), alt.Y("low:Q"), alt.Y2("high:Q"), series["color"]
    )
    row, error = facts.full, facts.error
    drawn = alt.layer(band, lines) if error else lines
    told = (
        f" Bands: passes {percent(error)} faster or slower, one standard deviation."
        if error
        else ""
    )
    return Figure(
        "waits",
        "How long anybody waits",
        drawn.add_params(*live.parameters([of["batch"]])),
        f"At {number(row[RATE])} requests/s: first token within {quantity(row['ttft_p95_s'], 's')}"
        f" for 95 %, further ones every {quantity(row['tpot_p95_s'], 's')}{bar(error)}.",
        "Percentiles of requests, by closed forms of a queue; arrivals are random and steady."
        + told,
        live.rows_at_start(_times(facts), [of["batch"]]),
        UNITS,
        LABELS,
    )


def caps(facts: Facts) -> Figure:
    """Draw what a full batch of each size costs, against the time of a token."""
    table = facts.caps.select(
        BATCH,
        pl.col("full_usd", "tpot_s", "fill_per_s", "slots_at_load", "error").cast(pl.Float64),
        low=pl.col("full_usd") * (1 - pl.col("error")),
        high=pl.col("full_usd") * (1 + pl.col("error")), chunk=pl.col("workload.chunk"),
    )  # fmt: skip
    x = theme.axis(alt.X, "tpot_s", "Time per token with a full batch", "s", log=True)
    y = theme.axis(alt.Y, "full_usd", "Cost with a full batch", "USD/Mtok", log=True)
    made = alt.Chart(table).mark_line(point=True).encode(x, y, order=alt.Order(f"{BATCH}:Q"))
    made = theme.tooltips(
        made, (BATCH, "Batch", "sequences"), ("full_usd", "Cost", "USD/Mtok"),
        ("tpot_s", "Time per token", "s"), ("fill_per_s", "Arrivals that fill it", "requests/s"),
        ("low", "Passes faster", "USD/Mtok"), ("high", "Passes slower", "USD/Mtok"),
    )  # fmt: skip
    rules = alt.Chart(table).mark_rule(strokeWidth=1.6).encode(x, alt.Y("low:Q"), alt.Y2("high:Q"))
    words = table.with_columns(words=pl.col(BATCH).map_elements(number, return_dtype=pl.String))
    text = alt.Chart(words).mark_text(align="left", dx=8, dy=-6).encode(x, y, text="words:N")
    first, last = table.row(0, named=True), table.row(-1, named=True)
    told = " Rules: one standard deviation of a step." if table["error"].max() else ""
    return Figure(
        "caps",
        "What a larger batch still saves",
        alt.layer(rules, made, text),
        f"Batch {number(first[BATCH])}: {usd(first['full_usd'])}; batch {number(last[BATCH])}:"
        f" {usd(last['full_usd'])}{bar(last['error'])}.",
        "Each point is a batch (its size beside it), full all the time, prompts included and in the"
        " cheapest chunks tried. The line flattens where weights are shared by enough sequences: a"
        f" slower mode saves little more.{told}",
        table,
        UNITS,
        LABELS,
    )
