"""The sections of the page of a validation."""

import dataclasses

import polars as pl

from roofrack.report import validation_charts as charts
from roofrack.report.format import number
from roofrack.report.page import Section
from roofrack.report.validation_words import LABELS, QUANTITIES, tpot
from roofrack.validation import reasons
from roofrack.validation.errors import statistics
from roofrack.validation.rules import rules
from roofrack.validation.verdict import Verdict


def serving(found: Verdict) -> tuple[Section, ...]:
    """Return what there is to say of serving runs."""
    return (
        _headline(found),
        _parity(found),
        _by_group(found),
        _worst(found),
        _intervals(found),
        _others(found),
        _rows(found),
    )


def _headline(found: Verdict) -> Section:
    both = found.groups.filter(pl.col("grouping") == "all", pl.col("mode") != "published")
    both = both.drop("grouping", "group").sort(
        "quantity", "mode", "set", descending=[False, False, True]
    )
    words = both.with_columns(pl.col("quantity").replace(QUANTITIES))
    return Section(
        "Errors",
        (
            "Counted rows are those whose recorded inputs are of medium or high confidence and that"
            " no rule leaves out. All rows are every run that can be predicted at all, each once:"
            " also those of low confidence and those with limited admission.",
            "The error is |predicted / measured - 1|, the bias the median logarithm of predicted"
            " over measured: + means too slow.",
        ),
        (charts.table("errors", "Counted rows and all rows", "", words),),
    )


def _parity(found: Verdict) -> Section:
    figures = []
    for quantity, name in QUANTITIES.items():
        rows = found.counted.filter(pl.col("quantity") == quantity)
        figures.append(charts.parity(rows, f"parity-{name}", name))
        figures.append(charts.histogram(rows, f"histogram-{name}", name))
    return Section("Predicted against measured", (), tuple(figures))


def _by_group(found: Verdict) -> Section:
    figures = []
    for quantity, name in QUANTITIES.items():
        for mode in ("aggregated", "disaggregated"):
            groups = found.groups.filter(
                pl.col("quantity") == quantity, pl.col("mode") == mode, pl.col("set") == "counted"
            )
            if groups["rows"].sum():
                figures.append(
                    charts.by_group(
                        groups.drop("quantity", "mode"),
                        f"groups-{name}-{mode}",
                        f"{name}, {mode}: errors by group",
                    )
                )
    return Section("Errors by group", (), tuple(figures))


_SHOWN = (
    *("reason", "log_ratio", "measured", "predicted", "model", "hardware", "backend", "version"),
    *("concurrency", "prompt", "output", "precision", "mode", "id"),
)


def _worst(found: Verdict) -> Section:
    lines = found.counted
    names = pl.col("quantity").replace(QUANTITIES)
    counts = (
        lines.filter(pl.col("reason").is_not_null())
        .group_by("reason", names)
        .agg(rows=pl.len())
        .pivot("quantity", index="reason", values="rows")
        .fill_null(0)
    )
    says = pl.DataFrame(
        [{"reason": rule.name, "says": rule.says} for rule in reasons.RULES]
        + [{"reason": reasons.NONE, "says": "none of these rules holds"}]
    )
    explained = says.join(counts, on="reason", how="left", maintain_order="left").fill_null(0)
    names_first = [c for c in ("reason", *QUANTITIES.values()) if c in explained.columns]
    explained = explained.select(*names_first, "says")
    worst = [
        charts.table(
            f"worst-{name}",
            f"{name}: the rows that are furthest off",
            "Of the counted rows, worst first.",
            reasons.worst(lines.filter(pl.col("quantity") == quantity)).select(_SHOWN),
        )
        for quantity, name in QUANTITIES.items()
    ]
    drafted = tpot(lines).filter("drafting")
    engines = statistics(drafted.with_columns(inside=pl.lit(None, pl.Boolean)), reasons.CURVE)
    return Section(
        "What goes wrong",
        (
            f"An error of {reasons.LARGE:g} or more in the logarithm is given the first of these"
            " reasons that holds. Reasons explain; no row is left out for one.",
        ),
        (
            charts.table("reasons", "Likely reasons of large errors", "Tried in order.", explained),
            *worst,
            charts.table(
                "drafting",
                "Engines that look like speculative decoding",
                "Counted TPOT rows by engine version and machine.",
                engines.drop("inside", "within"),
            ),
        ),
    )


def _intervals(found: Verdict) -> Section:
    learnt = found.learnt.with_columns(pl.col("quantity").replace(QUANTITIES))
    spread = found.counted["rel_std"].is_not_null().any()
    paragraphs = [
        "An 80 % interval reaches from predicted / exp(1.28 s) to predicted * exp(1.28 s), s being"
        " the relative standard error of the estimate (step_s_rel_std): the spread of each kernel"
        " class in its fit, and the discrepancy of the whole that no kernel explains"
        " (step_rel_std of the calibration).",
        "The discrepancy is learnt on one half of the counted rows, chosen by a hash of the setting"
        " without version, date and clients, and tested on the other; learnt.json has the ids.",
    ]
    if not spread:
        paragraphs.append("This calibration has no spread, so no prediction has an interval yet.")
    labels = {
        "step_rel_std": "Discrepancy learnt",
        "learnt_rows": "Rows learnt on",
        "tested_rows": "Rows tested on",
        "covered_learnt": "Inside, half that taught (%)",
        "covered_tested": "Inside, other half (%)",
        "covered_now": "Inside with this calibration (%)",
    }
    figure = charts.table("intervals", "Share of rows inside 80 % intervals", "", learnt)
    figure = dataclasses.replace(figure, labels=LABELS | labels)
    return Section("Intervals", tuple(paragraphs), (figure,))


def _others(found: Verdict) -> Section:
    return Section(
        "Other tools",
        (
            "The answers of other tools are a committed table, made on demand: its date, versions"
            " and commands are in lib/roofrack/validation/peers.md.",
        ),
        tuple(
            charts.tools(found.peers, quantity, f"peers-{name}")
            for quantity, name in QUANTITIES.items()
            if not found.peers.filter(pl.col("quantity") == quantity).is_empty()
        ),
    )


def _rows(found: Verdict) -> Section:
    given = {
        name: rule if isinstance(rule, str) else rule["reason"] for name, rule in rules().items()
    }
    given["low confidence"] = "a recorded input is of low confidence: shown, not counted"
    given["kept and counted"] = "what the targets are about"
    says = pl.col("rule").replace_strict(given, default="").alias("says")
    excluded = found.excluded.with_columns(says)
    return Section(
        "Which rows count",
        ("Rules for leaving rows out were committed before the first comparison.",),
        (
            charts.table("excluded", "Rows by rule", "Each row under the first rule.", excluded),
            charts.table(
                "coverage",
                "Coverage of rows of medium and high confidence",
                "A copy of a run that is kept counts as covered.",
                found.coverage,
            ),
        ),
    )


def published(found: Verdict) -> tuple[Section, ...]:
    """Return what there is to say of published facts."""
    if found.facts.is_empty():
        return ()
    groups = found.groups.filter(
        pl.col("mode") == "published", pl.col("set") == "counted", pl.col("grouping") == "origin"
    )
    shown = found.facts.filter(pl.col("log_ratio").is_not_null()).select(
        *("origin", "model", "hardware", "quantity", "unit", "measured", "predicted", "log_ratio"),
        "id",
    )
    kept = shown.with_columns(
        pl.col("measured", "predicted").map_elements(lambda v: number(v, 4), pl.String)
    )
    return (
        Section(
            "Published facts",
            (
                "Single results from papers and reports, each with what reproduces it.",
                "Collectives are single exchanges of tokens with their experts. Within one node"
                " they test links that were fitted to other measurements; how long a launch takes"
                " across nodes is assumed, in a range whose upper end is that of these very rows.",
            ),
            (
                charts.table(
                    "facts",
                    "Published facts: errors by source and result",
                    "",
                    groups.select("group", "quantity", *_STATISTICS).sort("group", "quantity"),
                ),
                charts.table(
                    "facts-rows",
                    "Every published fact",
                    "Worst first.",
                    kept.sort(pl.col("log_ratio").abs(), descending=True),
                ),
            ),
        ),
    )


_STATISTICS = ("rows", "median_abs", "mean_abs", "bias", "within")
