"""What does waiting for the batch pay? The page of conf/experiment/delayed_payoff.yaml."""

from roofrack.report.format import number, quantity, times, usd
from roofrack.report.page import Page, Section
from roofrack.results.run import Run

from ..common.pages import page_of_run
from ..common.pairs import nothing_serves
from ..common.studies import Studies
from . import figures
from .findings import findings, rate
from .rows import AT_LOAD, RATE, Facts, facts


def page(run: Run) -> Page:
    """Return the page of a finished run. Raises InputError for a run of something else."""
    studies = Studies(run)
    found = facts(run, studies)
    if isinstance(found, dict):
        return nothing_serves(run, found)
    return page_of_run(
        run,
        answer(found),
        findings(found),
        sections(found),
        limits(found),
        extra=studies.jobs,
        reference_note=NOTE,
        datasets=figures.datasets(found),
    )


NOTE = (
    "Requests arrive at random; a pass computes the next token of all sequences in flight, and who"
    ' arrives during a pass joins the next. A pass leaves like a train, full or not. "The lecture"'
    " is Reiner Pope's blackboard talk on how language models are trained and served (Dwarkesh"
    " Podcast, 29 April 2026)."
)


def answer(found: Facts) -> str:
    """Answer the question in a few sentences."""
    row = found.full
    first = found.curve.row(0, named=True)
    text = (
        f"{found.shown} on {row['plan']}: at {rate(row[RATE])} a token costs"
        f" {usd(row[AT_LOAD])} per million, the first one comes within"
        f" {quantity(row['ttft_p95_s'], 's')} and each further"
        f" one every {quantity(row['tpot_p95_s'], 's')} for 95 % of requests. "
    )
    if first[RATE] < row[RATE]:
        text += (
            f"At {rate(first[RATE])} it costs {times(first[AT_LOAD] / row[AT_LOAD])} as much: the"
            " machine is paid for while the batch is empty. "
        )
    return text + f"What is waited for the next pass is {quantity(row['train_wait_s'], 's')}."


def sections(found: Facts) -> tuple[Section, ...]:
    """Return the parts of the page."""
    of = figures.controls(found)
    moved = (of["batch"], of["price"])
    trace = figures.played(found)
    return (
        Section("Cost and waiting over the load", (),
                (figures.cost(found), figures.waits(found)), moved),
        Section("Slow mode", (), (figures.caps(found),)),
        Section("Own or pay for tokens", (), (figures.own(found),)),
        *([Section("A check on real arrivals", (), (trace,))] if trace else []),
    )  # fmt: skip


def limits(found: Facts) -> tuple[str, ...]:
    """Say what the page does not know."""
    work = found.config["workload"]
    return (
        "Curves are closed forms of a queue with steady random arrivals; days and nights, bursts"
        " and failures are not in them. `roofrack simulate` plays requests one by one.",
        f"One mean request: {number(work['prompt'])} tokens in, {number(work['output'])} out.",
        "One copy of the model, in one rack. The break-even compares it with one API price, at full"
        " price and without staff; `roofrack plan own` searches the number of copies.",
    )
