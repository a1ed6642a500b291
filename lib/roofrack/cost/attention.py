"""The attention block: projections, and the core that reads the KV cache.

MODEL sections 2 and 3. Projections are sharded by heads, the core also by the sequences of a rank;
the cache by KV heads at most, an MLA latent not at all.
"""

from roofrack.arithmetic import Number, choose, divide, least, most, padded
from roofrack.calibration import Kernel
from roofrack.cost.layout import Layout
from roofrack.cost.roofline import Work
from roofrack.cost.shares import Pass, Share, bytes_of
from roofrack.model import Counts
from roofrack.nouns import Scenario


def projection_params(counts: Counts, model_kv_heads: Number, plan: Layout) -> Number:
    """Return attention parameters of one layer on one chip.

    Tensor parallelism divides what belongs to query heads, divides KV projections only up to the
    number of KV heads, and replicates MLA's down-projections.
    """
    kv_ways = choose(model_kv_heads > 0, least(plan.attention_tp, model_kv_heads), 1.0)
    return (
        counts.attention_latent
        + counts.attention_kv / kv_ways
        + counts.attention_heads / plan.attention_tp
    )


def projections(s: Scenario, counts: Counts, plan: Layout, mine: Share) -> Work:
    """Return the work of the QKV and output projections of all layers."""
    m = s.model
    gemm = s.calibration.kernel.gemm
    params = projection_params(counts, m.kv_heads, plan) * m.layers * plan.imbalance
    rows = padded(mine.attention_tokens, gemm.tile, s.calibration.quantize)
    mla = choose(m.kv_lora > 0, 1.0, 0.0)
    query = m.heads * (mla * (m.qk_nope_dim + m.qk_rope_dim) + (1 - mla) * m.head_dim)
    value = m.heads * (mla * m.v_head_dim + (1 - mla) * m.head_dim)
    # in and out of the two GEMMs: D -> q, k, v; heads -> D
    width = 2 * m.d_model + (query + value) / plan.attention_tp + counts.kv_elements
    attends = choose(m.heads > 0, 1.0, 0.0)
    io = mine.attention_tokens * width * mine.b_activations * m.layers * plan.imbalance * attends
    return Work(
        flops=2.0 * params * rows,
        peak=mine.peak,
        weight_bytes=params * mine.b_weights,
        kv_bytes=0.0,
        io_bytes=io * s.cost.activation_io,
        # MLA compresses and expands: down, query up, (absorbed) key and value up, output
        calls=attends * m.layers * plan.imbalance * (2.0 + 3.0 * mla),
        kernel=gemm,
    )


def attended(cached: Number, new: Number, window: Number) -> Number:
    """Return the mean number of tokens that each of `new` tokens after `cached` ones attends to.

    Causal: cached + new/2. A `window` > 0 caps each position: for cached = 0 and new > window
    this is window - window^2/(2 new).
    """
    end = cached + new
    turn = choose(window > 0, most(cached, least(window, end)), end)
    below = (turn - cached) * (turn + cached) / 2.0
    return divide(below + window * (end - turn), new)


def cache_length(tokens: Number, window: Number) -> Number:
    """Return how many of `tokens` a layer keeps: all of them, or its window."""
    return choose(window > 0, least(tokens, window), tokens)


def core(s: Scenario, counts: Counts, plan: Layout, mine: Share, p: Pass, windowed: bool) -> Work:
    """Return the work of the attention core of all full (or all windowed) layers.

    FLOP: `4 heads head_dim` per pair of tokens; MLA absorbed in decode, expanded in prefill, where
    each cached latent is expanded again. Bytes: the cache of every sequence once per pass.
    """
    m = s.model
    window = m.window if windowed else 0.0
    layers = (m.window_layers if windowed else m.layers - m.window_layers) * plan.imbalance
    kernel: Kernel
    if p.decode:
        kernel, core_flops = s.calibration.kernel.attention_decode, counts.core_flops_absorbed
        seen, held = cache_length(p.cached, window), cache_length(p.cached, window)
    else:
        kernel, core_flops = s.calibration.kernel.attention_prefill, counts.core_flops_expanded
        seen = attended(p.cached, p.new, window)
        # a window reaches back at most `window` tokens before the first new one
        held = p.new + cache_length(p.cached, window)
    heads_ways = plan.attention_tp * plan.cp
    flops = mine.attention_sequences * p.new * seen * core_flops / heads_ways
    if not p.decode:  # a chip expands the latents of others that it attends to; its own it has
        others = cache_length(p.cached, window) + p.new * (1.0 - 1.0 / plan.cp)
        flops += mine.attention_sequences * others * counts.expand_flops / plan.attention_tp
    # context parallelism divides what a decoding token reads; a prompt's tokens need all keys
    ways = plan.kv_shards if p.decode else plan.kv_shards / plan.cp
    kv_bytes = mine.attention_sequences * held * kv_bytes_per_layer(s, counts) / ways
    value = m.heads * choose(m.kv_lora > 0, m.kv_lora if p.decode else m.v_head_dim, m.head_dim)
    io = 2.0 * mine.attention_tokens * value / plan.attention_tp * mine.b_activations * layers
    return Work(
        flops=flops * layers * s.cost.attention_core,
        peak=mine.core_peak,
        weight_bytes=0.0,
        kv_bytes=kv_bytes * layers,
        io_bytes=io * s.cost.activation_io,
        calls=layers * choose(m.heads > 0, 1.0, 0.0),
        kernel=kernel,
    )


def kv_bytes_per_layer(s: Scenario, counts: Counts) -> Number:
    """Return KV bytes of one token in one layer: counted times the dtype, or as given."""
    given = s.model.kv_bytes_per_token / s.model.layers
    counted = counts.kv_elements * bytes_of(s.workload.dtype.kv)
    return choose(s.model.kv_bytes_per_token > 0, given, counted)
