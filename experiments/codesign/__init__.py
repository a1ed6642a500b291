"""Which shape of a model suits a machine? The page of conf/experiment/codesign.yaml.

Reiner Pope's blackboard lecture asks to design models for the hardware they will run on. Here
shapes with as many parameters as a model are served on a machine, and the model on many machines.
"""

import polars as pl

from roofrack.report.format import listed, number, percent
from roofrack.report.page import Finding, Job, Page, Section
from roofrack.results.run import Run

from ..common.jobs import without
from ..common.pages import page_of_run, setting
from . import figures
from .findings import answer, findings, terms
from .rows import SLICES, Facts, can_design, dataset, facts


def page(run: Run) -> Page:
    """Return the page of a finished run. Raises InputError where the run cannot answer it."""
    if not can_design(run):
        return undesignable(run)
    found = facts(run)
    data = dataset(found)
    return page_of_run(
        run,
        answer(found),
        findings(found),
        sections(found, data),
        limits(found),
        extra=jobs(found),
        compared=found.choices.configs,
        facts={
            "shapes with as many parameters": number(found.made.equal),
            "shapes that no width makes": number(found.made.left_out),
        },
        datasets={figures.DATA: data} if data.height else {},
        reference_note=words(found),
    )


def undesignable(run: Run) -> Page:
    """Return the page of a model that is given as totals: there is no shape to change."""
    text = (
        "This model is given as totals (parameters, bytes of cache), without layers made of"
        " matrices: there is no shape to change. Choose a model with an architecture, such as"
        " model=llama3_1_70b."
    )
    finding = Finding("No shape was made: the model states no architecture.", "neutral",
                      "model.params_total, model.heads")  # fmt: skip
    return page_of_run(run, text, [finding], (), ("Nothing was compared.",))


def jobs(facts: Facts) -> tuple[Job, ...]:
    """Return what was asked beside the run: the cheapest shape on each machine compared."""
    asked = without(facts.job, "hardware", "calibration")
    made = []
    for machine in facts.compared:
        losses = facts.choices.machines[machine].config["choices"]["calibration"]
        rows = facts.searched.filter(machine=machine)
        if rows.is_empty():
            continue
        leaves = facts.shapes[rows["shape"][0]].leaves
        changed = [f"{p}={v:g}" for p, v in leaves.items() if v != facts.family.base[p]]
        made.append(
            Job(
                f"cheapest shape on {machine}",
                (*asked, f"hardware={machine}", f"calibration={losses}", *changed),
            )
        )
    return tuple(made)


def words(facts: Facts) -> str:
    """Say what the terms mean, and how a shape is made."""
    rules = facts.family.rules
    second = (
        "the width that keeps the active parameters, and the experts' hidden width the total"
        if facts.family.is_moe
        else "the width that keeps the FFN's ratio to it, and its hidden width the total"
    )
    return (
        f"A shape is {facts.model} with other layers, experts, KV heads or attention. What follows"
        f" is solved: {second}. Widths are multiples of {number(rules.step)}, hidden widths of"
        f" {number(rules.step / 2)}; shapes whose total is off by more than"
        f" {percent(rules.tolerance)}, or whose active parameters by more than"
        f" {percent(rules.active_tolerance)}, are left out. Attention of another model grows with"
        " the width. Each shape has the best of all plans of the run. Findings compare at a"
        f' {terms(facts)}. "The lecture" is Reiner Pope\'s blackboard talk (Dwarkesh Podcast, 29'
        " April 2026)."
    )


def sections(found: Facts, data: pl.DataFrame) -> tuple[Section, ...]:
    """Return the parts of the page; `data` is what the live charts read."""
    made = []
    if data.height:
        there = [n for n in SLICES if n in set(data["slice"])]
        made.append(
            Section(
                "One choice at a time",
                (
                    "All else is held: the machine, the traffic, the parameters (but where a chart"
                    " says so). Plan and batch are chosen again for each point.",
                ),
                tuple(figures.slice_figure(found, data, name) for name in there),
                controls=figures.controls(found, data),
            )
        )
    latency = tuple(f for f in (figures.quick(found),) if f)
    if latency:
        made.append(Section("Latency", (), latency))
    together = tuple(f for f in (figures.search(found), figures.winners(found)) if f)
    if together:
        made.append(Section("All choices together", (f"All at a {terms(found)}.",), together))
    given = tuple(f for f in (figures.rented(found), figures.formats(found)) if f)
    if given:
        made.append(Section("Given the model", (f"All at a {terms(found)}.",), given))
    return tuple(made)


def limits(found: Facts) -> tuple[str, ...]:
    """Say what the page does not know."""
    low, high = setting(found.run, "aspect_low"), setting(found.run, "aspect_high")
    shapes = found.shapes[: found.made.equal]
    outside = [s for s in shapes if not low <= s.aspect <= high]
    attention = [c.name for k, c in found.choices.models.items() if k != found.family.own]
    rows = [
        "Quality is not modelled. Equal parameters, total and active, stand in for it; attention"
        " with fewer KV heads, a window or a state, and coarser experts, can cost quality that no"
        " number here shows.",
        "For depth and width there is one published hint, of small dense models: at a fixed number"
        f" of parameters one with {number(high)} of width for each layer came within 3 % of the"
        f" loss of one with {number(low)} (Kaplan et al. 2020, arXiv:2001.08361, figure 5)."
        f" {len(outside)} of {len(shapes)} shapes here lie outside these two.",
        "Training is not compared: a shape that is cheap to serve may be slow to train.",
        "Prices are dated and differ by offer; ratios between shapes on one machine do not change.",
        "Plans are those of the run, batches too: what lies between two batches is not seen, so"
        " ratios near 1 are rough.",
    ]
    if attention:
        rows.append(
            f"Attention was taken from {listed(attention)} only, with its own sizes of heads;"
            " others are set by experiment.attention."
        )
    return tuple(rows)
