"""A small page with every kind of content, for the tests of the report."""

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report.page import Figure, Finding, Job, Page, Provenance, Section

SYSTEMS = ("h100_sxm", "gb200_nvl72")


def table(systems: tuple[str, ...] = SYSTEMS) -> pl.DataFrame:
    """Step time and cost of two systems over the batch."""
    rows = [
        {
            "hardware": name,
            "batch": batch,
            "step_s": (1 + i) * 1e-3 * (1 + batch / 64),
            "usd_per_mtok": 30.0 / batch,
        }
        for i, name in enumerate(systems)
        for batch in (1, 8, 64, 512, 4096)
    ]
    return pl.DataFrame(rows)


def lines(
    frame: pl.DataFrame, systems: tuple[str, ...], column: str, title: str, unit: str
) -> alt.Chart:
    """Draw one line per system over the batch, both axes logarithmic."""
    chart = alt.Chart(frame).mark_line(point=True)
    chart = chart.encode(
        theme.axis(alt.X, "batch", "Batch", "sequences", log=True),
        theme.axis(alt.Y, column, title, unit, log=True),
        **theme.series("hardware", "System", systems, by="shape"),
    )
    return theme.tooltips(chart, ("hardware", "System", None), (column, title, unit))


def linked(frame: pl.DataFrame, systems: tuple[str, ...]) -> alt.HConcatChart:
    """Two charts; a brush on the first filters the second."""
    brush = alt.selection_interval(encodings=["x"])
    left = lines(frame, systems, "step_s", "Step time", "s").add_params(brush)
    right = lines(frame, systems, "usd_per_mtok", "Cost", "USD/Mtok").transform_filter(brush)
    return theme.columns(left, right)


def page(systems: tuple[str, ...] = SYSTEMS, text: str = "the batch") -> Page:
    """A page whose every string holds `text`, with charts over `systems`."""
    frame = table(systems)
    units = {"step_s": "s", "usd_per_mtok": "USD/Mtok"}
    heat = (
        alt.Chart(frame)
        .mark_rect()
        .encode(
            alt.X("batch:O", title=f"Batch {text}"),
            alt.Y("hardware:N", title=text),
            theme.ramp("step_s", f"Step {text}", "s", log=True),
        )
    )
    steps = lines(frame, systems, "step_s", "Step time", "s")
    figures = (
        Figure("single", f"Step {text}", steps, f"It rises with {text}.", f"Look at {text}.",
               frame, units, {"step_s": f"Step {text}"}),
        Figure("linked", "Linked", linked(frame, systems), "Two.", "Drag.", frame, units),
        Figure("heat", "Heat", heat, "A map.", "Darker is faster.", frame, units),
        Figure("plain", "A table alone", None, "", "No chart here.", frame, units),
    )  # fmt: skip
    return Page(
        title=f"What does {text} cost?",
        question=f"How does {text} change the cost?",
        answer=f"It falls with {text}.",
        findings=(
            Finding(f"A step takes 1.3 ms with {text}.", "agrees", f"batch=64 {text}", "single"),
            Finding("It never becomes compute-bound.", "contradicts", "rows with batch=4096"),
            Finding("The floor is 1 ms."),
        ),
        sections=(
            Section(f"Cost and {text}", (f"Of {text}.",), figures[:2]),
            Section("More", (), figures[2:]),
        ),
        limits=(f"Nothing about {text}.",),
        provenance=Provenance(
            f"roofrack sweep experiment={text}",
            (Job("0", (f"hardware={text}", "batch=1,8"), "0a1b2c"),),
            {"roofrack": "0.1.0"},
            ((f"hardware.{text}", f"A data sheet of {text}"),),
            ((f"latency of {text}", "no public source"),),
            {"Points": "10", text: text},
        ),
    )
