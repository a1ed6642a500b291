"""What does speed cost? The page of conf/experiment/fast_mode.yaml.

Reiner Pope's blackboard lecture asks what a "fast mode", sold at six times the price for two and a
half times the speed, says about the batch behind it. Here the same question is put to real machines
and models: every plan at every batch, the best of them kept.
"""

from collections.abc import Mapping
from typing import Any

from roofrack.report.format import listed, number, percent, quantity, times
from roofrack.report.page import Page, Section
from roofrack.results.run import Run

from .common.pages import page_of_run
from .common.studies import Studies
from .speed import curves, moves, pairs
from .speed.blackboard import Blackboard, blackboard
from .speed.findings import cost, findings, speed
from .speed.measures import fixed_share, gains, sale, sells
from .speed.rows import Facts, facts


def page(run: Run) -> Page:
    """Return the page of a finished run. Raises InputError where the run cannot answer it."""
    found = facts(run)
    board = blackboard(found.context, found.settings)
    kept = {
        "plans that can serve": number(found.table.height, 9),
        "pairs": number(len(found.pairs)),
    }
    studies = Studies(run)
    moved, table = moves.section(found, studies)
    parts = sections(found, board)
    return page_of_run(
        run,
        answer(found),
        findings(found, board),
        (parts[0], moved, *parts[1:]),
        limits(found),
        extra=(*studies.jobs, board.job),
        facts=kept,
        reference_note=words(found),
        datasets={moves.DATASET: table},
    )


def answer(found: Facts) -> str:
    """Answer the question in a few sentences: over all pairs, then for the pair shown."""
    pair = found.shown
    normal, fast, end = (found.tier(pair, tier) for tier in ("normal", "fast", "fastest"))
    gained, ratio = gains(found).values(), times(found.settings.price_ratio)
    span = (
        f"{times(min(gained))} to {times(max(gained))}" if len(gained) > 1 else times(min(gained))
    )
    where = ", depending on model and machine" if len(gained) > 1 else ""
    text = (
        f"Up to {ratio} the price of a token buys {span} the speed{where}. It is bought with"
        " smaller batches: fewer users share each step of the machine, and each pays for more of"
        " it. "
    )
    if sells(found, pair):
        price, gain = sale(normal, fast)
        text += (
            f"{found.label(pair)}, for example: {speed(normal)} for each user at {cost(normal)} per"
            f" million tokens is normal, {speed(fast)} at {cost(fast)} is fast ({times(gain)} the"
            f" speed for {times(price)} the price). "
        )
    text += (
        f"{found.label(pair)} ends at {speed(end)} with the plans tried:"
        f" {percent(fixed_share(end))} of that quickest step is launches, other fixed"
        f" costs ({found.losses}) and the network,"
        " which no batch shortens."
    )
    return text


def words(found: Facts) -> str:
    """Say what the terms mean that the findings use."""
    wishes = found.settings
    racks = {h: number(rack_chips(found.configs[h, m])) for h, m in found.pairs}
    sizes = listed([f"{chips} chips for {found.machines[key]}" for key, chips in racks.items()])
    plan = found.tier(found.shown, "slow")["plan"]
    return (
        "Three tiers are compared: slow is the cheapest token; normal is the fastest way to serve"
        " within "
        f"{percent(wishes.normal_premium - 1)} of that cost; fast is the fastest within"
        f" {times(wishes.price_ratio)} the cost of normal. "
        f'A plan lays one copy of the model over chips: "{plan}" says how many there are, and over'
        " how many of them matrices (TP), "
        "sequences (DP) and experts (EP) are divided. All plans stay within one rack, the group of"
        " chips that the "
        f'fast network joins: {sizes}. "The lecture" is Reiner Pope\'s blackboard talk on how'
        " language models are trained "
        "and served (Dwarkesh Podcast, 29 April 2026); each verdict compares numbers of this run"
        " with what it says."
    )


def rack_chips(config: Mapping[str, Any]) -> float:
    """Return the chips of the innermost fabric level."""
    return next(iter(config["hardware"]["fabric"].values()))["chips"]


ONCE_OR_EACH = (
    "A step pays some things once for the whole batch (reading the weights, launching kernels, the"
    " latency of the network) and others for every sequence (reading its KV cache, which stores the"
    " context; its arithmetic). Speed is bought by sharing the first kind among fewer users."
)
BLOCKS_DIFFER = (
    "Above its critical batch a block is bound by arithmetic, and a larger batch no longer makes it"
    " cheaper. Blocks differ: a mixture of experts needs more tokens until every expert has enough"
    " of them, and weights held in several copies need more tokens for each copy."
)
CLOSED_FORM = (
    "The closed form: if a step of a batch B takes W + s B seconds, the price of a token is"
    " proportional to the step over B. So price ratio times speed ratio is the batch ratio, and W"
    " follows from both."
)


def sections(found: Facts, board: Blackboard) -> tuple[Section, ...]:
    """Return the parts of the page."""
    row = found.tier(found.shown, "slow")
    price = (
        "A price is here what renting the machine costs, per million generated tokens. Each"
        f" sequence holds a context of {number(found.context)} tokens. At every batch plans"
        " within one rack are tried (TP and DP in powers of two, experts whole or spread over all"
        " chips); what is shown is the best of them."
    )
    cheapest = (
        f"{found.label(found.shown)} at its cheapest: {quantity(row['step_s'], 's')} for a step of"
        f" {number(row['batch'])} sequences."
    )
    unbeaten = "Each point is a plan and a batch that no other beats in both cost and speed."
    return (
        Section(
            "What a price buys",
            (price,),
            (curves.bought(found), curves.cost_over_batch(found), pairs.tier_table(found)),
        ),
        Section(
            "Where the time goes",
            (ONCE_OR_EACH, cheapest),
            (curves.step_parts(found), curves.part_shares(found), pairs.floor(found)),
        ),
        Section("All ways to serve", (unbeaten,), (curves.frontier(found),)),
        Section(
            "How large a batch has to be",
            (BLOCKS_DIFFER,),
            (pairs.critical(found), pairs.penalty(found)),
        ),
        Section(
            "The lecture's own numbers",
            (CLOSED_FORM,),
            (pairs.inverse_table(found, board), curves.board(board)),
        ),
    )


def limits(found: Facts) -> tuple[str, ...]:
    """Say what the page does not know, and what would change its answer."""
    config = found.configs[found.shown]
    dtype, calibration = config["workload"]["dtype"], config["choices"]["calibration"]
    fitted = config["calibration"]["step_rel_std"]
    how = "fitted" if fitted else "assumed and not fitted to these machines: no error bar is given"
    losses = (
        f"Efficiencies, launch times and other fixed costs (calibration={calibration}) are {how}."
        " The latency floor depends on them most."
    )
    maths = dtype["math"]
    units = " or ".join(maths) if isinstance(maths, list) else maths
    return (
        losses,
        (
            "Nobody waits here: requests that queue for a place in the batch, and batches that are"
            " not full, come on top."
        ),
        (
            f"One context length, {number(found.context)} tokens, for all sequences. A longer one"
            " makes KV reads and memory bind earlier, a shorter one brings the critical batch"
            f" nearer: run it again with context={max(1, round(found.context / 4))}."
        ),
        (
            f"Only the machine is paid for, with {percent(config['economics']['utilization'])} of"
            " its hours in use; prompts are not counted. A plan pays for the chips it uses, also"
            " where it leaves others of a rack free. Prices are dated, and cost follows them in"
            " proportion (the table of tiers has the range)."
        ),
        (
            f"Number formats: weights in {dtype['weights']} (as many bytes each whatever the"
            f" matmuls are in), matmuls in {units}, whichever the chip has, KV cache in"
            f" {dtype['kv']}."
        ),
        (
            "No speculative decoding, which buys speed in another way, and no plans over several"
            " racks."
        ),
    )
