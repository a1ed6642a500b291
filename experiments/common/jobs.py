"""The rows of one job of a run, its settings as columns whether they were swept or not."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from roofrack.errors import InputError
from roofrack.results.run import JobRun, Run
from roofrack.schema import ALIASES, LABELS

from .pages import names


def pair_name(run: Run, job: JobRun) -> str:
    """Return the model and the machine of a job in words."""
    choices = job.config["choices"]
    model, machine = names(run, "model"), names(run, "hardware")
    return f"{model[choices['model']]} on {machine[choices['hardware']]}"


def settled(run: Run, job: JobRun, leaves: Mapping[str, str]) -> pl.LazyFrame:
    """Return the rows of a job with a column for each of `leaves` (column: path of a leaf).

    A leaf that was not swept has its value of the job in all rows; words are kept as words.
    """
    rows = run.rows.filter(
        *(
            pl.col(name) == value
            for name, value in _labels(job).items()
            if name in run.rows.collect_schema() and value is not None
        )
    )
    axes = job.about["axes"]
    made = []
    for column, path in leaves.items():
        alias = [a for a, leaf in ALIASES.items() if leaf == path and a != "racks"]
        found = [name for name in (path, *alias) if name in axes]
        made.append((pl.col(found[0]) if found else pl.lit(leaf_of(job, path))).alias(column))
    return rows.with_columns(made)


def leaf_of(job: JobRun, path: str) -> Any:
    """Return what a job's configuration has at a path, or at the alias that writes it."""
    for alias, leaf in ALIASES.items():
        if leaf == path and alias != "racks" and job.config.get(alias) is not None:
            return job.config[alias]
    node: Any = job.config
    for key in path.split("."):
        node = node[key]
    return node


def without(job: JobRun, *groups: str) -> list[str]:
    """Return the overrides of a job that name no file of some groups, and none of their numbers."""
    names = [(text, text.lstrip("+").partition("=")[0]) for text in job.overrides]
    return [text for text, key in names if key.partition(".")[0] not in groups]


def one_phase(run: Run, phase: str, name: str) -> None:
    """Raise InputError unless all jobs are of a phase, and no two of the same names."""
    for job in run.jobs:
        if job.config["workload"]["phase"] != phase:
            raise InputError(
                f"experiment={name}: workload.phase={job.config['workload']['phase']}; this"
                f" question is one of phase={phase}"
            )
    labels = [tuple(_labels(job).items()) for job in run.jobs]
    if len(set(labels)) < len(labels):
        raise InputError(
            f"experiment={name}: two jobs have the same machine, model and other files; give one"
            " value of everything else, or a list in brackets"
        )


def only_axes(run: Run, known: Sequence[str], name: str) -> None:
    """Raise InputError where something is swept that the page does not know how to compare."""
    if strange := [axis for axis in run.axes if axis not in known]:
        raise InputError(
            f"experiment={name}: {strange[0]} is swept; this page compares"
            f" {', '.join(known)}: give it one value"
        )


def _labels(job: JobRun) -> dict[str, Any]:
    choices = job.config["choices"]
    return {name: choices.get(name) for name in LABELS} | {"overlap": job.config["overlap"]}


def reasons(rows: pl.LazyFrame) -> pl.DataFrame:
    """Return `why_invalid` and how many points (`len`) each reason rules out, most first."""
    each = rows.filter(~pl.col("valid")).select(pl.col("why_invalid").str.split("; "))
    found = each.explode("why_invalid").group_by("why_invalid").len()
    return found.sort("len", "why_invalid", descending=[True, False]).collect()


def reasons_of(rows: pl.DataFrame, most: int = 3) -> list[str]:
    """Return the commonest reasons why points cannot run, in words."""
    return reasons(rows.lazy())["why_invalid"].head(most).to_list()


def why_none_serves(rows: pl.LazyFrame) -> str:
    """Say in a few words why no point serves: what rules most of them out, or memory."""
    if rows.filter("valid").select(pl.len()).collect().item():
        return "more memory is needed than there is"
    found = reasons(rows)["why_invalid"]
    return str(found[0]) if len(found) else "no point was asked"
