"""What a report page says, as data, and `render`, which makes one self-contained HTML file of it.

The file needs nothing but itself: its own content security policy forbids every request, and names
the hash of each of its scripts and of its style sheet, so nothing else can run in it. Every string
that is shown is escaped, whatever configuration it comes from.
"""

import base64
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal

import jinja2
import polars as pl
from markupsafe import Markup

from roofrack.report import runtime, theme
from roofrack.report.controls import Control
from roofrack.report.listing import Listing, listing
from roofrack.report.specs import to_spec

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


def render(page: Page) -> str:
    """Return the page as one HTML file that works offline and is the same for the same input."""
    figures = figures_of(page)
    style, script, library = _static("page.css"), _static("page.js"), runtime.bundle()
    drawn = any(figure.chart is not None for figure in figures)
    scripts = [library, script] if drawn else [script]
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            tables={figure.key: _listing(figure) for figure in figures},
            verdicts={key: (sign, _about(words, page)) for key, (sign, words) in VERDICTS.items()},
            policy=content_security_policy(scripts, style),
            style=Markup(style),
            scripts=[Markup(text) for text in scripts],
            payload=Markup(embedded_json(_payload(figures))),
            notices=runtime.notices() if drawn else "",
            slugs={figure.key: slug(figure.key) for figure in figures},
            versions={**page.provenance.versions, **(runtime.versions() if drawn else {})},
            anchors=_anchors(page),
        )
    )


_GAP = re.compile(r"(?<=\d) (?=%|(?:[pnµmkMGTPE]?(?:s|B|W|J|FLOP)|million|billion|trillion)\b)")


def tidy(text: str) -> str:
    """Keep a number and its unit on one line (by a no-break space)."""
    return _GAP.sub("\u00a0", text)


def _about(words: str, page: Page) -> str:
    return words.replace("the lecture", page.reference)


def _listing(figure: Figure) -> Listing:
    return listing(figure.table, figure.units, figure.labels)


def _anchors(page: Page) -> list[str]:
    """Give each section an anchor of its own, even where two headings are alike."""
    return [f"part-{i}-{slug(section.heading)}" for i, section in enumerate(page.sections, start=1)]


def _payload(figures: tuple[Figure, ...]) -> dict[str, Any]:
    """Collect what the page's script needs: the theme, and per figure the chart and the CSV."""
    return {
        "config": theme.config(),
        "figures": {
            slug(figure.key): {
                "spec": None if figure.chart is None else to_spec(figure.chart),
                "csv": csv_text(figure.table),
            }
            for figure in figures
        },
    }


def embedded_json(value: Any) -> str:
    """Return JSON that can stand inside a script element: nothing in it can end that element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def content_security_policy(scripts: list[str], style: str) -> str:
    """Return a policy that allows exactly these scripts and this style sheet, and no request."""
    allowed = " ".join(f"'sha256-{_hash(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'sha256-{_hash(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _static(name: str) -> str:
    text = files("roofrack.report").joinpath("static", name).read_text(encoding="utf-8")
    return text.replace("\r\n", "\n")  # the hash is taken over what the browser's parser sees


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("roofrack.report", "static"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tidy"] = tidy
    return environment
