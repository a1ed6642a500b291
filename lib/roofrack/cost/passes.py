"""Which passes a phase runs, and where: on one pool, or on machines of their own."""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, least, most
from roofrack.cost import attention
from roofrack.cost.shares import Pass
from roofrack.cost.site import AFD, DISAGGREGATED, Site, pool
from roofrack.model import Counts
from roofrack.nouns import Scenario


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
