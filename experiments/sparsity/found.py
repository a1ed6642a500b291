"""What all sentences and charts about sparsity are made of."""

from dataclasses import dataclass

import polars as pl

from roofrack.report.format import number
from roofrack.results.run import Run

from ..common.studies import Studies
from .asked import changed, cut, sent, touched
from .layouts import Layouts, layouts
from .quality import quality
from .rows import Facts, Row, facts


@dataclass(frozen=True)
class Found:
    """All that the sentences and the charts are made of; see the functions that compute each."""

    facts: Facts
    layouts: Layouts | None
    touched: pl.DataFrame
    cut: pl.DataFrame
    sent: pl.DataFrame
    changed: pl.DataFrame
    quality: pl.DataFrame

    @property
    def own(self) -> Row | None:
        """The cheapest row of the model as it is; None where no plan is fast enough."""
        return self.facts.row(self.facts.least, self.ratio)

    @property
    def ratio(self) -> float:
        """The model's own ratio, as tables have it."""
        return min(self.facts.ratios, key=lambda r: abs(r / self.facts.machine.ratio - 1))


def gather(run: Run) -> tuple[Found, Studies]:
    """Compute all that the page shows."""
    studies = Studies(run)
    told = facts(run, studies)
    held = layouts(told, studies)
    found = Found(
        facts=told,
        layouts=held,
        touched=touched(told, studies),
        cut=cut(told, studies),
        sent=sent(told, held, studies) if held else pl.DataFrame(),
        changed=changed(told, studies),
        quality=quality(told),
    )
    return found, studies


def size(count: float) -> str:
    """Write a number of parameters: `671B`, `2.63T`."""
    return f"{number(count / 1e12)}T" if count >= 1e12 else f"{number(count / 1e9)}B"
