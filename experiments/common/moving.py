"""What the reader moves on several pages: prices of a chip, values of a column, folded parts."""

from collections.abc import Mapping

import polars as pl

from roofrack.report.controls import Control

_TIMES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Prices of a chip over the one of the run."""


def chip_price(now: float | None) -> Control | None:
    """Return the control of the price of a chip, USD/h; None for chips that cost nothing."""
    if not now:
        return None
    values = tuple(float(f"{now * times:.4g}") for times in _TIMES)
    return Control("price", "Price of a chip", values, values[_TIMES.index(1.0)], "USD/h")


def price_over_run() -> Control:
    """Return the control of the price of a chip where pairs have different ones: a ratio."""
    return Control("price", "Price of a chip, over that of the run", (*_TIMES, 4.0), 1.0, "x")


def values_of(rows: pl.DataFrame, column: str) -> tuple[float, ...]:
    """Return the values of a column of numbers, each once and ascending."""
    return tuple(sorted(set(rows[column].to_list())))


def in_words(parts: Mapping[str, str]) -> str:
    """Return the expression that names the `part` of a folded chart: its words, by its column."""
    words = " : ".join(f"datum.part == '{key}' ? '{name}'" for key, name in parts.items())
    return f"{words} : ''"
