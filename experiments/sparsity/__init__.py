"""What does sparsity buy, and what does it cost? The page of conf/experiment/sparsity.yaml.

Reiner Pope's blackboard lecture: sparsity buys capacity nearly for nothing in arithmetic. It is
paid for with memory, with batches that have to grow with it, and with the exchange of tokens
between chips, which must not leave the rack.
"""

from roofrack.report.format import number, times, usd
from roofrack.report.page import Page, Section
from roofrack.results.run import Run

from ..common.pages import page_of_run
from . import figures, moving, network
from .findings import findings
from .found import Found, gather, size
from .layouts import controls
from .quality import LAWS
from .rows import COST


def page(run: Run) -> Page:
    """Return the page of a finished run. Raises InputError where the run cannot answer it."""
    found, studies = gather(run)
    held = found.layouts
    return page_of_run(
        run,
        answer(found),
        findings(found),
        sections(found),
        limits(found),
        extra=studies.jobs,
        facts={"plans that can serve": number(found.facts.table.height, 9)},
        datasets={moving.DATASET: moving.dataset(held)} if held else {},
        reference_note=words(found),
    )


def answer(found: Found) -> str:
    """Answer the question in a few sentences."""
    f, own = found.facts, found.own
    if own is None:
        return (
            f"{f.machine.pair}: no plan tried gives each user {number(f.speed)} tokens/s with"
            f" {f.machine.experts_at(found.ratio)}."
        )
    text = (
        f"{f.machine.pair}, at {number(f.speed)} tokens/s for each user: {size(own['total'])}"
        f" parameters of which a token uses {size(own['active'])} cost {usd(own[COST])} per million"
        " tokens"
    )
    few = f.least.row(0, named=True)
    if few["ratio"] < own["ratio"]:
        text += (
            f", {times(own[COST] / few[COST])} what the same model costs with"
            f" {times(own['total'] / few['total'])} fewer"
        )
    last = f.least.row(-1, named=True)
    if last["ratio"] > own["ratio"]:
        text += (
            f". With {number(last['ratio'] * f.machine.per_token)} experts in place of"
            f" {number(f.machine.experts)} it would be {times(last[COST] / own[COST])} as much, in"
            f" {figures.where(int(last['racks']))}"
        )
    return f"{text}."


def words(found: Found) -> str:
    """Say what the terms mean."""
    m = found.facts.machine
    return (
        "Experts are parts of a model of which each token visits a few, chosen anew in every layer."
        " Sparsity is here experts over experts per token, and the active parameters are those that"
        " a token uses. Experts are divided over chips, so tokens travel to them and back (the"
        f" exchange, or all-to-all). A rack is the {number(m.domain)} chips that the fast network"
        f' of {m.name} joins. "The lecture" is Reiner Pope\'s blackboard talk (Dwarkesh Podcast, 29'
        " April 2026)."
    )


def sections(found: Found) -> tuple[Section, ...]:
    """Return the parts of the page."""
    f, held = found.facts, found.layouts
    made = []
    if f.best.height:
        tried = number(f.all.height, 9)
        made.append(Section(
            "What capacity costs",
            (f"Plans within a rack and over several are tried at every ratio, {tried} points.",),
            (figures.capacity(found), *((figures.memory(found),) if f.inside.height else ())),
        ))  # fmt: skip
    if held:
        made.append(Section(
            "Experts added to the same chips",
            ("Attention is divided by sequences, experts over all chips; both stay while experts"
             " are added.",),
            (moving.cost(found, held), moving.parts(found, held)),
            controls(held, f.machine),
        ))  # fmt: skip
        sent = network.ways(found)
        made.append(Section(
            "Where the network binds", (),
            (network.binds(found, held), *((sent,) if sent else ())),
        ))  # fmt: skip
    made.append(Section(
        "How large batches have to be",
        ("Weights are read once for all tokens of a pass. The sparser the model, the fewer tokens"
         " share an expert.",),
        (figures.critical(found), figures.read(found)),
    ))  # fmt: skip
    if cuts := network.cuts(found):
        made.append(Section("Many small experts or few large ones", (), (cuts,)))
    if found.quality.height:
        made.append(Section("What it is worth", (), (figures.worth(found),)))
    if turns := figures.turns(found):
        made.append(Section("What would change the answer", (), (turns,)))
    return tuple(made)


def limits(found: Found) -> tuple[str, ...]:
    """Say what the page does not know."""
    f = found.facts
    config, tokens = f.machine.config, float(f.run.experiment["training_tokens"])
    told = "; ".join(
        f"{law.name} up to {size(law.params)} parameters a token, {number(law.experts)} experts,"
        f" {number(law.tokens / 1e9)} billion tokens"
        for law in LAWS
    )
    return (
        "Only the number of experts changes: width, layers, attention and what a token visits stay."
        " A model trained with another number would be shaped otherwise.",
        "Tokens choose experts evenly"
        + (
            f", but for the busiest chip's load, taken {number(config['workload']['routing_skew'])}"
            " times the mean."
            if config["workload"]["routing_skew"] != 1
            else ". Popular experts make the busiest chip later, and the more so the more experts"
            " there are."
        ),
        "Laws of loss were fitted to small models of which a token visits one expert:"
        f" {told}. Here a model stands for its expansion (parameters of all experts over those"
        f" that a token uses) and {number(tokens / 1e12)} trillion tokens of training, of which"
        " Clark et al. know nothing. How finely experts are cut is in neither: a proxy, no measure"
        " of this model.",
        f"Decoding only, at a context of {number(f.machine.context)} tokens. One copy of the model;"
        f" {number(f.machine.per_token)} experts for each token and multiples of chips that divide"
        " the experts: no second copies of busy ones.",
        f"Losses (calibration={config['choices']['calibration']}) between racks are assumed where"
        " they were not measured; error bars are mostly common to both sides of a ratio.",
    )
