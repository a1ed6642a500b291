"""What all sentences and charts about racks are made of."""

from dataclasses import dataclass

import polars as pl

from .crossing import Crossing, Equal
from .rows import Facts


@dataclass(frozen=True)
class Found:
    """All that the sentences and the charts are made of."""

    facts: Facts
    crossing: Crossing | None
    equals: tuple[Equal, ...]
    room: pl.DataFrame
    systems: pl.DataFrame
