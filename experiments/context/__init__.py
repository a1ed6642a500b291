"""What does context cost? The page of conf/experiment/context.yaml.

The lecture reads prices as a window into machines: a dearer tier above 200,000 tokens, output at
five times the price of input, cached input at a tenth. Here the same costs are computed, and the
sheets themselves stand beside them.
"""

from roofrack.report.format import number, percent, times, usd
from roofrack.report.page import Page, Section
from roofrack.results.run import Run

from ..common.columns import COST
from ..common.pages import page_of_run
from ..common.pairs import nothing_serves
from ..common.studies import Studies
from . import figures, price_figures
from .findings import findings
from .measures import best_tier
from .price_findings import storage
from .rows import CONTEXT, Facts, facts
from .words import tokens


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
        facts={"models that can be served": number(len(found.pairs))},
        reference_note=NOTE,
        datasets=figures.datasets(found),
    )


NOTE = (
    "A token is written (decoding: one step for each, which reads the cache of the whole context)"
    " or read (prefill: a prompt's tokens are computed together). The KV cache holds what attention"
    ' needs of every earlier token. "The lecture" is Reiner Pope\'s blackboard talk on how language'
    " models are trained and served (Dwarkesh Podcast, 29 April 2026)."
)


def answer(found: Facts) -> str:
    """Answer the question in a few sentences, for the pair shown."""
    rows = found.of(found.best, found.shown).sort(CONTEXT)
    low = found.at(found.shown, found.settings.short_context) or rows.row(0, named=True)
    high = found.at(found.shown, found.settings.price_tier) or rows.row(-1, named=True)
    text = f"{found.shown}: a written token costs {usd(low[COST])} per million at a context of"
    text += f" {tokens(low[CONTEXT])}"
    if high[CONTEXT] > low[CONTEXT]:
        text += (
            f" and {usd(high[COST])} at {tokens(high[CONTEXT])}, {times(high[COST] / low[COST])} as"
            " much, with no step in between"
        )
    text += (
        f". From about {tokens(low['context_knee_tokens'])} on reading a sequence's cache takes"
        " longer than the matmuls of its token. "
        if low["context_knee_tokens"]
        else ". "
    )
    waits = found.waits
    best = best_tier(waits, found.settings.hold_short_s) if waits else None
    if waits and best and waits.again > 0:
        text += (
            f"Keeping a cache for the next turn costs {percent(best['cost'] / waits.again)} of"
            " computing it again."
        )
    return text.rstrip()


def sections(found: Facts) -> tuple[Section, ...]:
    """Return the parts of the page."""
    of = figures.controls(found)
    drawn = (
        Section(
            "What context costs",
            ("Each point is the best of all plans within one rack and of all batches tried.",),
            (figures.cost(found),),
            (of["model"], of["price"]),
        ),
        Section(
            "Where the time goes",
            (
                "Weights are read once for the whole batch; a cache is read for each sequence, and"
                " no batch makes that cheaper.",
            ),
            (figures.parts(found),),
            (of["model"], of["batch"]),
        ),
        Section("The knee", (), tuple(f for f in (figures.knees(found),) if f)),
        Section(
            "Price sheets",
            ("What vendors ask, with the date. Their models' shapes are not public.",),
            tuple(f for f in (price_figures.ratios(found), price_figures.sheet_table()) if f),
        ),
    )
    kept = tuple(f for f in (price_figures.waiting(found),) if f)
    change = tuple(f for f in (price_figures.changed(found),) if f)
    told = tuple(words for words in (storage(found),) if words)
    return (
        *drawn,
        *([Section("Caches that wait", told, kept)] if kept else []),
        *([Section("What would change the answer", (), change)] if change else []),
    )


def limits(found: Facts) -> tuple[str, ...]:
    """Say what the page does not know."""
    config = found.configs[found.shown]
    dtype = config["workload"]["dtype"]
    longer = [
        p
        for p in found.pairs
        if (row := found.at(p, found.settings.price_tier)) and (row["context_share"] or 0) > 1
    ]
    beyond = (
        (
            f"{number(len(longer))} of {number(len(found.pairs))} models are not trained for"
            f" {tokens(found.settings.price_tier)}: what it would cost is computed all the same."
        )
        if longer
        else "All models are trained for the context of the price tier, or do not say."
    )
    return (
        "Prices of vendors include margin, other work of the machine and models of unknown shape:"
        " ratios can be compared, levels cannot.",
        beyond,
        "A cache that comes from host memory or flash delays its prompt (column retrieve_s); here"
        " other prompts use the chip meanwhile, so that only the memory's own price counts.",
        f"Formats: weights {dtype['weights']}, cache {dtype['kv']}. All sequences of a batch have"
        " the same context. Only the machine is paid for, with"
        f" {percent(config['economics']['utilization'])} of its hours in use.",
        "Prompts and answers run on separate machines here, each with its own best plan, and no"
        " plan leaves a rack.",
    )
