"""Charts about prices: sheets, what a waiting cache costs, and what would change the answer."""

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report.format import percent, times, usd
from roofrack.report.page import Figure

from ..common.columns import COST
from . import sheets
from .figures import HERE, LABELS, SHEET, UNITS, dashed
from .rows import INPUT, TIERS, Facts
from .words import NAMES, duration, tokens


def sheet_table() -> Figure:
    """Return the price sheets, with date and source."""
    return Figure(
        "sheets",
        "Public price sheets",
        None,
        "",
        "US dollars per million tokens on the date given; transcribed, not re-read since.",
        sheets.sheets(),
        UNITS,
        LABELS | {"vendor": "Vendor", "model": "Model", "date": "Date", "source": "Source"},
    )


def ratios(facts: Facts) -> Figure | None:
    """Draw output over input of the sheets, and of the run at its short context."""
    rows = [
        {"model": r["model"], "kind": SHEET, "ratio": float(r["output_over_input"])}
        for r in sheets.base().iter_rows(named=True)
    ]
    for pair in facts.pairs:
        at = facts.settings.short_context
        row, prompt = facts.at(pair, at), facts.prompt_at(pair, at)
        if row and prompt and prompt[INPUT]:
            rows.append({"model": pair, "kind": HERE, "ratio": row[COST] / prompt[INPUT]})
    table = pl.DataFrame(rows).sort("kind", "ratio", descending=[True, True])
    x = theme.axis(alt.X, "ratio", "Output over input", "", zero=True)
    made = alt.Chart(table).mark_point(filled=True, size=110).encode(
        x, alt.Y("model:N", sort=table["model"].to_list(), title=None),
        **theme.series("kind", "", (SHEET, HERE), by="shape"),
    )  # fmt: skip
    made = theme.tooltips(
        made, ("model", "Model", None), ("kind", "From", None), ("ratio", "Output over input")
    )
    mark = pl.DataFrame({"ratio": [facts.settings.output_over_input]})
    rule = dashed(mark, x)
    return Figure(
        "ratios",
        "What writing a token costs over reading one",
        alt.layer(rule, made).properties(height=40 + 24 * table.height),
        "; ".join(f"{r['model']} {times(r['ratio'])}" for r in table.iter_rows(named=True)) + ".",
        f"Dashed: the lecture's {times(facts.settings.output_over_input)}. This run: the cheapest"
        f" plans at {tokens(facts.settings.short_context)}.",
        table,
        UNITS,
        LABELS | {"model": "Model", "kind": "From", "ratio": "Output over input"},
    )


def waiting(facts: Facts) -> Figure | None:
    """Draw what a cached token costs over the time it waits, a line for each tier."""
    waits = facts.waits
    if waits is None:
        return None
    again = NAMES["again"]
    table = waits.table.with_columns(
        pl.col("tier").replace_strict(NAMES), pl.col("cost").cast(pl.Float64)
    )
    holds = sorted(set(table["hold_s"]))
    line_ = pl.DataFrame({"tier": [again] * 2, "hold_s": [holds[0], holds[-1]],
                          "cost": [waits.again] * 2, "retrieve_s": [None, None]},
                         schema_overrides={"retrieve_s": pl.Float32})  # fmt: skip
    table = pl.concat([table, line_], how="vertical_relaxed")
    order = [w for w in (*TIERS.values(), again) if w in set(table["tier"])]
    high = 20.0 * waits.again
    drawn = table.filter(pl.col("cost") <= high)
    made = alt.Chart(drawn).mark_line(point=True).encode(
        theme.axis(alt.X, "hold_s", "Time that the cache waits", "s", log=True),
        theme.axis(alt.Y, "cost", "Cost of a cached token", "USD/Mtok", log=True),
        **theme.series("tier", "", order),
    )  # fmt: skip
    made = theme.tooltips(
        made, ("tier", "Where", None), ("hold_s", "Waits", "s"), ("cost", "Cost", "USD/Mtok")
    )
    share = facts.settings.cached_share
    return Figure(
        "tiers",
        "Where a cache should wait",
        made,
        f"{facts.shown}: computing again {usd(waits.again)} per million tokens; a cache costs"
        f" {usd(min(waits.table['cost']))} at least.",
        f"{percent(share)} of a prompt of {tokens(facts.settings.cached_prompt)} waits for its next"
        f" turn ({facts.shown}): kept, fetched, and attended to once. Chips cost what they cost to"
        f" rent; up to {duration(holds[-1])}.",
        table,
        UNITS,
        LABELS,
    )


def changed(facts: Facts) -> Figure | None:
    """Draw what single changes make of the cost at the price tier."""
    now = facts.changed.get("")
    rows = [
        {"change": words, "over": cost / now}
        for words, cost in facts.changed.items()
        if words and now
    ]
    if not rows:
        return None
    table = pl.DataFrame(rows).sort("over")
    x = theme.axis(alt.X, "over", "Cost over that of today", "", zero=True)
    y = alt.Y("change:N", sort=table["change"].to_list(), title=None, axis=alt.Axis(labelLimit=340))
    bars = alt.Chart(table).mark_bar(height=16).encode(x, y)
    bars = theme.tooltips(bars, ("change", "Change", None), ("over", "Cost over that of today"))
    words = table.with_columns(words=pl.col("over").map_elements(times, return_dtype=pl.String))
    text = alt.Chart(words).mark_text(align="left", dx=6).encode(x, y, text="words:N")
    return Figure(
        "changed",
        "What would make a long context cheaper",
        alt.layer(bars, text).properties(height=50 + 34 * table.height),
        "; ".join(f"{words}: {times(over)}" for words, over in table.iter_rows()) + ".",
        f"{facts.shown} at {tokens(facts.settings.price_tier)}, one number changed at a time, plan"
        " and batch chosen anew.",
        table,
        UNITS,
        LABELS | {"change": "Change", "over": "Cost over that of today"},
    )
