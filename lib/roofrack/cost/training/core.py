"""The attention core of a training step, forward and backward: fused, or with its scores in memory.

Fused kernels differ by a factor of five on one machine, so the kernel is part of the plan. Its
speed is what was published of it there, forward and backward together; `fitted` takes the core of
prompts as the machine's calibration has it.
"""

from dataclasses import replace
from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, least
from roofrack.cost import attention, ffn
from roofrack.cost.kernels.formats import where
from roofrack.cost.roofline import Work
from roofrack.cost.shares import Format, Pass, Share
from roofrack.cost.site import Site
from roofrack.cost.training.legs import MASK_BYTES, Legs, joined, passes
from roofrack.tables import ATTENTION_KERNELS

FLASH_BACKWARD = 2.5
"""FLOP of the backward core over those of the forward one: five products for two, as scores are
computed again (Dao, arXiv:2307.08691)."""

FLASH_SLOWER = 73.0 / 63.0
"""Share of the peak that FlashAttention-2 reaches forward (73 %) over that backward (63 %), on
A100 (arXiv:2307.08691 section 4.1)."""

RECURRENT_BACKWARD = 2.0
"""The same for indexers and linear layers, whose products have one gradient for each operand."""

BEST = float(list(ATTENTION_KERNELS).index("best"))

SHARP = 10.0
"""Exponent of the smooth maximum: speeds of whole kernels contain their traffic."""

WIDE = 128.0
"""Elements of a head for which speeds of kernels are told."""


class Speed(NamedTuple):
    """How fast a fused kernel is: share of the 16-bit peak forward, and FLOP backward over forward.

    A slower backward pass counts as more FLOP.
    """

    share: Number
    backward: Number


def speed(at: Site, length: Number, width: Number) -> Speed:
    """Return the speed of the kernel that the plan asks for; a share of 0 where none is published.

    `length` keys that the last query meets, `width` elements of a head. Of the published share of
    long sequences s / (s + `ramp`) is reached, and more work on the softmax beside narrow heads
    costs d / (d + `exponent`) of it.
    """
    published, plan = at.s.hardware.attention_kernels, at.s.plan
    share, slower = 0.0, FLASH_SLOWER
    for index, (name, kernel) in enumerate(ATTENTION_KERNELS.items()):
        if kernel is None:
            continue
        reached = getattr(published, name) * divide(length, length + kernel.ramp)
        wide = least(width, WIDE)  # of wider heads nothing was published
        narrow = divide(wide, wide + kernel.exponent) * (1.0 + kernel.exponent / WIDE)
        reached = reached * narrow
        asked = (plan.attention_kernel == index) | (plan.attention_kernel == BEST)
        better = asked & (reached > share)
        share = choose(better, reached, share)
        slower = choose(better, kernel.slower, slower)
    both = 1.0 + FLASH_BACKWARD * slower
    return Speed(least(share * both / (1.0 + FLASH_BACKWARD), 1.0), FLASH_BACKWARD * slower)


def cores(at: Site, mine: Share, p: Pass) -> Legs:
    """Return the cores of all layers: fused, or with the scores written to memory.

    Only layers that attend to all tokens or to a window have an unfused form.
    """
    full, windowed, index, picked, linear = attention.cores(at, mine, p)
    fused = choose(at.s.plan.flash_attention > 0, 1.0, 0.0)
    told = [
        _published(at, mine, p, w._replace(times=w.times * fused), window)
        for w, window in ((full, 0.0), (windowed, at.s.model.window))
    ]
    softmax = FLASH_BACKWARD * FLASH_SLOWER
    forward = [*(w for w, _ in told), index, picked, linear]
    factors = (*(factor for _, factor in told), RECURRENT_BACKWARD, softmax, RECURRENT_BACKWARD)
    inputs = [
        w._replace(
            flops=w.flops * factor,
            kv_bytes=2.0 * w.kv_bytes,
            io_bytes=2.0 * w.io_bytes,
            fixed_s=w.fixed_s * factor,
        )
        for w, factor in zip(forward, factors, strict=True)
    ]
    return joined(Legs(forward, inputs, []), _unfused(at, mine, p, 1.0 - fused))


def _published(at: Site, mine: Share, p: Pass, work: Work, window: Number) -> tuple[Work, Number]:
    """Return the work of a fused core as published, else as it is, and its backward FLOP."""
    m, plan = at.s.model, at.plan
    pair = divide(at.counts.core_flops_expanded, m.heads)
    swaps = at.s.plan.context_parallel > 0
    length = attention.cache_length(p.prompt / choose(swaps, 1.0, plan.cp), window)
    found = speed(at, length, pair / 4.0)
    told = (found.share > 0) & (at.s.calibration.published_kernels > 0)
    pairs = mine.attention_tokens * attention.seen(p, window) * m.heads / plan.attention_tp
    peak = at.s.hardware.flops_per_s.bf16
    fit = replace(
        work.kernel,
        compute_efficiency=choose(told, found.share, 1.0),
        hbm_efficiency=at.s.calibration.stream_efficiency,
        sharpness=SHARP,
    )
    factor = choose(told, found.backward, FLASH_BACKWARD * FLASH_SLOWER)
    return work._replace(
        flops=choose(told, pair * pairs * at.s.cost.attention_core, work.flops),
        peak=choose(told, peak, work.peak),
        fixed_s=choose(told, least(work.fixed_s, work.kernel.launch_s), work.fixed_s),
        kernel=where(told, fit, work.kernel),
    ), factor


def _unfused(at: Site, mine: Share, p: Pass, used: Number) -> Legs:
    """Return the core as two products and passes over all scores, masked ones included.

    Softmax reads and writes the scores, as does dropout, which writes a mask besides (Korthikanti
    et al. 2022, arXiv:2205.05198 section 4.1). Backward, softmax reads its output and the gradient.
    """
    s, m, plan = at.s, at.s.model, at.plan
    layers = (at.counts.full_layers + m.window_layers) * used
    layers = layers * choose(m.heads > 0, 1.0, 0.0) * s.cost.attention_core
    mla = choose(m.kv_lora > 0, 1.0, 0.0)
    depth = mla * (m.qk_nope_dim + m.qk_rope_dim) + (1.0 - mla) * m.head_dim
    value = mla * m.v_head_dim + (1.0 - mla) * m.head_dim
    of = Format(mine.b_activations, mine.of.core_peak, at.formats.weights.fit)
    rows = mine.attention_tokens * m.heads / plan.attention_tp
    scores = ffn.Product(of, rows, p.prompt, depth, layers)
    mixed = ffn.Product(of, rows, value, p.prompt, layers)
    forward = ffn.products(at, [scores, mixed])
    # the gradients of a product of two activations are two products of the same three sizes
    turned = [
        scores,
        scores._replace(columns=depth, depth=p.prompt),
        mixed,
        mixed._replace(columns=p.prompt, depth=value),
    ]
    pairs, dropped = rows * p.prompt, s.workload.dropout
    masks = MASK_BYTES * pairs * dropped
    spread = passes(at, (2.0 + 2.0 * dropped) * pairs, masks, layers)
    gathered = passes(at, (3.0 + 2.0 * dropped) * pairs, masks, layers)
    return Legs([*forward, spread], [*ffn.products(at, turned), gathered], [])
