"""What the charts about the price of speed have in common: units, names, and shapes of data."""

from typing import Any

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.results.schema import COLUMNS

from .rows import COST, PAIR, SPEED, Facts

UNITS = {name: column.unit.replace("Mtoken", "Mtok") for name, column in COLUMNS.items()}
UNITS |= {"batch": "sequences", "cost_low": "USD/Mtok", "cost_high": "USD/Mtok"}
LABELS = {
    "pair": "Model and machine",
    "batch": "Batch",
    "plan": "Plan",
    "tier": "Tier",
    COST: "Cost",
    SPEED: "Speed per user",
    "step_s": "Step",
    "tpot_s": "Time per output token",
    "chips": "Chips",
    **theme.PARTS,
}
"""Columns in words."""
BATCH = ("batch", "Batch", "sequences")
BATCH_TIP = ("batch", "Batch", "sequences")
COST_TIP = (COST, "Cost", "USD/Mtok")
SPEED_TIP = (SPEED, "Speed per user", "token/s")
PAIR_TIP = ("pair", "Pair", None)
PLAN_TIP = ("plan", "Plan", None)
MOST_ROWS = 4500
"""Rows that one chart may hold (Altair refuses more than 5,000)."""
ROW_HEIGHT = 36  # px, of a pair in charts that have a line for each
# A pair's name takes two lines: model, machine.
TWO_LINES = "split(datum.label, '\\n')"


def thin(facts: Facts, table: pl.DataFrame, per_row: int) -> pl.DataFrame:
    """Keep as many batches as a chart with `per_row` marks per row can hold, and each pair's last.

    First 2^n and 3 * 2^n, then 2^n alone, then every other of those.
    """
    last = pl.col("batch") == pl.col("batch").max().over(PAIR)
    rungs = (
        [2.0**n * f for n in range(40) for f in (1, 1.5)],
        [2.0**n for n in range(40)],
        [4.0**n for n in range(20)],
    )
    for rung in rungs:
        kept = table.filter(pl.col("batch").cast(pl.Float64).is_in(rung) | last)
        if kept.height * per_row <= MOST_ROWS:
            break
    return kept


def parts_of(table: pl.DataFrame) -> list[str]:
    """Return the columns of parts that are not all zero."""
    return [p for p in theme.PARTS if table[p].max()]


def by_part(table: pl.DataFrame) -> pl.DataFrame:
    """Return one row per part of each step: `part`, `seconds`, `share` of all (`low` to `high`)."""
    keep = [*PAIR, "pair", "two_lines", "batch", "plan", "step_s"]
    used = parts_of(table)
    long = table.select(*keep, *used).unpivot(
        used, index=keep, variable_name="part", value_name="seconds"
    )
    long = long.with_columns(pl.col("part").replace_strict(theme.PARTS))
    each = [*PAIR, "batch"]
    share = pl.col("seconds") / pl.col("seconds").sum().over(each)
    long = long.with_columns(share=share)
    return long.with_columns(high=pl.col("share").cum_sum().over(each)).with_columns(
        low=pl.col("high") - pl.col("share")
    )


def legend(
    encodings: dict[str, Any], present: set[str] | None = None, columns: int | None = None
) -> dict[str, Any]:
    """Show only the parts that occur, in so many columns; colours stay where they are."""
    for channel in encodings.values():
        if present is not None:
            channel["legend"]["values"] = [name for name in theme.PARTS.values() if name in present]
        if columns is not None:
            channel["legend"]["columns"] = columns
    return encodings


def plain_legend() -> alt.Legend:
    """Return a legend of shapes that have no colour of their own."""
    return alt.Legend(columns=1, symbolFillColor="currentColor", symbolStrokeColor="currentColor")


def pairs(facts: Facts, lines: bool = False) -> list[str]:
    """Return the names of the pairs in the order of the run, on one line or on two."""
    return [two_lines(facts, pair) if lines else facts.label(pair) for pair in facts.pairs]


def two_lines(facts: Facts, pair: tuple[str, str]) -> str:
    """Return the name of a pair on two lines."""
    return f"{facts.models[pair[1]]}\n{facts.machines[pair[0]]}"


def pair_axis(facts: Facts, grid: bool = True) -> alt.Y:
    """Return the vertical axis that has a line for each pair."""
    axis = alt.Axis(
        labelExpr=TWO_LINES, labelLimit=220, grid=grid, labelLineHeight=14, labelOffset=-7
    )
    return alt.Y("two_lines:N", sort=pairs(facts, lines=True), title=None, axis=axis)


def pair_facet(facts: Facts) -> alt.Facet:
    """Return the facets that have a panel for each pair."""
    header = alt.Header(labelExpr=TWO_LINES, labelLimit=230, labelLineHeight=14)
    return alt.Facet("two_lines:N", title=None, sort=pairs(facts, lines=True), header=header)


def machines(facts: Facts, by: Any = "dash") -> dict[str, Any]:
    """Return the encodings of machines, the same in every chart."""
    order = [facts.machines[key] for key in dict.fromkeys(pair[0] for pair in facts.pairs)]
    return legend(theme.series("machine", "Machine", order, by=by), columns=1)


def models(facts: Facts) -> list[str]:
    """Return the names of the models in the order of the run."""
    return [facts.models[key] for key in dict.fromkeys(pair[1] for pair in facts.pairs)]


def model_facet(facts: Facts) -> alt.Facet:
    """Return the facets that have a panel for each model."""
    return alt.Facet("model_name:N", title=None, sort=models(facts))
