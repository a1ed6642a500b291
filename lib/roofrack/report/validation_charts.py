"""Figures of the page of a validation: parity, histogram, errors by group, other tools."""

from typing import Any

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report.format import number, percent, quantity
from roofrack.report.page import Figure
from roofrack.report.validation_words import LABELS, QUANTITIES
from roofrack.validation.errors import statistics

MOST_COLOURS = 7
"""Models with a colour of their own; the rest share one."""

OTHERS = "others"

BIN = 0.1
"""Width of a bar of the histogram, in the logarithm."""

WIDEST = 1.5
"""Largest logarithm that the histogram shows; the rest is in its last bars."""

SHARES = (
    *(
        "median_abs",
        "mean_abs",
        "worst",
        "bias",
        "within",
        "inside",
        "share",
        "limit",
        "found",
        "error",
    ),
    *("median_ours", "median_theirs", "mean_ours", "mean_theirs", "closer"),
    *("covered_learnt", "covered_tested", "covered_now", "over", "mean"),
    *("worst_ours", "worst_theirs"),
)
"""Columns that pages show in percent."""


def in_percent(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table whose shares are percent, to one digit after the point."""
    return table.with_columns((pl.col(c) * 100.0).round(1) for c in SHARES if c in table.columns)


def table(key: str, title: str, caption: str, rows: pl.DataFrame) -> Figure:
    """Return a figure that is a table alone."""
    return Figure(key, title, None, "", caption, in_percent(rows), {}, LABELS)


def coloured(rows: pl.DataFrame, by: str = "model") -> tuple[pl.DataFrame, list[str]]:
    """Return rows with `shown`, what stands in a column or OTHERS, and the order of its values."""
    most = rows.group_by(by).len().sort("len", by, descending=[True, False])[by]
    kept = most.head(MOST_COLOURS).to_list()
    shown = pl.when(pl.col(by).is_in(kept)).then(pl.col(by)).otherwise(pl.lit(OTHERS))
    order = [*kept, OTHERS] if len(most) > len(kept) else kept
    return rows.with_columns(shown=shown), order


def ends_of(kept: pl.DataFrame) -> tuple[float, float]:
    """Return the least and the largest number measured or predicted."""
    both = pl.concat([kept["measured"], kept["predicted"].alias("measured")])
    return float(both.min()), float(both.max())  # type: ignore[arg-type]


def scatter(
    kept: pl.DataFrame, name: str, unit: str, legend: str, order: list[str], tips: tuple[Any, ...]
) -> Any:
    """Draw `predicted` over `measured`, both logarithmic, `shown` as colour and shape."""
    low, high = ends_of(kept)
    ends = [low / 1.1, high * 1.1]
    both = pl.DataFrame({"x": ends, "same": ends})
    line = alt.Chart(both).mark_line(strokeWidth=1.2, color="currentColor", opacity=0.7)
    within = alt.Chart(both.with_columns(low=pl.col("x") / 1.2, high=pl.col("x") * 1.2))
    band = within.mark_area(color="currentColor", opacity=0.09, clip=True).encode(
        x="x:Q", y="low:Q", y2="high:Q"
    )
    points = alt.Chart(kept.drop("id")).mark_point(size=26, opacity=0.6, clip=True)
    points = points.encode(
        theme.axis(alt.X, "measured", f"Measured {name}", unit, log=True, domain=ends),
        theme.axis(alt.Y, "predicted", f"Predicted {name}", unit, log=True, domain=ends),
        **theme.series("shown", legend, order, by="shape"),
    )
    points = theme.tooltips(
        points, *tips, ("measured", "Measured", unit), ("predicted", "Predicted", unit)
    )
    return alt.layer(band, line.encode(x="x:Q", y="same:Q"), points).properties(height=420)


def parity(rows: pl.DataFrame, key: str, name: str) -> Figure:
    """Draw predicted against measured seconds, both logarithmic, a colour a model."""
    drawn, order = coloured(rows.filter(pl.col("log_ratio").is_not_null()))
    kept = drawn.select(
        *("measured", "predicted", "shown", "model", "hardware", "backend", "version"),
        *("prompt", "output", "concurrency", "id"),
    )
    tips = (
        ("model", "Model", None),
        ("hardware", "Machine", None),
        ("backend", "Engine", None),
        ("version", "Version", None),
        ("concurrency", "Clients"),
        ("prompt", "Prompt"),
        ("output", "Output"),
    )
    chart = scatter(kept, name, "s", "Model", order, tips)
    total = statistics(rows).row(0, named=True)
    low, high = ends_of(kept)
    said = (
        f"{number(total['rows'], 9)} runs from {quantity(low, 's')} to {quantity(high, 's')};"
        f" median error {percent(total['median_abs'])}, {percent(total['within'])} within 20 %."
    )
    return Figure(
        key,
        f"{name}: predicted against measured",
        chart,
        said,
        "On the line a prediction is exact, in the band within 20 %; above it is too slow.",
        kept,
        {"measured": "s", "predicted": "s"},
        LABELS | {"shown": "Colour", "id": "Row"},
    )


def histogram(rows: pl.DataFrame, key: str, name: str) -> Figure:
    """Draw how many rows have which logarithm of predicted over measured."""
    used = rows.filter(pl.col("log_ratio").is_not_null())
    modes = sorted(used["mode"].unique().to_list())
    binned = (
        used.with_columns(log=((pl.col("log_ratio").clip(-WIDEST, WIDEST) / BIN).round() * BIN))
        .group_by("log", "mode")
        .agg(rows=pl.len())
        .sort("log", "mode")
        .with_columns(low=pl.col("log") - BIN / 2, high=pl.col("log") + BIN / 2)
        .with_columns(to=pl.col("rows").cum_sum().over("log"))
        .with_columns(start=pl.col("to") - pl.col("rows"), log=pl.col("log").round(2))
    )
    chart = (
        alt.Chart(binned)
        .mark_rect(stroke=None)
        .encode(
            theme.axis(alt.X, "low", "ln(predicted / measured), + is too slow", domain=[-1.6, 1.6]),
            alt.X2("high:Q"),
            theme.axis(alt.Y, "start", "Runs", zero=True),
            alt.Y2("to:Q"),
            **theme.series("mode", "Mode", modes, by="colour"),
        )
    )
    median = float(used["log_ratio"].median() or 0.0)  # type: ignore[arg-type]
    rule = alt.Chart(pl.DataFrame({"low": [0.0]})).mark_rule(strokeDash=[4, 3]).encode(x="low:Q")
    return Figure(
        key,
        f"{name}: how errors are spread",
        alt.layer(theme.tooltips(chart, ("rows", "Runs"), ("log", "Logarithm")), rule),
        f"The median logarithm is {median:+.3f}.",
        f"Bars of {BIN:g}: about 10 % each. What lies beyond {WIDEST:g} is in the last bars.",
        binned.select("log", "mode", "rows"),
        {},
        LABELS | {"log": "Middle of the bar"},
    )


def by_group(groups: pl.DataFrame, key: str, title: str, least: int = 10) -> Figure:
    """Draw median errors and biases of the groups of every grouping, side by side."""
    chosen = groups.filter(pl.col("grouping").is_in(("model", "machine", "backend", "origin")))
    chosen = chosen.filter(pl.col("rows") >= least)
    drawn = in_percent(chosen).with_columns(label=pl.col("group").str.slice(0, 20))
    order = drawn["label"].to_list()

    def bars(column: str, words: str) -> Any:
        chart = (
            alt.Chart(drawn)
            .mark_bar()
            .encode(
                theme.axis(alt.X, column, words, zero=True),
                alt.Y("label:N", sort=order, title=None, axis=alt.Axis(labelLimit=98)),
                **theme.series(
                    "grouping", "By", ["model", "machine", "backend", "origin"], by="colour"
                ),
            )
            .properties(height=22 * len(order) + 10)
        )
        return theme.tooltips(
            chart,
            ("group", "Group", None),
            ("rows", "Rows"),
            ("median_abs", "Median error, %"),
            ("mean_abs", "Mean error, %"),
            ("bias", "Bias, %"),
        )

    return Figure(
        key,
        title,
        theme.columns(bars("median_abs", "Median error, %"), bars("bias", "Bias, %, + is too slow"))
        if len(order)
        else None,
        f"{len(order)} groups of {least} rows or more.",
        "The bias is the median logarithm; the rows of each group are in the table.",
        in_percent(groups.drop("set")),
        {},
        LABELS,
    )


def tools(peers: pl.DataFrame, quantity_name: str, key: str) -> Figure:
    """Draw the median error of other tools beside that of this one on the same rows."""
    chosen = peers.filter(pl.col("quantity") == quantity_name)
    apart = pl.when(pl.col("mode") == "disaggregated").then(pl.lit(", pools"))
    label = pl.concat_str("tool", apart.otherwise(pl.lit(""))).alias("label")
    who = ("roofrack", "other tool")
    long = pl.concat(
        [
            chosen.select(label, who=pl.lit(name), median=(pl.col(part) * 100.0).round(1))
            for name, part in zip(who, ("median_ours", "median_theirs"), strict=True)
        ]
    )
    order = chosen.select(label).to_series().to_list()
    chart = (
        alt.Chart(long)
        .mark_bar()
        .encode(
            theme.axis(alt.X, "median", "Median error, %", zero=True),
            alt.Y("label:N", sort=order, title=None, axis=alt.Axis(labelLimit=150)),
            alt.YOffset("who:N", sort=list(who)),
            **theme.series("who", "Predicted by", who, by="colour"),
        )
        .properties(height=44 * len(order) + 10)
    )
    name = QUANTITIES[quantity_name]
    return Figure(
        key,
        f"{name}: other tools on identical rows",
        theme.tooltips(chart, ("label", "Tool", None), ("median", "Median error, %")),
        "; ".join(
            f"{r['tool']}, {r['mode']}: {percent(r['median_ours'])} against"
            f" {percent(r['median_theirs'])}, closer on {percent(r['closer'])} of"
            f" {number(r['rows'], 9)}"
            for r in chosen.iter_rows(named=True)
        )
        + ".",
        "Only counted rows that both answer. Pools: prefill and decode apart.",
        in_percent(chosen.drop("quantity")),
        {},
        LABELS,
    )
