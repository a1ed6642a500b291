"""What does waiting for the batch pay? The page of conf/experiment/delayed_payoff.yaml."""

from roofrack.report.format import number, quantity, times, usd
from roofrack.report.page import Figure, Page, Section
from roofrack.results.run import Run

from ..common.pages import linked, page_of_run
from ..common.pairs import nothing_serves
from ..common.studies import Studies
from . import figures, own_figures, trace_figures
from .changing import changes
from .findings import findings
from .found import Found, bar, rate
from .planned import planned
from .rows import AT_LOAD, RATE, facts
from .traced import traced


def page(run: Run) -> Page:
    """Return the page of a finished run. Raises InputError for a run of something else."""
    studies = Studies(run)
    told = facts(run, studies)
    if isinstance(told, dict):
        return nothing_serves(run, told)
    found = Found(
        facts=told,
        traced=traced(run, studies, told),
        planned=planned(run, studies, told),
        changes=changes(studies, told),
    )
    parts = sections(found)
    return page_of_run(
        run,
        answer(found),
        linked(findings(found), parts),
        parts,
        limits(found),
        extra=studies.jobs,
        facts={"price of the API": told.settings.price_source},
        reference_note=NOTE,
        datasets=figures.datasets(told),
    )


NOTE = (
    "Requests arrive at random; a pass computes the next token of all sequences in flight, and who"
    ' arrives during a pass joins the next. A pass leaves like a train, full or not. "The lecture"'
    " is Reiner Pope's blackboard talk on how language models are trained and served (Dwarkesh"
    " Podcast, 29 April 2026)."
)


def answer(found: Found) -> str:
    """Answer the question in a few sentences."""
    told = found.facts
    row, now = told.full, found.changes[0]
    api = f"an API that sells {told.settings.price_of}"
    first = told.curve.row(0, named=True)
    text = (
        f"{told.shown} on {row['plan']}: at {rate(row[RATE])} a token costs"
        f" {usd(row[AT_LOAD])} per million, the first one comes within"
        f" {quantity(row['ttft_p95_s'], 's')} and each further"
        f" one every {quantity(row['tpot_p95_s'], 's')}{bar(told.error)} for 95 % of requests. "
    )
    if first[RATE] < row[RATE]:
        text += (
            f"At {rate(first[RATE])} it costs {times(first[AT_LOAD] / row[AT_LOAD])} as much: the"
            " machine is paid for while the batch is empty. "
        )
    text += f"What is waited for the next pass is {quantity(row['train_wait_s'], 's')}. "
    return text + (
        f"From {rate(now.even)} on the machine costs less than {api}."
        if now.pays
        else f"It never costs less than {api}: that takes {rate(now.even)}, more than it serves"
        " within what is promised."
    )


def sections(found: Found) -> tuple[Section, ...]:
    """Return the parts of the page."""
    told = found.facts
    of = figures.controls(told)
    moved = (of["batch"], of["price"])
    trace = _there(
        trace_figures.gaps(found), trace_figures.aboard(found), trace_figures.on_trace(found)
    )
    slow = _there(None if told.caps.is_empty() else figures.caps(told), own_figures.holding(found))
    change = _there(own_figures.changes(found))
    return (
        Section("Cost and waiting over the load", (), (figures.cost(told), figures.waits(told)),
                moved),
        *([Section("Departures and filling on a real trace", (), trace)] if trace else []),
        *([Section("Slow mode", (), slow)] if slow else []),
        Section("Own or pay for tokens", (), (own_figures.own(found),)),
        *([Section("What would change the answer", (), change)] if change else []),
    )  # fmt: skip


def _there(*figures_: Figure | None) -> tuple[Figure, ...]:
    return tuple(figure for figure in figures_ if figure is not None)


def limits(found: Found) -> tuple[str, ...]:
    """Say what the page does not know."""
    told, wishes = found.facts, found.facts.settings
    rows = [
        "Curves are closed forms of a queue with steady random arrivals; days and nights, bursts"
        " and failures are not in them, nor is the error of a step in what is simulated.",
        f"One mean request: {number(told.full['prompt'])} tokens in, {number(told.output)} out.",
        f"The API's price ({wishes.price_source}) is that of {wishes.price_of}; it has margin and"
        " may change any day. Owning is at the full price of the chips, without staff.",
    ]
    if told.error:
        rows.append(
            f"The error bar (± {number(100 * told.error, 2)} %) is one standard deviation of the"
            " time of a step, passed on to all passes alike; prompts have the same here."
        )
    if told.full["chunk"] > 0:
        rows.append(
            f"Prompts are computed in chunks of {number(told.full['chunk'])} tokens beside decoding"
            " (assumed; engines choose differently)."
        )
    if found.plans is not None and found.plans.short:
        rows.append(
            f"Simulated runs of {number(found.plans.requests)} requests are short at high rates: a"
            " queue that grows slowly would not show (experiment.plan_requests)."
        )
    if isinstance(found.planned, str):
        rows.append(f"Nothing was planned by simulation: {found.planned}.")
    return tuple(rows)
