"""Phases: which passes repeat, how often, and on which machines. MODEL sections 3, 8 and 11.

A phase becomes a Spell, a stretch that repeats: one pass for decode and prefill; for serve one
decode pass with the prompts that keep the batch full, computed in passes of their own, in chunks
beside the decoding sequences, or on a pool of their own.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, least, most, round_up
from roofrack.cost import attention
from roofrack.cost.fabric import path
from roofrack.cost.forward import Forward, Parts, forward
from roofrack.cost.overlap import Bounds, bounds, cached_more_s
from roofrack.cost.shares import Pass
from roofrack.cost.site import AFD, DISAGGREGATED, Site, drafter, pool
from roofrack.model import Counts
from roofrack.nouns import Scenario

NONE = float("nan")
"""A column that a phase does not have; stored as null."""


class Places(NamedTuple):
    """Where the work is done: `main` (decode, attention), and pools for prompts and FFNs.

    `prefill` is `main` and `ffn` is None where no point has such a pool. `separate` is 1 where
    prompts are computed on machines of their own, `apart` where FFNs are.
    """

    main: Site
    prefill: Site
    ffn: Site | None
    separate: Number
    apart: Number


class Spell(NamedTuple):
    """A stretch that repeats: its passes by resource, in seconds, and its output.

    `tokens` and `flops` (useful) of the whole instance over all micro-batches in flight; `read_s`
    seconds of weights and cache at full bandwidth; `traffic` bytes that a chip sends by kind and
    level. `input_s` and `cached_s` are seconds of the machines that prefill for one prompt token,
    `output_s` of those that decode for one generated token.

    `tokens_per_pass` of one sequence; `draft_s` of one pass; `prefill_share` prefill passes per
    decode pass; `prefill_instances` per decode instance and the share of time that their arithmetic
    or memory works (`prefill_busy`); `transfer_s` of a prompt's cache between pools and
    `retrieve_s` from its tier; `chunks_missing` > 0 where chunks cannot keep the batch full.
    """

    step: Number
    lower: Number
    upper: Number
    parts: Parts
    blocks: tuple[Number, ...]
    read_s: tuple[Number, Number]
    traffic: tuple[list[Number], ...]
    busy: tuple[Number, Number] = (NONE, NONE)
    ttft: Number = NONE
    tpot: Number = NONE
    tokens: Number = NONE
    flops: Number = NONE
    input_s: Number = NONE
    cached_s: Number = NONE
    output_s: Number = NONE
    tokens_per_pass: Number = NONE
    draft_s: Number = NONE
    prefill_share: Number = NONE
    prefill_instances: Number = 0.0
    prefill_busy: Number = 0.0
    transfer_s: Number = NONE
    retrieve_s: Number = NONE
    chunks_missing: Number = 0.0


def places(main: Site) -> Places:
    """Return where each part of a workload is done."""
    s, w = main.s, main.s.workload
    zero = 0.0 * w.serving
    serves = w.phase == "serve"
    separate = choose(w.serving >= DISAGGREGATED, 1.0, zero) if serves else 0.0
    prefill = pool(main, s.prefill, separate > 0) if serves else main
    if s.ffn is None or w.phase == "prefill":
        return Places(main, prefill, None, separate, 0.0)
    apart = choose(w.serving == AFD, 1.0, zero)
    ffn = pool(main, s.ffn, apart > 0)
    # a pool like the rest is still other machines
    return Places(main, prefill, ffn._replace() if ffn is main else ffn, separate, apart)


def decode_pass(main: Site) -> Pass:
    """Return the decode pass; while serving a sequence has half its output behind it on average.

    Every sequence brings the tokens drafted for it and the one before them.
    """
    w = main.s.workload
    cached = w.prompt + w.output / 2.0 if w.phase == "serve" else w.context
    return Pass(True, main.plan.microbatch, 1.0 + w.draft_tokens, cached, 1.0)


def prefill_pass(at: Site, separate: Number) -> Pass:
    """Return the prefill pass: whole prompts, or while serving their chunks.

    While serving each attention rank takes `prefill_batch` prompts at a time, or a chunk, as far as
    there are sequences.
    """
    w, plan = at.s.workload, at.plan
    new = most(w.prompt - w.cached, 1.0)
    if w.phase != "serve":
        return Pass(False, plan.microbatch, new, w.cached, new)
    in_chunks = chunked(at.s, separate)
    chunk = choose(in_chunks > 0, least(w.chunk, new), new)
    each = choose(in_chunks > 0, w.chunk / chunk, w.prefill_batch)
    wanted = each * plan.attention_ranks
    there_are = choose(separate > 0, wanted, plan.microbatch)
    return Pass(False, least(wanted, there_are), chunk, w.cached, new)


def chunked(s: Scenario, separate: Number) -> Number:
    """Return 1 where prompts are computed in chunks beside decoding sequences, else 0."""
    if "chunks" not in s.features:
        return 0.0
    return choose((s.workload.chunk > 0) & (separate == 0), 1.0, 0.0)


def tokens_per_pass(drafted: Number, acceptance: Number) -> Number:
    """Return the tokens that a sequence gains per pass: 1 + a + a^2 + ... + a^drafted.

    Each drafted token is kept with probability a if all before it are, and the check itself always
    yields one more. Leviathan, Kalman and Matias 2023 (arXiv:2211.17192) equation 1.
    """
    sure = acceptance >= 1.0
    kept = choose(sure, 0.5, acceptance)
    # 0^(n+1) has no derivative by n
    power = choose(kept > 0, choose(kept > 0, kept, 0.5) ** (drafted + 1.0), 0.0)
    return choose(sure, 1.0 + drafted, (1.0 - power) / (1.0 - kept))


def draft_seconds(main: Site, checked: Pass) -> Number:
    """Return the time of drafting for one pass: one small pass for each drafted token."""
    if main.s.draft is None:
        return 0.0
    small = drafter(main)
    one = bounds(small, forward(small, (checked._replace(new=1.0),)))
    # words looked up in the prompt take no layers and no time
    return main.s.workload.draft_tokens * choose(small.s.model.layers > 0, one.estimate, 0.0)


def useful_flops(s: Scenario, counts: Counts, p: Pass) -> Number:
    """Return model FLOP of one pass of the whole instance: no padding, no replication.

    Matmuls of every token, the head once per sampled token (MODEL section 2), the cores.
    """
    body = choose(counts.abstract > 0, counts.active, counts.active - counts.head)
    m = s.model
    core = counts.core_flops_absorbed if p.decode else counts.core_flops_expanded
    pairs = counts.full_layers * attention.seen(p, 0.0) + m.window_layers * attention.seen(
        p, m.window
    )
    picked = m.sparse_layers * attention.seen(p, m.sparse_tokens) * counts.core_flops_absorbed
    looked = m.sparse_layers * attention.seen(p, 0.0) * counts.index_flops
    chunk = 0.0 if p.decode else counts.linear_chunk_flops
    linear = m.linear_layers * (counts.linear_flops + chunk)
    cores = (core * pairs + picked + looked + linear) * s.cost.attention_core
    head = choose(counts.abstract > 0, 0.0, 2.0 * counts.head)
    return p.sequences * (p.new * (2.0 * body + cores) + head * p.sampled)


def decode_spell(at: Places) -> Spell:
    """Return one decode pass: every sequence in flight gains its tokens."""
    main, w = at.main, at.main.s.workload
    p = decode_pass(main)
    f = forward(main, (p,), at.ffn, at.apart)
    drafting = draft_seconds(main, p)
    t = _longer(bounds(main, f), drafting)
    gained = tokens_per_pass(w.draft_tokens, w.acceptance)
    tokens = main.plan.in_flight * gained
    waves = main.plan.in_flight / main.plan.microbatch
    return _single(t, f, drafting)._replace(
        tpot=t.estimate / gained,
        tokens=tokens,
        # of the tokens checked only those kept are useful
        flops=useful_flops(main.s, main.counts, p._replace(new=gained)) * waves,
        output_s=t.estimate / tokens,
        tokens_per_pass=gained,
        draft_s=drafting,
    )


def _longer(t: Bounds, more: Number) -> Bounds:
    return Bounds(t.estimate + more, t.lower + more, t.upper + more)


def _single(t: Bounds, f: Forward, drafting: Number = 0.0) -> Spell:
    """Return the spell of one pass; drafting, small passes of their own, counts as overhead."""
    parts = f.parts._replace(overhead=f.parts.overhead + drafting)
    return Spell(
        t.estimate, t.lower, t.upper, parts, f.blocks, f.read_s, f.traffic, sides_busy_s(f)
    )


def prefill_spell(at: Places) -> Spell:
    """Return one prefill pass; its tokens are the prompt tokens computed."""
    main = at.main
    p = prefill_pass(main, 0.0)
    f = forward(main, (p,))
    t = bounds(main, f)
    waves = main.plan.in_flight / main.plan.microbatch
    tokens = p.sequences * p.new * waves
    cached = cached_token_s(main, (p,), f) / waves
    retrieving = retrieve_s(main, p)
    return _single(t, f)._replace(
        ttft=t.estimate + retrieving,
        tokens=tokens,
        flops=useful_flops(main.s, main.counts, p) * waves,
        input_s=t.estimate / tokens - cached * p.cached / p.new,
        cached_s=cached,
        retrieve_s=retrieving,
    )


def serve_spell(at: Places) -> Spell:
    """Return a decode pass and the share of a prefill pass that keeps the batch full.

    In steady state in_flight * tokens_per_pass / output requests end per decode pass and as many
    prompts are prefilled: in passes of their own while decoding stands still; in chunks, in a share
    of the passes beside the decoding sequences (Sarathi-Serve, arXiv:2403.02310); or by as many
    prefill instances as keep up (DistServe, arXiv:2401.09670), or as there are. TTFT counts the
    passes of one prompt, its cache's way from its tier and to the decoding pool; waiting is not
    counted (MODEL section 9).
    """
    main, first, w = at.main, at.prefill, at.main.s.workload
    decoding, prefilling = decode_pass(main), prefill_pass(first, at.separate)
    mixed = chunked(main.s, at.separate)
    d = forward(main, (decoding,), at.ffn, at.apart)
    beside = decoding._replace(sequences=decoding.sequences * mixed)
    passes = (beside, prefilling) if "chunks" in main.s.features else (prefilling,)
    f = forward(first, passes)
    drafting = draft_seconds(main, decoding)
    t, u = _longer(bounds(main, d), drafting), _longer(bounds(first, f), drafting * mixed)
    gained = tokens_per_pass(w.draft_tokens, w.acceptance)
    tokens = main.plan.in_flight * gained
    tokens_in = prefilling.sequences * prefilling.new * first.plan.pp
    prompts = tokens_in / prefilling.prompt
    share = tokens / w.output / prompts  # prefill passes per decode pass
    alone, more = 1.0 - mixed * share, share * (1.0 - at.separate)

    def blend(a: Number, b: Number) -> Number:
        return a * alone + b * more

    step = blend(t.estimate, u.estimate)
    transferring = at.separate * transfer_s(at, prefilling)
    retrieving = retrieve_s(first, prefilling)
    period = choose(at.separate > 0, most(u.estimate, most(transferring, retrieving)), u.estimate)
    matched = share * period / step
    instances = choose(w.prefill_instances > 0, w.prefill_instances, matched)
    fed = choose(at.separate > 0, least(1.0, divide(instances, matched, 1.0)), 1.0)
    cached = cached_token_s(first, passes, f) / first.plan.pp
    parts = d.parts._replace(overhead=d.parts.overhead + drafting)
    parts_beside = f.parts._replace(overhead=f.parts.overhead + drafting * mixed)
    per_prompt = useful_flops(first.s, first.counts, prefilling) * first.plan.pp * share
    kept = useful_flops(main.s, main.counts, decoding._replace(new=gained))
    flops = kept * main.plan.in_flight / main.plan.microbatch + per_prompt
    chunks = round_up(prefilling.prompt / prefilling.new, first.s.calibration.quantize)
    times = 1.0 + mixed * (chunks - 1.0) / first.plan.pp  # chunks follow each other through stages
    return Spell(
        step=step,
        lower=blend(t.lower, u.lower),
        upper=blend(t.upper, u.upper),
        parts=Parts(*(blend(a, b) for a, b in zip(parts, parts_beside, strict=True))),
        blocks=tuple(blend(a, b) for a, b in zip(d.blocks, f.blocks, strict=True)),
        read_s=(blend(d.read_s[0], f.read_s[0]), blend(d.read_s[1], f.read_s[1])),
        traffic=tuple(
            [blend(a, b) for a, b in zip(x, y, strict=True)]
            for x, y in zip(d.traffic, f.traffic, strict=True)
        ),
        busy=tuple(blend(a, b) for a, b in zip(sides_busy_s(d), sides_busy_s(f), strict=True)),
        ttft=u.estimate * times + transferring + retrieving,
        tpot=step / gained,
        tokens=tokens * fed,
        flops=flops * fed,
        input_s=(period - mixed * t.estimate) / tokens_in
        - cached * prefilling.cached / prefilling.prompt,
        cached_s=cached,
        output_s=t.estimate / tokens,
        tokens_per_pass=gained,
        draft_s=drafting,
        prefill_share=share,
        prefill_instances=instances * at.separate,
        prefill_busy=divide(matched * fed, instances) * busy_s(f.parts) / period,
        transfer_s=transferring,
        retrieve_s=retrieving,
        chunks_missing=mixed * most(share * (1.0 - 1e-6) - 1.0, 0.0),
    )


def busy_s(parts: Parts) -> Number:
    """Return the longer of arithmetic and memory traffic: what draws power."""
    return most(parts.compute, parts.weights + parts.kv + parts.activation)


def sides_busy_s(f: Forward) -> tuple[Number, Number]:
    """Return the busy seconds of a pass: of the chips that attend, and of an FFN pool."""
    near, far = (f.batches * busy_s(side.parts) for side in (f.attention, f.ffn))
    return choose(f.apart > 0, near, busy_s(f.parts)), far


def cached_token_s(at: Site, passes: tuple[Pass, ...], f: Forward) -> Number:
    """Return machine seconds that one more cached prompt token adds to prefill pass `f`.

    As many cached tokens as new ones are put before the pass: they are attended to and read, not
    projected. What holding and fetching them costs is not in it.
    """
    p = passes[-1]
    prompts = p.sequences * p.new / p.prompt
    return cached_more_s(at, passes, f, p.prompt) / (prompts * p.prompt)


def transfer_s(at: Places, p: Pass) -> Number:
    """Return the time that the caches of a rank's prompts take from prefill to decode chips.

    The chips of a rank send what only they hold, one prompt after the other; the slower side sets
    the pace.
    """
    total = at.main.plan.chips + at.prefill.plan.chips
    bytes_per_s: Number = float("inf")
    fixed: Number = 0.0
    for one in (at.prefill, at.main):
        # another kind of machine is never in the same rack
        chips = total
        if at.prefill.s.hardware is not at.main.s.hardware:
            chips = most(total, one.s.hardware.fabric[0].chips + 1.0)
        way = path(one.s.hardware, one.s.calibration, chips)
        bytes_per_s = least(bytes_per_s, one.plan.kv_shards * one.plan.pp * way.bytes_per_s)
        fixed = most(fixed, way.latency_s + way.launch_s)
    prompts = p.sequences / at.prefill.plan.attention_ranks
    kept = attention.cache_of(at.main.s, at.main.counts, at.main.s.workload.prompt)
    return prompts * sum(kept) / bytes_per_s + fixed


def retrieve_s(at: Site, p: Pass) -> Number:
    """Return the time that cached tokens take from the tier they waited in; 0 from HBM."""
    s, plan = at.s, at.plan
    bandwidth = tier(s).bytes_per_s * plan.kv_shards * plan.pp
    prompts = most(p.sequences * p.new / p.prompt / plan.attention_ranks, 1.0)
    kept = sum(attention.cache_of(s, at.counts, s.workload.cached))
    fetched = choose(s.workload.cached > 0, kept, 0.0)
    return choose(s.workload.cache_tier > 0, divide(prompts * fetched, bandwidth), 0.0)


class Tier(NamedTuple):
    """A chip's share of the memory that cached tokens wait in."""

    bytes: Number
    bytes_per_s: Number


def tier(s: Scenario) -> Tier:
    """Return the tier of `workload.cache_tier`; HBM for those that stay there."""
    hw, where = s.hardware, s.workload.cache_tier
    host, flash = hw.tiers.host, hw.tiers.flash
    return Tier(
        choose(where == 0, hw.hbm_bytes, choose(where == 1, host.bytes, flash.bytes)),
        choose(
            where == 0, hw.hbm_bytes_per_s, choose(where == 1, host.bytes_per_s, flash.bytes_per_s)
        ),
    )
