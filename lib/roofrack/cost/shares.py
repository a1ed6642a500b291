"""What one chip has to do with the tokens of one pass; shared by all blocks."""

from typing import Any, NamedTuple

import numpy as np

from roofrack.arithmetic import Number, choose, least, look_up, most, round_up
from roofrack.cost.kernels import formats as kinds
from roofrack.cost.layout import Layout
from roofrack.hardware import FlopsPerS
from roofrack.nouns import Scenario
from roofrack.tables import DTYPES, MATH_UNITS

_BYTES = np.array([d.bytes for d in DTYPES.values()])
_UNIT = np.array([MATH_UNITS.index(d.math) for d in DTYPES.values()])


class Pass(NamedTuple):
    """Sequences of one kind in a forward pass: `new` tokens in each of `sequences`.

    Of one micro-batch, whole instance. Decoding (`decode`, static) each sequence has `cached`
    tokens before the new ones, all new ones are sampled, MLA's up-projections are absorbed and the
    decode attention kernel is used. Else the new tokens are a chunk of a `prompt` of which `cached`
    tokens were there before; quantities are means over its chunks. Where a model `trains` (static)
    every token is sampled.
    """

    decode: bool
    sequences: Number
    new: Number
    cached: Number
    prompt: Number
    trains: bool = False

    @property
    def sampled(self) -> Number:
        """Tokens that the head is asked for, for each sequence."""
        return self.new if self.decode or self.trains else self.new / self.prompt


class Share(NamedTuple):
    """The pass from one chip's point of view.

    `attention_sequences` and `attention_tokens` of the rank the chip belongs to for attention;
    `tokens` of its data-parallel rank; `own_tokens` that it alone sends to the experts;
    `group_tokens` of the chips that hold all experts once; `head_rows` tokens of the data-parallel
    rank that are sampled; `attends` 1 if there are sequences at all; `of` the number formats.
    """

    attention_sequences: Number
    attention_tokens: Number
    tokens: Number
    own_tokens: Number
    group_tokens: Number
    head_rows: Number
    attends: Number
    of: "Formats"

    @property
    def b_activations(self) -> Number:
        """Bytes of one element between blocks."""
        return self.of.activations


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


class Format(NamedTuple):
    """One kind of weights: bytes per element, FLOP/s of the units that multiply by them, losses.

    `multiplied` bytes of an element as those units take it.
    """

    bytes: Number
    peak: Number
    fit: Any
    multiplied: Number = 2.0


class Formats(NamedTuple):
    """How each kind of data is stored, and what works on it.

    `weights` are all that have no format of their own; `attention` the projections before the
    core, `attention_out` the one after it, `experts` the routed ones, `head` head and embedding.
    Bytes per element of `activations`, of copies sent by `dispatch` and `combine`, of the `kv`
    cache and of `index` keys; `core_peak` and `index_peak` are the FLOP/s of the attention core and
    of a sparse-attention indexer, which multiply by the cache.
    """

    weights: Format
    attention: Format
    attention_out: Format
    experts: Format
    head: Format
    activations: Number
    dispatch: Number
    combine: Number
    kv: Number
    index: Number
    core_peak: Number
    index_peak: Number

    @property
    def peak(self) -> Number:
        """FLOP/s of the units that most matrix products use."""
        return self.weights.peak

    @property
    def least_peak(self) -> Number:
        """FLOP/s of the slowest units asked for; 0 where the chip lacks any."""
        return least(self.weights.peak, self.experts.peak)


def formats(s: Scenario) -> Formats:
    """Look up the number formats of a scenario, and what is lost with each."""
    dtype, flops = s.workload.dtype, s.hardware.flops_per_s
    gemms = s.calibration.kernel.gemm
    peak = peak_of(flops, dtype.math)

    def part(own: Number) -> Format:
        """A part of the weights computes in its own format where the chip can."""
        stored = choose(own > 0, own - 1.0, dtype.weights)
        computes = (own > 0) & (peak_of(flops, stored) > 0)
        math = choose(computes, stored, dtype.math)
        fit = kinds.gemm(gemms, stored, math)
        return Format(bytes_of(stored), peak_of(flops, math), fit, bytes_of(math))

    experts = choose(dtype.experts > 0, dtype.experts - 1.0, dtype.weights)
    experts_math = choose(dtype.experts_math > 0, dtype.experts_math - 1.0, dtype.math)
    return Formats(
        weights=Format(
            bytes_of(dtype.weights),
            peak,
            kinds.gemm(gemms, dtype.weights, dtype.math),
            bytes_of(dtype.math),
        ),
        attention=part(dtype.attention),
        attention_out=part(choose(dtype.attention_out > 0, dtype.attention_out, dtype.attention)),
        experts=Format(
            bytes_of(experts),
            peak_of(flops, experts_math),
            kinds.experts(s.calibration.kernel.moe, experts, experts_math),
            bytes_of(experts_math),
        ),
        head=part(dtype.head),
        activations=bytes_of(dtype.activations),
        dispatch=bytes_of(dtype.dispatch),
        combine=bytes_of(dtype.combine),
        kv=bytes_of(dtype.kv),
        index=bytes_of(dtype.index),
        core_peak=_peak_with(s, peak, dtype.kv),
        index_peak=_peak_with(s, peak, dtype.index),
    )


def share(s: Scenario, plan: Layout, of: Formats, p: Pass) -> Share:
    """Divide a pass over the chips of a stage. With `quantize`, the busiest chip counts."""
    quantize = s.calibration.quantize
    attends = choose(p.sequences > 0, 1.0, 0.0)
    # one sequence cannot be divided over ranks
    attention_sequences = attends * round_up(
        most(p.sequences / plan.attention_ranks, 1.0), quantize
    )
    # whole sequences on each rank, but never more than there are
    grouped = attention_sequences * plan.attention_ranks / plan.expert_copies
    # context parallelism divides the new tokens of a prompt; a decoding token it replicates
    split = 1.0 if p.decode else plan.cp
    sequences = attends * round_up(most(p.sequences / plan.dp, 1.0), quantize)
    tokens = sequences * p.new / split
    own = tokens / plan.tp / (plan.cp if p.decode else 1.0)
    return Share(
        attention_sequences=attention_sequences,
        attention_tokens=attention_sequences * p.new / split,
        tokens=tokens,
        own_tokens=round_up(own, quantize),
        group_tokens=least(p.sequences, grouped) * p.new,
        # of a prompt the last token counts, which one rank has; a model trains on every token
        head_rows=sequences * p.sampled / (plan.cp if p.trains else 1.0),
        attends=attends,
        of=of,
    )


def _peak_with(s: Scenario, peak: Number, dtype: Number) -> Number:
    """Return the peak of a product with cached data: in its format if the chip can, else `peak`."""
    cached = peak_of(s.hardware.flops_per_s, dtype)
    return choose(cached > 0, cached, peak)


def together(shares: list[Share]) -> Share:
    """Return what blocks see whose weights meet all tokens of a pass, of whichever kind.

    The sequences of each kind stay apart: attention works on one kind at a time.
    """
    tokens = ("attention_tokens", "tokens", "own_tokens", "group_tokens", "head_rows")
    return shares[0]._replace(**{n: sum(getattr(one, n) for one in shares) for n in tokens})
