"""From an Altair chart to the JSON that the page and the exports draw."""

import contextlib
import math
import re
from typing import Any

import altair as alt

VEGA_LITE = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
"""The Vega-Lite version that Altair writes, as vl-convert names it: `6.4`."""
_AUTOMATIC = re.compile(r"\b(?:param|view|concat|layer)_[0-9a-f]+(?:_\d+)?\b")
_SIGNIFICANT = 6  # digits of a number in a chart; the CSV beside it keeps all


def to_spec(chart: Any) -> dict[str, Any]:
    """Return the Vega-Lite specification of an Altair chart, without theme, ready for JSON.

    The same chart gives the same specification each time: Altair names selections by a counter of
    the process (or, later, by a hash), so they are numbered anew. Numbers without a
    value become null (JSON has no NaN). A chart that is not a concatenation takes the width of its
    container unless it has its own.
    """
    with alt.theme.enable("none"):
        spec = chart.to_dict(context={"pre_transform": False})
    spec.pop("config", None)
    spec.pop("$schema", None)
    spec = _renamed(spec, _automatic_names(spec))
    spec["datasets"] = {
        name: [_plain(row) for row in rows] for name, rows in spec.get("datasets", {}).items()
    }
    if is_single(spec) and "width" not in spec:
        spec["width"] = "container"
    return spec


def is_single(spec: dict[str, Any]) -> bool:
    """Return whether a specification draws one plot, as opposed to several in rows or columns."""
    return not any(key in spec for key in ("hconcat", "vconcat", "concat", "facet", "repeat"))


def used(node: Any) -> set[str]:
    """Return the names of the data that a specification reads."""
    if isinstance(node, list):
        return set().union(*map(used, node))
    if not isinstance(node, dict):
        return set()
    own = {node["data"]["name"]} if "name" in (node.get("data") or {}) else set()
    return own.union(*(used(value) for key, value in node.items() if key != "datasets"))


def _automatic_names(spec: dict[str, Any]) -> dict[str, str]:
    """Map the made-up names of a specification to names counted from 1, in order of appearance."""
    names: dict[str, str] = {}
    for key, value in _strings(spec):
        if key == "name" and _AUTOMATIC.fullmatch(value) and value not in names:
            kind = value.partition("_")[0] + "_"
            names[value] = kind + str(1 + sum(name.startswith(kind) for name in names))
    return names


def _strings(node: Any, key: str = "") -> list[tuple[str, str]]:
    """List (key, text) of every string outside the data."""
    if isinstance(node, str):
        return [(key, node)]
    if isinstance(node, list):
        return [pair for item in node for pair in _strings(item, key)]
    if isinstance(node, dict):
        return [
            pair
            for k, v in node.items()
            if k not in ("datasets", "data")
            for pair in _strings(v, k)
        ]
    return []


def _renamed(node: Any, names: dict[str, str], key: str = "") -> Any:
    """Replace names where a specification refers to them; data, titles and fields stay."""
    if isinstance(node, dict):
        skipped = ("datasets", "data", "title", "field", "description", "text", "domain", "sort")
        return {k: v if k in skipped else _renamed(v, names, k) for k, v in node.items()}
    if isinstance(node, list):
        return [_renamed(item, names, key) for item in node]
    if isinstance(node, str) and names:
        return _AUTOMATIC.sub(lambda found: names.get(found.group(), found.group()), node)
    return node


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _number(value) if isinstance(value, float) else value for key, value in row.items()
    }


def _number(value: float) -> float | None:
    if not math.isfinite(value):
        return None
    with contextlib.suppress(OverflowError):
        value = float(f"{value:.{_SIGNIFICANT}g}")
    return value
