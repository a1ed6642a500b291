"""Charts of a training pipeline: idle time by schedule, and one step of each as it runs."""

import altair as alt
import polars as pl

from roofrack.report import live, theme
from roofrack.report.controls import Control
from roofrack.report.format import listed, number, percent, quantity
from roofrack.report.page import Figure, Section
from roofrack.report.timeline_chart import gantt_chart

from ..common.moving import values_of
from ..common.pages import setting
from .asked import SCHEDULE_NAMES
from .facts import Facts
from .figures import LABELS, UNITS, depth_axis

DATASET = "schedules"
SHOWN = ("bubble_fraction", "step_s", "mem_activation_bytes", "mem_weights_bytes")


def dataset(trained: pl.DataFrame) -> pl.DataFrame:
    """Return what the charts of schedules read."""
    return trained.select("schedule", "depth", "m", *SHOWN)


def control(found: Facts, trained: pl.DataFrame) -> Control:
    """Return the slider of micro-batches: it starts near four for each stage."""
    values = values_of(trained, "m")
    wanted = 4 * setting(found.run, "show_depth")
    start = min(values, key=lambda m: (abs(m - wanted), m))
    return Control("m", "Micro-batches of a step", values, start)


def section(
    found: Facts, trained: pl.DataFrame, drawn: dict[str, pl.DataFrame]
) -> tuple[Section, ...]:
    """Return the sections about training; none where no schedule can run."""
    if trained.is_empty():
        return ()
    moved = (control(found, trained),)
    told = (
        "In training every micro-batch goes forward through all stages and back. Stages wait while"
        " the pipeline fills and drains; schedules differ in how they order the work, and in how"
        f" many micro-batches they keep. Stages of {found.words}, layers computed again in the"
        " backward pass; whether all of it fits is not asked here.",
    )
    made = [
        Section(
            "Bubbles in training", told, (_bubbles(trained, moved), _kept(trained, moved)), moved
        )
    ]
    if drawn:
        one = listed([SCHEDULE_NAMES[name] for name in drawn])
        made.append(
            Section(
                "One step of each schedule",
                (
                    f"The event simulation plays {one}: each block is a pass of one micro-batch on"
                    " one stage, as long as this machine takes for it. White is idle. All charts"
                    " have the same time axis.",
                ),
                tuple(_gantts(found, drawn)),
            )
        )
    return tuple(made)


def _order(trained: pl.DataFrame) -> list[str]:
    ran = set(trained["schedule"].to_list())
    return [name for name in SCHEDULE_NAMES.values() if name in ran]


def _lines(
    trained: pl.DataFrame,
    moved: tuple[Control, ...],
    y: alt.Y,
    *tips: tuple[str, ...],
) -> alt.Chart:
    """Return a line over depth for each schedule, at the micro-batches chosen."""
    lines = live.chart(DATASET, moved).mark_line(point=True)
    lines = lines.encode(
        depth_axis("depth"), y, **theme.series("schedule", "Schedule", _order(trained))
    )
    lines = theme.tooltips(lines, ("schedule", "Schedule", None), ("depth", "Stages"), *tips)
    return lines.add_params(*live.parameters(moved))


def _bubbles(trained: pl.DataFrame, moved: tuple[Control, ...]) -> Figure:
    """Idle share of the passes by depth and schedule, at the micro-batches chosen."""
    lines = _lines(
        trained, moved, theme.axis(alt.Y, "bubble_fraction", "Idle share of the passes", zero=True),
        ("m", "Micro-batches"), ("bubble_fraction", "Idle share"), ("step_s", "Step", "s"),
    )  # fmt: skip
    table = live.rows_at_start(dataset(trained), moved)
    worst = table.sort("bubble_fraction").row(-1, named=True)
    return Figure(
        "bubbles",
        "Idle time of a training pipeline",
        lines.properties(height=280),
        f"Lines over depth for {len(_order(trained))} schedules. At"
        f" {number(moved[0].start)} micro-batches"  # type: ignore[arg-type]
        f" the most is {percent(worst['bubble_fraction'])}, {worst['schedule']} with"
        f" {worst['depth']} stages.",
        "More micro-batches make the bubble a smaller share of the step; they need a larger global"
        " batch. 1F1B and GPipe wait equally long. A schedule is missing where it cannot run with"
        " so many stages and micro-batches.",
        table,
        UNITS,
        LABELS,
    )


def _kept(trained: pl.DataFrame, moved: tuple[Control, ...]) -> Figure:
    """Activations kept by depth and schedule: the price of a shorter wait."""
    lines = _lines(
        trained, moved,
        theme.axis(alt.Y, "mem_activation_bytes", "Activations, fullest chip", "B", zero=True),
        ("mem_activation_bytes", "Activations", "B"), ("mem_weights_bytes", "Weights", "B"),
    )  # fmt: skip
    table = live.rows_at_start(dataset(trained), moved)
    most = table.sort("mem_activation_bytes").row(-1, named=True)
    return Figure(
        "kept",
        "Activations that a schedule keeps",
        lines.properties(height=260),
        f"The most is {quantity(most['mem_activation_bytes'], 'B')}, {most['schedule']} with"
        f" {most['depth']} stages.",
        "Stages hold the activations of micro-batches on their way: GPipe of all, 1F1B of as many"
        " as there are stages, the others of more than that. DualPipe holds the weights twice.",
        table.select("schedule", "depth", "m", "mem_activation_bytes", "mem_weights_bytes"),
        UNITS,
        LABELS | {"mem_activation_bytes": "Activations", "mem_weights_bytes": "Weights"},
    )


def _gantts(found: Facts, drawn: dict[str, pl.DataFrame]) -> list[Figure]:
    longest = max(float(rows["end_s"].max()) for rows in drawn.values())  # type: ignore[arg-type]
    made = []
    for name, rows in drawn.items():
        chart = gantt_chart(rows)
        chart.encoding.x.scale = alt.Scale(domain=[0.0, longest], nice=False)
        ends, stages = float(rows["end_s"].max()), rows["stage"].n_unique()  # type: ignore[arg-type]
        passes = rows.filter(pl.col("microbatch").is_not_null())
        title = SCHEDULE_NAMES[name]
        made.append(
            Figure(
                f"gantt_{name}",
                f"{title}: one training step on {stages} stages",
                chart,
                f"{passes.height} passes of {passes['microbatch'].n_unique()} micro-batches on"
                f" {stages} stages; the step ends after {quantity(ends, 's')}.",
                f"{title} of {found.pair}: {quantity(ends, 's')} from the first pass to the last"
                f" update, {percent(ends / longest)} of the longest schedule drawn.",
                rows,
                {"start_s": "s", "end_s": "s"},
                {
                    "stage": "Stage",
                    "start_s": "From",
                    "end_s": "To",
                    "kind": "What",
                    "microbatch": "Micro-batch",
                    "chunk": "Part",
                    "overlapped": "At once",
                },
            )
        )
    return made
