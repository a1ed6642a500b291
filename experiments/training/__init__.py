"""What does a training run take, and how long should it be? The page of training.yaml.

The lecture: training waits for bubbles and gradients; costs of pre-training, reinforcement learning
and serving should be about equal, and models are so trained a hundred times longer than is best
for training alone.
"""

from collections.abc import Sequence

import polars as pl

from roofrack.report.format import listed, number, percent, quantity, times
from roofrack.report.page import Figure, Finding, Page, Section
from roofrack.results.run import JobRun, Run

from ..common.columns import COST
from ..common.jobs import one_phase, pair_name, reasons_of
from ..common.pages import linked, page_of_run, setting
from ..common.studies import Studies
from . import figures, lifetime, moving
from .asked import batches, elasticities
from .facts import Facts, facts, rows_of_job
from .findings import Asked, findings, took
from .life import life


def page(run: Run) -> Page:
    """Return the page of a finished run. Raises InputError where the run asks something else."""
    one_phase(run, "train", "training")
    each = [one for job in run.jobs if (one := facts(run, job))]
    if not each:
        return _nothing(run)
    found = each[0]
    studies = Studies(run, found.job)
    asked = Asked(batches(found, studies), elasticities(found, studies), life(found, studies))
    moved = moving.section(found, asked.batches)
    after = lifetime.section(found, asked.life)
    sections = [*_sections(found, asked), *(s for s in (moved, after) if s)]
    if len(run.jobs) > 1:
        sections.append(_compared(each))
    told = [*findings(found, asked), *_left(run, each)]
    return page_of_run(
        run,
        answer(found, asked),
        linked(told, sections),
        sections,
        limits(found, asked),
        extra=studies.jobs,
        facts={"plans that fit": number(found.good.height, 9)},
        datasets={moving.DATASET: moving.dataset(asked.batches)} if moved else {},
    )


def answer(found: Facts, asked: Asked) -> str:
    """Answer the question in a few sentences."""
    row = found.best
    text = (
        f"{found.pair} on {number(found.chips)} chips {took(row)} with the cheapest plan"
        f" tried, at {percent(row['mfu'])} of the chips' peak ({row['plan']})."
    )
    if row["overtraining"]:
        text += (
            f" Its {quantity(found.tokens)} tokens are {times(row['overtraining'])} as many as"
            " train such a model best."
        )
    if asked.life and asked.life.row is not None:
        demand = asked.life.at(setting(found.run, "served_tokens", most=1e18))
        long = f"{times(demand['overtraining'])} as long as is best for training alone"
        text += (
            f" Serving costs as much as training after {quantity(asked.life.break_even)} tokens;"
            f" for {quantity(demand['served'])}"
        )
        text += (
            f" it is cheapest to train a smaller model {long}."
            if demand["params"] < row["params_active"]
            else f" a larger model, trained {long}, is cheapest."
        )
    return text


def _sections(found: Facts, asked: Asked) -> list[Section]:
    search = (
        f"{number(found.all.height, 9)} plans were tried: every TP, PP, DP, EP, CP, ZeRO stage and"
        f" recomputation of the run. {number(found.all.filter('valid').height, 9)} can run and"
        f" {number(found.good.height, 9)} fit."
    )
    bound = "A step computes, and it waits. What it waits for depends on chips and batch."
    drawn: list[tuple[str, str, Sequence[Figure | None]]] = [
        ("The best plan", search, (figures.plans(found), figures.depths(found))),
        ("What bounds training", bound, (figures.parts(found), figures.bounds(asked.batches))),
        (
            "Days and money",
            "More chips end a run sooner, each of them a little worse used.",
            (figures.sizes(found), figures.worth(asked.worth)),
        ),
    ]
    made = []
    for heading, text, some in drawn:
        kept = tuple(figure for figure in some if figure)
        if kept:
            made.append(Section(heading, (text,), kept))
    return made


def _compared(each: Sequence[Facts]) -> Section:
    """Return a table of the cheapest plan of every pair."""
    columns = ["chips", "plan", "mfu", "step_s", "train_days", "usd_train", COST]
    table = pl.concat(
        [
            one.sizes.filter(chips=one.chips).select(pl.lit(one.pair).alias("pair"), *columns)
            for one in each
        ]
    )
    figure = Figure(
        "pairs",
        "The cheapest plan of each pair",
        None,
        "",
        "At the number of chips nearest to the one asked for.",
        table,
        figures.UNITS,
        figures.LABELS | {"pair": "Model and machine"},
    )
    return Section("All models and machines of the run", (), (figure,))


def _left(run: Run, each: Sequence[Facts]) -> Sequence[Finding]:
    """Name the pairs that no plan fits."""
    fit = {id(one.job) for one in each}
    told = [_why(run, job) for job in run.jobs if id(job) not in fit]
    text = f"No plan tried trains {'; '.join(told)}."
    return (Finding(text, "neutral", "valid and fits of all rows"),) if told else ()


def _why(run: Run, job: JobRun) -> str:
    """Say why nothing of a job runs and fits."""
    name, rows = pair_name(run, job), rows_of_job(run, job)
    runs = rows.filter("valid")
    if runs.is_empty():
        return f"{name} ({listed(reasons_of(rows))})"
    least = runs.sort("mem_total_bytes").row(0, named=True)
    return (
        f"{name} (the least memory of a chip is"
        f" {quantity(least['mem_total_bytes'], 'B')}, with {number(least['chips'])} chips, and"
        f" {quantity(least['mem_capacity_bytes'], 'B')} are there)"
    )


def limits(found: Facts, asked: Asked) -> tuple[str, ...]:
    """Say what the page does not know."""
    made = [
        f"Times rest on calibration={found.job.config['choices']['calibration']}; where it is not"
        " fitted there is no error bar. Published runs are set against predictions by"
        " `roofrack validate rows=training`.",
        "Micro-batches of one sequence, one schedule, and the switches of the plan's file as they"
        " are: other schedules are compared on the page about pipelines.",
        "Whether a model learns as well with a larger global batch is not asked.",
        "Prices are dated, and money follows them in proportion.",
    ]
    if asked.life is None:
        made.append(
            "The run does not say how long it trains (workload.tokens), so nothing is said about"
            " days, money and serving."
        )
    elif asked.life.row is None:
        made.append("No plan tried serves this model on this machine: its life is not costed.")
    else:
        made.append(
            "The law of loss was fitted to dense models of up to 16 billion parameters with few"
            " tokens for each; it is stretched here, and active parameters stand for all. Cost per"
            " token is taken to be proportional to them. Prompts are not counted, and how many"
            " tokens a model serves is not known of any."
        )
    return tuple(made)


def _nothing(run: Run) -> Page:
    """Return the page of a run in which nothing runs and fits."""
    text = f"No plan of this run can be trained: {'; '.join(_why(run, job) for job in run.jobs)}."
    return page_of_run(
        run,
        text,
        [Finding(text, "neutral", "valid and fits of all rows")],
        [],
        ("More chips, more recomputation, or offloading to the host may make it fit.",),
    )
