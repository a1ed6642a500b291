"""From a scenario to the result columns: the one function everything else calls."""

from typing import NamedTuple

from roofrack.arithmetic import Number, ceil, choose, divide, largest, least, most
from roofrack.calibration import Kernel
from roofrack.cost import attention, moe, money
from roofrack.cost.forward import BLOCKS, Forward, Parts, bounds, cached_more_s, forward
from roofrack.cost.layout import Layout, layout, why_invalid
from roofrack.cost.memory import Memory, memory
from roofrack.cost.shares import Pass, Share, share
from roofrack.model import Counts, count
from roofrack.nouns import Scenario
from roofrack.units import HOUR, MILLION

NONE = float("nan")
"""A column that a phase does not have; stored as null."""


class Spell(NamedTuple):
    """A stretch of the phase that repeats: its passes by resource, in seconds, and its output.

    For decode and prefill one pass; for serve one decode pass with its share of prefill passes.
    `tokens` and `flops` (useful, whole instance) over all micro-batches in flight.
    """

    step: Number
    lower: Number
    upper: Number
    parts: Parts
    blocks: tuple[Number, ...]
    read_bytes: Number
    ttft: Number = NONE
    tpot: Number = NONE
    tokens: Number = NONE
    flops: Number = NONE
    input_s: Number = NONE
    cached_s: Number = NONE
    output_s: Number = NONE


def estimate(s: Scenario) -> dict[str, Number]:
    """Return every column of the result schema for a scenario; pure, and traceable.

    Leaves broadcast: the columns have the broadcast shape of what they depend on. A scenario that
    cannot run has `why_invalid` != 0; its other columns are finite or NaN but mean nothing. Columns
    that a phase does not have are NaN. Units and meanings: `roofrack.results.schema`.
    """
    counts = count(s.model)
    plan = layout(s)
    decoding, prefilling = passes(s, plan)
    if s.workload.phase == "decode":
        spell, main = decode_spell(s, counts, plan, decoding), decoding
        held = s.workload.context
    elif s.workload.phase == "prefill":
        spell, main = prefill_spell(s, counts, plan, prefilling), prefilling
        held = s.workload.prompt
    else:
        spell, main = serve_spell(s, counts, plan, decoding, prefilling), decoding
        held = decoding.cached
    mine = share(s, plan, main)
    others = (prefilling,) if s.workload.phase == "serve" else ()
    resident = memory(s, counts, plan, main, held, others)
    exchange = moe.exchange(s, plan, mine)
    invalid = why_invalid(s, plan, mine.peak)
    return (
        {"chips": plan.chips * s.plan.replicas, "racks": racks(s, plan)}
        | times(spell)
        | rates(s, plan, mine, spell)
        | memories(resident)
        | dollars(s, counts, plan, mine, spell)
        | structure(s, counts, plan, mine, exchange)
        | {"context_share": divide(held, s.model.max_context, NONE)}
        | {"why_invalid": invalid, "fits": resident.total <= resident.capacity}
    )


def racks(s: Scenario, plan: Layout) -> Number:
    """Return how many innermost fabric domains one instance spans."""
    return ceil(plan.chips / s.hardware.fabric[0].chips)


def passes(s: Scenario, plan: Layout) -> tuple[Pass, Pass]:
    """Return the decode pass and the prefill pass of a workload.

    In `serve` a sequence has half its output behind it on average, and each attention rank prefills
    `prefill_batch` prompts at a time, as far as there are sequences.
    """
    w = s.workload
    new = most(w.prompt - w.cached, 1.0)
    if w.phase == "serve":
        decoding = Pass(True, plan.microbatch, 1.0, w.prompt + w.output / 2.0)
        prompts = least(w.prefill_batch * plan.attention_ranks, plan.microbatch)
        return decoding, Pass(False, prompts, new, w.cached)
    return (
        Pass(True, plan.microbatch, 1.0, w.context),
        Pass(False, plan.microbatch, new, w.cached),
    )


def useful_flops(s: Scenario, counts: Counts, p: Pass) -> Number:
    """Return model FLOP of one pass of the whole instance: no padding, no replication.

    Matmuls of every token, the head once per sampled token (MODEL section 2), the attention core.
    """
    body = choose(counts.abstract > 0, counts.active, counts.active - counts.head)
    m = s.model
    core = counts.core_flops_absorbed if p.decode else counts.core_flops_expanded
    if p.decode:
        full, windowed = p.cached, attention.cache_length(p.cached, m.window)
    else:
        full = attention.attended(p.cached, p.new, 0.0)
        windowed = attention.attended(p.cached, p.new, m.window)
    pairs = (m.layers - m.window_layers) * full + m.window_layers * windowed
    per_sequence = p.new * (2.0 * body + core * pairs * s.cost.attention_core)
    sampled = choose(counts.abstract > 0, 0.0, 2.0 * counts.head)
    return p.sequences * (per_sequence + sampled)


def decode_spell(s: Scenario, counts: Counts, plan: Layout, p: Pass) -> Spell:
    """Return one decode pass: every sequence in flight gains a token."""
    f = forward(s, counts, plan, p)
    t = bounds(s, f)
    waves = plan.in_flight / plan.microbatch
    return _single(t.estimate, t.lower, t.upper, f)._replace(
        tpot=t.estimate,
        tokens=plan.in_flight,
        flops=useful_flops(s, counts, p) * waves,
        output_s=t.estimate / plan.in_flight,
    )


def prefill_spell(s: Scenario, counts: Counts, plan: Layout, p: Pass) -> Spell:
    """Return one prefill pass; its tokens are the prompt tokens computed."""
    f = forward(s, counts, plan, p)
    t = bounds(s, f)
    waves = plan.in_flight / plan.microbatch
    tokens = p.sequences * p.new * waves
    cached = cached_token_s(s, counts, plan, p, f) / waves
    return _single(t.estimate, t.lower, t.upper, f)._replace(
        ttft=t.estimate,
        tokens=tokens,
        flops=useful_flops(s, counts, p) * waves,
        input_s=t.estimate / tokens - cached * p.cached / p.new,
        cached_s=cached,
    )


def serve_spell(
    s: Scenario, counts: Counts, plan: Layout, decoding: Pass, prefilling: Pass
) -> Spell:
    """Return a decode pass and the share of a prefill pass that keeps the batch full.

    In steady state in_flight/output requests end per decode pass and as many prompts are prefilled,
    each prefill pass taking `prefill_batch` per rank and a full pipeline of such batches: decoding
    stands still meanwhile. TTFT is one prefill pass; waiting is not counted (MODEL section 9).
    """
    w = s.workload
    d, f = forward(s, counts, plan, decoding), forward(s, counts, plan, prefilling)
    t, u = bounds(s, d), bounds(s, f)
    prompts = prefilling.sequences * plan.pp
    times = plan.in_flight / w.output / prompts
    step = t.estimate + times * u.estimate
    tokens_in = prompts * prefilling.new
    cached = cached_token_s(s, counts, plan, prefilling, f) / plan.pp
    return Spell(
        step=step,
        lower=t.lower + times * u.lower,
        upper=t.upper + times * u.upper,
        parts=Parts(*(a + times * b for a, b in zip(d.parts, f.parts, strict=True))),
        blocks=tuple(a + times * b for a, b in zip(d.blocks, f.blocks, strict=True)),
        read_bytes=d.read_bytes + times * f.read_bytes,
        ttft=u.estimate,
        tpot=step,
        tokens=plan.in_flight,
        flops=useful_flops(s, counts, decoding) * plan.in_flight / plan.microbatch
        + useful_flops(s, counts, prefilling) * times * plan.pp,
        input_s=u.estimate / tokens_in - cached * prefilling.cached / prefilling.new,
        cached_s=cached,
        output_s=t.estimate / plan.in_flight,
    )


def _single(step: Number, lower: Number, upper: Number, f: Forward) -> Spell:
    return Spell(step, lower, upper, f.parts, f.blocks, f.read_bytes)


def cached_token_s(s: Scenario, counts: Counts, plan: Layout, p: Pass, f: Forward) -> Number:
    """Return machine seconds that one more cached prompt token adds to a prefill pass.

    As many cached tokens as new ones are put before the pass: they are attended to and read, not
    projected. What holding them costs is not in it.
    """
    return cached_more_s(s, counts, plan, p, f, p.new) / (p.sequences * p.new)


def bound(t: Parts) -> Number:
    """Return the position in Parts of what binds: the longest resource.

    Weights, cache and activations share the memory: their sum competes, the largest names it.
    """
    memory = t.weights + t.kv + t.activation
    top = most(most(t.weights, t.kv), t.activation)
    competing = t._replace(
        **{
            name: choose(getattr(t, name) >= top, memory, 0.0)
            for name in ("weights", "kv", "activation")
        }
    )
    return largest(tuple(competing))


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


def rates(s: Scenario, plan: Layout, mine: Share, spell: Spell) -> dict[str, Number]:
    """Return the columns of throughput and utilisation."""
    per_s = spell.tokens / spell.step
    # one pass keeps a stage busy; pp of them are in flight
    flops_used = divide(spell.flops, plan.chips * mine.peak * spell.step)
    return {
        "tokens_per_s": per_s * s.plan.replicas,
        "tokens_per_s_per_chip": per_s / plan.chips,
        "tokens_per_s_per_user": 1.0 / spell.tpot,
        "mfu": flops_used,
        "hfu": flops_used,  # nothing is recomputed in inference
        "mbu": spell.read_bytes / (s.hardware.hbm_bytes_per_s * spell.step),
    }


def memories(m: Memory) -> dict[str, Number]:
    """Return the columns of memory; inference holds no optimiser state."""
    return {
        "mem_weights_bytes": m.weights,
        "mem_kv_bytes": m.kv,
        "mem_activation_bytes": m.activation,
        "mem_optimizer_bytes": 0.0,
        "mem_total_bytes": m.total,
        "mem_capacity_bytes": m.capacity,
    }


def dollars(
    s: Scenario, counts: Counts, plan: Layout, mine: Share, spell: Spell
) -> dict[str, Number]:
    """Return the columns of money and energy."""
    hw, parts = s.hardware, spell.parts
    rent = money.usd_per_s(s, plan.chips)
    per_second = rent / s.economics.utilization  # of use: idle hours are paid for too
    busy = most(parts.compute, parts.weights + parts.kv + parts.activation)
    power = money.watts(s, plan.chips, busy, spell.step)
    kv = kv_bytes_per_token(s, counts)
    ridge = _ridge(s, mine, s.calibration.kernel.gemm)
    return {
        "usd_per_mtok": per_second * spell.step / spell.tokens * MILLION,
        "usd_per_mtok_input": per_second * spell.input_s * MILLION,
        "usd_per_mtok_cached": per_second * spell.cached_s * MILLION,
        "usd_per_mtok_output": per_second * spell.output_s * MILLION,
        "usd_per_hour": rent * HOUR * s.plan.replicas,
        "joule_per_token": power * spell.step / spell.tokens,
        "context_knee_tokens": money.context_knee(counts.active, ridge, kv),
        "hbm_drain_s": money.drain_s(hw.hbm_bytes, hw.hbm_bytes_per_s),
    }


def kv_bytes_per_token(s: Scenario, counts: Counts) -> Number:
    """Return KV bytes that one more token of context adds in all layers, windows not yet full."""
    return attention.kv_bytes_per_layer(s, counts) * s.model.layers


def _ridge(s: Scenario, mine: Share, kernel: Kernel) -> Number:
    """Return FLOP per byte where arithmetic and memory traffic of a kernel class take as long."""
    reached = s.hardware.hbm_bytes_per_s * kernel.hbm_efficiency
    return divide(mine.peak * kernel.compute_efficiency, reached)


def structure(
    s: Scenario, counts: Counts, plan: Layout, mine: Share, exchange: moe.Exchange
) -> dict[str, Number]:
    """Return the columns that say how model, plan and machine fit each other."""
    m, cal = s.model, s.calibration
    dense = _ridge(s, mine, cal.kernel.gemm) * mine.b_weights / 2.0
    experts = _ridge(s, mine, cal.kernel.moe) * mine.b_weights / 2.0
    # weights held in several copies: each needs its own tokens; cp divides those of a prompt
    divided = plan.cp if s.workload.phase == "prefill" else 1.0
    copies_of_attention = plan.attention_ranks * divided
    return {
        "params_total": counts.total,
        "params_active": counts.active,
        "params_attention": counts.attention * m.layers,
        "params_router": counts.router * m.moe_layers,
        "kv_bytes_per_token": kv_bytes_per_token(s, counts),
        "attention_flops_per_context_token": counts.core_flops_absorbed * m.layers,
        "sparsity": divide(m.experts, m.experts_per_token, 1.0),
        "critical_batch": dense * counts.total / counts.active,
        "critical_batch_attention": dense * copies_of_attention,
        "critical_batch_dense": dense * plan.dp * divided,
        "critical_batch_experts": experts
        * plan.expert_copies
        * divide(m.experts, m.experts_per_token, NONE),
        "critical_batch_shared": choose(m.shared_experts > 0, dense * copies_of_attention, NONE),
        "experts_touched": moe.distinct_experts(m.experts, m.experts_per_token, mine.group_tokens),
        "scale_out_fraction": exchange.happens * exchange.routing.leaving,
        "domains_touched": choose(exchange.happens > 0, exchange.routing.domains, NONE),
        "copies_leaving": exchange.happens * sum(exchange.routing.copies[1:2], start=0.0),
        "dispatch_bytes": exchange.dispatch_bytes,
        "combine_bytes": exchange.combine_bytes,
        "bubble_fraction": 0.0,
        "step_s_rel_std": choose(cal.step_rel_std > 0, cal.step_rel_std, NONE),
    }
