"""Charts of the real trace: when passes leave, how full they are, what waiting buys."""

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report.format import number, percent, quantity, usd
from roofrack.report.page import Figure

from .found import Found, rate
from .traced import SHARE, Traced

TIME = "Time of the trace"
TIMES = {
    "wait_p50_s": "wait for a pass, 50 %",
    "wait_p95_s": "wait for a pass, 95 %",
    "ttft_p50_s": "first token, 50 %",
    "ttft_p95_s": "first token, 95 %",
    "ttft_p99_s": "first token, 99 %",
    "tpot_p50_s": "each further token, 50 %",
    "tpot_p95_s": "each further token, 95 %",
    "tpot_p99_s": "each further token, 99 %",
}
DRAWN = ("wait_p95_s", "ttft_p50_s", "ttft_p99_s", "tpot_p50_s", "tpot_p99_s")
"""Those that the chart shows; all stand in its table."""
UNITS = {
    "trace_s": "s", "gap_s": "s", "gap_low_s": "s", "gap_high_s": "s", "seconds": "s",
    "usd_per_mtok_at_load": "USD/Mtok", "closed_ttft_p95_s": "s", "closed_tpot_p95_s": "s",
    "pass_s": "s", **dict.fromkeys(TIMES, "s"),
}  # fmt: skip
LABELS = {
    "load": "Load", "trace_s": TIME, "gap_s": "Between passes", "gap_low_s": "5 % below",
    "gap_high_s": "5 % above", "aboard": "On board", "came_per_s": "Arrivals of the trace, 1/s",
    "arrivals_per_s": "Load, requests/s", "usd_per_mtok_at_load": "Cost", "goodput": "Kept",
    "batch_at_load": "On board", "pass_s": "Pass, mean", "closed_ttft_p95_s": "Closed form",
    "closed_tpot_p95_s": "Closed form, further", **TIMES,
}  # fmt: skip


def names(played: Traced) -> dict[int, str]:
    """Return the loads in words, by lane."""
    return {
        row["lane"]: f"{number(row['arrivals_per_s'])} requests/s"
        + (" (as it came)" if abs(row["speed"] - 1) < 1e-3 else "")
        for row in played.rows.iter_rows(named=True)
    }


def _table(played: Traced, *columns: str) -> pl.DataFrame:
    load = pl.col("lane").replace_strict(names(played), return_dtype=pl.String)
    return played.over_time.select("trace_s", *columns, load=load)


def _x() -> alt.X:
    return theme.axis(alt.X, "trace_s", TIME, "s")


def gaps(found: Found) -> Figure | None:
    """Draw the time between two passes over the time of the trace."""
    played = found.played
    if played is None:
        return None
    order = list(names(played).values())
    table = _table(played, "gap_s", "gap_low_s", "gap_high_s").drop_nulls()
    y = theme.axis(alt.Y, "gap_s", "Time between two passes", "s", log=True)
    series = theme.series("load", "Load", order)
    base = alt.Chart(table)
    band = base.mark_area(opacity=1, fillOpacity=0.15).encode(
        _x(), alt.Y("gap_low_s:Q"), alt.Y2("gap_high_s:Q"), series["color"]
    )
    lines = theme.tooltips(
        base.mark_line().encode(_x(), y, **series), ("load", "Load", None), ("trace_s", TIME, "s"),
        ("gap_s", "Between passes", "s"), ("gap_low_s", "5 % below", "s"),
        ("gap_high_s", "5 % above", "s"),
    )  # fmt: skip
    lecture = found.facts.settings.train_s
    rule = alt.Chart(pl.DataFrame({"gap_s": [lecture]})).mark_rule(strokeDash=[6, 4]).encode(y)
    own, busy = played.own, played.busy
    return Figure(
        "gaps",
        "When passes leave",
        alt.layer(band, lines, rule),
        f"At {rate(own['arrivals_per_s'])} every {quantity(own['gap_p50_s'], 's')} in the median,"
        f" at {rate(busy['arrivals_per_s'])} every {quantity(busy['gap_p50_s'], 's')}.",
        f"{played.told}. Time on the trace's own clock, whatever its speed. Lines: the median of"
        f" the requests that were on board; bands hold {percent(SHARE)} of them. Dashed: the"
        f" lecture's {quantity(lecture, 's')}.",
        table,
        UNITS,
        LABELS,
    )


def aboard(found: Found) -> Figure | None:
    """Draw how many sequences are on board over the time of the trace."""
    played = found.played
    if played is None:
        return None
    order = list(names(played).values())
    table = _table(played, "aboard", "came_per_s").filter(pl.col("aboard") > 0)
    y = theme.axis(alt.Y, "aboard", "Sequences on board", log=True)
    lines = alt.Chart(table).mark_line().encode(_x(), y, **theme.series("load", "Load", order))
    lines = theme.tooltips(
        lines, ("load", "Load", None), ("trace_s", TIME, "s"), ("aboard", "On board"),
        ("came_per_s", "Arrivals of the trace", "requests/s"),
    )  # fmt: skip
    critical = float(found.facts.full["critical_batch"])
    rule = alt.Chart(pl.DataFrame({"aboard": [critical]})).mark_rule(strokeDash=[6, 4]).encode(y)
    own, busy = played.own, played.busy
    return Figure(
        "aboard",
        "How full passes are",
        alt.layer(lines, rule),
        f"{number(own['batch_at_load'])} on board at {rate(own['arrivals_per_s'])},"
        f" {number(busy['batch_at_load'])} at {rate(busy['arrivals_per_s'])}.",
        f"Means over stretches of the trace. Dashed: the critical batch, {number(critical)}"
        " sequences, at which weights take no longer than arithmetic.",
        table,
        UNITS,
        LABELS,
    )


def on_trace(found: Found) -> Figure | None:
    """Draw percentiles of the trace over the load, and put its cost beside them."""
    played = found.played
    if played is None:
        return None
    kept = ["arrivals_per_s", "usd_per_mtok_at_load", *TIMES, "closed_ttft_p95_s",
            "closed_tpot_p95_s", "batch_at_load", "pass_s", "goodput"]  # fmt: skip
    table = played.rows.select(kept)
    long = table.unpivot(
        list(DRAWN), index="arrivals_per_s", variable_name="what", value_name="seconds"
    )
    long = long.drop_nulls().with_columns(pl.col("what").replace_strict(TIMES))
    long = long.filter(pl.col("seconds") > 0)
    load = ("arrivals_per_s", "Load", "requests/s")
    x = theme.axis(alt.X, *load, log=True)
    waits = alt.Chart(long).mark_line(point=True).encode(
        x, theme.axis(alt.Y, "seconds", "Time", "s", log=True),
        **theme.series("what", "", [TIMES[name] for name in DRAWN]),
    )  # fmt: skip
    waits = theme.tooltips(waits, ("what", "What", None), load, ("seconds", "Time", "s"))
    paid = ("usd_per_mtok_at_load", "Cost", "USD/Mtok")
    cost = alt.Chart(table.select("arrivals_per_s", paid[0])).mark_line(point=True)
    cost = cost.encode(x, theme.axis(alt.Y, *paid, log=True))
    cost = theme.tooltips(cost, load, paid)
    own, busy = played.own, played.busy
    return Figure(
        "on_trace",
        "What the trace waits and pays at each speed",
        theme.columns(waits.properties(height=260), cost.properties(height=260)),
        f"{usd(own['usd_per_mtok_at_load'])} at {rate(own['arrivals_per_s'])},"
        f" {usd(busy['usd_per_mtok_at_load'])} at {rate(busy['arrivals_per_s'])}.",
        "Percentiles of requests played one by one, and what a million tokens cost. The table has"
        " more of them, the closed forms beside, and the share that gets what is promised.",
        table,
        UNITS,
        LABELS,
    )
