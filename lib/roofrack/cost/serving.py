"""Phases: which passes repeat, how often, and on which machines. MODEL sections 3, 8 and 11.

A phase becomes a Spell, a stretch that repeats: one pass for decode and prefill; for serve one
decode pass with the prompts that keep the batch full, computed in passes of their own, in chunks
beside the decoding sequences, or on a pool of their own.
"""

from collections.abc import Sequence
from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, least, most, round_up
from roofrack.cost.caches import retrieve_s, transfer_s
from roofrack.cost.forward import Forward, Parts, forward
from roofrack.cost.overlap import Bounds, bounds, cached_more_s
from roofrack.cost.passes import (
    Places,
    chunked,
    decode_pass,
    prefill_pass,
    tokens_per_pass,
    useful_flops,
)
from roofrack.cost.shares import Pass
from roofrack.cost.site import Site, drafter

NONE = float("nan")
"""A column that a phase does not have; stored as null."""


class Spell(NamedTuple):
    """A stretch that repeats: its passes by resource, in seconds, and its output.

    `tokens` and `flops` (useful) of the whole instance over all micro-batches in flight; `read_s`
    seconds of weights and cache at full bandwidth; `traffic` bytes that a chip sends by kind and
    level; `spread` standard errors by kernel class of `serial` seconds, nothing hidden behind
    another block. `input_s` and `cached_s` are seconds of the machines that prefill for one prompt
    token, `output_s` of those that decode for one generated token.

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
    spread: tuple[Number, ...] = ()
    serial: Number = NONE
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


def draft_seconds(main: Site, checked: Pass) -> Number:
    """Return the time of drafting for one pass: one small pass for each drafted token."""
    if main.s.draft is None:
        return 0.0
    small = drafter(main)
    one = bounds(small, forward(small, (checked._replace(new=1.0),)))
    # words looked up in the prompt take no layers and no time
    return main.s.workload.draft_tokens * choose(small.s.model.layers > 0, one.estimate, 0.0)


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
        t.estimate,
        t.lower,
        t.upper,
        parts,
        f.blocks,
        f.read_s,
        f.traffic,
        sides_busy_s(f),
        f.spread,
        f.serial + drafting,
    )


def _blend(one: Spell, times: Number, other: Spell, others: Number) -> Spell:
    """Return the spell of so many of one pass and so many of another."""

    def mix(a: Number, b: Number) -> Number:
        return a * times + b * others

    def each(a: Sequence[Number], b: Sequence[Number]) -> list[Number]:
        return [mix(x, y) for x, y in zip(a, b, strict=True)]

    return Spell(
        step=mix(one.step, other.step),
        lower=mix(one.lower, other.lower),
        upper=mix(one.upper, other.upper),
        parts=Parts(*each(one.parts, other.parts)),
        blocks=tuple(each(one.blocks, other.blocks)),
        read_s=(mix(one.read_s[0], other.read_s[0]), mix(one.read_s[1], other.read_s[1])),
        traffic=tuple(each(a, b) for a, b in zip(one.traffic, other.traffic, strict=True)),
        spread=tuple(each(one.spread, other.spread)),
        serial=mix(one.serial, other.serial),
        busy=(mix(one.busy[0], other.busy[0]), mix(one.busy[1], other.busy[1])),
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

    step = t.estimate * alone + u.estimate * more
    transferring = at.separate * transfer_s(at, prefilling)
    retrieving = retrieve_s(first, prefilling)
    period = choose(at.separate > 0, most(u.estimate, most(transferring, retrieving)), u.estimate)
    matched = share * period / step
    instances = choose(w.prefill_instances > 0, w.prefill_instances, matched)
    fed = choose(at.separate > 0, least(1.0, divide(instances, matched, 1.0)), 1.0)
    cached = cached_token_s(first, passes, f) / first.plan.pp
    once, beside_s = _single(t, d, drafting), _single(u, f, drafting * mixed)
    per_prompt = useful_flops(first.s, first.counts, prefilling) * first.plan.pp * share
    kept = useful_flops(main.s, main.counts, decoding._replace(new=gained))
    flops = kept * main.plan.in_flight / main.plan.microbatch + per_prompt
    chunks = round_up(prefilling.prompt / prefilling.new, first.s.calibration.quantize)
    times = 1.0 + mixed * (chunks - 1.0) / first.plan.pp  # chunks follow each other through stages
    return _blend(once, alone, beside_s, more)._replace(
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
