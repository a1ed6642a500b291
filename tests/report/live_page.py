"""A small page with controls, for the tests of what a reader can move."""

import altair as alt
import polars as pl

from roofrack.report import live, theme
from roofrack.report.controls import Control
from roofrack.report.page import Figure, Page, Provenance, Section

BATCH = Control("batch", "Batch", (1.0, 8.0, 64.0), 8.0)
LINK = Control("link", "Bandwidth between chips", (0.5e12, 1e12), 1e12, "B/s", column="link_b")
PRICE = Control("price", "Price of a chip", (1.0, 2.0, 4.0), 2.0, "USD/h")


def table(systems: tuple[str, ...] = ("one", "two")) -> pl.DataFrame:
    """Cost over context, for every batch and bandwidth."""
    return pl.DataFrame(
        [
            {
                "batch": b,
                "link_b": v,
                "context": c,
                "system": s,
                "cost": (1 + i) * c * 1e9 / (b * v),
            }
            for b in BATCH.values
            for v in LINK.values
            for c in (1024, 8192, 65536)
            for i, s in enumerate(systems)
        ]
    )


def page(systems: tuple[str, ...] = ("one", "two")) -> Page:
    """Two charts that follow sliders and a choice."""
    choice = Control("system", "System", (live.ALL, *systems), live.ALL, column="system")
    rows = table(systems)
    figures = []
    for key, mark in (("lines", "line"), ("points", "point")):
        chart = live.scaled(live.chart("grid", (BATCH, LINK)), "cost", PRICE)
        chart = getattr(chart, f"mark_{mark}")(size=90 if mark == "point" else 3).encode(
            theme.axis(alt.X, "context", "Context", "tokens", log=True),
            theme.axis(alt.Y, "cost", "Cost", "USD/Mtok", log=True),
            opacity=live.faded(choice),
            **theme.series("system", "System", systems, by="shape" if mark == "point" else "dash"),
        )
        chart = chart.add_params(*live.parameters((BATCH, LINK, PRICE, choice)))
        figures.append(
            Figure(key, f"Cost, {key}", chart, "d", "c", live.rows_at_start(rows, (BATCH, LINK)))
        )
    section = Section("Move it", ("Text",), tuple(figures), (BATCH, LINK, PRICE, choice))
    return Page(
        "Live", "Q?", "A.", (), (section,), (), Provenance("roofrack"), datasets={"grid": rows}
    )
