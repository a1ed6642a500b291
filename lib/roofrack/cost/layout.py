"""How a plan divides a model and a batch: shares per chip, and whether the division is possible.

MODEL section 5. Everything here is a count; no times.
"""

from typing import NamedTuple

import numpy as np

from roofrack.arithmetic import Number, ceil, choose, divide, least, look_up, most, round_up, whole
from roofrack.cost import schedules
from roofrack.nouns import Scenario
from roofrack.tables import PLACED, PLACEMENTS

_INSIDE = {
    (a, b): np.array([float(p.split("-").index(b) < p.split("-").index(a)) for p in PLACEMENTS])
    for a in PLACED
    for b in PLACED
}
"""Whether dimension b is placed inside dimension a, by placement."""


class Strides(NamedTuple):
    """Chips from one member of a group to the next, along each dimension of the plan."""

    tp: Number
    cp: Number
    ep: Number
    pp: Number


class Layout(NamedTuple):
    """Degrees in effect and the share of one chip.

    `stage` chips of one pipeline stage, `chips` of the instance; `attention_tp` ways that attention
    is tensor parallel and `attention_ranks` ways that its sequences are divided; `kv_shards` ways
    that the cache of one sequence is divided (KV heads cap it, an MLA latent is replicated);
    `expert_tp` ways that one expert is divided, `expert_span` chips that hold all experts once,
    `expert_copies` such groups in a stage; `microbatch` sequences in one pass and `in_flight` in
    all; `imbalance` layers of the fullest stage over the mean; `tp_rows` of the tp ways divide
    d_model in the dense FFN; `slots` places for experts, second copies included.
    """

    tp: Number
    ep: Number
    pp: Number
    dp: Number
    cp: Number
    stage: Number
    chips: Number
    attention_tp: Number
    attention_ranks: Number
    kv_shards: Number
    expert_tp: Number
    expert_span: Number
    expert_copies: Number
    microbatch: Number
    in_flight: Number
    imbalance: Number
    tp_rows: Number
    slots: Number
    strides: Strides


def layout(s: Scenario) -> Layout:
    """Resolve the plan of a scenario (racks, ep=stage, the reading of batch) into a Layout."""
    plan, model = s.plan, s.model
    tp, pp, cp = plan.tp, plan.pp, plan.cp
    solved = plan.racks * s.hardware.fabric[0].chips / (tp * pp * cp)
    dp = choose(plan.racks > 0, solved, plan.dp)
    stage = dp * tp * cp
    ep = choose(plan.ep == 0, stage, plan.ep)
    attention_tp = choose(plan.attention_dp > 0, 1.0, tp)
    # MLA keeps one latent for all heads; totals without heads (kv_heads 0) divide freely
    heads_cap = choose(model.kv_heads > 0, least(attention_tp, model.kv_heads), attention_tp)
    # the chips of a stage that ep leaves shard each expert, at most tp ways; beyond that, copies
    expert_tp = most(1.0, least(tp, stage / ep))
    expert_span = ep * expert_tp
    ranks = most(expert_span / (tp * cp), 1.0)  # of dp, that one group of experts spans
    microbatch, in_flight = _batches(s, dp)
    stage_layers = round_up(model.layers / pp, s.calibration.quantize)
    return Layout(
        tp=tp,
        ep=ep,
        pp=pp,
        dp=dp,
        cp=cp,
        stage=stage,
        chips=stage * pp,
        attention_tp=attention_tp,
        attention_ranks=dp * tp / attention_tp,
        kv_shards=cp * choose(model.kv_lora > 0, 1.0, heads_cap),
        expert_tp=expert_tp,
        expert_span=expert_span,
        expert_copies=stage / expert_span,
        microbatch=microbatch,
        in_flight=in_flight,
        imbalance=divide(stage_layers * pp, model.layers, 1.0),
        tp_rows=plan.tp_rows,
        slots=model.experts + plan.redundant_experts,
        strides=_strides(plan.placement, tp, cp, near_ranks(s, dp, ranks), pp),
    )


def _batches(s: Scenario, dp: Number) -> tuple[Number, Number]:
    """Return the sequences of one pass and of all passes in flight; training: of a whole step."""
    plan, w = s.plan, s.workload
    if w.phase == "train":
        return w.global_batch / microbatches(s, dp), w.global_batch
    grow = plan.pp_batch == 0
    return choose(grow, w.batch, w.batch / plan.pp), choose(grow, w.batch * plan.pp, w.batch)


def microbatches(s: Scenario, dp: Number) -> Number:
    """Return the micro-batches of a training step: as given, or of one sequence each."""
    return choose(s.plan.microbatches > 0, s.plan.microbatches, s.workload.global_batch / dp)


def near_ranks(s: Scenario, dp: Number, ranks: Number) -> Number:
    """Return the data-parallel ranks that are placed as `ep` is: `ranks` of them hold all experts.

    In training all of them may be; the rest is outside all else.
    """
    spanned = choose(s.model.experts > 0, ranks, 1.0)
    if s.workload.phase == "train":
        return choose(s.plan.data_placed > 0, dp, spanned)
    return spanned


def _strides(placement: Number, *sizes: Number) -> Strides:
    """Return the stride of each dimension: the chips of all dimensions placed inside it.

    `sizes` in the order of PLACED; `ep` is the part of dp that one group of experts spans.
    """
    found = []
    for a in PLACED:
        stride: Number = 1.0
        for b, size in zip(PLACED, sizes, strict=True):
            stride = stride * choose(look_up(_INSIDE[a, b], placement) > 0, size, 1.0)
        found.append(stride)
    return Strides(*found)


REASONS = (
    "tp does not divide the query heads",
    "tp and the KV heads: neither divides the other",
    "tp does not divide d_ff",
    "the expert's tensor-parallel degree does not divide d_ff_expert",
    "ep does not divide the experts",
    "ep does not divide the chips of a stage",
    "more pipeline stages than layers",
    "the chip has no units for dtype.math",
    "the racks do not hold a whole number of data-parallel ranks",
    "fewer sequences than pipeline stages under pp_batch=fixed",
    "more experts per token than experts",
    "cached tokens leave nothing of the prompt to compute",
    "more chips than the fabric connects",
    "the expert groups do not fill a stage",
    "more layers of a kind than layers",
    "windowed layers without a window",
    "more KV heads than query heads",
    "more active than total parameters",
    "the columns of a 2-D FFN (tp / tp_rows) do not divide d_ff",
    "tp_rows divides neither tp nor d_model",
    "fewer sequences than overlap_batches",
    "the chunk cannot keep the batch full",
    "more redundant experts than experts, or none to copy",
    "layers that need sizes the model does not give",
    "the machine states no such memory for cached tokens",
    "a pool or draft that the scenario was not made with",
    "the machine has no price to buy it at",
    "the micro-batches do not divide the sequences of the ranks",
    "the schedule cannot run with these stages and micro-batches",
    "virtual stages do not divide the layers of a stage",
    "the machine states no host memory to offload to",
)
"""Why a plan cannot run, by bit of `why_invalid`."""

BATCH_REASONS = sum(
    1 << REASONS.index(reason)
    for reason in (
        "fewer sequences than pipeline stages under pp_batch=fixed",
        "fewer sequences than overlap_batches",
    )
)
"""Those about the sequences that decode: none of them is in a pool that only computes prompts."""

CHUNK_REASON = 1 << REASONS.index("the chunk cannot keep the batch full")
"""It holds for a batch that is always full, not for requests that come as they come."""


def reasons(mask: int) -> str | None:
    """Return in words why a plan cannot run; None for a plan that can."""
    return "; ".join(reason for bit, reason in enumerate(REASONS) if mask >> bit & 1) or None


def _indivisible(a: Number, b: Number) -> Number:
    """Return whether b does not divide a (0 is divided by anything)."""
    return ~whole(divide(a, b))


def _ragged(plan: Layout) -> Number:
    """Return whether a group of experts takes other than whole tp groups, cp groups and ranks."""
    in_tp = least(plan.tp, plan.expert_span)
    in_cp = least(plan.cp, plan.expert_span / in_tp)
    ranks = plan.expert_span / in_tp / in_cp
    return _indivisible(plan.tp, in_tp) | _indivisible(plan.cp, in_cp) | ~whole(ranks)


def why_invalid(
    s: Scenario,
    plan: Layout,
    math_peak: Number,
    chunks_missing: Number = False,
    tier_missing: Number = False,
    parts_missing: Number = False,
) -> Number:
    """Return the bit mask of REASONS that rule the scenario out; 0 is a valid plan.

    `chunks_missing`: prompts need more chunks than there are passes; `tier_missing` and
    `parts_missing`: a memory or a pool is asked for that is not there. Where totals stand in for an
    architecture there are no heads or experts to divide.
    """
    m = s.model
    architecture = m.params_total == 0
    moe = architecture & (m.moe_layers > 0)
    heads = architecture & (m.heads > 0)
    trains = s.workload.phase == "train"
    kv_clash = _indivisible(m.kv_heads, plan.attention_tp) & _indivisible(
        plan.attention_tp, m.kv_heads
    )
    found = (
        heads & _indivisible(m.heads, plan.attention_tp),
        heads & (m.kv_lora == 0) & kv_clash,
        architecture
        & (m.moe_layers < m.layers)
        & (plan.tp_rows == 1)
        & _indivisible(m.d_ff, plan.tp),
        moe & _indivisible(m.d_ff_expert, plan.expert_tp),
        moe & _indivisible(plan.slots, plan.ep),
        (m.experts > 0) & _indivisible(plan.stage, plan.ep),
        plan.pp > m.layers,
        math_peak <= 0,
        (plan.dp < 1) | ~whole(plan.dp),
        False if trains else (s.plan.pp_batch == 1) & (s.workload.batch < plan.pp),
        m.experts_per_token > m.experts,
        (not trains) & (s.workload.cached > 0) & (s.workload.cached >= s.workload.prompt),
        plan.chips > s.hardware.fabric[-1].chips,
        moe & (~whole(plan.expert_copies) | ~whole(plan.expert_tp) | _ragged(plan)),
        (m.moe_layers > m.layers)
        | (m.window_layers + m.linear_layers + m.sparse_layers > m.layers)
        | (m.shared_kv_layers > m.layers - m.linear_layers),
        (m.window_layers > 0) & (m.window <= 0),
        m.kv_heads > m.heads,
        m.params_active > m.params_total,
        architecture & (plan.tp_rows > 1) & _indivisible(m.d_ff, plan.tp / plan.tp_rows),
        _indivisible(plan.tp, plan.tp_rows) | _indivisible(m.d_model, plan.tp_rows),
        (s.workload.phase in ("decode", "serve")) & (plan.microbatch < s.plan.overlap_batches),
        chunks_missing,
        (s.plan.redundant_experts > m.experts),
        ((m.linear_layers > 0) & (m.linear_key_dim * m.linear_value_heads <= 0))
        | ((m.sparse_layers > 0) & (m.sparse_tokens * m.index_heads * m.index_dim <= 0)),
        tier_missing,
        parts_missing,
        (s.economics.basis > 0) & (s.hardware.capex_usd <= 0),
    )
    if trains:
        found = (*found, *_untrainable(s, plan))
    return sum(choose(reason, 1 << bit, 0) for bit, reason in enumerate(found))


def _untrainable(s: Scenario, plan: Layout) -> tuple[Number, ...]:
    """Return which of the last REASONS hold, those of training alone."""
    m = microbatches(s, plan.dp)
    clashes = schedules.invalid(s.plan.schedule, plan.pp, m, s.plan.virtual_stages)
    unscheduled = clashes[1][0]
    for clash, _ in clashes[2:]:
        unscheduled = unscheduled | clash
    offloaded = s.plan.offload_optimizer + s.plan.offload_weights + s.plan.offload_activations
    fullest = ceil(s.model.layers / plan.pp)  # the last stage may have fewer
    return (
        clashes[0][0] | ~whole(s.workload.global_batch / (plan.dp * m)),
        unscheduled,
        _indivisible(fullest, s.plan.virtual_stages),
        (offloaded > 0) & (s.hardware.tiers.host.bytes_per_s <= 0),
    )
