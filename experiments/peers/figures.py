"""Charts of answers: over what was measured, question by question, over the batch."""

import altair as alt
import polars as pl

from roofrack.report import live, theme
from roofrack.report.controls import Control
from roofrack.report.format import number, percent, quantity
from roofrack.report.page import Figure

from .dated import LABELS
from .questions import Question, measured_questions
from .rows import MEASURED, Facts, errors
from .tables import IDEAL, OURS


def order(said: pl.DataFrame) -> list[str]:
    """Return tools in one order for all charts: roofrack first, then by name."""
    rest = sorted(set(said["label"]) - {OURS, IDEAL})
    return [name for name in (OURS, IDEAL) if name in set(said["label"])] + rest


def summary(found: Facts) -> Figure:
    """All answers over what was measured."""
    titles = [question.title for question in measured_questions()]
    series = theme.series("title", "Question", titles, by="shape")
    for channel in series.values():
        channel["legend"] = alt.Legend(columns=1, labelLimit=260)
    dots = alt.Chart(alt.Data(values=found.said.to_dicts()))
    dots = theme.tooltips(
        dots.mark_point(filled=True, size=80, opacity=0.85).encode(
            x=theme.axis(alt.X, "ratio", "Answer over measured number", log=True),
            y=alt.Y("label:N").sort(order(found.said)).title(None).axis(labelLimit=240),
            **series,
        ),
        ("label", "Tool", None), ("title", "Question", None), ("setting", "Setting", None),
        ("ratio", "Answer over measured"),
    )  # fmt: skip
    rule = alt.Chart(alt.Data(values=[{"one": 1}])).mark_rule(strokeDash=[4, 3]).encode(x="one:Q")
    table = errors(found.said)
    told = "; ".join(f"{r['label']}: {percent(r['mean'])}" for r in table.iter_rows(named=True))
    return Figure(
        "errors",
        "All answers over what was measured",
        alt.layer(rule, dots).properties(height=26 * found.said["label"].n_unique()),
        "Dots of each tool's answers divided by the measured number, on a logarithmic axis with a"
        f" line at one. Mean errors: {told}.",
        "A dot on the line is right. Left of it a time is promised too short; for DeepSeek-V3, a"
        " rate, it is promised too low. Few tools answer all questions: compare a tool with"
        " roofrack on the same runs (table).",
        table.drop("tool"),
        labels=LABELS,
    )


def answers(found: Facts, question: Question) -> Figure:
    """Return the answers to a question, with what was measured."""
    part = found.said.filter(pl.col("question") == question.key)
    settings = [point.label for point in question.points]
    data = alt.Data(values=part.to_dicts())
    y = alt.Y("label:N").sort(order(part)).title(None).axis(labelLimit=240)
    x = theme.axis(alt.X, "value", question.label.capitalize(), question.unit, log=True)
    told = {"by": "shape"} if len(settings) > 1 else {"by": "colour"}
    series = theme.series("setting", "Setting", settings, **told)  # type: ignore[arg-type]
    base = alt.Chart(data)
    runs = part.unique("point", maintain_order=True).select("setting", "measured")
    lines = alt.Chart(alt.Data(values=runs.to_dicts())).mark_rule(strokeDash=[5, 3], opacity=0.9)
    bars = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2, opacity=1)
    dots = theme.tooltips(
        base.mark_point(filled=True, size=90).encode(x=x, y=y, **series),
        ("label", "Tool", None), ("setting", "Setting", None),
        ("value", question.label.capitalize(), question.unit),
        ("measured", "Measured", question.unit), ("ratio", "Answer over measured"),
    )  # fmt: skip
    chart = alt.layer(
        lines.encode(x="measured:Q", color=series["color"]),
        bars.encode(x=x, x2="high:Q", y=y, color=series["color"]).transform_calculate(
            value="datum.low"
        ),
        dots,
    ).properties(height=28 * part["label"].n_unique())
    words = "; ".join(
        f"{row['label']}, {row['setting']}: {quantity(row['value'], question.unit)}"
        for row in part.iter_rows(named=True)
    )
    sources = dict.fromkeys(point.source for point in question.points)
    facts = ", ".join(
        f"{p.label}: {quantity(p.measured, question.unit)}" for p in question.points if p.measured
    )
    return Figure(
        f"answers-{question.key}",
        question.title,
        chart,
        f"Dots of what each tool answers. {words}. Measured: {facts}.",
        f"{question.text}. Dashed: measured ({facts}). The bar of roofrack is one standard"
        f" deviation to each side; no other tool gives one. Measured by: {'; '.join(sources)}.",
        part.select("label", "setting", "value", "low", "high", "measured", "ratio", "not_taken"),
        units={name: question.unit for name in ("value", "low", "high", "measured")},
        labels=LABELS,
    )


def controls(found: Facts) -> tuple[Control, ...]:
    """Return what the reader moves: the pair, chips and prompt, where there is a choice."""
    own = found.curve.filter(pl.col("label") == OURS)
    made = []
    if len(set(own["pair"])) > 1:
        pairs = tuple(dict.fromkeys(own["pair"]))
        made.append(Control("pair", "Model and machine", pairs, first(found)))
    for key, label, unit in (("tp", "Chips", "chips"), ("prompt", "Prompt", "tokens")):
        values = tuple(own[key].unique().sort())
        if len(values) > 1:
            made.append(Control(key, label, values, values[0], unit))
    return tuple(made)


def first(found: Facts) -> str:
    """Return the pair that the chart opens with: one that tools were asked about."""
    drawn = [p for p in (*found.shared, *found.pairs) if p in set(_own(found)["pair"])]
    return drawn[0] if drawn else found.pairs[0]


def _own(found: Facts) -> pl.DataFrame:
    return found.curve.filter(pl.col("label") == OURS)


def curve(found: Facts) -> Figure:
    """Return the scenario of the run over the batch, with what tools said to it."""
    chosen = controls(found)
    labels = [OURS, *sorted(set(found.curve["label"]) - {OURS, MEASURED})]
    labels += [MEASURED] if MEASURED in set(found.curve["label"]) else []
    series = theme.series("label", "Tool", labels)
    sizes = found.curve["sequences"]
    ends = [float(sizes.min()), float(sizes.max())]  # type: ignore[arg-type]
    domain = ends if ends[0] < ends[1] else None
    x = theme.axis(alt.X, "sequences", "Sequences at once", log=True, domain=domain)
    y = theme.axis(alt.Y, "value", "Time per token", "s", log=True)
    base = live.chart("curve", chosen)
    band = base.transform_filter("isValid(datum.low)").mark_area(
        opacity=0.18, color=theme.PALETTE[0]
    )
    lines = base.transform_filter(f"datum.label != '{MEASURED}'").mark_line(clip=True)
    dots = base.transform_filter(f"datum.label == '{MEASURED}'").mark_point(
        filled=True, size=130, clip=True
    )
    tips = [("label", "Tool", None), ("sequences", "Sequences"), ("value", "Time per token", "s")]
    chart = alt.layer(
        band.encode(x=x, y=alt.Y("low:Q"), y2="high:Q"),
        theme.tooltips(lines.encode(x=x, y=y, **series), *tips),
        theme.tooltips(dots.encode(x=x, y=y, color=series["color"]), *tips),
    ).add_params(*live.parameters(chosen))
    shown = live.rows_at_start(found.curve, chosen)
    own = shown.filter(pl.col("label") == OURS)
    words = "; ".join(
        f"{number(row['sequences'])} sequences: {quantity(row['value'], 's')}"
        for row in own.iter_rows(named=True)
    )
    return Figure(
        "curve",
        "Time per token over the batch",
        chart,
        f"Lines of the time per token over the batch, a line a tool. roofrack: {words}.",
        "The band is one standard deviation of roofrack. Where a line ends, the tool says that no"
        " more sequences fit. Dots are measured, and shown where chips and prompt are theirs.",
        shown.drop("pair") if shown["pair"].n_unique() < 2 else shown,
        units={"value": "s", "low": "s", "high": "s"},
        labels=LABELS | {"value": "Time per token"},
    )
