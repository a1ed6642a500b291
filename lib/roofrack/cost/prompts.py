"""How prompts are computed at a load: alone, several in a pass, in chunks beside what decodes."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from roofrack.arithmetic import Number, choose, expm1, least, most
from roofrack.cost import queues
from roofrack.cost.caches import retrieve_s, transfer_s
from roofrack.cost.forward import forward
from roofrack.cost.layout import layout
from roofrack.cost.mixed import prompts_of
from roofrack.cost.overlap import bounds
from roofrack.cost.passes import Places, chunked, decode_pass, prefill_pass
from roofrack.cost.serving import draft_seconds
from roofrack.cost.shares import Pass
from roofrack.cost.site import Site
from roofrack.cost.waits import Prompt


class Prompts(NamedTuple):
    """Prompts on their machines: one alone, and what each takes when `together` are computed."""

    alone: Prompt
    each_s: Number
    together: Number


class Base(NamedTuple):
    """Prompts whatever the load: seconds of one of the mean length, and for as much length again.

    `period_s` of an instance with full passes, for each prompt; `chunked` prompts in chunks beside
    the most sequences in flight, None where no point has chunks.
    """

    alone_s: Number
    length_s: Number
    period_s: Number
    later_s: Number
    chunked: Prompts | None


def held_tokens(at: Site) -> Number:
    """Return the tokens that a decoding sequence holds on average.

    Whoever looks finds long outputs more often: half of E[l^2] / E[l] is behind it.
    """
    w = at.s.workload
    return w.prompt + w.output / 2.0 * (1.0 + w.output_cv**2)


def of_batch(at: Site, batch: Number) -> Site:
    """Return a site with another batch."""
    s = replace(at.s, workload=replace(at.s.workload, batch=batch))
    return at._replace(s=s, plan=layout(s))


def joined(per_pass: Number) -> Number:
    """Return how many prompts are there when any is, of so many that come in a pass (Poisson)."""
    few = per_pass < 1e-4
    some = choose(few, 1.0, per_pass)
    return choose(few, 1.0 + per_pass / 2.0, -some / expm1(-some))


def base_of(at: Places, slots: Number, passes: queues.Passes, rank: int) -> Base:
    """Return how prompts are computed, one alone, twice as long, and as many as a pass takes.

    All in one evaluation, on an axis of its own.
    """
    first = at.prefill
    many = prefill_pass(first, at.separate)
    one = many._replace(sequences=least(many.sequences, 1.0))
    place = np.arange(3.0).reshape(-1, *[1] * rank)
    longer = choose(place == 1.0, 2.0, 1.0)
    each = one._replace(
        sequences=choose(place == 2.0, many.sequences, one.sequences),
        new=one.new * longer,
        prompt=one.prompt * longer,
    )
    took = _prefill_s(first, each)
    alone_s, twice_s, full_s = took[0], took[1], took[2]
    moving = most(transfer_s(at, many), retrieve_s(first, many))
    return Base(
        alone_s=alone_s,
        length_s=most(least(twice_s - alone_s, alone_s), 0.0),
        period_s=most(full_s, moving) / many.sequences / first.plan.pp,
        later_s=retrieve_s(first, one) + at.separate * transfer_s(at, one),
        chunked=_full_chunks(at, many, slots, passes) if "chunks" in first.s.features else None,
    )


def prompts_at(
    at: Places, base: Base, per_pass: Number, slots: Number, passes: queues.Passes
) -> Prompts:
    """Return how prompts are computed where `per_pass` come in a pass, those at once with room."""
    first, w = at.prefill, at.main.s.workload
    many = prefill_pass(first, at.separate)
    together = most(least(joined(per_pass), many.sequences), 1.0)
    some_s = _prefill_s(first, many._replace(sequences=together))
    each = some_s / together / first.plan.pp
    length_cv = w.prompt_cv * base.length_s / base.alone_s
    zero = 0.0 * base.alone_s
    whole = Prompts(
        Prompt(
            some_s - base.length_s, base.length_s, zero, zero, each, length_cv, w.prompt_cv,
            base.later_s,
        ),
        each,
        together,
    )  # fmt: skip
    if base.chunked is None:
        return whole
    mixed = chunked(first.s, at.separate)
    # a prompt of several chunks is there for as many passes; chunks are spread over ranks evenly
    own = many.prompt / many.new
    there = most(least(joined(per_pass * own), many.sequences), 1.0)
    tokens = there * many.new * at.main.plan.pp
    some = prompts_of(at.main, tokens, many.cached + many.prompt / 2.0)
    usual = _chunks(at, some, slots, passes, tokens / many.prompt, own)
    chunks = usual._replace(
        alone=usual.alone._replace(
            server_s=base.chunked.alone.server_s,  # others start until the chunks are full
            chunk_s=base.chunked.alone.chunk_s,
            later_s=base.later_s,
        )
    )
    pairs = zip(chunks, whole, strict=True)
    return Prompts(*(_either(mixed, a, b) for a, b in pairs))


def _either(condition: Number, this: Any, other: Any) -> Any:
    if isinstance(this, Prompt):
        return Prompt(*(_either(condition, a, b) for a, b in zip(this, other, strict=True)))
    return choose(condition > 0, this, other)


def _prefill_s(at: Site, p: Pass) -> Number:
    return bounds(at, forward(at, (p,))).estimate


def _full_chunks(at: Places, p: Pass, slots: Number, passes: queues.Passes) -> Prompts:
    """Return how prompts are computed where every pass takes as much of them as it can."""
    prompts = p.sequences * p.new * at.main.plan.pp / p.prompt
    return _chunks(at, p, slots, passes, prompts, p.prompt / p.new)


def _chunks(
    at: Places, p: Pass, slots: Number, passes: queues.Passes, prompts: Number, own: Number
) -> Prompts:
    """Return how prompts are computed in chunks beside `slots` decoding sequences.

    `prompts` are computed in each pass, parts of `p`; one takes `own` passes.
    """
    main, w = at.main, at.main.s.workload
    waves = main.plan.in_flight / w.batch
    crowded = of_batch(main, most(slots / waves, 1.0))
    beside = decode_pass(crowded)._replace(cached=held_tokens(main))
    more_s = bounds(crowded, forward(crowded, (beside, p))).estimate
    more_s = most(more_s + draft_seconds(crowded, beside) - passes.full_s, 0.0)
    each = more_s / prompts
    decoding = passes.full_s
    server_s = each + decoding / prompts
    zero = 0.0 * each
    return Prompts(
        Prompt(
            zero, own * more_s, decoding, own, server_s, w.prompt_cv, w.prompt_cv, zero,
            0.0, decoding / prompts,
        ),
        each,
        1.0 + zero,
    )  # fmt: skip
