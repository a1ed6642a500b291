"""What does speed cost? The page of conf/experiment/fast_mode.yaml.

Reiner Pope's blackboard lecture asks what a "fast mode", sold at six times the price for two and a
half times the speed, says about the batch behind it. Here the same question is put to real machines
and models: every plan at every batch, the best of them kept.
"""

from roofrack.report.format import number, percent, quantity, times
from roofrack.report.page import Page, Section
from roofrack.results.run import Run

from .shared import provenance
from .speed import figures
from .speed.blackboard import Blackboard, blackboard
from .speed.findings import findings, fixed_share, usd
from .speed.rows import COST, SPEED, Facts, facts


def page(run: Run) -> Page:
    """Return the page of a finished run. Raises InputError where the run cannot answer it."""
    found = facts(run)
    board = blackboard(found.context, found.settings)
    kept = {"plans that can serve": number(found.table.height, 9), "pairs": number(len(found.pairs))}
    return Page(
        title=str(run.experiment.get("title") or "What does speed cost?"),
        question=str(run.experiment.get("question") or ""),
        answer=answer(found),
        findings=findings(found, board),
        sections=sections(found, board),
        limits=limits(found),
        provenance=provenance(run, (board.job,), kept),
        reference_note=words(found),
    )


def answer(found: Facts) -> str:
    """Answer the question in a few sentences, for the pair shown and for all pairs."""
    pair = found.shown
    slow, normal, fast, end = (found.tier(pair, t) for t in ("slow", "normal", "fast", "fastest"))
    gains = [found.tier(p, "fast")[SPEED] / found.tier(p, "normal")[SPEED] for p in found.pairs]
    text = (
        f"{found.label(pair)} serves its cheapest token for {usd(slow)} per million, at {number(slow[SPEED], 3)} tokens/s for each "
        f"user. Paying {times(fast[COST] / normal[COST])} a normal price makes it {times(fast[SPEED] / normal[SPEED])} as fast, "
        f"{number(fast[SPEED], 3)} tokens/s, because fewer users share each step of the machine. At {number(end[SPEED], 3)} tokens/s it ends, "
        f"whatever is paid ({times(end[COST] / normal[COST])} the normal price): there {percent(fixed_share(end))} of a step is "
        "launches, other fixed costs and the network."
    )
    if len(gains) > 1:
        text += (
            f" Over {len(gains)} pairs of a model and a machine, {times(found.settings.price_ratio)} the price buys "
            f"{times(min(gains))} to {times(max(gains))} the speed."
        )
    return text


def words(found: Facts) -> str:
    """Say what the terms mean, before the first of them is used."""
    wishes = found.settings
    return (
        "Words used here. A step is one pass of the model in which every sequence in work gains one token; the batch is how many sequences share "
        "that step, and its time is the time per output token (TPOT) that each user sees. A plan lays one copy of the model over chips: TP splits every matrix, DP splits the "
        "sequences, EP spreads the experts of a mixture-of-experts model. A rack is the group of chips joined by the fast network: a node of 8, a rack of 72, a torus of 256. "
        "The critical batch is the number of tokens in a step from which on arithmetic takes longer than reading the weights. Slow is the cheapest token; normal the fastest "
        f"way to serve within {percent(wishes.normal_premium - 1)} of that cost; fast the fastest within {times(wishes.price_ratio)} the cost of normal. \"The lecture\" is Reiner "
        "Pope's blackboard talk on how language models are trained and served (Dwarkesh Podcast, 29 April 2026); each verdict compares a number of this run with what it says."
    )


def sections(found: Facts, board: Blackboard) -> tuple[Section, ...]:
    """Return the parts of the page, each with one idea."""
    shown = found.label(found.shown)
    row = found.tier(found.shown, "slow")
    return (
        Section(
            "What a price buys",
            (f"Prices are those of the machine alone, per million generated tokens; each sequence holds a context of {number(found.context)} tokens. "
             "At every batch all plans within one rack are tried, and what is shown is the best of them.",),
            (figures.bought(found), figures.cost_over_batch(found), figures.tier_table(found)),
        ),
        Section(
            "Where the time goes",
            ("A step pays some things once for the whole batch (reading the weights, launching kernels, the latency of the network) and others for every "
             "sequence (reading its KV cache, the stored context; its arithmetic). Speed is bought by sharing the first kind among fewer users.",
             f"{shown} at its cheapest: {quantity(row['step_s'], 's')} for a step of {number(row['batch'])} sequences."),
            (figures.step_parts(found), figures.part_shares(found), figures.floor(found)),
        ),
        Section(
            "All ways to serve",
            ("Each point is a plan and a batch that no other plan of the same pair beats in both cost and speed.",),
            (figures.frontier(found),),
        ),
        Section(
            "How large a batch has to be",
            ("Above its critical batch a block is bound by arithmetic and a larger batch no longer makes it cheaper. Blocks differ: a mixture of experts "
             "needs more tokens until every expert has enough of them, and weights held in several copies need more tokens for each copy.",),
            (figures.critical(found), figures.penalty(found)),
        ),
        Section(
            "The lecture's own numbers",
            ("The closed form: if a step takes W + s B seconds for a batch of B, the price per token is proportional to the step over B, and price ratio times "
             "speed ratio is the batch ratio.",),
            (figures.inverse_table(found, board), figures.board(found, board)),
        ),
    )  # fmt: skip


def limits(found: Facts) -> tuple[str, ...]:
    """Say what the page does not know, and what would change its answer."""
    config = found.configs[found.shown]
    calibration = str(config["choices"]["calibration"])
    fitted = config["calibration"].get("step_rel_std")
    return (
        (f"Efficiencies, launch times and other fixed costs (calibration={calibration}) are typical values, assumed and not fitted to these machines, so no error bar is given. "
         "The latency floor depends on them most.") if not fitted else f"Efficiencies come from calibration={calibration}.",
        "Nobody waits in this page: requests queueing for a place in the batch, and batches that are not full, come on top. A provider pays for both.",
        f"One context length, {number(found.context)} tokens, for all sequences. A longer one makes KV reads and memory bind earlier, a shorter one moves the critical batch within reach: "
        "run it again with context=2048.",
        "Only the machine is paid for, every hour of it in use; prompts are not counted. Prices are dated, and cost follows them in proportion (the table of tiers has the range).",
        "A plan that uses 64 of a rack's 72 chips pays for 64. Number formats: "
        f"weights and matmuls in 8 bits, KV cache in {config['workload']['dtype']['kv']}.",
        "No speculative decoding, which buys speed in another way, and no plans over several racks.",
    )  # fmt: skip
