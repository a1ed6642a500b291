"""What one chip has to do with the tokens of one pass; shared by all blocks."""

from typing import NamedTuple

import numpy as np

from roofrack.arithmetic import Number, choose, least, look_up, most, round_up
from roofrack.cost.layout import Layout
from roofrack.hardware import FlopsPerS
from roofrack.nouns import Scenario
from roofrack.tables import DTYPES, MATH_UNITS

_BYTES = np.array([d.bytes for d in DTYPES.values()])
_UNIT = np.array([MATH_UNITS.index(d.math) for d in DTYPES.values()])


class Pass(NamedTuple):
    """One forward pass: `new` tokens in each of `sequences` (one micro-batch, whole instance).

    Each sequence has `cached` tokens before the new ones; `decode` (static) absorbs MLA's
    up-projections, uses the decode attention kernel and samples every sequence.
    """

    decode: bool
    sequences: Number
    new: Number
    cached: Number


class Share(NamedTuple):
    """The pass from one chip's point of view.

    `attention_sequences` and `attention_tokens` of the rank the chip belongs to for attention;
    `tokens` of its data-parallel rank; `own_tokens` that it alone sends to the experts;
    `group_tokens` of the chips that hold all experts once. `b_*` bytes per element, `peak` FLOP/s
    of the matrix units, `core_peak` those of the attention core.
    """

    attention_sequences: Number
    attention_tokens: Number
    tokens: Number
    own_tokens: Number
    group_tokens: Number
    b_weights: Number
    b_activations: Number
    b_kv: Number
    b_dispatch: Number
    b_combine: Number
    peak: Number
    core_peak: Number


def bytes_of(dtype: Number) -> Number:
    """Return bytes per element of a dtype given by its index into DTYPES."""
    return look_up(_BYTES, dtype)


def peak_of(flops_per_s: FlopsPerS, dtype: Number) -> Number:
    """Return the dense peak FLOP/s of the units that compute in a dtype; 0 if the chip has none."""
    unit = look_up(_UNIT, dtype)
    peak: Number = 0.0
    for index, name in enumerate(MATH_UNITS):
        peak = choose(unit == index, getattr(flops_per_s, name), peak)
    return peak


def share(s: Scenario, plan: Layout, p: Pass) -> Share:
    """Divide a pass over the chips of a stage. With `quantize`, the busiest chip counts."""
    dtype, quantize = s.workload.dtype, s.calibration.quantize
    # one sequence cannot be divided over ranks
    attention_sequences = round_up(most(p.sequences / plan.attention_ranks, 1.0), quantize)
    # whole sequences on each rank, but never more than there are
    grouped = attention_sequences * plan.attention_ranks / plan.expert_copies
    # context parallelism divides the new tokens of a prompt; a decoding token it replicates
    split = 1.0 if p.decode else plan.cp
    tokens = round_up(most(p.sequences / plan.dp, 1.0), quantize) * p.new / split
    own = tokens / plan.tp / (plan.cp if p.decode else 1.0)
    peak = peak_of(s.hardware.flops_per_s, dtype.math)
    # the core multiplies by the cache: in the cache's format if the chip can, else as the GEMMs do
    kv_peak = peak_of(s.hardware.flops_per_s, dtype.kv)
    return Share(
        attention_sequences=attention_sequences,
        attention_tokens=attention_sequences * p.new / split,
        tokens=tokens,
        own_tokens=round_up(own, quantize),
        group_tokens=least(p.sequences, grouped) * p.new,
        b_weights=bytes_of(dtype.weights),
        b_activations=bytes_of(dtype.activations),
        b_kv=bytes_of(dtype.kv),
        b_dispatch=bytes_of(dtype.dispatch),
        b_combine=bytes_of(dtype.combine),
        peak=peak,
        core_peak=choose(kv_peak > 0, least(peak, kv_peak), peak),
    )
