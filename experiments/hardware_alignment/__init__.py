"""Which machine suits which model? The page of conf/experiment/hardware_alignment.yaml.

Reiner Pope's blackboard lecture says that the topology of the hardware and the shape of the model
have to fit each other. Here every machine meets every model, each with the best of its plans.
"""

from roofrack.report.format import listed, number
from roofrack.report.page import Figure, Job, Page, Section
from roofrack.results.run import Run

from ..common.files import several
from ..common.jobs import without
from ..common.pages import page_of_run
from . import figures, maps
from .findings import answer, findings, terms
from .found import Found, gather
from .rows import Facts


def page(run: Run) -> Page:
    """Return the page of a finished run. Raises InputError where the run cannot answer it."""
    found = gather(run)
    f = found.facts
    tried = int(f.counts["tried"].sum())
    return page_of_run(
        run,
        answer(found),
        findings(found),
        sections(found),
        limits(found),
        extra=jobs(f),
        compared=f.choices.configs,
        facts={"points of the map": number(tried, 9), "machines": number(len(f.machines)),
               "models": number(len(f.models))},
        datasets={maps.DATA: found.dataset} if found.dataset.height else {},
        reference_note=words(found),
    )  # fmt: skip


def jobs(facts: Facts) -> tuple[Job, ...]:
    """Return what the map asked, one sweep for each machine: the run's own words, moved to it."""
    own = facts.job.config["choices"]
    kept = without(facts.job, "hardware", "model", "calibration")
    made = []
    for key, machine in facts.choices.machines.items():
        losses = machine.config["choices"]["calibration"]
        asked = (f"hardware={key}", f"model={','.join(facts.choices.models)}",
                 f"calibration={losses}")  # fmt: skip
        numbers = (
            [t for t in facts.job.overrides if t.startswith(("hardware.", "calibration."))]
            if key == own["hardware"]
            else []
        )
        made.append(Job(f"map: {key}", (*kept, *asked, *numbers)))
    return tuple(made)


def words(found: Found) -> str:
    """Say what the terms mean."""
    return (
        "A cell of the map is one model on one machine with the cheapest plan tried; a plan divides"
        " matrices (TP), sequences (DP) and experts (EP) over chips, also over several racks. What"
        " binds is the longest of the parts that a step would have if nothing overlapped. Findings"
        f" compare at a {terms(found)}. All cells use the number formats of the run"
        f' ({_formats(found)}). "The lecture" is Reiner Pope\'s'
        " blackboard talk (Dwarkesh Podcast, 29 April 2026)."
    )


def _formats(found: Found) -> str:
    dtype = found.facts.job.config["workload"]["dtype"]
    math = dtype["math"]
    units = f"the first of {', '.join(math)} that a chip has" if isinstance(math, list) else math
    return f"weights {dtype['weights']}, cache {dtype['kv']}, matmuls {units}"


def sections(found: Found) -> tuple[Section, ...]:
    """Return the parts of the page."""
    f = found.facts
    made = []
    if f.cells.height:
        made.append(
            Section(
                "The map",
                (
                    "Every plan of the run at every batch, on every machine, for every model; each"
                    " cell is the cheapest that gives each user the speed asked for.",
                ),
                (maps.binds(found), maps.cost(found), maps.machines(found)),
                controls=maps.controls(found),
            )
        )
    next_to_buy = _drawn(figures.tornado(found), figures.nexts(found), figures.bought(found))
    if next_to_buy:
        made.append(Section("What to buy next", (f"All at a {terms(found)}.",), next_to_buy))
    fit = _drawn(figures.domains(found), figures.heads(found), figures.wired(found))
    if fit:
        made.append(Section("What has to fit what", (f"All at a {terms(found)}.",), fit))
    made.append(
        Section("Machines and plans", (), (maps.listed_machines(found), maps.counts(found)))
    )
    return tuple(made)


def _drawn(*some: Figure | None) -> tuple[Figure, ...]:
    return tuple(figure for figure in some if figure is not None)


def limits(found: Found) -> tuple[str, ...]:
    """Say what the page does not know."""
    f = found.facts
    rough = [
        name
        for key, name in f.machines.items()
        if f.choices.machines[key].config["choices"]["calibration"] == "default"
    ]
    errors = f.home["step_s_rel_std"].drop_nulls()
    rows = [
        "Prices decide between machines, they are dated, and offers differ by factors (the table"
        " has the range). Machines are rented by the chip here; nobody rents 32 of 72.",
        "One format for all: chips with FP4 units gain more from FP4 weights than this shows, and"
        " whether a model keeps its quality in a format is not asked.",
        "Nobody waits, prompts are not counted, no speculative decoding; software that is not"
        " equally good on all machines is not known, but for what calibrations measured.",
        "Elasticities hold plan and batch; the changes by a factor choose both again from the same"
        " plans and batches, so what lies between two batches is not seen.",
    ]
    if rough:
        rows.insert(
            1,
            f"Efficiencies of {listed(rough)} are typical ones and not fitted to the machine; of"
            " the others they are fitted to measured kernels. A small lead of one kind over the"
            " other proves nothing.",
        )
    if errors.len():
        rows.insert(
            1,
            "The error bar is that of a step; most of it is common to machines of one make, and how"
            " much is not known.",
        )
    left = [str(key) for key in several(f.run, "unpriced") if key not in f.machines]
    if left:
        rows.append(
            f"Left out, because no price of them was read: {listed(left)}."
            " experiment.machines takes any."
        )
    return tuple(rows)
