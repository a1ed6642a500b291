"""Serving at a load: what requests wait and pay when so many arrive per second. MODEL section 9.

The cost model says what a pass of each batch takes; `queues` how many sequences are then in flight,
`waits` what that does to those that arrive. Slots are as many as `workload.batch` allows and
as fit into memory with the cache they hold on average: long requests are there for longer.
"""

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from roofrack.arithmetic import Number, any_rank, choose, divide, least, most, total
from roofrack.cost import paces, queues, waits
from roofrack.cost.forward import forward
from roofrack.cost.memory import memory
from roofrack.cost.overlap import bounds
from roofrack.cost.paces import Pace
from roofrack.cost.passes import Places, chunked, decode_pass, prefill_pass, tokens_per_pass
from roofrack.cost.prompts import Base, base_of, held_tokens, of_batch, prompts_at
from roofrack.cost.quantiles import QUANTILES as SHARES
from roofrack.cost.queues import Demand, States
from roofrack.cost.serving import NONE, Spell, draft_seconds
from roofrack.cost.waits import Prompt, Waits
from roofrack.units import MILLION

PAGE = 16.0
"""Tokens of a page of cache: the last one of a sequence is half empty on average."""

QUANTILES = tuple(f"{what}_{q}_s" for what in ("ttft", "tpot") for q in SHARES)
COLUMNS = (
    *QUANTILES,
    "queue_s",
    "utilization",
    "capacity_per_s",
    "slots_at_load",
    "batch_at_load",
    "usd_per_mtok_at_load",
    "train_s",
    "train_wait_s",
    "train_worst_s",
    "fill_per_s",
)
"""Columns of the result schema that are about the load, besides `goodput`."""

_GROWS = (*QUANTILES, "queue_s", "train_s", "train_wait_s")
"""Columns without a value where the queue grows without end."""

_NEVER = 1e9
"""Seconds that stand for a limit of infinity: no gradient is lost in it."""

UNLOADED: dict[str, Number] = dict.fromkeys(COLUMNS, NONE)


@any_rank()
def at_load(at: Places, spell: Spell, usd_per_s: Number) -> dict[str, Number]:
    """Return the columns of `workload.arrivals_per_s`, and `goodput`.

    NaN where that is 0 or no sequence fits; times are NaN where more arrive than can be served.
    `usd_per_s` is what one instance costs with its pools, used or not.
    """
    s, w = at.main.s, at.main.s.workload
    rank = _rank(s)
    replicas = s.plan.replicas
    gained = tokens_per_pass(w.draft_tokens, w.acceptance)
    slots = slots_of(at)
    fit = slots >= 1.0
    slots = most(slots, 1.0)
    passes = passes_of(at, slots, rank)
    per_s = w.arrivals_per_s / replicas
    count = most((w.output - 1.0) / gained, 1e-3)
    here = 1.0 - at.separate

    base = base_of(at, slots, passes, rank)
    crowded = prompts_at(at, base, slots / count, slots, passes)
    full = Demand(per_s, count, crowded.each_s * here)
    capacity = _capacity(at, full, passes, spell.prefill_instances, base)
    busy = per_s / capacity
    usual = prompts_at(at, base, busy * slots / count, slots, passes)
    d = Demand(per_s, count, usual.each_s * here, w.arrival_cv, usual.alone.server_cv, w.output_cv)
    law = queues.states(d, passes)
    held = total(law.n * law.share) + law.full * slots
    usual = usual._replace(alone=_beside(usual.alone, passes, held, per_s, w.wait_s))
    prompt = usual.alone
    waiting = waits.waits(d, law, slots, prompt, usual.together)
    waiting = _elsewhere(at, d, law, waiting, prompt, spell.prefill_instances, base)
    own_s = waits.ttft_mean(waiting, prompt, rank) - prompt.later_s - prompt.gate_s
    left = least(busy, 1.0) * capacity * own_s - law.queued
    stops = here * (1.0 - chunked(s, at.separate))
    pace = paces.pace(d, law, slots, stops * most(left, 1e-9))

    found = _columns(waiting, prompt, pace, gained, rank)
    late = waits.ttft_beyond(least(w.ttft_limit_s, _NEVER), waiting, prompt, rank)
    slow = paces.pace_beyond(least(w.tpot_limit_s, _NEVER) * gained, pace, rank)
    # as if a late first token said nothing of the tokens after it
    found["goodput"] = (1.0 - total(late)) * (1.0 - total(slow))
    tokens = least(per_s, capacity) * w.output
    idle = total(law.share * choose(law.n <= 0, 1.0, 0.0))
    found |= {
        "utilization": busy,
        "capacity_per_s": capacity * replicas,
        "slots_at_load": slots,
        "batch_at_load": choose(busy < 1, divide(held, 1.0 - idle), slots),
        "usd_per_mtok_at_load": usd_per_s / tokens * MILLION,
        "train_s": pace.mean,
        "train_wait_s": waiting.pass_s / 2.0,
        "train_worst_s": 2.0 * passes.full_s,
        "fill_per_s": _filling(at, full, spell, gained) * replicas,
    }
    for name in _GROWS:
        found[name] = choose(busy < 1, found[name], NONE)
    found["goodput"] = choose(busy < 1, found["goodput"], 0.0)
    told = (w.arrivals_per_s > 0) & fit
    return {name: choose(told, value, NONE) for name, value in found.items()}


def _columns(
    waiting: Waits, prompt: Prompt, pace: Pace, gained: Number, rank: int
) -> dict[str, Number]:
    """Return the columns of what requests wait."""
    first = waits.ttft_quantiles(waiting, prompt, rank)
    next_ = paces.pace_quantiles(pace, rank)
    return {
        **{f"ttft_{q}_s": value for q, value in first.items()},
        **{f"tpot_{q}_s": value / gained for q, value in next_.items()},
        "queue_s": waiting.queue_s + prompt.gate_s,
    }


def _capacity(
    at: Places, d: Demand, passes: queues.Passes, instances: Number, base: Base
) -> Number:
    """Return the most requests per s of an instance: by its slots, chunks, or prefill pool."""
    n = passes.slots
    p = prefill_pass(at.prefill, at.separate)
    if "chunks" in at.main.s.features:
        # no more are in flight than chunks bring while one decodes
        fed = d.passes * p.sequences * p.new * at.main.plan.pp / p.prompt
        n = choose(chunked(at.main.s, at.separate) > 0, most(least(n, fed), 1.0), n)
    here = 1.0 / (d.prompt_s + d.passes * total(passes.at(n)) / n)
    if at.main.s.prefill is None:
        return here
    pool = divide(instances, base.period_s, 0.0)
    return choose(at.separate > 0, least(here, pool), here)


def _beside(
    prompt: Prompt, passes: queues.Passes, held: Number, per_s: Number, wait_s: Number
) -> Prompt:
    """Return a prompt as it is at the load: chunks beside so many sequences, the wait for others.

    The first of a group waits `wait_s`, those that come during it half of that.
    """
    pass_s = choose(prompt.chunks > 0, total(passes.at(most(held, 1.0))), 0.0)
    server_s = prompt.server_s + divide(pass_s - prompt.pass_s, passes.full_s) * prompt.chunk_s
    joining = per_s * wait_s
    gate_s = wait_s * (1.0 + joining / 2.0) / (1.0 + joining)
    return prompt._replace(pass_s=pass_s, server_s=server_s, gate_s=gate_s)


def _elsewhere(
    at: Places,
    d: Demand,
    law: States,
    here: Waits,
    prompt: Prompt,
    instances: Number,
    base: Base,
) -> Waits:
    """Return the waits where prompts have machines of their own: for those, and for a slot after.

    A queue of several servers, Sakasegawa's approximation (Annals of the Institute of Statistical
    Mathematics 29, 1977). Then the pool that decodes takes the request over, with the pass that
    follows the one it runs, and passes the first token on.
    """
    if at.main.s.prefill is None:
        return here
    load = least(divide(d.per_s * base.period_s, instances), 1.0 - 1e-4)
    servers = most(instances, 1.0)
    delayed = load ** ((2.0 * (servers + 1.0)) ** 0.5 - 1.0)
    variable = (d.arrival_cv**2 + prompt.server_cv**2) / 2.0
    opened = 1.0 - law.full
    runs = divide(here.passing, here.passing + here.idle)
    rest_s = runs * here.pass_s
    apart = here._replace(
        idle=opened * (1.0 - delayed) * (1.0 - runs),
        passing=opened * (1.0 - delayed) * runs,
        behind=opened * delayed,
        behind_pass_s=rest_s,
        behind_s=prompt.server_s * variable / (servers * (1.0 - load)),
        shared_s=0.0 * load,
        after_s=opened * rest_s / 2.0 + law.full * (here.pass_s / 2.0 + here.full_s),
    )
    pairs = zip(apart, here, strict=True)
    return Waits(*(choose(at.separate > 0, a, b) for a, b in pairs))


def _filling(at: Places, d: Demand, spell: Spell, gained: Number) -> Number:
    """Return the arrivals per s that keep workload.batch in flight, whatever memory there is."""
    return 1.0 / (d.prompt_s + d.passes * spell.output_s * gained)


def slots_of(at: Places) -> Number:
    """Return how many sequences an instance holds at once: workload.batch, or what fits.

    Below 1 where not even one fits.
    """
    main, w = at.main, at.main.s.workload
    prompts = prefill_pass(main, 0.0)
    prompts = prompts._replace(sequences=prompts.sequences * (1.0 - at.separate))
    tokens = held_tokens(main) + (PAGE - 1.0) / 2.0
    taken = memory(main, (decode_pass(main), prompts), tokens, at.apart)
    twice = of_batch(main, 2.0 * w.batch)
    more = memory(twice, (decode_pass(twice), prompts), tokens, at.apart).kv - taken.kv
    missing = most(taken.total - taken.capacity, 0.0)
    share = 1.0 - divide(missing, more, 0.0)
    return main.plan.in_flight * share


def passes_of(at: Places, slots: Number, rank: int) -> queues.Passes:
    """Return the seconds of a decode pass of 1 to `slots` sequences (nodes, 1, ...)."""
    n = queues.nodes(slots, rank)
    return queues.Passes(_decode_s(at, n), slots)


def _decode_s(at: Places, n: Number) -> Number:
    """Return the seconds of a decode pass of n sequences in flight, drafting included."""
    waves = at.main.plan.in_flight / at.main.s.workload.batch
    batch = most(n / waves, 1.0)
    main = of_batch(at.main, batch)
    far = None if at.ffn is None else of_batch(at.ffn, batch)
    p = decode_pass(main)._replace(cached=held_tokens(main))
    return bounds(main, forward(main, (p,), far, at.apart)).estimate + draft_seconds(main, p)


def _rank(x: Any) -> int:
    """Return how many axes the leaves of a noun have."""
    if is_dataclass(x):
        return max((_rank(getattr(x, f.name)) for f in fields(x)), default=0)
    if isinstance(x, tuple):
        return max((_rank(value) for value in x), default=0)
    return 0 if x is None or isinstance(x, str) else len(np.shape(getattr(x, "value", x)))
