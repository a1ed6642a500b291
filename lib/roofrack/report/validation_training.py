"""Training runs on the page of a validation: findings, charts and tables."""

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report import validation_charts as charts
from roofrack.report.format import number, percent, quantity
from roofrack.report.page import Figure, Finding, Section
from roofrack.report.validation_words import (
    LABELS,
    TRAINED,
    limit_words,
    over_words,
    set_or_group,
    verdict_words,
)
from roofrack.validation.errors import statistics
from roofrack.validation.training_verdict import SET_WORDS, SETS, Training

WIDEST = 1.2
"""Largest logarithm that the chart of groups shows; what lies beyond is at its edge."""


def answer(found: Training) -> str:
    """Return the answer of a page in a sentence."""
    steps = found.errors.filter(pl.col("quantity") == "step_s", pl.col("by") == "set")
    told = {row["group"]: row for row in steps.iter_rows(named=True)}
    said = "; ".join(
        f"{SET_WORDS[name]} ({number(row['rows'], 9)}) within {percent(row['median_abs'], 3)}"
        for name, row in told.items()
    )
    met = found.targets["met"]
    return (
        f"Half of the published training runs are predicted within so much of their time per"
        f" step: {said}. {met.sum()} of {met.is_not_null().sum()} targets for training are met."
    )


def findings(found: Training) -> tuple[Finding, ...]:
    """Return the targets as findings, and how many runs are said not to fit."""
    made = []
    for row in found.targets.iter_rows(named=True):
        where = f" Beyond it: {row['which']}." if row["which"] else ""
        made.append(
            Finding(
                f"{row['target']}: {percent(row['found'], 3)}, {limit_words(row['limit'])}:"
                f" {verdict_words(row['met'])}{over_words(row['over'])}.{where}",
                "neutral" if row["met"] is None else "agrees" if row["met"] else "contradicts",
                f"{number(row['rows'], 9)} runs",
                "training-groups",
            )
        )
    return (*made, _fitting(found))


def _fitting(found: Training) -> Finding:
    groups = found.errors.filter(pl.col("by") == "group", pl.col("too_large").is_not_null())
    large, ran = int(groups["too_large"].sum()), int(groups["rows"].sum())
    return Finding(
        f"{number(large, 9)} of {number(ran, 9)} runs are predicted to need more"
        " memory than the chip has, and they ran.",
        "contradicts" if large else "agrees",
        "every run whose time or memory was measured",
    )


def section(found: Training, lines: pl.DataFrame) -> Section:
    """Return the section of training runs; `lines` are theirs."""
    used = lines.filter(pl.col("log_ratio").is_not_null())
    step = used.filter(pl.col("quantity") == "step_s")
    peak = used.filter(pl.col("quantity") == "peak_memory_bytes")
    alone = step.filter(SETS["vtrain_single"])
    figures = [
        *_parity(step.filter(SETS["all_but_vtrain_single"]), "training-parity", "step time", "s"),
        *_parity(alone.with_columns(origin=_chips()), "training-parity-one-node", _NODE, "s"),
        *_parity(peak, "training-parity-memory", "peak memory", "byte"),
        _strips(step),
        *(_errors(found, quantity) for quantity in TRAINED),
        charts.table("training-peers", "Errors that other tools published", "", _peers(found)),
        charts.table(
            "training-left-out",
            "Runs that are not predicted",
            "They stay in the table, each with its reason.",
            found.left_out.with_columns(_spaced("group")),
        ),
        charts.table(
            "training-assumed",
            "What was assumed for each group",
            "For every run of a group alike; FLOP counted as: how its numbers became seconds.",
            found.assumed.with_columns(_spaced("group")).select(
                *("group", "key", "value", "why", "flops", "software", "source")
            ),
        ),
        _worst(used),
    ]
    return Section(
        "Training runs",
        (
            "Published runs, each with what reproduces it. Nothing is fitted to runs that count:"
            " kernels and links are those of the machine's calibration. What a source prints"
            " (TFLOP/s, MFU, tokens) became seconds by the source's own count of FLOP.",
            "vTrain's runs on one node are half of all runs and one source's benchmark; they are a"
            " group of their own, and what is said of all runs is also said without them. As many"
            " more, those of odd number, do not count: the pace of an eager host, one number for"
            " vTrain's runs, was fitted to them.",
            "Only peak memory was measured. The activations of Korthikanti et al. (figure 1) are"
            " what their equations give: agreement checks the formula and no chip.",
        ),
        tuple(figures),
    )


_NODE = "step time on one node"


def _spaced(name: str) -> pl.Expr:
    return pl.col(name).str.replace_all("_", " ")


def _chips() -> pl.Expr:
    return pl.concat_str(pl.col("chips"), pl.lit(" chips"))


def _parity(lines: pl.DataFrame, key: str, name: str, unit: str) -> list[Figure]:
    """Draw predicted against measured, both logarithmic, a colour a group."""
    if lines.is_empty():
        return []
    drawn, order = charts.coloured(lines.with_columns(_spaced("origin")), "origin")
    columns = ("measured", "predicted", "shown", "origin", "model", "hardware", "chips", "id")
    kept = drawn.select(columns)
    tips = (
        ("origin", "Group", None),
        ("model", "Model", None),
        ("hardware", "Machine", None),
        ("chips", "Chips"),
    )
    total = statistics(lines).row(0, named=True)
    low, high = charts.ends_of(kept)
    return [
        Figure(
            key,
            f"Training, {name}: predicted against measured",
            charts.scatter(kept, name, unit, "Group", order, tips),
            f"{number(total['rows'], 9)} runs from {quantity(low, unit)} to"
            f" {quantity(high, unit)}; median error {percent(total['median_abs'])},"
            f" {percent(total['within'])} within 20 %.",
            "On the line a prediction is exact, in the band within 20 %; above it is too high.",
            kept,
            {"measured": unit, "predicted": unit},
            LABELS | {"shown": "Colour"},
        )
    ]


def _strips(step: pl.DataFrame) -> Figure:
    """Draw the error of every run in a line for each group."""
    groups = statistics(step, ("origin",)).sort("bias").with_columns(_spaced("origin"))
    order = groups["origin"].to_list()
    drawn = step.select(
        _spaced("origin"),
        log=pl.col("log_ratio").clip(-WIDEST, WIDEST).round(3),
        error=(pl.col("error") * 100.0).round(1),
        chips=pl.col("chips"),
        model=pl.col("model"),
    )
    place = alt.Y("origin:N", sort=order, title=None, axis=alt.Axis(labelLimit=180))
    domain = [-WIDEST, WIDEST]
    words = "ln(predicted / measured), + is too slow"
    ticks = (
        alt.Chart(drawn)
        .mark_tick(thickness=1.5, opacity=0.5)
        .encode(theme.axis(alt.X, "log", words, domain=domain), place)
    )
    ticks = theme.tooltips(
        ticks, ("model", "Model", None), ("chips", "Chips"), ("error", "Error, %")
    )
    rule = alt.Chart(pl.DataFrame({"log": [0.0]})).mark_rule(strokeDash=[4, 3]).encode(x="log:Q")
    return Figure(
        "training-groups",
        "Training, step time: every run of every group",
        alt.layer(ticks, rule).properties(height=20 * max(len(order), 1) + 10),
        "; ".join(
            f"{row['origin']} median error {percent(row['median_abs'])}"
            for row in groups.iter_rows(named=True)
        )
        + ".",
        f"One tick a run, groups from too fast to too slow; beyond {WIDEST:g} at the edge.",
        charts.in_percent(groups.drop("inside")),
        {},
        LABELS | {"origin": "Group"},
    )


def _errors(found: Training, measured: str) -> Figure:
    rows = found.errors.filter(pl.col("quantity") == measured)
    names = [
        set_or_group(row["by"], row["group"])
        for row in rows.select("by", "group").iter_rows(named=True)
    ]
    shown = rows.with_columns(group=pl.Series(names, dtype=pl.String)).drop("quantity", "by")
    return charts.table(
        f"training-errors-{measured}",
        f"Training, {TRAINED[measured]}: errors by group",
        "Said not to fit: runs that ran, and whose memory is predicted to be too large.",
        shown,
    )


def _peers(found: Training) -> pl.DataFrame:
    return found.peers.with_columns(
        pl.col("set").replace_strict(SET_WORDS, default="runs of its own"),
        pl.col("quantity").replace(TRAINED),
    ).select(
        *("tool", "set", "quantity", "rows", "rows_ours", "mean_ours"),
        pl.col("mean").alias("mean_theirs"),
        "worst_ours",
        pl.col("worst").alias("worst_theirs"),
        *("notes", "source"),
    )


MOST_SHOWN = 50
SIZES = ("measured", "predicted")


def _worst(used: pl.DataFrame) -> Figure:
    first = used.sort(pl.col("error").abs(), descending=True).head(MOST_SHOWN)
    shown = first.select(
        *("id", "quantity", "model", "hardware", "chips", "precision", "error", "fits"),
        *(pl.col(c).map_elements(lambda v: number(v, 4), pl.String) for c in SIZES),
    ).with_columns(pl.col("quantity").replace(TRAINED))
    return charts.table(
        "training-worst",
        f"The {MOST_SHOWN} training runs that are furthest off",
        "In seconds or bytes, worst first; rows.parquet has all.",
        shown,
    )
