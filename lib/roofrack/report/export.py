"""The figures of a page as files: PNG, SVG and CSV."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from roofrack.errors import InputError, nearest
from roofrack.report import live
from roofrack.report.page import Figure, Page, csv_text, slug
from roofrack.report.specs import VEGA_LITE, is_single, to_spec, used
from roofrack.report.theme import config

KINDS = ("png", "svg", "csv")
"""What `export` can write."""
_WIDTH, _PANEL = 720, 380  # px: a chart of its own; one of several side by side
_INK, _FONT, _SCALE = "#1b1f26", "Liberation Sans, Arial, Helvetica, sans-serif", 2.0


def export(page: Page, folder: Path, kinds: Iterable[str] = KINDS) -> list[Path]:
    """Write each figure of the page into `folder` in each of `kinds`; return the paths written.

    Files are named after the figure's key. A figure without a chart gives its table only. Raises
    InputError for a kind that does not exist.
    """
    chosen = tuple(kinds)
    for kind in chosen:
        if kind not in KINDS:
            raise InputError(
                f"export={kind}: must be one of {', '.join(KINDS)}.{nearest(kind, KINDS)}"
            )
    folder.mkdir(parents=True, exist_ok=True)
    figures = [figure for section in page.sections for figure in section.figures]
    shared = {name: live.records(table) for name, table in page.datasets.items()}
    return [path for figure in figures for path in _export_figure(figure, shared, folder, chosen)]


def _export_figure(
    figure: Figure, shared: Mapping[str, Any], folder: Path, kinds: tuple[str, ...]
) -> list[Path]:
    paths = []
    drawn = None if figure.chart is None else static_spec(figure.chart, shared)
    for kind in kinds:
        path = folder / f"{slug(figure.key)}.{kind}"
        if kind == "csv":
            path.write_text(csv_text(figure.table), encoding="utf-8")
        elif drawn is None:
            continue
        else:
            path.write_bytes(_draw(drawn, kind))
        paths.append(path)
    return paths


def static_spec(chart: Any, shared: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a specification for paper: theme inside, dark ink on white, fixed width.

    `shared`: the rows of the page's datasets. Controls stand where they start.
    """
    spec = to_spec(chart)
    names = used(spec)
    spec["datasets"] |= {name: rows for name, rows in (shared or {}).items() if name in names}
    if is_single(spec):
        spec["width"] = _WIDTH if spec.get("width") == "container" else spec["width"]
    else:
        _set_panel_width(spec)
    theme = {**config(), "font": _FONT, "background": "white"}
    # As page.js does; a fixed width holds four entries of a legend.
    theme["legend"] = {
        **theme["legend"],
        "columns": 4,
        **({} if is_single(spec) else {"offset": 12}),
    }
    text = json.dumps({**spec, "config": theme})
    return json.loads(text.replace('"currentColor"', f'"{_INK}"'))


def _set_panel_width(spec: dict[str, Any]) -> None:
    for key in ("hconcat", "vconcat", "concat"):
        for panel in spec.get(key, []):
            _set_panel_width(panel) if not is_single(panel) else panel.setdefault("width", _PANEL)


def _draw(spec: dict[str, Any], kind: str) -> bytes:
    import vl_convert

    # No address is allowed: a specification carries its data, nothing is fetched.
    if kind == "svg":
        svg = vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE, allowed_base_urls=[])
        return svg.encode("utf-8")
    return vl_convert.vegalite_to_png(
        spec, vl_version=VEGA_LITE, scale=_SCALE, allowed_base_urls=[]
    )
