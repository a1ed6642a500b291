"""What a report page says, as data: `render` makes a file of it, `export` files of its figures."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from roofrack.report.controls import Control

Verdict = Literal["agrees", "contradicts", "neutral"]
VERDICTS: dict[str, tuple[str, str]] = {
    "agrees": ("✓", "Agrees with the lecture"),
    "contradicts": ("≠", "Contradicts the lecture"),
    "neutral": ("i", "Result of this run"),
}
"""Each verdict's sign and words; `reference` of a page replaces `the lecture`."""


@dataclass(frozen=True)
class Finding:
    """One statement computed from the run: `text` with its numbers, and what it rests on.

    `basis` names the rows or overrides the numbers were computed from; `figure` is the key of the
    figure that shows it, if one does.
    """

    text: str
    verdict: Verdict = "neutral"
    basis: str = ""
    figure: str = ""


@dataclass(frozen=True)
class Figure:
    """A chart and the table behind it.

    `key` is short and unique in the page (it names files and anchors); `chart` an Altair chart, or
    None for a table alone; `description` says what the chart shows to who cannot see it; `caption`
    what to look at. `units` gives the SI unit of columns of `table`, `labels` their names in words.
    The chart may read datasets of the page by name (`Page.datasets`).
    """

    key: str
    title: str
    chart: Any
    description: str
    caption: str
    table: pl.DataFrame
    units: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """A part of the page: a heading, what there is to say, and the figures that show it.

    `controls` stay in sight above the figures, which follow them.
    """

    heading: str
    paragraphs: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    controls: tuple[Control, ...] = ()


@dataclass(frozen=True)
class Job:
    """One job of the run: name, overrides that reproduce it, hash of its configuration."""

    name: str
    overrides: tuple[str, ...]
    config_hash: str = ""


@dataclass(frozen=True)
class Provenance:
    """How the page came about: enough to run it again and to doubt it.

    `command` reruns the page; `sources` are (what, source), `assumptions` (what, reason), `facts`
    anything else about the run (number of points, calibration), each value as people read it.
    """

    command: str
    jobs: tuple[Job, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[tuple[str, str], ...] = ()
    assumptions: tuple[tuple[str, str], ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """A whole report. `reference` names whose claims the verdicts of the findings speak of.

    `datasets` are tables that several charts read, by the name they read them under; they are
    embedded once, with seven digits.
    """

    title: str
    question: str
    answer: str
    findings: tuple[Finding, ...]
    sections: tuple[Section, ...]
    limits: tuple[str, ...]
    provenance: Provenance
    reference: str = "the lecture"
    reference_note: str = ""
    datasets: Mapping[str, pl.DataFrame] = field(default_factory=dict)


def figures_of(page: Page) -> tuple[Figure, ...]:
    """Return all figures of a page in order. Raises ValueError if two would share an anchor."""
    figures = tuple(figure for section in page.sections for figure in section.figures)
    seen: set[str] = set()
    for figure in figures:
        if slug(figure.key) in seen:
            raise ValueError(f"figure key {figure.key!r} is used twice")
        seen.add(slug(figure.key))
    return figures


def slug(text: str) -> str:
    """Return a name safe for file names and anchors: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "part"


def csv_text(table: pl.DataFrame) -> str:
    """Return a table as CSV with all digits, in SI units, columns named as in the result schema."""
    return table.write_csv(line_terminator="\n")
