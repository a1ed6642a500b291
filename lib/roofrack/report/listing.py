"""A data frame as the rows of a table for reading: names in words, one unit per column."""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from roofrack.report.format import NOTHING, column

MOST_ROWS = 200
"""Rows of a table that a page shows; the CSV beside it has all."""


class Heading(NamedTuple):
    """Heading of a column: what it is in words, its unit (may be empty), its name in the data."""

    label: str
    unit: str
    name: str
    numeric: bool


class Listing(NamedTuple):
    """A table ready to print. `total` counts all rows, `rows` holds the first MOST_ROWS."""

    headings: list[Heading]
    rows: list[tuple[str, ...]]
    total: int


def listing(table: pl.DataFrame, units: Mapping[str, str], labels: Mapping[str, str]) -> Listing:
    """Return the first rows of `table` as text; numbers of a column share one prefixed unit."""
    shown = table.head(MOST_ROWS)
    headings, texts = [], []
    for name in shown.columns:
        series = shown[name]
        numeric = series.dtype.is_numeric()
        unit, cells = (
            column(series.to_list(), units.get(name, "")) if numeric else ("", _words(series))
        )
        headings.append(Heading(labels.get(name, ""), unit, name, numeric))
        texts.append(cells)
    return Listing(headings, list(zip(*texts, strict=True)), table.height)


def _words(series: pl.Series) -> list[str]:
    names = {True: "yes", False: "no", None: NOTHING}
    if series.dtype == pl.Boolean:
        return [names[value] for value in series]
    return [NOTHING if value is None else str(value) for value in series]
