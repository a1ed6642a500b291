"""The attention block: projections, and the cores that mix tokens, one for each kind of layer.

MODEL sections 2 and 3. Projections are sharded by heads, the core also by the sequences of a rank;
the cache by KV heads at most, an MLA latent not at all.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, least, most, padded
from roofrack.calibration import Kernel
from roofrack.cost.ffn import Product, products
from roofrack.cost.kernels import attention as cores_of
from roofrack.cost.kernels import formats as kinds
from roofrack.cost.kernels import linear as linear_cores
from roofrack.cost.layout import Layout
from roofrack.cost.roofline import Chip, Work
from roofrack.cost.shares import Pass, Share, bytes_of
from roofrack.cost.site import Site
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


def out_params(s: Scenario, counts: Counts, plan: Layout) -> Number:
    """Return those of `params` that project out of the softmax cores."""
    m = s.model
    width = m.heads * choose(m.kv_lora > 0, m.v_head_dim, m.head_dim) / plan.attention_tp
    return counts.softmax_layers * width * m.d_model * (1.0 - counts.abstract)


def projections(at: Site, mine: Share) -> list[Work]:
    """Return the work of the projections into and out of the cores of all layers.

    A softmax layer: D to queries, keys, values and gate at once, heads to D. Compressed queries and
    MLA's keys and values go through a latent; those of MLA are absorbed into queries and outputs,
    which takes as many FLOP as expanding one token. Then linear layers, and the indexer of sparse
    ones.
    """
    return products(at, projection_products(at, mine))


def projection_products(at: Site, mine: Share, expanded: bool = False) -> list[Product]:
    """Return the products of `projections`; MLA `expanded`: keys and values of its latent."""
    m, counts, plan = at.s.model, at.counts, at.plan
    mla = choose(m.kv_lora > 0, 1.0, 0.0)
    compressed = choose(m.q_lora > 0, 1.0, 0.0)
    heads = m.heads / plan.attention_tp
    query = heads * (mla * (m.qk_nope_dim + m.qk_rope_dim) + (1 - mla) * m.head_dim)
    value = heads * (mla * m.v_head_dim + (1 - mla) * m.head_dim)
    own_kv = 1.0 - divide(m.shared_kv_layers, counts.softmax_layers)
    kv = (1 - mla) * own_kv * 2.0 * m.kv_heads * m.head_dim / kv_ways(at.s, plan)
    latent = mla * (m.kv_lora + m.qk_rope_dim)
    first = choose(m.q_lora > 0, m.q_lora, query) + latent + kv + m.attention_gate * value
    linear = m.linear_value_heads * m.linear_value_dim / plan.attention_tp
    head_gates = m.linear_head_gates * m.linear_value_heads / plan.attention_tp
    gated = divide(counts.linear, m.d_model) / plan.attention_tp - linear - head_gates
    attends = choose(m.heads > 0, 1.0, 0.0)
    softmax = counts.softmax_layers * attends
    each, into, rows = (
        plan.imbalance * (1.0 - counts.abstract),
        mine.of.attention,
        mine.attention_tokens,
    )
    # absorbed, a key's share of the product goes with the query
    keys, from_keys = m.kv_lora * heads, m.qk_nope_dim
    if expanded:
        keys, from_keys = m.qk_nope_dim * heads, m.kv_lora
    asked = (
        (into, softmax, first, m.d_model),
        (into, softmax * compressed, query, m.q_lora),
        (into, softmax * mla, keys, from_keys),
        (into, softmax * mla, m.v_head_dim * heads, m.kv_lora),
        (into, m.linear_layers, gated, m.d_model),
        (into, m.linear_layers, head_gates, m.d_model),
        (into, m.linear_layers, m.d_model, linear),
        (into, m.sparse_layers, divide(counts.indexer, m.d_model), m.d_model),
        (mine.of.attention_out, softmax, m.d_model, value),
    )
    return [Product(of, rows, columns, depth, n * each) for of, n, columns, depth in asked]


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


def cores(at: Site, mine: Share, p: Pass) -> tuple[Work, ...]:
    """Return the work of the attention cores of all layers: one Work for each kind of layer."""
    m = at.s.model
    full = softmax(at, mine, p, at.counts.full_layers, 0.0)
    windowed = softmax(at, mine, p, m.window_layers, m.window)
    return (full, windowed, *sparse(at, mine, p), linear(at, mine, p))


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


def softmax(at: Site, mine: Share, p: Pass, layers: Number, window: Number) -> Work:
    """Return the core of `layers` that attend all tokens, or a `window` of them.

    FLOP: `4 head_dim` per head and pair of tokens; MLA absorbed in decode, expanded in prefill,
    where each cached latent is expanded again. Bytes: the cache of every sequence once per pass, a
    prefix that all share once for all of them.
    """
    s, plan = at.s, at.plan
    core = _decoding if p.decode else _prompts
    work = core(at, mine, p, window)
    has = choose(s.model.heads > 0, 1.0, 0.0) * mine.attends
    return work._replace(
        flops=work.flops * s.cost.attention_core,
        fixed_s=has * work.fixed_s,
        times=layers * plan.imbalance,
    )


def chip_of(at: Site, peak: Number) -> Chip:
    """Return what a kernel meets on the chips of a site."""
    return Chip(peak, at.s.hardware.hbm_bytes_per_s, at.s.hardware.sms)


def _decoding(at: Site, mine: Share, p: Pass, window: Number) -> Work:
    s, m, counts, plan = at.s, at.s.model, at.counts, at.plan
    latent = m.kv_lora > 0
    heads = m.heads / plan.attention_tp
    shared = choose(latent, 1.0, m.kv_heads / kv_ways(s, plan))
    kernels, kv = s.calibration.kernel, s.workload.dtype.kv
    fit = kinds.where(
        latent,
        kinds.decoding(kernels.mla_decode, kv),
        kinds.decoding(kernels.attention_decode, kv),
    )
    read = held(p, window)
    call = cores_of.Decoding(
        sequences=mine.attention_sequences * mine.attends,
        queries=p.new,
        shared=shared,
        heads=divide(heads, shared),
        context=held(p, 0.0) / plan.cp,
        seen=seen(p, window) / plan.cp,
        pair_flops=divide(counts.core_flops_absorbed, m.heads),
        kv_bytes=_cache_read(s, counts, plan, mine, p, read, 1.0),
        io_bytes=_core_io(s, plan, mine, p),
    )
    chip = chip_of(at, mine.of.core_peak)
    return cores_of.decode(call, chip, fit, s.calibration.quantize)


def _prompts(at: Site, mine: Share, p: Pass, window: Number) -> Work:
    s, m, counts, plan = at.s, at.s.model, at.counts, at.plan
    kernels, kv = s.calibration.kernel, s.workload.dtype.kv
    fit = kinds.where(
        m.kv_lora > 0,
        kinds.prefilling(kernels.mla_prefill, kv),
        kinds.prefilling(kernels.attention_prefill, kv),
    )
    heads, read = m.heads / plan.attention_tp, held(p, window)
    call = cores_of.Prompts(
        sequences=mine.attention_sequences * mine.attends,
        new=p.new / plan.cp,
        heads=heads,
        seen=seen(p, window),
        longest=cache_length(p.cached + p.prompt, window),
        unbounded=seen(p, 0.0),
        pair_flops=divide(counts.core_flops_expanded, m.heads),
        kv_bytes=_cache_read(s, counts, plan, mine, p, read, 1.0),
        io_bytes=_core_io(s, plan, mine, p),
    )
    chip = chip_of(at, mine.of.core_peak)
    work = cores_of.prefill(call, chip, fit, s.calibration.quantize)
    # a chip expands the latents of others that it attends to; its own it has
    others = mine.attention_sequences * (read - p.new / plan.cp)
    return work._replace(flops=work.flops + others * counts.expand_flops / plan.attention_tp)


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


def _sparse_fit(at: Site, p: Pass) -> Kernel:
    """Return the losses of sparse cores: those of a dense core on a latent."""
    kernels, kv = at.s.calibration.kernel, at.s.workload.dtype.kv
    if p.decode:
        return kinds.decoding(kernels.mla_decode, kv)
    return kinds.prefilling(kernels.mla_prefill, kv)


def sparse(at: Site, mine: Share, p: Pass) -> tuple[Work, Work]:
    """Return the indexer, which looks at every token, and the core on the tokens it picks.

    DeepSeek Sparse Attention (DeepSeek-V3.2): the core is absorbed in decode and prefill. Each
    decoding token gathers its own picks; those of a prompt overlap and are read once, as a dense
    core reads its cache. Tensor parallelism replicates the indexer, and the kernels pad the heads
    of a chip to `sparse_group`.
    """
    s, m, counts, plan = at.s, at.s.model, at.counts, at.plan
    layers = m.sparse_layers * plan.imbalance
    fit = _sparse_fit(at, p)
    looked_at = mine.attention_sequences * p.new * seen(p, 0.0) / plan.cp
    prefix = least(s.workload.shared_prefix, p.cached) if p.decode else 0.0
    tokens = mine.attention_sequences * (held(p, 0.0) - prefix) + prefix * mine.attends
    keys = tokens * counts.index_elements * mine.of.index
    picks = seen(p, m.sparse_tokens)
    flops = mine.attention_sequences * p.new * picks * counts.core_flops_absorbed
    read = p.new * picks if p.decode else held(p, 0.0)
    index = Work(
        flops=looked_at * counts.index_flops * s.cost.attention_core,
        peak=mine.of.index_peak,
        weight_bytes=0.0,
        kv_bytes=keys / (plan.cp if p.decode else 1.0),
        io_bytes=0.0,
        fixed_s=mine.attends * fit.launch_s,
        kernel=fit,
        times=layers,
    )
    heads = m.heads / plan.attention_tp
    rows = padded(heads, s.calibration.sparse_group, s.calibration.quantize)
    core = Work(
        flops=flops * divide(rows, m.heads) / plan.cp * s.cost.attention_core,
        peak=mine.of.core_peak,
        weight_bytes=0.0,
        kv_bytes=_cache_read(s, counts, plan, mine, p, read, 0.0),
        io_bytes=_core_io(s, plan, mine, p),
        fixed_s=mine.attends * fit.launch_s,
        kernel=fit,
        times=layers,
    )
    return index, core


def linear(at: Site, mine: Share, p: Pass) -> Work:
    """Return the core of linear layers: the state of every sequence read and written once.

    The heads of the state are divided as attention heads are; its cost does not know the context.
    """
    s, m, counts, plan = at.s, at.s.model, at.counts, at.plan
    kernels = s.calibration.kernel
    per_token = counts.linear_flops + (0.0 if p.decode else counts.linear_chunk_flops)
    width = m.linear_key_heads * m.linear_key_dim + m.linear_value_heads * m.linear_value_dim
    io = 2.0 * mine.attention_tokens * width * mine.b_activations * s.cost.activation_io
    call = linear_cores.Call(
        sequences=mine.attention_sequences * mine.attends,
        heads=m.linear_value_heads / plan.attention_tp,
        flops=mine.attention_tokens * per_token / plan.attention_tp * s.cost.attention_core,
        state_bytes=2.0 * mine.attention_sequences * counts.state_bytes / plan.attention_tp,
        io_bytes=io / plan.attention_tp,
    )
    work = linear_cores.work(
        call,
        chip_of(at, mine.of.core_peak),
        (kernels.linear_decode if p.decode else kernels.linear_prefill).bf16,
        s.calibration.quantize,
    )
    return work._replace(times=m.linear_layers * plan.imbalance)


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
