"""`render` makes one self-contained HTML file of a page.

The file needs nothing but itself: its own content security policy forbids every request, and names
the hash of each of its scripts and of its style sheet, so nothing else can run in it. Every string
that is shown is escaped, whatever configuration it comes from.
"""

import base64
import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup, escape

from roofrack.report import live, payload, runtime
from roofrack.report.index import Index
from roofrack.report.listing import Listing, listing
from roofrack.report.page import VERDICTS, Figure, Page, figures_of, slug


@dataclass(frozen=True)
class Link:
    """Another page of the same site: its title, its file beside this one, and whether it is this
    very page."""

    title: str
    file: str
    here: bool = False


def render(page: Page, site: Sequence[Link] = ()) -> str:
    """Return the page as one HTML file that works offline and is the same for the same input.

    `site`: the pages of the site that the page is one of, in order, the first being its index.
    """
    figures, told = figures_of(page), payload.collected(page)
    live.check([control for section in page.sections for control in section.controls])
    drawn = any(figure.chart is not None for figure in figures)
    scripts = [runtime.bundle()] * drawn + [_static("controls.js"), _static("page.js")]
    return _document(
        "page.html.j2",
        scripts,
        told,
        page=page,
        site=site,
        tables={figure.key: _listing(figure) for figure in figures},
        verdicts={key: (sign, _about(words, page)) for key, (sign, words) in VERDICTS.items()},
        texts=payload.control_texts,
        notices=runtime.notices() if drawn else "",
        uses={f.key: told["figures"][slug(f.key)]["uses"] for f in figures},
        slugs={figure.key: slug(figure.key) for figure in figures},
        versions={**page.provenance.versions, **(runtime.versions() if drawn else {})},
        anchors=_anchors(page),
    )


def render_index(index: Index, site: Sequence[Link]) -> str:
    """Return the first page of a site as one HTML file."""
    scripts = [_static("controls.js"), _static("page.js")]
    told: dict[str, Any] = {"controls": [], "figures": {}}
    return _document(
        "index.html.j2", scripts, told, page=index, site=site, verdicts=VERDICTS, notices=""
    )


def _document(template: str, scripts: list[str], told: Any, **values: Any) -> str:
    """Fill in a template: what it says, its style, its scripts and what these need."""
    style = _static("page.css")
    return (
        _environment()
        .get_template(template)
        .render(
            policy=content_security_policy(scripts, style),
            style=Markup(style),
            scripts=[Markup(text) for text in scripts],
            payload=Markup(payload.embedded_json(told)),
            **values,
        )
    )


_GAP = re.compile(r"(?<=\d) (?=%|(?:[pnµmkMGTPE]?(?:s|B|W|J|FLOP)|million|billion|trillion)\b)")


_CODE = re.compile(r"`([^`]+)`")


def tidy(text: str) -> Markup:
    """Keep a number and its unit on one line (by a no-break space); set what is typed as code.

    Everything is escaped first.
    """
    return Markup(_CODE.sub(r"<code>\1</code>", _GAP.sub("\u00a0", str(escape(text)))))


def _about(words: str, page: Page) -> str:
    return words.replace("the lecture", page.reference)


def _listing(figure: Figure) -> Listing:
    return listing(figure.table, figure.units, figure.labels)


def _anchors(page: Page) -> list[str]:
    """Give each section an anchor of its own, even where two headings are alike."""
    return [f"part-{i}-{slug(section.heading)}" for i, section in enumerate(page.sections, start=1)]


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
