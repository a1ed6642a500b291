"""How charts look: one theme, one palette, and helpers that put units and prefixes on the axes.

Ink is `currentColor`, so that the page's CSS alone decides between light and dark. The palette was
searched for: each colour has a contrast of 3 or more against both page backgrounds, and any two
stay apart for readers with protanopia and deuteranopia (tests/report/test_theme.py measures both).
Colour never stands alone: `series` adds dashes or shapes.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import altair as alt

C = TypeVar("C", alt.X, alt.Y)

PALETTE = (
    "#5f82ee", "#f25c05", "#04a862", "#8550b2", "#a8470f", "#06a2bb", "#6e7075", "#544df8",
)  # fmt: skip
"""Categories, most different first."""
DASHES: tuple[tuple[int, ...], ...] = (
    (1, 0), (7, 3), (2, 3), (9, 3, 2, 3), (13, 4), (4, 2, 1, 2), (2, 6), (12, 3, 2, 3, 2, 3),
)  # fmt: skip
"""Line patterns, in the order of PALETTE."""
SHAPES = (
    "circle", "square", "triangle-up", "diamond", "cross", "triangle-down",
    "triangle-right", "triangle-left",
)  # fmt: skip
"""Point shapes, in the order of PALETTE."""
LIGHT_BACKGROUND, DARK_BACKGROUND = "#ffffff", "#15181d"
"""Page backgrounds that the palette is made for (page.css holds the same two)."""
PARTS = {
    "t_compute_s": "Compute",
    "t_weights_s": "Weight reads",
    "t_kv_s": "KV cache reads",
    "t_activation_s": "Activation traffic",
    "t_scale_up_s": "Network inside the rack",
    "t_scale_out_s": "Network between racks",
    "t_overhead_s": "Overheads",
    "t_pipeline_s": "Pipeline hops",
}
"""Parts of a step as charts name them; each keeps its colour (its place in PALETTE) everywhere."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_PREFIXED = {"s": "s", "B": "B", "byte": "B", "FLOP": "FLOP", "W": "W", "J": "J", "Hz": "Hz"}
_UNIT_WORDS = {
    "B": "bytes",
    "byte": "bytes",
    "B/s": "bytes/s",
    "byte/s": "bytes/s",
    "USD/h": "$ per hour",
    "USD/Mtok": "$ per million tokens",
    "token/s": "tokens/s",
    "J/token": "joules per token",
}


def config() -> dict[str, Any]:
    """Return the Vega-Lite configuration of every chart."""
    return {
        "background": None,
        "font": FONT,
        "padding": 4,
        "view": {"stroke": None, "continuousHeight": 320, "discreteHeight": 320},
        "mark": {"color": PALETTE[0], "tooltip": None},
        "line": {"strokeWidth": 2.4, "strokeCap": "round", "strokeJoin": "round"},
        "point": {"size": 70, "filled": True, "opacity": 1},
        "area": {"opacity": 0.85, "line": False},
        "bar": {"cornerRadiusEnd": 2},
        "rule": {"color": "currentColor", "opacity": 0.55},
        "text": {"color": "currentColor", "fill": "currentColor", "fontSize": 12},
        "title": {"color": "currentColor", "subtitleColor": "currentColor", "anchor": "start",
                  "fontSize": 13, "fontWeight": 600, "offset": 26},
        "header": {"labelColor": "currentColor", "titleColor": "currentColor", "labelFontSize": 12,
                   "labelFontWeight": 600, "labelAnchor": "start", "labelPadding": 34},
        "facet": {"spacing": 44},
        "axis": _AXIS,
        # A horizontal title above the axis is read without turning one's head, and saves width.
        "axisY": {"titleAngle": 0, "titleAlign": "left", "titleAnchor": "end",
                  "titleX": -38, "titleY": -14,
                  "titleBaseline": "bottom", "domain": False, "ticks": False, "labelPadding": 6},
        "axisX": {"grid": False, "titlePadding": 10, "titleAnchor": "end"},
        "legend": _LEGEND,
        "selection": {"interval": {"mark": _BRUSH}},
        "range": {
            "category": list(PALETTE),
            "symbol": list(SHAPES),
            "ramp": {"scheme": "viridis"},
            "heatmap": {"scheme": "viridis"},
            "ordinal": {"scheme": "viridis"},
        },
    }  # fmt: skip


_AXIS: dict[str, Any] = {
    "labelColor": "currentColor",
    "titleColor": "currentColor",
    "domainColor": "currentColor",
    "tickColor": "currentColor",
    "gridColor": "currentColor",
    "gridOpacity": 0.15,
    "domainOpacity": 0.5,
    "tickOpacity": 0.5,
    "labelOpacity": 0.85,
    "labelFontSize": 12,
    "titleFontSize": 12,
    "titleFontWeight": 600,
    "labelOverlap": "greedy",
    "labelSeparation": 6,
    "labelBound": False,
    "labelFlush": False,
}
_BRUSH = {
    "fill": "currentColor",
    "fillOpacity": 0.1,
    "stroke": "currentColor",
    "strokeOpacity": 0.5,
}
_LEGEND: dict[str, Any] = {
    "orient": "top",
    "direction": "horizontal",
    "labelColor": "currentColor",
    "titleColor": "currentColor",
    "labelFontSize": 12,
    "titleFontSize": 12,
    "titleFontWeight": 600,
    "labelLimit": 260,
    "symbolSize": 110,
    "symbolStrokeWidth": 2.4,
    "columnPadding": 18,
    "rowPadding": 4,
    "offset": 34,  # clears the title of the y axis, which lies between legend and plot
    "gradientLength": 320,
    "labelOverlap": "greedy",
}


def field(name: str) -> str:
    """Escape a column name for Vega-Lite, which reads dots and brackets as paths into objects."""
    return re.sub(r"([\\.\[\]'\"])", r"\\\1", name)


def label_expression(value: str, unit: str, digits: int = 3) -> str:
    """Return a Vega expression that writes the number `value` with SI prefix and unit.

    `value` is itself an expression (`datum.value` on an axis). Mirrors format.quantity.
    """
    head, _, rest = ("" if unit == "1" else unit).partition("/")
    tail = json.dumps("/" + rest if rest else "")
    if head in _PREFIXED:
        # d3 writes 10m for 0.01: put a space before the prefix and the unit after it.
        text = f"format({value}, '.{digits}~s')"
        return f"replace({text}, regexp('(\\\\D?)$'), ' $1{_PREFIXED[head]}') + {tail}"
    short = f"replace(format({value}, '.{digits}~s'), 'G', 'B')"  # 1B: a billion, not a giga
    if head == "USD":
        cents = f"format({value}, abs({value}) >= 0.1 ? ',.2f' : '.2~r')"
        whole = f"{value} === floor({value}) || abs({value}) >= 1000"
        return (
            f"'$' + (abs({value}) >= 1e6 ? {short} : {whole} ? format({value}, ',.0f') : {cents})"
        )
    long = f"format({value}, abs({value}) >= 1000 ? ',.0f' : '.{digits}~r')"
    return f"(abs({value}) >= 1e5 ? {short} : {long})"


def _unwritten(unit: str) -> str:
    """Return what label_expression leaves to the title of an axis: `/Mtok`, ` token/s`."""
    head, slash, rest = ("" if unit == "1" else unit).partition("/")
    if head == "USD":
        return slash + rest
    return "" if head in _PREFIXED or not head else f" {unit}"


def axis_title(title: str, unit: str = "", log: bool = False) -> str:
    """Return an axis title that names the unit in words and says when the scale is logarithmic."""
    words = _UNIT_WORDS.get(unit, "" if unit == "1" else unit)
    notes = ", ".join(part for part in (words, "log" if log else "") if part)
    return f"{title} ({notes})" if notes else title


def axis(
    channel: type[C],
    name: str,
    title: str,
    unit: str = "",
    *,
    log: bool = False,
    domain: Sequence[float] | None = None,
    values: Sequence[float] | None = None,
    zero: bool = False,
    **more: Any,
) -> C:
    """Return the encoding of a quantity on an axis: unit in the title, SI prefixes on the ticks.

    `channel` is alt.X or alt.Y; `domain` fixes both ends, `values` the ticks. A linear axis starts
    at zero only if `zero`. Other arguments go to the channel.
    """
    text = label_expression("datum.value", unit)
    ticks: dict[str, Any] = {"values": list(values)} if values else {"tickCount": 5}
    # On a log scale Vega leaves the label of a tick empty where labels would be too dense: those
    # ticks get no grid line either (1 is relative to the opacity in _AXIS).
    if log and not values:
        text = f"datum.label === '' ? '' : {text}"
        ticks["gridOpacity"] = alt.condition("datum.label === ''", alt.value(0), alt.value(1))
    scale: dict[str, Any] = {"type": "log"} if log else {"zero": zero}
    if domain:
        scale |= {"domain": list(domain), "nice": False}
    return channel(
        field=field(name),
        type="quantitative",
        title=axis_title(title, unit, log),
        axis=alt.Axis(labelExpr=text, **ticks),
        scale=alt.Scale(**scale),
        **more,
    )


def ramp(
    name: str, title: str, unit: str = "", *, log: bool = False, scheme: Any = "viridis"
) -> alt.Color:
    """Return the encoding of a quantity as a colour ramp with a labelled legend."""
    return alt.Color(
        field=field(name),
        type="quantitative",
        title=axis_title(title, unit, log),
        scale=alt.Scale(type="log", scheme=scheme) if log else alt.Scale(scheme=scheme, zero=False),
        legend=alt.Legend(labelExpr=label_expression("datum.value", unit), labelSeparation=14),
    )


def series(
    name: str, title: str, order: Sequence[str], *, by: Literal["dash", "shape", "colour"] = "dash"
) -> dict[str, Any]:
    """Return the encodings that tell series apart: colour, and with it dashes (lines) or shapes.

    `order` lists all names of the column `name`; the n-th gets the n-th colour, dash and shape, in
    every chart that is given the same order. `by="shape"` suits points and lines with points,
    `by="colour"` areas and bars, which are told apart by their place. More than eight series start
    over: facet or filter before that. Use as `chart.encode(**series(...))`.
    """
    common: dict[str, Any] = {
        "field": field(name),
        "type": "nominal",
        "title": title,
        "sort": list(order),
    }
    # A line needs a stretch in the legend that is long enough to show its dashes.
    legend = alt.Legend(symbolType="stroke", symbolSize=450) if by == "dash" else alt.Legend()
    channels: dict[str, Any] = {
        "color": alt.Color(scale=_cycle(order, PALETTE), legend=legend, **common)
    }
    if by == "dash":
        channels["strokeDash"] = alt.StrokeDash(
            scale=_cycle(order, DASHES), legend=legend, **common
        )
    if by == "shape":
        channels["shape"] = alt.Shape(scale=_cycle(order, SHAPES), legend=legend, **common)
    return channels


def _cycle(order: Sequence[str], values: Sequence[Any]) -> alt.Scale:
    return alt.Scale(domain=list(order), range=[values[i % len(values)] for i in range(len(order))])


def parts(name: str = "part", title: str = "Part of the step") -> dict[str, Any]:
    """Return the colour encoding of a column that holds the values of PARTS."""
    return series(name, title, tuple(PARTS.values()), by="colour")


def stacked(chart: alt.Chart, name: str, order: Sequence[str]) -> alt.Chart:
    """Stack areas or bars in the given order, the first lowest, instead of by the alphabet."""
    position = f"indexof({json.dumps(list(order))}, datum[{json.dumps(name)}])"
    return chart.transform_calculate(position=position).encode(order=alt.Order("position:Q"))


class Tip(NamedTuple):
    """One line of a tooltip: column, label, unit. Unit None means that the column holds names."""

    name: str
    title: str
    unit: str | None = ""


def tooltips(chart: alt.Chart, *tips: Tip | tuple[Any, ...]) -> alt.Chart:
    """Give a chart tooltips whose numbers are written like those of the text (1.3 ms, $0.21)."""
    lines, channels = [Tip._make((*tip, "")[:3]) for tip in tips], []
    for line in lines:
        source, text = f"datum[{json.dumps(line.name)}]", f"tip {line.name}"
        if line.unit is None:
            channels.append(alt.Tooltip(field=field(line.name), type="nominal", title=line.title))
            continue
        written = f"{label_expression(source, line.unit)} + {json.dumps(_unwritten(line.unit))}"
        chart = chart.transform_calculate(**{text: f"isValid({source}) ? {written} : '–'"})
        channels.append(alt.Tooltip(field=field(text), type="nominal", title=line.title))
    return chart.encode(tooltip=channels)


def columns(*charts: Any, spacing: int = 36) -> alt.HConcatChart:
    """Set charts side by side; selections may link them.

    Vega-Lite cannot fit such a chart to its container: the page sets the widths itself, and stacks
    the charts where the window is narrow (page.js, `fit`).
    """
    return alt.hconcat(*charts, spacing=spacing)
