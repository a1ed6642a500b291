"""Charts about owning: both bills over the load, what would change them, and holding back."""

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report.format import number, percent, quantity, usd
from roofrack.report.page import Figure

from .found import Found, span
from .planned import Planned
from .rows import RATE

ONE, API, SIMULATED = "one copy", "API", "least copies, simulated"
EVEN, MOST = "breaks even", "most within the promise"
UNITS = {
    "usd": "USD/h", "own_usd": "USD/h", "api_usd": "USD/h", "wait_s": "s", "ttft_p95_s": "s",
    "tpot_p95_s": "s", "usd_per_mtok": "USD/Mtok",
}  # fmt: skip
LABELS = {
    RATE: "Load, requests/s", "what": "What", "usd": "Cost", "copies": "Copies",
    "wait_s": "Held back up to", "saved": "Saved of the busy time", "most": "Most there is to save",
    "batch": "On board", "ttft_p95_s": "First token, 95 %", "tpot_p95_s": "Each further, 95 %",
    "change": "Change", "even": "Breaks even, 1/s", "served": "Served, 1/s",
    "low": "Passes slower, 1/s", "high": "Passes faster, 1/s", "usd_per_mtok": "Cost at most load",
    "pays": "Pays",
}  # fmt: skip


def own(found: Found) -> Figure:
    """Draw the bills of the machine and of an API over the load."""
    facts = found.facts
    bill, most = float(facts.full["usd_per_hour"]), facts.most
    plans = found.plans
    low = float(facts.home[RATE].min())  # type: ignore[arg-type]
    top = max([most, *(plans.points["rate"] if plans else ())])
    each = facts.request_usd * 3600.0
    rows = [
        (ONE, low, bill, 1), (ONE, most, bill, 1), (API, low, low * each, 0),
        (API, max(top, low), max(top, low) * each, 0),
    ]  # fmt: skip
    if plans is not None:
        rows += [(SIMULATED, r["rate"], r["own_usd"], r["copies"])
                 for r in plans.served.iter_rows(named=True)]  # fmt: skip
    names = {"what": pl.String, RATE: pl.Float64, "usd": pl.Float64, "copies": pl.Int64}
    table = pl.DataFrame(rows, schema=names, orient="row")
    order = (ONE, API, SIMULATED)
    x = theme.axis(alt.X, RATE, "Load", "requests/s", log=True)
    y = theme.axis(alt.Y, "usd", "Cost", "USD/h", log=True)
    simulated = pl.col("what") == SIMULATED
    series = theme.series("what", "", order)
    lines = alt.Chart(table.filter(~simulated)).mark_line().encode(x, y, **series)
    dots = alt.Chart(table.filter(simulated)).mark_point(filled=True).encode(x, y, series["color"])
    tips = ((RATE, "Load", "requests/s"), ("usd", "Cost", "USD/h"), ("copies", "Copies"))
    layers = [theme.tooltips(lines, ("what", "Who", None), *tips[:2])]
    if plans is not None:
        layers.append(theme.tooltips(dots, ("what", "Who", None), *tips))
    return Figure(
        "own",
        "From which traffic on a machine of one's own pays",
        alt.layer(*layers),
        f"One copy costs {usd(bill)} an hour, the API {usd(facts.request_usd)} a request.",
        f"{facts.full['plan']}. The line of one copy ends where it no longer keeps the promise"
        f"{span(found.changes[0])}; where it crosses the API's both cost the same."
        + (_points(plans) if plans else "")
        + f" Prices: {facts.settings.price_source}.",
        table,
        UNITS,
        LABELS,
    )


def _points(plans: Planned) -> str:
    """Say what the points of the simulation are."""
    return (
        f" Points: `roofrack plan own`, {number(plans.requests)} random requests a run,"
        f" {'one copy' if plans.copies == 1 else f'up to {plans.copies} copies'}."
    )


def holding(found: Found) -> Figure | None:
    """List what holding requests back saves."""
    plans = found.plans
    if plans is None or plans.waits.is_empty():
        return None
    best = plans.waits.sort("saved").row(-1, named=True)
    return Figure(
        "holding",
        "What holding requests back saves",
        None,
        "",
        f"`roofrack plan wait`, {number(plans.requests)} random requests a run. Saved: of the time"
        f" that the machine is busy for a request; {percent(max(best['saved'], 0.0))} at best.",
        plans.waits,
        UNITS,
        LABELS,
    )


def changes(found: Found) -> Figure | None:
    """Draw the break-even and what is served within the promise, one thing changed at a time."""
    if len(found.changes) < 2:
        return None
    rows = [
        (one.words or "as it is", one.even, one.most, one.low, one.high, one.usd_per_mtok,
         "yes" if one.pays else "no")
        for one in found.changes
    ]  # fmt: skip
    number_ = pl.Float64
    names = {"change": pl.String, "even": number_, "served": number_, "low": number_,
             "high": number_, "usd_per_mtok": number_, "pays": pl.String}  # fmt: skip
    table = pl.DataFrame(rows, schema=names, orient="row")
    order = table["change"].to_list()
    long = table.unpivot(["even", "served"], index=["change", "pays"], variable_name="what",
                         value_name=RATE).drop_nulls(RATE)  # fmt: skip
    long = long.with_columns(pl.col("what").replace_strict({"even": EVEN, "served": MOST}))
    x = theme.axis(alt.X, RATE, "Traffic", "requests/s", log=True)
    y = alt.Y("change:N", sort=order, title=None, axis=alt.Axis(labelLimit=340))
    series = theme.series("what", "", (EVEN, MOST), by="shape")
    dots = theme.tooltips(
        alt.Chart(long).mark_point(filled=True, size=80).encode(x, y, **series),
        ("change", "Change", None), ("what", "What", None), (RATE, "Traffic", "requests/s"),
        ("pays", "Pays", None),
    )  # fmt: skip
    bars = alt.Chart(table.drop_nulls(["low", "high"])).mark_rule(strokeWidth=1.6)
    bars = bars.encode(theme.axis(alt.X, "low", "Traffic", "requests/s", log=True),
                       alt.X2("high:Q"), y)  # fmt: skip
    pays = [one.words or "as it is" for one in found.changes if one.pays]
    return Figure(
        "changes",
        "What would change the answer",
        alt.layer(bars, dots).properties(height=60 + 28 * table.height),
        f"Owning pays in {len(pays)} of {table.height} cases: {'; '.join(pays) or 'none'}.",
        "One thing changed at a time, plan and batch as they are. Owning pays where the break-even"
        " lies left of what is served; the rules are error bars of what is served, one standard"
        f" deviation. The promise: {_promise(found)}.",
        table,
        UNITS,
        LABELS,
    )


def _promise(found: Found) -> str:
    wishes = found.facts.settings
    return (
        f"first token within {quantity(wishes.ttft_limit_s, 's')}, each further within"
        f" {quantity(wishes.tpot_limit_s, 's')}, for 95 %"
    )
