"""Useful and executed FLOP of a training step. MODEL section 2.

MFU counts the model: forward, and twice that backward. HFU counts what is computed again besides.
Attention counts what a causal mask leaves, or all pairs of tokens; sources do either.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose
from roofrack.cost import attention
from roofrack.cost.passes import useful_flops
from roofrack.cost.shares import Pass
from roofrack.cost.site import Site
from roofrack.cost.training.core import FLASH_BACKWARD
from roofrack.cost.training.readings import recomputed


class Flops(NamedTuple):
    """FLOP of a step of the whole instance, by convention."""

    model: Number
    executed: Number
    model_full: Number
    executed_full: Number


def flops(at: Site, p: Pass, m: Number, full_layers: Number) -> Flops:
    """Return the FLOP of `m` micro-batches `p`: causal, then with all pairs of tokens."""
    causal = _counted(at, p, full_layers, 1.0)
    full = _counted(at, p, full_layers, _pairs_over_causal(at, p))
    return Flops(*(m * value for value in (*causal, *full)))


def _pairs_over_causal(at: Site, p: Pass) -> Number:
    """Return all pairs of tokens over those that a causal mask leaves."""
    return p.prompt / attention.seen(p, 0.0)


def _counted(at: Site, p: Pass, full_layers: Number, pairs: Number) -> tuple[Number, Number]:
    """Return FLOP of the model and executed, with `pairs` times the causal full attention."""
    s, counts = at.s, at.counts
    core = s.cost.attention_core * counts.core_flops_expanded * attention.seen(p, 0.0) * pairs
    windowed = s.cost.attention_core * counts.core_flops_expanded
    windowed = windowed * s.model.window_layers * attention.seen(p, s.model.window)
    tokens = p.sequences * p.new
    once = useful_flops(s, counts, p) + tokens * core * counts.full_layers * (1.0 - 1.0 / pairs)
    mtp, mtp_core = _further(at, core)
    cores = tokens * (core * counts.full_layers + windowed + mtp_core)
    forward = once + tokens * mtp
    heads = 2.0 * counts.head * tokens * (1.0 + s.workload.mtp_layers) * (1.0 - counts.abstract)
    whole, alone = recomputed(at, full_layers)
    fused = choose(s.plan.flash_attention > 0, FLASH_BACKWARD - 2.0, 0.0)
    more = whole * (forward - heads) + (alone + fused) * cores
    return 3.0 * forward, 3.0 * forward + more


def _further(at: Site, core: Number) -> tuple[Number, Number]:
    """Return FLOP for each token of the modules that predict further ones, and of their cores.

    A layer like the last and the head again; what joins both inputs (2 d_model to d_model) is left
    out.
    """
    m, counts = at.s.model, at.counts
    active = counts.shared + counts.router + m.experts_per_token * counts.expert
    ffn = choose(m.moe_layers > 0, active, counts.dense_ffn)
    times = at.s.workload.mtp_layers * (1.0 - counts.abstract)
    return times * (2.0 * (counts.attention + ffn + counts.head) + core), times * core
