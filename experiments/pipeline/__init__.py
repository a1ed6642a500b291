"""What does a pipeline buy? The page of conf/experiment/pipeline.yaml.

The lecture: cutting a model into stages saves memory for weights, not for the cache; it costs
bubbles in training, leaves latency as it is, and is seldom needed since a model fits a rack.
"""

from collections.abc import Sequence

from roofrack.report.format import listed, number, percent, quantity, times
from roofrack.report.page import Finding, Page, Section
from roofrack.results.run import Run

from ..common.jobs import one_phase, pair_name, reasons_of
from ..common.pages import linked, page_of_run
from ..common.studies import Studies
from . import figures, moving, training
from .asked import gantts, moved, need, schedules
from .facts import Facts, facts, least_depth, rows_of_job
from .findings import Asked, findings, stages


def page(run: Run) -> Page:
    """Return the page of a finished run. Raises InputError where the run asks something else."""
    one_phase(run, "decode", "pipeline")
    found = next((one for job in run.jobs if (one := facts(run, job))), None)
    if found is None:
        return _nothing(run)
    studies = Studies(run, found.job)
    asked = Asked(need(found, studies), moved(found, studies), schedules(found, studies))
    drawn = gantts(found, studies, asked.trained)
    live = moving.section(found, asked.moved)
    sections = [*_sections(found, asked), *([live] if live else [])]
    sections += training.section(found, asked.trained, drawn)
    told = [*findings(found, asked), *_others(run, found)]
    datasets = {moving.DATASET: asked.moved} if live else {}
    if not asked.trained.is_empty():
        datasets[training.DATASET] = training.dataset(asked.trained)
    return page_of_run(
        run,
        answer(found, asked),
        linked(told, sections),
        sections,
        limits(found),
        extra=studies.jobs,
        facts={"plans with a stage inside a rack": number(found.table.height, 9)},
        datasets=datasets,
    )


def answer(found: Facts, asked: Asked) -> str:
    """Answer the question in a few sentences."""
    served = found.rung().filter("fits")
    if served.is_empty():
        return (
            f"{found.pair} cannot be served with the batch shown at any depth tried: the memory of"
            " a chip is too small. What depth would change is shown all the same."
        )
    least = min(served["pp"].to_list())
    text = (
        f"{found.pair} needs {stages(least)} of {found.words} to serve {number(found.batch)}"
        f" sequences of {number(found.context)} tokens."
    )
    if found.ends:
        one, deep = found.ends
        kept = (deep["mem_kv_bytes"] or 0) / one["mem_kv_bytes"] if one["mem_kv_bytes"] else 1.0
        text += (
            f" With {deep['pp']} stages instead of {one['pp']} the weights on a chip shrink"
            f" {times(one['mem_weights_bytes'] / deep['mem_weights_bytes'])}, the cache becomes"
            f" {times(kept, 3)} what it was, and a token takes"
            f" {percent(abs(deep['tpot_s'] / one['tpot_s'] - 1.0))}"
            f" {'longer' if deep['tpot_s'] >= one['tpot_s'] else 'less'}."
        )
    else:
        text += " The run holds one depth alone, so nothing is compared with it."
    if asked.need.limit:
        text += f" One stage would be enough for up to {quantity(asked.need.limit)} parameters."
    return text


def _sections(found: Facts, asked: Asked) -> list[Section]:
    drawn = [figures.memory(found), figures.latency(found), figures.cost(found)]
    told = (
        f"Stages of {found.words}, the largest layout tried within a rack of"
        f" {number(found.rack)} that serves at the least depth. A deeper pipeline has more such"
        " stages, and so more chips.",
    )
    memory = tuple(figure for figure in drawn if figure)
    needed = tuple(f for f in (figures.needed(found, asked.need), figures.bests(found)) if f)
    made = [Section("What depth changes", told, memory)]
    if needed:
        why = "A pipeline is needed where one rack is too small for the weights and the cache."
        made.append(Section("When is it needed, and does it pay?", (why,), needed))
    return made


def _others(run: Run, found: Facts) -> Sequence[Finding]:
    """Say the least depth of every other pair of the run."""
    told = []
    for job in run.jobs:
        if job is found.job:
            continue
        other = facts(run, job)
        name = pair_name(run, job)
        if other is None:
            whys = listed(reasons_of(rows_of_job(run, job)))
            told.append(f"{name} cannot run within a rack{f' ({whys})' if whys else ''}")
            continue
        depth = least_depth(other.table)
        told.append(
            f"{name} fits none of the depths tried"
            if depth is None
            else f"{name} needs {stages(depth)}"
        )
    if not told:
        return ()
    text = f"The least depth of the others, at any batch tried: {'; '.join(told)}."
    return (Finding(text, "neutral", "fits of all rows that can run"),)


def limits(found: Facts) -> tuple[str, ...]:
    """Say what the page does not know."""
    calibration = found.job.config["choices"]["calibration"]
    return (
        f"Times rest on calibration={calibration}; where it is not fitted there is no error bar.",
        "Decoding is steady: every stage always has a micro-batch, and nobody waits for a place in"
        " one. A pipeline that is not full wastes the stages that have nothing to do.",
        "A stage lies within one rack here. Larger stages, and stages of uneven layers chosen by"
        " hand, are not tried.",
        "The schedules of training are compared at one layout of a stage, with layers recomputed;"
        " the search over training plans is another question (experiment=training).",
        f"One context, {number(found.context)} tokens, for all sequences (the controls move it).",
    )


def _nothing(run: Run) -> Page:
    """Return the page of a run in which nothing can run."""
    told = [
        f"{pair_name(run, job)}: {listed(whys) if whys else 'no stage lies within one rack'}"
        for job in run.jobs
        for whys in [reasons_of(rows_of_job(run, job))]
    ]
    text = f"No plan of this run can serve with a stage inside one rack. {'; '.join(told)}."
    return page_of_run(
        run,
        text,
        [Finding(text, "neutral", "why_invalid of all rows")],
        [],
        ("Another dtype=, smaller degrees or another machine may run: the reasons say which.",),
    )
