"""The optimiser: what it keeps of each parameter, and what an update of them takes.

MODEL section 7: an update is bound by memory. Adam in mixed precision reads gradient, master copy
and both moments (14 B a parameter) and writes weight, master copy and moments (14 B).
"""

from typing import NamedTuple

import numpy as np

from roofrack.arithmetic import Number, choose, divide, least, look_up, most
from roofrack.cost.shares import bytes_of
from roofrack.cost.site import Site
from roofrack.cost.training.ranks import Held, Ranks
from roofrack.tables import DTYPES, OPTIMIZERS

_STATES = np.array([o.states for o in OPTIMIZERS.values()])
_OTHERS = np.array([o.others for o in OPTIMIZERS.values()])
_NEWTON_SCHULZ = np.array([o.newton_schulz for o in OPTIMIZERS.values()])


CLIPPING_PASSES = 4.0
"""Elements moved of each gradient besides: read for the norm, read and written to be scaled,
written to be cleared for the next step."""

SCALING_PASSES = 2.0
"""In FP16 gradients are also read, checked for overflow and written in another scale
(NVIDIA/Megatron-LM@5d6473811f23:megatron/optimizer/optimizer.py, unscale_and_check_for_nan)."""

_HALF = float(list(DTYPES).index("fp16"))


class Kept(NamedTuple):
    """Bytes of optimiser state, master copy included, of a parameter of the layers and of ends."""

    layers: Number
    ends: Number
    master: Number


def kept(at: Site) -> Kept:
    """Return what the optimiser keeps of each parameter."""
    w = at.s.workload
    copied = w.dtype.master > 0
    master = choose(copied, bytes_of(most(w.dtype.master - 1.0, 0.0)), 0.0)
    states, others = (look_up(table, w.optimizer) for table in (_STATES, _OTHERS))
    return Kept(states + master, others + master, master)


def state_bytes(at: Site, of: Ranks, has: Held) -> Number:
    """Return the bytes of optimiser state on one chip, before any of it is offloaded."""
    dense, experts = _divided(at, of, 1.0)
    each = kept(at)
    layers = (has.dense - has.ends) / dense + has.experts / experts
    return layers * each.layers + has.ends / dense * each.ends


def _divided(at: Site, of: Ranks, stage: float) -> tuple[Number, Number]:
    """Return in how many parts ranks divide dense parameters and experts from a ZeRO stage on."""
    on = at.s.plan.zero >= stage
    return choose(on, of.dense, 1.0), choose(on, of.experts, 1.0)


def divided_bytes(at: Site, of: Ranks, stage: float, sizes: tuple[Number, Number]) -> Number:
    """Return the bytes of dense parameters and of experts left to a chip under ZeRO."""
    dense, experts = _divided(at, of, stage)
    return sizes[0] / dense + sizes[1] / experts


def update_s(at: Site, of: Ranks, has: Held) -> Number:
    """Return the seconds of an update: memory traffic of local parameters, and Muon's products.

    Each number of the state is read and written, the gradient read and the weight written. What is
    updated in the host takes no time here.
    """
    s, fit, reached = at.s, at.formats.weights.fit, at.s.calibration.stream_efficiency
    dense, experts = _divided(at, of, 1.0)
    w = s.workload
    b_gradient, here = bytes_of(w.dtype.gradients), 1.0 - s.plan.offload_optimizer
    stored = divide(sum(has.weight_bytes), has.dense + has.experts)
    # without a master copy the weight itself is read
    scaled = choose(w.dtype.weights == _HALF, SCALING_PASSES, 0.0)
    cleared = b_gradient * (CLIPPING_PASSES * w.gradient_clipping + scaled)
    rest = b_gradient + cleared + stored * choose(w.dtype.master > 0, 1.0, 2.0)
    params = has.dense / dense + has.experts / experts
    moved = 2.0 * state_bytes(at, of, has) + params * rest
    memory = moved / (s.hardware.hbm_bytes_per_s * reached)
    flops = newton_schulz_flops(at, has, dense, experts)
    return here * (memory + divide(flops, at.formats.peak * fit.compute_efficiency))


def newton_schulz_flops(at: Site, has: Held, dense: Number, experts: Number) -> Number:
    """Return the FLOP of one chip to orthogonalise the updates of its matrices.

    An iteration on r x c, r <= c, is X X' (2 r r c), its square (2 r r r) and the product with X
    (2 r r c): 4 r + 2 r r / c for each element (Jordan et al. 2024, "Muon"). Ranks and
    tensor-parallel chips each take their share of whole matrices, as in Moonlight
    (arXiv:2502.16982 section 2.3); an estimate, in which attention and FFN matrices count alike.
    """
    m = at.s.model
    iterations = look_up(_NEWTON_SCHULZ, at.s.workload.optimizer)
    inner = m.heads * choose(m.kv_lora > 0, m.v_head_dim, m.head_dim)
    wide = choose(at.counts.dense_layers > 0, m.d_ff, inner)

    def each(width: Number) -> Number:
        small, large = least(m.d_model, width), most(m.d_model, width)
        return 4.0 * small + 2.0 * divide(small * small, large)

    layers = (has.dense - has.ends) / dense * each(wide)
    return iterations * (layers + has.experts / experts * each(m.d_ff_expert))
