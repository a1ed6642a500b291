"""What the scripts of a page need, as JSON that stands in the page."""

import json
from collections.abc import Iterable
from typing import Any

from roofrack.report import live, theme
from roofrack.report.controls import Control
from roofrack.report.format import quantity
from roofrack.report.page import Figure, Page, csv_text, figures_of, slug
from roofrack.report.specs import to_spec, used


def collected(page: Page) -> dict[str, Any]:
    """Return theme, shared tables and controls of a page; chart and CSV of each figure by slug."""
    controls = {c.key: c for section in page.sections for c in section.controls}
    figures = {slug(f.key): _figure(f, controls.values(), page) for f in figures_of(page)}
    return {
        "config": theme.config(),
        "datasets": {name: live.columnar(table) for name, table in page.datasets.items()},
        "controls": [_control(control) for control in controls.values()],
        "figures": figures,
    }


def control_texts(control: Control) -> list[str]:
    """Return the values of a control as people read them."""
    return [
        value if isinstance(value, str) else quantity(value, control.unit, 4)
        for value in control.values
    ]


def _control(control: Control) -> dict[str, Any]:
    return {
        "key": control.key,
        "values": list(control.values),
        "texts": control_texts(control),
        "start": list(control.values).index(control.start),
        "column": control.column,
    }


def _figure(figure: Figure, controls: Iterable[Control], page: Page) -> dict[str, Any]:
    """Return a figure's specification, its CSV, the datasets it reads, the controls it follows."""
    spec = None if figure.chart is None else to_spec(figure.chart)
    names = used(spec)
    params = {param["name"] for param in (spec or {}).get("params", ())}
    return {
        "spec": spec,
        "csv": csv_text(figure.table),
        "uses": [name for name in page.datasets if name in names],
        "controls": [c.key for c in controls if live.parameter(c) in params],
    }


def embedded_json(value: Any) -> str:
    """Return JSON that can stand inside a script element: nothing in it can end that element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
