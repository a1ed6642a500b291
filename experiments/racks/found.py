"""What all sentences and charts about racks are made of."""

from dataclasses import dataclass

import polars as pl

from roofrack.report.format import percent

from .crossing import Crossing, Equal
from .rows import Facts, Row


@dataclass(frozen=True)
class Found:
    """All that the sentences and the charts are made of."""

    facts: Facts
    crossing: Crossing | None
    equals: tuple[Equal, ...]
    room: pl.DataFrame
    systems: pl.DataFrame


def error(row: Row) -> str:
    """Write the error bar of a row's step, if it has one."""
    std = row["step_s_rel_std"]
    return f" (error bar ±{percent(std)}, one standard deviation)" if std else ""
