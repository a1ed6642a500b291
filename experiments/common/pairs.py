"""Pairs of a model and a machine: their names, their plans in words, what serves, and why not.

What several questions ask of a run of serving jobs alike. A column that was not swept gets the
value of its job's configuration, so that one value is as good as many.
"""

from collections.abc import Container, Mapping
from typing import Any

import polars as pl

from roofrack.report.format import listed, number, quantity
from roofrack.report.page import Finding, Page
from roofrack.results.run import JobRun, Run

from .columns import DEGREES
from .jobs import one_phase, reasons_of, settled
from .pages import names, page_of_run

_OTHERS = ("dtype", "economics", "calibration", "parallelism", "workload")
"""Groups that tell two jobs of one pair apart."""


def pair_jobs(run: Run, question: str, phase: str) -> dict[str, JobRun]:
    """Return the job of each pair by its name in words, the one to show first.

    That is the one of `experiment.show_hardware` and `show_model`, or else of that model. Raises
    InputError where two jobs are of one pair, or a job is of another phase.
    """
    one_phase(run, phase, question)
    machines, models = names(run, "hardware"), names(run, "model")
    others = [g for g in _OTHERS if len({job.config["choices"].get(g) for job in run.jobs}) > 1]
    found: dict[str, JobRun] = {}
    for job in run.jobs:
        hardware, model = _chosen(job)
        name = models[model] + (f" on {machines[hardware]}" if len(machines) > 1 else "")
        twins = [j for j in run.jobs if _chosen(j) == (hardware, model)]
        told = [str(job.config["choices"].get(g)) for g in others] if len(twins) > 1 else []
        found[", ".join([name, *told])] = job
    shown = (run.experiment.get("show_hardware"), run.experiment.get("show_model"))
    first = [n for n, j in found.items() if _chosen(j) == shown]
    first = first or [n for n, j in found.items() if _chosen(j)[1] == shown[1]]
    return {n: found[n] for n in dict.fromkeys([*first[:1], *found])}


def _chosen(job: JobRun) -> tuple[Any, Any]:
    return job.config["choices"]["hardware"], job.config["choices"]["model"]


def named(run: Run, jobs: Mapping[str, JobRun], leaves: Mapping[str, str]) -> pl.DataFrame:
    """Return the rows of jobs with `pair`, `plan` and `ways` in words and a column for each leaf.

    `leaves` gives columns the paths of their leaves; what was not swept has the job's value. `ways`
    are the degrees of the plan, `plan` says its chips too.
    """
    degrees = {d: f"parallelism.{d}" for d in DEGREES}
    parts = []
    for pair, job in jobs.items():
        some = settled(run, job, {**leaves, **degrees})
        some = some.with_columns(pl.col(*DEGREES).cast(pl.String), pair=pl.lit(pair))
        parts.append(some.with_columns(ways=_ways(bool(job.config["model"]["experts"]))))
    chips = pl.col("chips").cast(pl.Int64)
    one = pl.when(chips == 1).then(pl.lit(" chip: ")).otherwise(pl.lit(" chips: "))
    table = pl.concat(parts, how="diagonal_relaxed")
    return table.with_columns(plan=pl.concat_str(chips, one, "ways")).collect()


def _ways(experts: bool) -> pl.Expr:
    words = [pl.format("TP {}, DP {}", "tp", "dp")]
    if experts:
        spread = pl.when(pl.col("ep") == "stage").then(pl.lit("all")).otherwise(pl.col("ep"))
        words.append(pl.when(pl.col("ep") != "1").then(pl.format(", EP {}", spread)))
    words += [
        pl.when(pl.col(d) != "1").then(pl.format(f", {d.upper()} {{}}", d)) for d in ("pp", "cp")
    ]
    return pl.concat_str(*(w.fill_null("") for w in words))


def serving(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that run, fit, and stay within one rack."""
    return rows.filter(pl.col("valid") & pl.col("fits") & (pl.col("racks") == 1))


def cheapest(rows: pl.DataFrame, cost: str, *by: str) -> pl.DataFrame:
    """Return the row of least cost of each pair and value of `by`; of equals the fewest chips."""
    order = rows.sort(cost, "chips", "ways", nulls_last=True)
    return order.group_by("pair", *by, maintain_order=True).first().sort("pair", *by)


def why_not(rows: pl.DataFrame, pairs: Container[str]) -> dict[str, str]:
    """Say of each pair that is not among `pairs` why none of its rows serves."""
    found = {}
    for pair in rows["pair"].unique(maintain_order=True):
        if pair in pairs:
            continue
        tried = rows.filter(pl.col("pair") == pair)
        runs = tried.filter(pl.col("valid"))
        near = runs.filter(pl.col("racks") == 1)
        if runs.is_empty():
            reason = ", ".join(reasons_of(tried, 1))
            why = f"none of {number(tried.height, 9)} points can run: {reason}"
        elif near.is_empty():
            why = "no plan tried stays within one rack"
        else:
            least = near.sort("mem_total_bytes").row(0, named=True)
            why = (
                f"at least {quantity(least['mem_total_bytes'], 'B')} a chip are needed,"
                f" {quantity(least['mem_capacity_bytes'], 'B')} are there"
            )
        found[pair] = why
    return found


def not_served(left: Mapping[str, str]) -> Finding | None:
    """Say which pairs are not served by any plan tried."""
    if not left:
        return None
    told = listed([f"{pair} ({why})" for pair, why in left.items()])
    return Finding(
        f"Not served by any plan tried: {told}.", "neutral", "valid, racks and fits of all rows"
    )


def nothing_serves(run: Run, left: Mapping[str, str]) -> Page:
    """Return the page of a run in which nothing can serve: it says so, and why."""
    finding = not_served(left)
    return page_of_run(
        run,
        "Nothing of this run can serve, so there is nothing to compare: the findings say why."
        " Give another machine, more chips, or a smaller model.",
        [finding] if finding else [],
        (),
        ("Plans beyond one rack were not looked at.",),
    )
