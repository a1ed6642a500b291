"""The attention block: projections, and the cores that mix tokens, one for each kind of layer.

MODEL sections 2 and 3. Projections are sharded by heads, the core also by the sequences of a rank;
the cache by KV heads at most, an MLA latent not at all.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, least, most, padded
from roofrack.cost.layout import Layout
from roofrack.cost.roofline import Work
from roofrack.cost.shares import Pass, Share, bytes_of
from roofrack.model import Counts
from roofrack.nouns import Scenario


def kv_ways(s: Scenario, plan: Layout) -> Number:
    """Return the ways that key and value projections are divided: KV heads cap it."""
    kv_heads = s.model.kv_heads
    return choose(kv_heads > 0, least(plan.attention_tp, kv_heads), 1.0)


def params(s: Scenario, counts: Counts, plan: Layout) -> Number:
    """Return attention parameters of all layers on one chip, pipeline stages not yet divided.

    Tensor parallelism divides what belongs to query heads, divides KV projections only up to the
    number of KV heads, and replicates down-projections and the indexer.
    """
    m = s.model
    softmax = counts.attention_latent + counts.attention_heads / plan.attention_tp
    own_kv = counts.softmax_layers - m.shared_kv_layers
    return (
        counts.softmax_layers * softmax
        + own_kv * counts.attention_kv / kv_ways(s, plan)
        + m.linear_layers * counts.linear / plan.attention_tp
        + m.sparse_layers * counts.indexer
    )


def projections(s: Scenario, counts: Counts, plan: Layout, mine: Share) -> Work:
    """Return the work of the projections into and out of the cores of all layers."""
    m = s.model
    gemm = s.calibration.kernel.gemm
    held = params(s, counts, plan) * plan.imbalance
    rows = padded(mine.attention_tokens, gemm.tile, s.calibration.quantize)
    mla = choose(m.kv_lora > 0, 1.0, 0.0)
    query = m.heads * (mla * (m.qk_nope_dim + m.qk_rope_dim) + (1 - mla) * m.head_dim)
    value = m.heads * (mla * m.v_head_dim + (1 - mla) * m.head_dim)
    state = 2 * (m.linear_key_heads * m.linear_key_dim + m.linear_value_heads * m.linear_value_dim)
    # in and out of the two GEMMs: D -> q, k, v; heads -> D
    width = 2 * m.d_model + (query + value) / plan.attention_tp + counts.kv_elements
    linear = 2 * m.d_model + state / plan.attention_tp
    attends = choose(m.heads > 0, 1.0, 0.0)
    widths = (counts.softmax_layers * width + m.linear_layers * linear) * plan.imbalance
    return Work(
        flops=2.0 * held * rows,
        peak=mine.peak,
        weight_bytes=held * mine.b_weights,
        kv_bytes=0.0,
        io_bytes=mine.attention_tokens * widths * mine.b_activations * attends
        * s.cost.activation_io,
        # MLA compresses and expands: down, query up, (absorbed) key and value up, output
        calls=attends * m.layers * plan.imbalance * (2.0 + 3.0 * mla),
        kernel=gemm,
    )  # fmt: skip


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


def cores(s: Scenario, counts: Counts, plan: Layout, mine: Share, p: Pass) -> tuple[Work, ...]:
    """Return the work of the attention cores of all layers: one Work for each kind of layer."""
    m = s.model
    full = softmax(s, counts, plan, mine, p, counts.full_layers, 0.0)
    windowed = softmax(s, counts, plan, mine, p, m.window_layers, m.window)
    return (full, windowed, *sparse(s, counts, plan, mine, p), linear(s, counts, plan, mine, p))


def seen(p: Pass, window: Number) -> Number:
    """Return the mean number of tokens attended to; of a decoding token all that are kept."""
    if p.decode:
        return cache_length(p.cached, window)
    return attended(p.cached, p.prompt, window)


def held(p: Pass, window: Number) -> Number:
    """Return the mean cache of a sequence that a pass reads; chunks find earlier ones there."""
    if p.decode:
        return cache_length(p.cached, window)
    # a window reaches back at most `window` tokens before the first new one
    return p.new + cache_length(p.cached + (p.prompt - p.new) / 2.0, window)


def softmax(
    s: Scenario, counts: Counts, plan: Layout, mine: Share, p: Pass, layers: Number, window: Number
) -> Work:
    """Return the core of `layers` that attend all tokens, or a `window` of them.

    FLOP: `4 heads head_dim` per pair of tokens; MLA absorbed in decode, expanded in prefill, where
    each cached latent is expanded again. Bytes: the cache of every sequence once per pass, a prefix
    that all share once for all of them.
    """
    m = s.model
    layers = layers * plan.imbalance
    kernels = s.calibration.kernel
    per_pair = counts.core_flops_absorbed if p.decode else counts.core_flops_expanded
    pairs = mine.attention_sequences * p.new * seen(p, window)
    flops = pairs * per_pair / (plan.attention_tp * plan.cp)
    read = held(p, window)
    if not p.decode:  # a chip expands the latents of others that it attends to; its own it has
        others = read - p.new / plan.cp
        flops += mine.attention_sequences * others * counts.expand_flops / plan.attention_tp
    return Work(
        flops=flops * s.cost.attention_core,
        peak=mine.core_peak,
        weight_bytes=0.0,
        kv_bytes=_cache_read(s, counts, plan, mine, p, read, 1.0),
        io_bytes=_core_io(s, plan, mine, p),
        calls=choose(m.heads > 0, 1.0, 0.0) * mine.attends,
        kernel=kernels.attention_decode if p.decode else kernels.attention_prefill,
        times=layers,
    )


def _cache_read(
    s: Scenario,
    counts: Counts,
    plan: Layout,
    mine: Share,
    p: Pass,
    read: Number,
    sharing: Number,
) -> Number:
    """Return bytes of cache that one chip reads in one layer, `read` tokens for each sequence."""
    # what is read are the last tokens: a window has to reach back into the prefix
    reach = least(s.workload.shared_prefix, p.cached) - (p.cached - read)
    shared = sharing * most(reach, 0.0) if p.decode else 0.0
    tokens = mine.attention_sequences * (read - shared) + shared * mine.attends
    # context parallelism divides what a decoding token reads; a prompt's tokens need all keys
    ways = plan.kv_shards if p.decode else plan.kv_shards / plan.cp
    return tokens * kv_bytes_per_layer(s, counts) / ways


def _core_io(s: Scenario, plan: Layout, mine: Share, p: Pass) -> Number:
    """Return bytes of queries and outputs of one layer's core."""
    m = s.model
    value = m.heads * choose(m.kv_lora > 0, m.kv_lora if p.decode else m.v_head_dim, m.head_dim)
    io = 2.0 * mine.attention_tokens * value / plan.attention_tp * mine.b_activations
    return io * s.cost.activation_io


def sparse(s: Scenario, counts: Counts, plan: Layout, mine: Share, p: Pass) -> tuple[Work, Work]:
    """Return the indexer, which looks at every token, and the core on the tokens it picks.

    DeepSeek Sparse Attention (DeepSeek-V3.2): the core is absorbed in decode and prefill. Each
    decoding token gathers its own picks; those of a prompt overlap and are read once, as a dense
    core reads its cache. Tensor parallelism replicates the indexer.
    """
    m, kernels = s.model, s.calibration.kernel
    layers = m.sparse_layers * plan.imbalance
    kernel = kernels.attention_decode if p.decode else kernels.attention_prefill
    looked_at = mine.attention_sequences * p.new * seen(p, 0.0) / plan.cp
    prefix = least(s.workload.shared_prefix, p.cached) if p.decode else 0.0
    tokens = mine.attention_sequences * (held(p, 0.0) - prefix) + prefix * mine.attends
    keys = tokens * counts.index_elements * mine.b_index
    picks = seen(p, m.sparse_tokens)
    flops = mine.attention_sequences * p.new * picks * counts.core_flops_absorbed
    read = p.new * picks if p.decode else held(p, 0.0)
    index = Work(
        flops=looked_at * counts.index_flops * s.cost.attention_core,
        peak=mine.index_peak,
        weight_bytes=0.0,
        kv_bytes=keys / (plan.cp if p.decode else 1.0),
        io_bytes=0.0,
        calls=mine.attends,
        kernel=kernel,
        times=layers,
    )
    core = Work(
        flops=flops / (plan.attention_tp * plan.cp) * s.cost.attention_core,
        peak=mine.core_peak,
        weight_bytes=0.0,
        kv_bytes=_cache_read(s, counts, plan, mine, p, read, 0.0),
        io_bytes=_core_io(s, plan, mine, p),
        calls=mine.attends,
        kernel=kernel,
        times=layers,
    )
    return index, core


def linear(s: Scenario, counts: Counts, plan: Layout, mine: Share, p: Pass) -> Work:
    """Return the core of linear layers: the state of every sequence read and written once.

    The heads of the state are divided as attention heads are; its cost does not know the context.
    """
    m, kernels = s.model, s.calibration.kernel
    layers = m.linear_layers * plan.imbalance
    per_token = counts.linear_flops + (0.0 if p.decode else counts.linear_chunk_flops)
    state = 2.0 * mine.attention_sequences * counts.state_bytes
    width = m.linear_key_heads * m.linear_key_dim + m.linear_value_heads * m.linear_value_dim
    io = 2.0 * mine.attention_tokens * width * mine.b_activations * s.cost.activation_io
    return Work(
        flops=mine.attention_tokens * per_token / plan.attention_tp * s.cost.attention_core,
        peak=mine.core_peak,
        weight_bytes=0.0,
        kv_bytes=state / plan.attention_tp,
        io_bytes=io / plan.attention_tp,
        calls=mine.attends,
        kernel=kernels.attention_decode if p.decode else kernels.attention_prefill,
        times=layers,
    )  # fmt: skip


def kv_bytes_per_layer(s: Scenario, counts: Counts) -> Number:
    """Return KV bytes of one token in one layer: counted times the dtype, or as given."""
    given = divide(s.model.kv_bytes_per_token, s.model.layers)
    counted = counts.kv_elements * bytes_of(s.workload.dtype.kv)
    return choose(s.model.kv_bytes_per_token > 0, given, counted)


class Cache(NamedTuple):
    """Bytes that all layers keep of one sequence: keys and values, indexer keys, linear states.

    The three are divided differently: by KV heads, not at all, and by heads.
    """

    kv: Number
    index: Number
    state: Number


def cache_of(s: Scenario, counts: Counts, tokens: Number, prefix: bool = False) -> Cache:
    """Return what is kept of `tokens` tokens; no chip's share of it.

    Layers that attend another one's cache keep none; a linear layer keeps its state. Of a `prefix`
    that others share only what does not depend on what follows it: no windows, no states.
    """
    m = s.model
    own = 1.0 - divide(m.shared_kv_layers, counts.softmax_layers)
    windowed = 0.0 if prefix else m.window_layers * cache_length(tokens, m.window)
    kept = (counts.full_layers + m.sparse_layers) * tokens + windowed
    return Cache(
        kv=kept * own * kv_bytes_per_layer(s, counts),
        index=m.sparse_layers * counts.index_elements * bytes_of(s.workload.dtype.index) * tokens,
        state=0.0 if prefix else m.linear_layers * counts.state_bytes,
    )
