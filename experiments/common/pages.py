"""What the pages of all questions say in the same way: names, and how the run can be repeated."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import log
from typing import Any

from roofrack import config
from roofrack.errors import InputError
from roofrack.report.format import number, percent
from roofrack.report.page import Finding, Job, Page, Provenance, Section
from roofrack.results.run import JobRun, Run

RESOURCES = {
    "compute": "arithmetic",
    "weights": "reading weights",
    "kv": "reading the KV cache",
    "activation": "moving activations",
    "scale_up": "the network between chips",
    "scale_out": "the network between racks",
    "pipeline": "hops between pipeline stages",
    "overhead": "launches and other fixed costs",
}
"""Values of the column `bound` in words."""


def names(run: Run, group: str) -> dict[str, str]:
    """Return the full name of each hardware or model of a run, by its short name.

    Where two files have the same full name, the short names stand instead.
    """
    found = {j.config["choices"][group]: j.config[group]["name"] for j in run.jobs}
    full = {key: str(value or key) for key, value in found.items()}
    unique = len(set(full.values())) == len(full)
    return full if unique else {key: key for key in full}


def provenance(
    run: Run,
    extra: Sequence[Job] = (),
    facts: Mapping[str, str] | None = None,
    compared: Sequence[Mapping[str, Any]] = (),
) -> Provenance:
    """Return how a run came about; `extra` jobs were computed for the page itself.

    `compared` are configurations beside those of the run, whose sources are told too.
    """
    jobs = tuple(Job(j.name, j.overrides, str(j.about["config_hash"])) for j in run.jobs)
    return Provenance(
        command=command(run),
        jobs=(*jobs, *extra),
        versions=run.versions,
        sources=run.notes("sources", compared),
        assumptions=run.notes("assumed", compared),
        facts={"points computed": number(run.points, 9), **(facts or {})},
    )


def page_of_run(
    run: Run,
    answer: str,
    findings: Sequence[Finding],
    sections: Sequence[Section],
    limits: Sequence[str],
    *,
    extra: Sequence[Job] = (),
    facts: Mapping[str, str] | None = None,
    compared: Sequence[Mapping[str, Any]] = (),
    **more: Any,
) -> Page:
    """Return a page whose title and question stand in the question's file; `more` goes to Page."""
    return Page(
        title=str(run.experiment.get("title") or run.experiment.get("name") or "A sweep"),
        question=str(run.experiment.get("question") or ""),
        answer=answer,
        findings=tuple(findings),
        sections=tuple(sections),
        limits=tuple(limits),
        provenance=provenance(run, extra, facts, compared),
        **more,
    )


def linked(findings: Iterable[Finding], sections: Sequence[Section]) -> tuple[Finding, ...]:
    """Return findings without references to figures that the page does not have."""
    shown = {figure.key for section in sections for figure in section.figures}
    return tuple(f if f.figure in shown else replace(f, figure="") for f in findings)


def setting(run: Run, key: str, above: float = 0.0, most: float = 1e12) -> float:
    """Return a number of the question's file; raise InputError unless `above` < it <= `most`."""
    value = run.experiment.get(key)
    good = isinstance(value, int | float) and not isinstance(value, bool) and above < value <= most
    if not good:
        raise InputError(
            f"experiment.{key}={value}: allowed is a number above {above:g}, at most {most:g}"
        )
    return float(value)  # type: ignore[arg-type]


def nearest(values: Iterable[float], wanted: float) -> float:
    """Return the value whose ratio to one that is wanted is nearest to 1; of equals the smaller."""
    return min(values, key=lambda value: (abs(log(max(value, 1e-9) / wanted)), value))


def command(run: Run) -> str:
    """Return one command that makes all jobs of a run again.

    The name of the question alone, if the run is what that question asks by itself.
    """
    given = [job.overrides for job in run.jobs]
    name = run.experiment.get("name")
    if name and _same_jobs([_asked(job) for job in run.jobs], _study(str(name))):
        return f"roofrack sweep experiment={name}"
    own = ["--config-dir DIR"] if any(_is_own(job) for job in run.jobs) else []
    return " ".join(["roofrack sweep", *own, *(shlex.quote(text) for text in merged(given))])


def _is_own(job: JobRun) -> bool:
    """Tell whether a job used a file that does not come with roofrack."""
    files = ((group, name) for group, name in job.config["choices"].items() if name)
    return any(not (config.conf_dir() / group / f"{name}.yaml").is_file() for group, name in files)


def _asked(job: JobRun) -> list[str]:
    """Return what was asked of a job: without the calibration that a sweep puts for `auto`."""
    without = [text for text in job.overrides if not text.startswith("calibration=")]
    if len(without) == len(job.overrides):
        return without
    try:
        own = config.compose(without)["choices"]["calibration"]
    except InputError:  # a file of the job is not here
        return list(job.overrides)
    return without if own == job.config["choices"]["calibration"] else list(job.overrides)


def _study(name: str) -> list[list[str]]:
    try:
        return config.jobs([f"experiment={name}"])
    except InputError:  # the question's file is not here
        return []


def _same_jobs(some: Iterable[Sequence[str]], others: Iterable[Sequence[str]]) -> bool:
    return sorted(map(sorted, some)) == sorted(map(sorted, others))


def merged(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Return the overrides of several jobs as one sweep: `model=a` and `model=b` as `model=a,b`."""
    values: dict[str, dict[str, None]] = {}
    for job in jobs:
        for override in job:
            key, _, value = override.partition("=")
            values.setdefault(key, {})[value] = None
    return [f"{key}={','.join(found)}" for key, found in values.items()]


def chips(count: float) -> str:
    """Return a number of chips in words."""
    return "1 chip" if count == 1 else f"{number(count)} chips"


def error_bar(row: Mapping[str, Any]) -> str:
    """Return the error bar of a row's step in brackets, where its calibration gives one."""
    std = row.get("step_s_rel_std")
    return f" (± {percent(std)}, one standard deviation)" if std else ""
