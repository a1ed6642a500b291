"""Charts that several pages draw alike: the parts of a step."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from roofrack.report import theme


def used_parts(rows: pl.DataFrame) -> list[str]:
    """Return the columns of parts of a step (seconds) that are above 0 in any row."""
    return [part for part in theme.PARTS if rows[part].max()]


def quickest_steps(rows: pl.DataFrame, order: Sequence[str], what: str, words: str) -> alt.Chart:
    """Return the parts of the quickest steps: a stacked bar for each `label`, in an order.

    `rows` have `label`, `plan`, the parts of a step and the column `what`, which tooltips show
    first and call `words`.
    """
    kept = list(dict.fromkeys(["label", what, "plan"]))
    long = rows.unpivot(used_parts(rows), index=kept, variable_name="part", value_name="seconds")
    long = long.with_columns(pl.col("part").replace_strict(theme.PARTS))
    bars = alt.Chart(long).mark_bar().encode(
        theme.axis(alt.X, "seconds", "Parts of the quickest step", "s", zero=True),
        alt.Y("label:N", title=None, sort=list(order)),
        **theme.parts(),
    )  # fmt: skip
    return theme.tooltips(
        theme.stacked(bars, "part", list(theme.PARTS.values())),
        (what, words, None), ("part", "Part", None), ("seconds", "Time", "s"),
        ("plan", "Plan", None),
    )  # fmt: skip
