"""All that the page shows, computed once."""

from dataclasses import dataclass

import polars as pl

from roofrack.results.run import Run

from . import buys, shapes
from .rows import Facts, dataset, facts


@dataclass(frozen=True)
class Found:
    """`facts` of all cells; tables of what to buy (`buys`) and of what has to fit (`shapes`)."""

    facts: Facts
    dataset: pl.DataFrame
    tornado: pl.DataFrame
    nexts: pl.DataFrame
    bought: pl.DataFrame
    domains: pl.DataFrame
    heads: pl.DataFrame
    wired: pl.DataFrame


def gather(run: Run) -> Found:
    """Compute all tables. Raises InputError where the run cannot be asked."""
    told = facts(run)
    return Found(
        facts=told,
        dataset=dataset(told),
        tornado=buys.tornado(told),
        nexts=buys.next_numbers(told),
        bought=buys.bought(told),
        domains=shapes.domains(told),
        heads=shapes.by_tp(told),
        wired=shapes.wired(told),
    )
