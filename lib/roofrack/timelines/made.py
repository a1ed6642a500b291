"""A timeline: the schedule played with the seconds of every stage, and then the rest of a step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from roofrack import config
from roofrack.conversion import Study, to_study
from roofrack.cost import estimate, schedules
from roofrack.cost.site import site
from roofrack.cost.training.exchanges import seconds
from roofrack.cost.training.pace import Setting, paced, setting
from roofrack.cost.training.step import Step, step
from roofrack.errors import InputError
from roofrack.point import point
from roofrack.schedules import After, Run, gantt, schedule, simulate, trace
from roofrack.tables import SCHEDULES
from roofrack.timelines.stages import Timed, tail, timed

AT_MOST = 100_000
"""Passes of a timeline, forward and backward of each micro-batch on each chunk: more make files
that viewers do not open."""

MESSAGES = "messages"


class Compared(NamedTuple):
    """Seconds of a part of the step: by the closed form, and on the timeline."""

    part: str
    closed_s: float
    timeline_s: float


class Stage(NamedTuple):
    """One stage: its layers and heads; a micro-batch forward and backward; idle, and activations.

    `idle` is the share of the time from the first start to the last end of all passes; `held` the
    most micro-batches that it keeps, `closed_held` the same by the closed form.
    """

    stage: int
    layers: float
    heads: float
    forward_s: float
    backward_s: float
    idle: float
    held: float
    closed_held: float


class Summary(NamedTuple):
    """What a timeline shows.

    `step_s` by the closed form and `makespan_s` of the timeline; both by `parts`, which sum to
    them; the `stages`; whether the plan `fits` in memory. `labels` name the files chosen.
    """

    labels: Mapping[str, str | None]
    schedule: str
    pp: int
    microbatches: int
    virtual_stages: int
    step_s: float
    makespan_s: float
    parts: tuple[Compared, ...]
    stages: tuple[Stage, ...]
    fits: bool


@dataclass(frozen=True)
class Timeline:
    """One training step: `rows` for charts (schedules.gantt), its `trace`, and a `summary`."""

    rows: pl.DataFrame
    trace: Mapping[str, Any]
    summary: Summary


def timeline(overrides: Sequence[str], config_dir: str | Path | None = None) -> Timeline:
    """Return the timeline of the training step that overrides compose.

    Raises InputError for bad input, for more than one scenario, and for another phase than `train`.
    """
    study, fits = _study(overrides, config_dir)
    with np.errstate(all="ignore"):  # what does not occur may divide by zero
        of = setting(site(study.grid()))
        found = step(of)
        pp, m, v = (round(float(x)) for x in (of.at.plan.pp, of.m, of.at.s.plan.virtual_stages))
        _check_size(pp, m, v)
        name = SCHEDULES[int(of.at.s.plan.schedule)]
        one, each = schedule(name, pp, m, v), timed(of)
        hop_s = 0.0 if of.at.s.overlap == "ideal" else float(seconds(found.hop))
        waits = of.at.s.overlap == "none" or not of.at.s.plan.overlap_pp
        run = simulate(one, each.times(of, hop_s), blocking=bool(waits))
        alone = simulate(one, each.times(of, 0.0))
        after = _after(of, each, run, found)
    ends = max((a.end_s for a in after), default=run.makespan_s)
    summary = Summary(
        labels=study.labels,
        schedule=name,
        pp=pp,
        microbatches=m,
        virtual_stages=v,
        step_s=float(found.estimate),
        makespan_s=ends,
        parts=tuple(_compared(of, found, alone, run, ends)),
        stages=tuple(_stages(of, each, run)),
        fits=fits,
    )
    document = trace(run, after)
    document["otherData"] |= {"step_s": ends, "closed_form_step_s": summary.step_s}
    return Timeline(gantt(run, after), document, summary)


def _study(overrides: Sequence[str], config_dir: str | Path | None) -> tuple[Study, bool]:
    """Return the one training scenario that overrides compose, and whether it fits in memory."""
    jobs = config.jobs(overrides, config_dir, study=False)
    if len(jobs) > 1:
        common = {word for word in jobs[0] if all(word in job for job in jobs)}
        differ = sorted({word for job in jobs for word in job} - common)
        raise InputError(
            f"timeline: {', '.join(differ[:4])}: {len(jobs)} scenarios; a timeline shows one, "
            "give one value of each"
        )
    container = config.compose(jobs[0], config_dir)
    study = to_study(container)
    if study.axes:
        axis = study.axes[0]
        raise InputError(
            f"timeline: {axis.path} has {len(axis)} values; a timeline shows one step, give one"
        )
    if study.phase != "train":
        raise InputError(
            f"workload.phase={study.phase}: a timeline shows a training step; give workload=train"
        )
    with np.errstate(all="ignore"):
        columns = estimate(study.grid())
    if int(columns["why_invalid"]):
        point(container)  # says why
    return study, bool(columns["fits"])


def _check_size(pp: int, m: int, v: int) -> None:
    passes = 2 * pp * m * v
    if passes > AT_MOST:
        raise InputError(
            f"timeline: {passes:,} passes of {m:,} micro-batches through {pp * v:,} parts of the "
            f"layers; at most {AT_MOST:,}: give a smaller workload.global_batch or "
            "parallelism.microbatches"
        )


def _after(of: Setting, each: Timed, run: Run, found: Step) -> list[After]:
    """Return what every stage does after its last pass, each as soon as it can.

    Waits for other ranks are those of the whole step together, also where a plan has them in every
    micro-batch (ZeRO-2 and 3). Gradients of a tied matrix wait for both stages that hold it.
    """
    at = of.at
    tails = [tail(of, chunks, found) for chunks in each.chunks]
    ends = [0.0] * run.schedule.stages
    for event in run.events:
        ends[event.stage] = max(ends[event.stage], event.end_s)
    after: list[After] = []

    def add(stage: int, kind: str, takes: float) -> None:
        if takes > 0.0:
            after.append(After(stage, kind, ends[stage], ends[stage] + takes))
            ends[stage] += takes

    for stage, one in enumerate(tails):
        add(stage, "gradients", one.gradients)
    tied = float(seconds(found.ends.tied))
    if tied > 0.0:
        ends[0] = ends[-1] = max(ends[0], ends[-1])
        for stage in sorted({0, len(ends) - 1}):
            add(stage, "tied", tied)
    for stage, one in enumerate(tails):
        add(stage, "update", one.update)
        add(stage, "weights", one.weights)
        add(stage, "host", float(found.ends.host_s))
        add(stage, "fixed", float(at.s.calibration.step_s))
    return sorted(after, key=lambda one: (one.stage, one.start_s))


def _compared(of: Setting, found: Step, alone: Run, run: Run, ends: float) -> list[Compared]:
    """Return the parts of the step, by the closed form and on the timeline.

    `alone` is the run with messages that take no time.
    """
    plan, passes = of.at.s.plan, found.passes
    others = paced(of, of.at.s.overlap).others
    free = schedules.bubble_s(
        plan.schedule, of.at.plan.pp, of.m, plan.virtual_stages,
        others.forward, others.backward, others.weights, others.pair,
    )  # fmt: skip
    computed = float(passes.busy) + max(float(free), 0.0)
    rest = float(found.ends.total) + float(of.at.s.calibration.step_s)
    parts = [
        Compared("passes and bubble", computed, alone.period_s),
        Compared(MESSAGES, float(passes.total) - computed, run.period_s - alone.period_s),
        Compared("stages end one by one", 0.0, run.makespan_s - run.period_s),
        Compared("after the passes", rest, ends - run.makespan_s),
    ]
    over = float(found.estimate) - sum(part.closed_s for part in parts)
    if over < -1e-9 * float(found.estimate):
        parts.append(Compared("no more than with nothing hidden", over, 0.0))
    return parts


def _stages(of: Setting, each: Timed, run: Run) -> list[Stage]:
    plan, pp = of.at.s.plan, of.at.plan.pp
    forward, backward = each.forward_s.mean(axis=1), each.backward_s.mean(axis=1)
    closed = (
        schedules.held(plan.schedule, pp, of.m, plan.virtual_stages, float(i))
        for i in range(run.schedule.stages)
    )
    return [
        Stage(
            stage=i,
            layers=float(sum(chunk.stage.has.every for chunk in each.chunks[i])),
            heads=float(sum(chunk.stage.has.head for chunk in each.chunks[i])),
            forward_s=float(forward[i]),
            backward_s=float(backward[i]),
            idle=1.0 - run.busy_s[i] / run.makespan_s,
            held=run.held[i],
            closed_held=float(kept),
        )
        for i, kept in enumerate(closed)
    ]
