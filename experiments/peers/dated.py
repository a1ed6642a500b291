"""Charts and tables of what is recorded: rates, features, errors on measured runs."""

from typing import Any

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report.format import number, percent
from roofrack.report.page import Figure

from . import tables
from .tables import FOUND, OURS

LABELS = {
    "label": "Tool",
    "setting": "Setting",
    "value": "Answer",
    "low": "Low, one deviation",
    "high": "High, one deviation",
    "measured": "Measured",
    "ratio": "Answer over measured",
    "not_taken": "What it could not be told",
    "runs": "Runs answered",
    "mean": "Mean error",
    "middle": "Median of answer over measured",
    "ours": "Mean error of roofrack on the same runs",
    "nearer": "Runs on which it is nearer than roofrack",
    "sequences": "Sequences at once",
    "prompt": "Prompt, tokens",
    "tp": "Chips",
    "question": "Question",
    "evaluations_per_s": "Evaluations per second",
    "roofrack_per_s": "Of roofrack",
    "times": "Times as many",
    "version": "Version",
    "kind": "How it answers",
    "address": "Where",
    "feature": "Feature",
    "set": "Runs",
    "rows": "Number of runs",
    "theirs": "Mean error, tool",
    "here": "Mean error, roofrack",
    "closer": "Share of runs on which roofrack is nearer",
    "source": "Source of the tool's error",
}
"""Headings of the tables."""


def _pairs_of_dots(
    rows: pl.DataFrame, line: str, order: list[str], x: alt.X, series: dict[str, Any], *tips: Any
) -> alt.Chart:
    """Return two dots a line, one of a tool and one of roofrack, on lines in the order given."""
    chart = alt.Chart(alt.Data(values=rows.to_dicts()))
    chart = chart.mark_point(filled=True, size=80).encode(
        x=x, y=alt.Y(f"{line}:N").sort(order).title(None).axis(labelLimit=330), **series
    )
    return theme.tooltips(chart, *tips)


def speed() -> Figure:
    """Return how many evaluations a second each tool and roofrack gave on the same question."""
    rates = tables.rates().sort("evaluations_per_s")
    names = {"evaluations_per_s": "the tool", "roofrack_per_s": OURS}
    long = rates.unpivot(list(names), index=["label", "question"], value_name="rate").with_columns(
        who=pl.col("variable").replace_strict(names)
    )
    chart = _pairs_of_dots(
        long, "label", rates["label"].to_list(),
        theme.axis(alt.X, "rate", "Evaluations per second", log=True),
        theme.series("who", "Asked of", list(names.values()), by="shape"),
        ("label", "Call", None), ("question", "Question", None), ("who", "Asked of", None),
        ("rate", "Evaluations per second"),
    )  # fmt: skip
    told = "; ".join(
        f"{r['label']}: {number(r['evaluations_per_s'])} against {number(r['roofrack_per_s'])}"
        for r in rates.iter_rows(named=True)
    )
    return Figure(
        "speed",
        f"Evaluations per second, measured side by side on {tables.day(rates)}",
        chart.properties(height=22 * rates.height),
        f"Two dots a line on a logarithmic axis: the call of a tool, and roofrack. {told}.",
        "Each line is one question, asked of the tool and then of roofrack in the same run on the"
        f" same machine ({rates['machine'][0]}). What an evaluation holds differs: see the limits.",
        rates.select(
            "label", "version", "question", "evaluations_per_s", "roofrack_per_s",
            times=pl.col("ratio"),
        ),
        labels=LABELS,
    )  # fmt: skip


_JUDGED = (theme.PALETTE[0], theme.PALETTE[1], theme.PALETTE[6])


def features() -> Figure:
    """Return what each tool can say."""
    table = tables.read("features")
    long = table.unpivot(index="feature", variable_name="tool", value_name="found")
    chart = theme.tooltips(
        alt.Chart(alt.Data(values=long.to_dicts()), height=22 * table.height)
        .mark_point(filled=True)
        .encode(
            x=alt.X("tool:N")
            .sort(table.columns[1:])
            .title(None)
            .axis(orient="top", labelAngle=-40, labelOverlap=False, domain=False, ticks=False),
            y=alt.Y("feature:N")
            .sort(table["feature"].to_list())
            .title(None)
            .axis(labelLimit=360, grid=True),
            size=alt.Size("found:O", sort=FOUND).scale(range=[110, 70, 8]).legend(None),
            color=alt.Color("found:N").scale(domain=FOUND, range=_JUDGED).title("Judged"),
            shape=alt.Shape("found:N").scale(domain=FOUND, range=theme.SHAPES[:3]).title("Judged"),
        ),
        ("tool", "Tool", None), ("feature", "Feature", None), ("found", "Judged", None),
    )  # fmt: skip
    counts = {name: sum(value == "yes" for value in table[name]) for name in table.columns[1:]}
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    return Figure(
        "features",
        "What each tool can say",
        chart,
        f"A table of {table.height} features and {len(counts)} tools. With yes: {told}.",
        "Judgements of November 2026 from documentation, code and runs: partly is a reduced form or"
        " only through another component; not found is not proved absent.",
        table,
        labels=LABELS,
    )


def about() -> Figure:
    """Return the tools, their versions and addresses."""
    rows = [
        (name, told.get("version", ""), told["kind"], told["address"])
        for name, told in tables.tools().items()
        if name != OURS
    ]
    table = pl.DataFrame(
        [(n, str(v) or "not asked here", k, a) for n, v, k, a in rows],
        schema=["label", "version", "kind", "address"], orient="row",
    )  # fmt: skip
    return Figure(
        "tools", "The tools", None,
        f"A table of {table.height} tools, how each comes to its answers, and where it is.",
        "Versions are those that were asked; the others were only judged.", table, labels=LABELS,
    )  # fmt: skip


def served() -> Figure:
    """Return errors on measured serving runs, of tools and of roofrack."""
    table = tables.read("errors_served").with_columns(
        pl.col("tool").map_elements(tables.name_of, return_dtype=pl.String)
    )
    table = table.with_columns(
        line=pl.concat_str(
            "tool", pl.col("quantity").replace_strict(_QUANTITY), "mode", separator=", "
        )
    )
    long = pl.concat(
        [
            table.select("line", "rows", who=pl.lit(who), error=pl.col(column))
            for who, column in (("the tool", "median_theirs"), (OURS, "median_ours"))
        ]
    )
    chart = _pairs_of_dots(
        long, "line", table["line"].to_list(),
        theme.axis(alt.X, "error", "Median error, 1 is 100 %", zero=True),
        theme.series("who", "Predicted by", ["the tool", OURS], by="shape"),
        ("line", "Tool", None), ("who", "Predicted by", None), ("error", "Median error"),
        ("rows", "Runs"),
    )  # fmt: skip
    told = "; ".join(
        f"{r['line']}: {percent(r['median_theirs'])} against {percent(r['median_ours'])}"
        for r in table.iter_rows(named=True)
    )
    return Figure(
        "served",
        f"Median errors on measured serving runs, {tables.day(table)}",
        chart.properties(height=24 * table.height),
        f"Two dots a line: the median error of a tool, and of roofrack on the same runs. {told}.",
        "Left is nearer. Each line compares the runs that both answer; roofrack validate makes it"
        " again where the measured runs are installed.",
        table.select(
            "line", "rows", theirs="median_theirs", here="median_ours", mean_theirs="mean_theirs",
            mean_ours="mean_ours", closer="closer",
        ),
        labels=LABELS
        | {"line": "Tool, quantity, mode", "theirs": "Median, tool", "here": "Median, roofrack"}
        | {"mean_theirs": "Mean, tool", "mean_ours": "Mean, roofrack"},
    )  # fmt: skip


_QUANTITY = {"tpot_s": "time per token", "ttft_s": "first token"}
SETS = {
    "korthikanti": "Korthikanti et al. 2022, 22B to 1T",
    "vtrain_single": "vTrain's runs on one node",
    "vtrain_multi": "vTrain's runs on many nodes",
    "": "its own runs, which are not here",
}


def trained() -> Figure:
    """Return errors that training tools published, beside roofrack's on the same runs."""
    table = tables.read("errors_trained").with_columns(pl.col("set").fill_null(""))
    return Figure(
        "trained",
        f"Errors on measured training runs, {tables.day(table)}",
        None,
        f"A table of {table.height} published mean errors of tools, and roofrack's on these runs.",
        "The tools' errors are their authors' own, as published; roofrack's are of the same runs.",
        table.select(
            label="tool",
            quantity=pl.col("quantity").replace_strict(
                {"step_s": "time of a step", "peak_memory_bytes": "peak memory"}
            ),
            set=pl.col("set").replace_strict(SETS),
            rows=pl.col("rows_ours").replace(0, None),
            theirs="mean",
            here="mean_ours",
            source="source",
        ),
        labels=LABELS | {"quantity": "Quantity", "rows": "Runs of roofrack"},
    )
