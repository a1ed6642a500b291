"""What a run knows about other tools: every answer to every question, and the run's own rows."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from roofrack import config
from roofrack.conversion import to_study
from roofrack.cost import estimate
from roofrack.results.run import JobRun, Run
from roofrack.validation.composed import together

from ..common.jobs import leaf_of, one_phase, pair_name, settled
from ..common.pages import setting
from . import tables
from .questions import CURVE, Point, Question, measured_questions, questions
from .tables import IDEAL, OURS

MEASURED = "measured"
LEAVES = {
    "tp": "parallelism.tp",
    "prompt": "workload.prompt",
    "sequences": "workload.batch",
    "output": "workload.output",
}
MOST = 6000
"""Rows of the chart that the reader moves."""


@dataclass(frozen=True)
class Facts:
    """`said`: an answer a row, with `measured` and `ratio` to it; `curve`: the run's scenario.

    Columns of `said`: question, title, point, label (tool and way), tool, value, low, high (one
    standard deviation, of roofrack alone), measured, ratio, not_taken; of `curve`: pair, label, tp,
    prompt, sequences, value, low, high. `shared` are the pairs of the run that tools were asked.
    """

    said: pl.DataFrame
    refused: pl.DataFrame
    curve: pl.DataFrame
    pairs: tuple[str, ...]
    shared: tuple[str, ...]
    near: float
    calibration: str

    def title(self, key: str) -> str:
        """Return the title of a question."""
        return questions()[key].title


def facts(run: Run) -> Facts:
    """Gather all answers. Raises InputError where the run is not one of serving."""
    one_phase(run, "serve", "peers")
    given = _calibration(run)
    answers = tables.answers()
    theirs = answers.filter(pl.col("question") != CURVE)
    said = pl.concat([_ours(given), _theirs(theirs)])
    said = said.with_columns(ratio=pl.col("value") / pl.col("measured"))
    pairs = [pair_name(run, job) for job in run.jobs]
    same = [_asked(job) for job in run.jobs]
    curve = [_rows(run, job, pair) for job, pair in zip(run.jobs, pairs, strict=True)]
    if any(same):
        pair = pairs[same.index(True)]
        known = pl.concat([_curve(answers, pair), _runs(pair)])
        curve.append(known.join(pl.concat(curve), on=("pair", "tp", "prompt"), how="semi"))
    return Facts(
        said=said,
        refused=theirs.filter(pl.col("answer").is_null()),
        curve=_thin(pl.concat(curve)),
        pairs=tuple(dict.fromkeys(pairs)),
        shared=tuple(dict.fromkeys(p for p, known in zip(pairs, same, strict=True) if known)),
        near=setting(run, "near", most=1.0),
        calibration=given or "auto",
    )


def _calibration(run: Run) -> str:
    """Return the calibration that the reader gave, or nothing: each machine has its own.

    A sweep writes the own one of a machine into its jobs.
    """
    job = run.jobs[0]
    given = str(job.config["choices"]["calibration"])
    machine = [f"hardware={job.config['choices']['hardware']}"]
    own = config.compose(machine, run.config_dir)["choices"]["calibration"]
    return "" if given == own else given


def _ours(calibration: str) -> pl.DataFrame:
    """Return roofrack's answers to the measured questions, and those without any loss.

    `calibration`: the one that the reader gave, or nothing: each machine has its own.
    """
    points = [(q, p) for q in measured_questions() for p in q.points]
    asked = pl.DataFrame(
        {"id": [p.name for _, p in points], "overrides": [" ".join(p.overrides) for _, p in points]}
    )
    ideal = to_study(config.compose(["calibration=ideal"])).grid().calibration
    rows = []
    for where, scenario in together(asked, (f"calibration={calibration}",) if calibration else ()):
        ways = {OURS: scenario} if calibration == "ideal" else {
            OURS: scenario, IDEAL: dataclasses.replace(scenario, calibration=ideal)
        }  # fmt: skip
        for label, asked_so in ways.items():
            with np.errstate(all="ignore"):
                found = estimate(asked_so)
            for place, index in enumerate(where):
                question, point = points[index]
                value, spread = (
                    float(np.broadcast_to(found[column], where.shape)[place])
                    for column in (question.column, "step_s_rel_std")
                )
                rows.append(_answer(question, point, label, value * point.scale, spread))
    return _table(rows)


def _answer(
    question: Question, point: Point, label: str, value: float, spread: float
) -> dict[str, object]:
    known = math.isfinite(spread) and spread > 0
    return _row(question, point.name) | {
        "label": label,
        "tool": OURS,
        "value": value if math.isfinite(value) else None,
        "low": value * math.exp(-spread) if known else None,
        "high": value * math.exp(spread) if known else None,
        "not_taken": "",
    }


def _theirs(answers: pl.DataFrame) -> pl.DataFrame:
    """Return the recorded answers to questions that are still asked."""
    rows = []
    for row in answers.filter(pl.col("answer").is_not_null()).iter_rows(named=True):
        question = questions().get(row["question"])
        if question and any(p.name == row["point"] for p in question.points):
            rows.append(
                _row(question, row["point"])
                | {"label": row["label"], "tool": tables.name_of(row["tool"])}
                | {"value": row["answer"], "low": None, "high": None}
                | {"not_taken": row["not_taken"]}
            )
    return _table(rows)


def _row(question: Question, name: str) -> dict[str, object]:
    point = next(p for p in question.points if p.name == name)
    return {
        "question": question.key,
        "title": question.title,
        "point": name,
        "setting": point.label,
        "measured": point.measured,
    }


_SCHEMA = {
    **dict.fromkeys(("question", "title", "point", "setting", "label", "tool"), pl.String),
    **dict.fromkeys(("value", "low", "high", "measured"), pl.Float64),
    "not_taken": pl.String,
}


def _table(rows: list[dict[str, object]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=_SCHEMA).filter(pl.col("value") > 0)


def _asked(job: JobRun) -> bool:
    """Tell whether the tools were asked about this machine, model, formats and output."""
    point = questions()[CURVE].points[0].settings
    by_hand = ("hardware.", "model.", "workload.dtype.", "workload.routing")
    choices = job.config["choices"]
    return (
        all(choices[group] == point[group] for group in ("hardware", "model", "dtype"))
        and leaf_of(job, LEAVES["output"]) == point["output"]
        and not any(text.lstrip("+").startswith(by_hand) for text in job.overrides)
    )


_CURVE = ("pair", "label", "tp", "prompt", "sequences", "value", "low", "high")


def _rows(run: Run, job: JobRun, pair: str) -> pl.DataFrame:
    """Return the rows of a job that fit: of other axes the quickest."""
    some = settled(run, job, LEAVES).filter("valid", "fits")
    wide = pl.col("step_s_rel_std").fill_nan(None).fill_null(0.0)
    axes = ("tp", "prompt", "sequences")
    found = (
        some.with_columns(pl.col(axes).cast(pl.Float64), value=pl.col("tpot_s").cast(pl.Float64))
        .with_columns(low=pl.col("value") * (-wide).exp(), high=pl.col("value") * wide.exp())
        .sort("value")
        .group_by(axes, maintain_order=True)
        .first()
        .with_columns(pair=pl.lit(pair), label=pl.lit(OURS))
        .select(*_CURVE[:5], *(pl.col(c).cast(pl.Float64) for c in _CURVE[5:]))
        .collect()
    )
    return found.sort("tp", "prompt", "sequences")


def _curve(answers: pl.DataFrame, pair: str) -> pl.DataFrame:
    """Return what tools said over batch, length and chips."""
    settings = {p.name: p.settings for p in questions()[CURVE].points}
    chosen = answers.filter(
        pl.col("question") == CURVE, pl.col("answer").is_not_null(), pl.col("point").is_in(settings)
    )
    return _drawn(
        (pair, row["label"], settings[row["point"]], row["answer"])
        for row in chosen.iter_rows(named=True)
    )


def _runs(pair: str) -> pl.DataFrame:
    """Return what was measured of the same scenario."""
    asked = questions()[CURVE].points[0].settings
    same = ("hardware", "model", "dtype", "output", "workload")
    return _drawn(
        (pair, MEASURED, point.settings, point.measured)
        for question in measured_questions()
        for point in question.points
        if all(point.settings.get(key) == asked[key] for key in same)
    )


def _drawn(rows: object) -> pl.DataFrame:
    made = [
        (pair, label, *(float(s[key]) for key in ("tp", "prompt", "batch")), value, None, None)
        for pair, label, s, value in rows  # type: ignore[attr-defined]
    ]
    types = [pl.String] * 2 + [pl.Float64] * 6
    return pl.DataFrame(made, schema=dict(zip(_CURVE, types, strict=True)), orient="row")


def _thin(curve: pl.DataFrame) -> pl.DataFrame:
    """Keep every second batch, or fewer, where a run has more rows than a page should carry."""
    values = curve.filter(pl.col("label") == OURS)["sequences"].unique().sort()
    while len(curve) > MOST and len(values) > 1:
        values = values.gather_every(2)
        curve = curve.filter(
            (pl.col("label") != OURS) | pl.col("sequences").is_in(values.implode())
        )
    return curve.head(MOST)


def errors(said: pl.DataFrame) -> pl.DataFrame:
    """Return how far each tool is from what was measured, beside roofrack on the same runs.

    Columns: label, runs, mean (of |answer / measured - 1|), middle (median ratio), ours, nearer
    (runs on which the tool is nearer than roofrack).
    """
    own = said.filter(pl.col("label") == OURS).select("point", own=pl.col("ratio"))
    both = said.join(own, on="point", how="left")
    apart, ours = (pl.col("ratio") - 1).abs(), (pl.col("own") - 1).abs()
    nearer = (pl.col("ratio").log().abs() < pl.col("own").log().abs()).sum()
    return (
        both.group_by("label", "tool")
        .agg(
            runs=pl.len(), mean=apart.mean(), middle=pl.col("ratio").median(), ours=ours.mean(),
            nearer=nearer,
        )
        .sort("mean", "label")
    )  # fmt: skip
