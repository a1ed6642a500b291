"""Charts about waiting: cost and times over the load, caps of the batch, the break-even."""

import altair as alt
import polars as pl

from roofrack.report import live, simulation_charts, theme
from roofrack.report.controls import Control
from roofrack.report.format import number, quantity, usd
from roofrack.report.page import Figure

from .rows import AT_LOAD, BATCH, GROWS, RATE, Facts

TIMES = {
    "ttft_p50_s": "first token, 50 %",
    "ttft_p95_s": "first token, 95 %",
    "tpot_p50_s": "each further token, 50 %",
    "tpot_p95_s": "each further token, 95 %",
    "train_wait_s": "wait for the next pass, mean",
}
FACTORS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
UNITS = {
    "cost": "USD/Mtok", "full_usd": "USD/Mtok", "seconds": "s", "tpot_s": "s", "usd": "USD/h",
    **{name: "s" for name in TIMES}, AT_LOAD: "USD/Mtok",
}  # fmt: skip
LABELS = {
    RATE: "Load, requests/s", BATCH: "Batch at most", "cost": "Cost", "what": "What",
    "seconds": "Time", "full_usd": "Cost with a full batch", "tpot_s": "Time per token",
    "fill_per_s": "Arrivals that fill it, 1/s", "usd": "Cost", "plan": "Plan",
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
    long = _curves(facts).unpivot(
        list(TIMES), index=[BATCH, RATE], variable_name="what", value_name="seconds"
    )
    return long.with_columns(
        pl.col("what").replace_strict(TIMES), pl.col("seconds").cast(pl.Float64)
    ).drop_nulls("seconds")


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
        " than a batch of that size serves.",
        live.rows_at_start(_costs(facts), [of["batch"]]),
        UNITS,
        LABELS,
    )


def waits(facts: Facts) -> Figure:
    """Draw how long first and further tokens take over the load."""
    of = controls(facts)
    made = live.chart("times", [of["batch"]]).mark_line().encode(
        _x(), theme.axis(alt.Y, "seconds", "Time", "s", log=True),
        **theme.series("what", "", tuple(TIMES.values())),
    )  # fmt: skip
    made = theme.tooltips(
        made, ("what", "What", None), (RATE, "Load", "requests/s"), ("seconds", "Time", "s")
    )
    row = facts.full
    return Figure(
        "waits",
        "How long anybody waits",
        made.add_params(*live.parameters([of["batch"]])),
        f"At {number(row[RATE])} requests/s: first token within {quantity(row['ttft_p95_s'], 's')}"
        f" for 95 %, further ones every {quantity(row['tpot_p95_s'], 's')}.",
        "Percentiles of requests, by closed forms of a queue; arrivals are random and steady.",
        live.rows_at_start(_times(facts), [of["batch"]]),
        UNITS,
        LABELS,
    )


def caps(facts: Facts) -> Figure:
    """Draw what a full batch of each size costs, against the time of a token."""
    table = facts.caps.select(
        BATCH, pl.col("full_usd", "tpot_s", "fill_per_s", "slots_at_load").cast(pl.Float64)
    )
    x = theme.axis(alt.X, "tpot_s", "Time per token with a full batch", "s", log=True)
    y = theme.axis(alt.Y, "full_usd", "Cost with a full batch", "USD/Mtok", log=True)
    made = alt.Chart(table).mark_line(point=True).encode(x, y, order=alt.Order(f"{BATCH}:Q"))
    made = theme.tooltips(
        made, (BATCH, "Batch", "sequences"), ("full_usd", "Cost", "USD/Mtok"),
        ("tpot_s", "Time per token", "s"), ("fill_per_s", "Arrivals that fill it", "requests/s"),
    )  # fmt: skip
    words = table.with_columns(words=pl.col(BATCH).map_elements(number, return_dtype=pl.String))
    text = alt.Chart(words).mark_text(align="left", dx=8, dy=-6).encode(x, y, text="words:N")
    first, last = table.row(0, named=True), table.row(-1, named=True)
    return Figure(
        "caps",
        "What a larger batch still saves",
        alt.layer(made, text),
        f"Batch {number(first[BATCH])}: {usd(first['full_usd'])}; batch {number(last[BATCH])}:"
        f" {usd(last['full_usd'])}.",
        "Each point is a batch (its size beside it), full all the time, prompts included. The line"
        " flattens where weights are shared by enough sequences: a slower mode saves little more.",
        table,
        UNITS,
        LABELS,
    )


def own(facts: Facts) -> Figure:
    """Draw the bill of the machine and of an API over the load."""
    bill, most = facts.full["usd_per_hour"], facts.full["capacity_per_s"]
    rates = sorted({*(r for r in facts.home[RATE] if r <= most), most})
    rows = [
        {RATE: r, "what": what, "usd": value}
        for r in rates
        for what, value in (("own", bill), ("API", r * facts.request_usd * 3600.0))
    ]
    table = pl.DataFrame(rows).with_columns(pl.col("usd").cast(pl.Float64))
    made = alt.Chart(table).mark_line().encode(
        _x(), theme.axis(alt.Y, "usd", "Cost", "USD/h", log=True),
        **theme.series("what", "", ("own", "API")),
    )  # fmt: skip
    made = theme.tooltips(
        made, ("what", "Who", None), (RATE, "Load", "requests/s"), ("usd", "Cost", "USD/h")
    )
    return Figure(
        "own",
        "From which traffic on a machine of one's own pays",
        made,
        f"The machine costs {usd(bill)} an hour, the API {usd(facts.request_usd)} a request.",
        f"{facts.full['plan']}, up to what they can serve; where the lines cross both cost the"
        " same.",
        table,
        UNITS,
        LABELS,
    )


def played(facts: Facts) -> Figure | None:
    """Draw batch, queue and cache over the time of the trace."""
    if facts.played is None:
        return None
    series = facts.played.series
    return Figure(
        "played",
        "A real trace, request by request",
        simulation_charts.over_time(series),
        f"{facts.played.traffic}; at most {number(max(series['running']))} sequences in flight.",
        "Arrivals of a published trace, sped up: the batch fills and empties with them.",
        simulation_charts.thinned(series).select("time_s", "running", "waiting", "kv_share"),
        {"time_s": "s"},
        {"time_s": "Time", "running": "Batch", "waiting": "Queue", "kv_share": "Cache in use"},
    )
