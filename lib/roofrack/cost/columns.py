"""From a scenario to the result columns: the one function everything else calls."""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, root
from roofrack.cost import load, moe, money, training
from roofrack.cost.forward import BLOCKS, COLLECTIVES
from roofrack.cost.layout import BATCH_REASONS, why_invalid
from roofrack.cost.memory import Memory, ffn_memory, memory
from roofrack.cost.passes import Places, decode_pass, places, prefill_pass
from roofrack.cost.serving import NONE, Spell, decode_spell, prefill_spell, serve_spell
from roofrack.cost.site import Site, drafter, site
from roofrack.cost.structure import bound, kv_bytes_per_token, racks, structure, waiting
from roofrack.nouns import Scenario
from roofrack.units import HOUR, MILLION


def estimate(s: Scenario) -> dict[str, Number]:
    """Return every column of the result schema for a scenario; pure, and traceable.

    Leaves broadcast: the columns have the broadcast shape of what they depend on. A scenario that
    cannot run has `why_invalid` != 0; its other columns are finite or NaN but mean nothing. Columns
    that a phase does not have are NaN. Units and meanings: `roofrack.results.schema`.
    """
    if s.workload.phase == "train":
        return load.UNLOADED | training.estimate(s)
    at = places(site(s))
    spell = {"decode": decode_spell, "prefill": prefill_spell, "serve": serve_spell}[
        s.workload.phase
    ](at)
    main = at.main
    p = prefill_pass(main, 0.0) if s.workload.phase == "prefill" else decode_pass(main)
    mine = main.share(p)
    exchange = moe.exchange(main, mine)
    held = s.workload.prompt if s.workload.phase == "prefill" else p.cached
    chips = chips_of(at, spell)
    return (
        {"chips": chips.total * s.plan.replicas, "racks": racks(main)}
        | times(spell)
        | rates(at, spell, chips)
        | residents(at, held)
        | dollars(at, spell, chips)
        | deployment(at, spell, chips)
        | structure(main, mine, exchange)
        | traffic(spell)
        | {"step_s_rel_std": rel_std(s, spell)}
        | {"context_share": divide(held, s.model.max_context, NONE)}
        | training.UNTRAINED
        | loaded(at, spell)
        | {"why_invalid": invalid(at, spell)}
    )


def rel_std(s: Scenario, spell: Spell) -> Number:
    """Return the relative standard error of a step; NaN where the calibration has none.

    Classes are wrong independently of each other, each over all its calls, and the whole besides by
    what no kernel explains. Shares are those of blocks and collectives one after the other, each
    block at its roofline.
    """
    kernels = root(sum(error**2 for error in spell.spread)) / spell.serial
    whole = root(kernels**2 + s.calibration.step_rel_std**2)
    return choose(whole > 0, whole, NONE)


class Chips(NamedTuple):
    """Chips of one deployment: `main`, of all prefill instances, of the FFN pool, and all."""

    main: Number
    prefill: Number
    ffn: Number
    total: Number


def chips_of(at: Places, spell: Spell) -> Chips:
    """Return the chips of each pool."""
    prefill = spell.prefill_instances * at.prefill.plan.chips
    ffn = 0.0 if at.ffn is None else at.apart * at.ffn.plan.chips
    return Chips(at.main.plan.chips, prefill, ffn, at.main.plan.chips + prefill + ffn)


def loaded(at: Places, spell: Spell) -> dict[str, Number]:
    """Return the columns of serving at a load; nothing is computed where no point has arrivals."""
    if "load" not in at.main.s.features or at.main.s.workload.phase != "serve":
        return load.UNLOADED
    return load.at_load(at, spell, renting(at, spell, chips_of(at, spell)))


def renting(at: Places, spell: Spell, chips: Chips) -> Number:
    """Return what an instance and its pools cost per second, used or not."""
    return decoding_usd(at, chips) + spell.prefill_instances * money.usd_per_s(
        at.prefill.s, at.prefill.plan.chips
    )


def invalid(at: Places, spell: Spell) -> Number:
    """Return why the scenario cannot run: a bit of `layout.REASONS` for each cause, on any pool."""
    s, w = at.main.s, at.main.s.workload
    tier_missing = (w.cached > 0) & (w.phase != "decode") & (money.tier(at.prefill.s).bytes <= 0)
    parts_missing = (w.draft_tokens > 0) & (s.draft is None) & (w.phase != "prefill")
    parts_missing = parts_missing | ((w.serving > 1) & (s.ffn is None) & (w.phase != "prefill"))
    if "chunks" not in s.features:
        parts_missing = parts_missing | ((w.chunk > 0) & (w.phase == "serve"))
    if "rows" not in s.features:
        parts_missing = parts_missing | (s.plan.tp_rows > 1)
    parts_missing = parts_missing | ((w.serving > 0) & (s.prefill is None) & (w.phase == "serve"))
    mask = why_invalid(
        s,
        at.main.plan,
        at.main.formats.least_peak,
        spell.chunks_missing > 0,
        tier_missing,
        parts_missing,
    )
    for name, other in pools(at).items():
        found = why_invalid(other.s, other.plan, other.formats.least_peak)
        mask = mask | (found & ~BATCH_REASONS if name == "prefill" else found)
    return mask


def pools(at: Places) -> dict[str, Site]:
    """Return the sites besides the main one whose plans have to hold, by the name of their part."""
    found = {"prefill": at.prefill, "ffn": at.ffn}
    others = {name: one for name, one in found.items() if one is not None and one is not at.main}
    if at.main.s.draft is not None and at.main.s.draft.model is not None:
        others["draft"] = drafter(at.main)
    return others


def times(spell: Spell) -> dict[str, Number]:
    """Return the columns of time."""
    parts = {f"t_{name}_s": value for name, value in spell.parts._asdict().items()}
    blocks = {f"block_{n}_s": v for n, v in zip(BLOCKS, spell.blocks, strict=True)}
    return {
        "step_s": spell.step,
        "step_lower_s": spell.lower,
        "step_upper_s": spell.upper,
        "ttft_s": spell.ttft,
        "tpot_s": spell.tpot,
        **parts,
        "bound": bound(spell.parts),
        **blocks,
    }


def rates(at: Places, spell: Spell, chips: Chips) -> dict[str, Number]:
    """Return the columns of throughput and utilisation, over all pools."""
    per_s = spell.tokens / spell.step
    peaks = chips.main * at.main.formats.peak + chips.prefill * at.prefill.formats.peak
    if at.ffn is not None:
        peaks = peaks + chips.ffn * at.ffn.formats.peak
    # one pass keeps a stage busy; pp of them are in flight
    flops_used = divide(spell.flops, peaks * spell.step)
    near, far = spell.read_s
    # the mean over the chips that attend and those that only have FFNs
    read = choose(
        chips.ffn > 0,
        divide(near * chips.main + far * chips.ffn, chips.main + chips.ffn),
        near + far,
    )
    return {
        "tokens_per_s": per_s * at.main.s.plan.replicas,
        "tokens_per_s_per_chip": per_s / chips.total,
        "tokens_per_s_per_user": 1.0 / spell.tpot,
        "mfu": flops_used,
        "hfu": flops_used,  # nothing is recomputed in inference
        "mbu": read / spell.step,
    }


def residents(at: Places, held: Number) -> dict[str, Number]:
    """Return the columns of memory; inference holds no optimiser state.

    The bytes are those of the main pool; all pools have to fit.
    """
    s, main = at.main.s, at.main
    prompts = prefill_pass(main, 0.0)  # on machines of their own: not here
    prompts = prompts._replace(sequences=prompts.sequences * (1.0 - at.separate))
    passes = [decode_pass(main), prompts]
    if s.workload.phase != "serve":
        passes = [passes[s.workload.phase == "prefill"]]
    m = memory(main, tuple(passes), held, at.apart)
    fits = m.total <= m.capacity
    others: list[tuple[Memory, Number]] = []
    if at.prefill is not main:
        first = prefill_pass(at.prefill, at.separate)
        others.append((memory(at.prefill, (first,), s.workload.prompt), at.separate))
    if at.ffn is not None:
        others.append((ffn_memory(at.ffn, decode_pass(main)), at.apart))
    for other, used in others:
        fits = fits & ((used == 0) | (other.total <= other.capacity))
    return {
        "mem_weights_bytes": m.weights,
        "mem_kv_bytes": m.kv,
        "mem_activation_bytes": m.activation,
        "mem_optimizer_bytes": 0.0,
        "mem_total_bytes": m.total,
        "mem_capacity_bytes": m.capacity,
        "fits": fits,
    }


def dollars(at: Places, spell: Spell, chips: Chips) -> dict[str, Number]:
    """Return the columns of money and energy."""
    s = at.main.s
    decoding, rent = decoding_usd(at, chips), renting(at, spell, chips)
    prefilling = money.usd_per_s(at.prefill.s, at.prefill.plan.chips)
    used = s.economics.utilization  # idle hours are paid for too
    power = money.watts(s, chips.main, spell.busy[0], spell.step)
    if at.ffn is not None:
        power = power + money.watts(at.ffn.s, chips.ffn, spell.busy[1], spell.step)
    power = power + money.watts(at.prefill.s, chips.prefill, spell.prefill_busy, 1.0)
    return {
        "usd_per_mtok": rent / used * spell.step / spell.tokens * MILLION,
        "usd_per_mtok_input": prefilling / used * spell.input_s * MILLION,
        "usd_per_mtok_cached": (prefilling / used * spell.cached_s + kept_usd(at)) * MILLION,
        "usd_per_mtok_output": decoding / used * spell.output_s * MILLION,
        "usd_per_hour": rent * HOUR * s.plan.replicas,
        "usd_per_chip_hour": money.usd_per_s(s, 1.0) * HOUR,
        "joule_per_token": power * spell.step / spell.tokens,
        **waiting(at.main),
    }


def decoding_usd(at: Places, chips: Chips) -> Number:
    """Return what the pools of an instance that decode cost per second."""
    usd = money.usd_per_s(at.main.s, chips.main)
    return usd if at.ffn is None else usd + money.usd_per_s(at.ffn.s, chips.ffn)


def kept_usd(at: Places) -> Number:
    """Return what keeping one cached token until its next use and fetching it costs."""
    s = at.prefill.s
    kv = kv_bytes_per_token(at.main)
    tier = money.tier(s)
    # what is in HBM is read by the attention itself
    fetched = choose(s.workload.cache_tier > 0, money.retrieve_usd(tier, kv), 0.0)
    return money.hold_usd(tier, kv, s.workload.hold_s) + fetched


def deployment(at: Places, spell: Spell, chips: Chips) -> dict[str, Number]:
    """Return the columns that say how a service is divided over machines and passes."""
    return {
        "tokens_per_pass": spell.tokens_per_pass,
        "draft_s": spell.draft_s,
        "prefill_share": spell.prefill_share,
        "prefill_instances": spell.prefill_instances,
        "chips_prefill": chips.prefill * at.main.s.plan.replicas,
        "chips_ffn": chips.ffn * at.main.s.plan.replicas,
        "kv_transfer_s": spell.transfer_s,
        "retrieve_s": spell.retrieve_s,
    }


def traffic(spell: Spell) -> dict[str, Number]:
    """Return bytes that a chip sends in a step: by the dimension that causes it, and by level."""
    return {
        f"traffic_{kind}_{level}_bytes": sent
        for kind, levels in zip(COLLECTIVES, spell.traffic, strict=True)
        for level, sent in enumerate(levels, 1)
    }
