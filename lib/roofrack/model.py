"""The second noun: a model as counts, and the one function that counts it.

Layer kinds are numbers, not branches: `moe_layers` of the `layers` have experts in place of the
dense FFN, `window_layers` of them attend a sliding window. A zero means "does not apply".
"""

from dataclasses import dataclass
from typing import NamedTuple

from roofrack.arithmetic import Number, choose
from roofrack.fields import amount, flag, positive


@dataclass(frozen=True, kw_only=True)
class Model:
    """A decoder-only transformer. `kv_lora` > 0 makes its attention multi-head latent (MLA).

    Each layer mixes tokens in one of four ways: `window_layers` attend a sliding window,
    `linear_layers` keep a state of fixed size, in `sparse_layers` an indexer picks the tokens
    attended to, and all others attend everything.
    """

    layers: float = positive("layers", "layers", integer=True)
    d_model: float = positive("width of the residual stream", "elements", integer=True)
    vocab: float = amount("vocabulary", "tokens", 0, integer=True)
    tied_embeddings: float = flag("the head is the input embedding", False)
    heads: float = amount("query heads", "heads", 0, integer=True)
    kv_heads: float = amount("key/value heads", "heads", 0, integer=True)
    head_dim: float = amount("size of one head (not MLA)", "elements", 0, integer=True)
    q_lora: float = amount("rank of the query compression (MLA; 0 = none)", "elements", 0)
    kv_lora: float = amount("rank of the key/value latent (MLA)", "elements", 0)
    qk_nope_dim: float = amount("head size without positions (MLA)", "elements", 0)
    qk_rope_dim: float = amount("head size with positions (MLA)", "elements", 0)
    v_head_dim: float = amount("value head size (MLA)", "elements", 0)
    attention_gate: float = flag("attention output is gated, a matrix as wide as it", False)
    biases: float = flag("projections and dense FFNs add biases (training: their gradients)", False)
    qk_norm_all_heads: float = flag(
        "queries and keys are normalised over all heads together: chips that share them sum up",
        False,
    )
    window: float = amount("sliding window", "tokens", 0)
    window_layers: float = amount("layers that attend only the window", "layers", 0, integer=True)
    linear_layers: float = amount(
        "layers of linear attention or state space", "layers", 0, integer=True
    )
    linear_key_heads: float = amount("key (B, C) heads or groups, linear layers", "heads", 0)
    linear_key_dim: float = amount("key size of one head = its state's rows", "elements", 0)
    linear_value_heads: float = amount("value heads, linear layers", "heads", 0)
    linear_value_dim: float = amount("value size of one head = its state's columns", "elements", 0)
    linear_gates: float = amount("gates from d_model to the width of the values", "", 0)
    linear_head_gates: float = amount(
        "gates from d_model to each value head, in a product of their own", "", 0
    )
    linear_gate_rank: float = amount("rank of these gates; 0 = full matrices", "elements", 0)
    linear_state_bytes: float = amount("bytes of one element of the state", "byte", 4)
    sparse_layers: float = amount(
        "layers whose indexer picks the tokens attended to", "layers", 0, integer=True
    )
    sparse_tokens: float = amount("tokens the indexer picks at most", "tokens", 0)
    index_heads: float = amount("query heads of the indexer", "heads", 0)
    index_dim: float = amount("head size of the indexer", "elements", 0)
    shared_kv_layers: float = amount(
        "layers that attend the cache of another layer", "layers", 0, integer=True
    )
    d_ff: float = amount("hidden width of the dense FFN", "elements", 0)
    ffn_matrices: float = amount("matrices in an FFN: 3 gated, 2 plain", "", 3, at_most=3)
    moe_layers: float = amount("layers with experts", "layers", 0, integer=True)
    experts: float = amount("routed experts of a layer", "experts", 0)
    experts_per_token: float = amount("routed experts a token visits", "experts", 0)
    d_ff_expert: float = amount("hidden width of a routed expert", "elements", 0)
    shared_experts: float = amount("shared experts of a layer", "experts", 0, integer=True)
    d_ff_shared: float = amount("hidden width of a shared expert", "elements", 0)
    node_limit: float = amount("domains a token's experts lie in at most; 0 = no limit", "", 0)
    max_context: float = amount("longest context trained for; 0 = not stated", "tokens", 0)
    params_total: float = amount("total, given instead of counted", "parameters", 0)
    params_active: float = amount("active, given instead of counted", "parameters", 0)
    kv_bytes_per_token: float = amount("KV cache, given instead of counted", "byte/token", 0)


class Counts(NamedTuple):
    """Parameters and per-token sizes of a model (MODEL section 2); norms and biases are left out.

    Per layer: `attention_latent` (down-projections of MLA and of compressed queries, and the
    indexer, which tensor parallelism replicates), `attention_kv` (key and value projections),
    `attention_heads` (all that follows the query heads), `linear` (a linear layer in place of
    these), `dense_ffn`, `expert` (one routed expert), `shared` (all shared experts), `router`.
    Whole model: `embedding` (held, gathered from), `head` (multiplied once per sampled token;
    the same matrix if tied, then not held twice), `total`, `active` (head in, input embedding
    out), `dense_layers`, `softmax_layers` (all that are not linear), `full_layers` (those that
    attend everything). `kv_elements` is the cache of one token in one layer, `index_elements` the
    indexer's; `state_bytes` what a linear layer keeps of a sequence. `core_flops_absorbed` and
    `core_flops_expanded` are FLOP of one layer's attention core per new token and per token
    attended; `expand_flops` what one earlier latent costs to expand again; `index_flops` of the
    indexer per new token and token looked at; `linear_flops` of a linear layer's core per token,
    and `linear_chunk_flops` more where a chunk of a prompt is worked on at once.
    `abstract` is 1 where totals are given instead of an architecture.
    """

    attention_latent: Number
    attention_kv: Number
    attention_heads: Number
    linear: Number
    indexer: Number
    dense_ffn: Number
    expert: Number
    shared: Number
    router: Number
    embedding: Number
    head: Number
    dense_layers: Number
    softmax_layers: Number
    full_layers: Number
    total: Number
    active: Number
    kv_elements: Number
    core_flops_absorbed: Number
    core_flops_expanded: Number
    expand_flops: Number
    index_elements: Number
    index_flops: Number
    state_bytes: Number
    linear_flops: Number
    linear_chunk_flops: Number
    abstract: Number

    @property
    def attention(self) -> Number:
        """Attention parameters of one layer that is not linear, its indexer left out."""
        return self.attention_latent + self.attention_kv + self.attention_heads


CHUNK = 64.0
"""Tokens that a linear layer works on at once in prefill: the usual chunk of the published kernels
(Gated DeltaNet, arXiv:2412.06464; Mamba-2, arXiv:2405.21060, takes 64 to 256)."""


class _Attention(NamedTuple):
    """Attention parameters of one layer: see Counts."""

    latent: Number
    kv: Number
    heads: Number
    linear: Number
    indexer: Number


def _attention(m: Model) -> _Attention:
    """Count one layer's attention.

    MLA as in DeepSeek-V2 (arXiv:2405.04434) equations 9 to 19; `q_lora` also compresses the queries
    of GQA. A linear layer projects to keys and queries, values and gates and back (Gated DeltaNet;
    Mamba-2's C, B, x and z), and to gates per head (decay and beta of the delta rule); those that
    are part of a larger product (Mamba-2's dt) and short convolutions are left out, as norms are.
    The indexer of DeepSeek-V3.2: queries from the query latent (or d_model), one key, head weights.
    """
    mla = choose(m.kv_lora > 0, 1.0, 0.0)
    qk_dim = mla * (m.qk_nope_dim + m.qk_rope_dim) + (1 - mla) * m.head_dim
    queries_from = choose(m.q_lora > 0, m.q_lora, m.d_model)
    query = queries_from * m.heads * qk_dim
    expand = m.kv_lora * m.heads * (m.qk_nope_dim + m.v_head_dim)
    out = m.heads * (mla * m.v_head_dim + (1 - mla) * m.head_dim) * m.d_model
    keys = m.linear_key_heads * m.linear_key_dim
    values = m.linear_value_heads * m.linear_value_dim
    rank = m.linear_gate_rank
    gate = choose(rank > 0, rank * (m.d_model + values), m.d_model * values)
    index_queries = queries_from * m.index_heads * m.index_dim
    return _Attention(
        latent=m.d_model * m.q_lora + mla * m.d_model * (m.kv_lora + m.qk_rope_dim),
        kv=(1 - mla) * 2 * m.d_model * m.kv_heads * m.head_dim,
        heads=query + mla * expand + out * (1 + m.attention_gate),
        linear=2 * m.d_model * (keys + values)
        + m.linear_gates * gate
        + m.linear_head_gates * m.d_model * m.linear_value_heads,
        indexer=index_queries + m.d_model * (m.index_dim + m.index_heads),
    )


def _core_flops(m: Model) -> tuple[Number, Number]:
    """Return FLOP of a layer's core per pair of tokens: MLA absorbed, and expanded; GQA alike."""
    mla = choose(m.kv_lora > 0, 1.0, 0.0)
    plain = (1 - mla) * 4 * m.heads * m.head_dim
    latent = 2 * m.kv_lora + m.qk_rope_dim
    spread = m.qk_nope_dim + m.qk_rope_dim + m.v_head_dim
    return mla * 2 * m.heads * latent + plain, mla * 2 * m.heads * spread + plain


def count(m: Model) -> Counts:
    """Count a model. Exact on whole Python numbers, traceable when a leaf is an array.

    Equations: MODEL section 2, and `_attention`.
    Sums stay below 2**53, so Python floats count exactly.
    """
    mla = choose(m.kv_lora > 0, 1.0, 0.0)
    absorbed, expanded = _core_flops(m)
    # totals given: what the layers hold is not known, only their sum
    abstract = choose(m.params_total > 0, 1.0, 0.0)
    known = 1.0 - abstract
    attention = _Attention(*(known * part for part in _attention(m)))
    softmax_layers = m.layers - m.linear_layers
    dense_layers = m.layers - m.moe_layers
    dense_ffn = known * m.ffn_matrices * m.d_model * m.d_ff
    state = m.linear_value_heads * m.linear_key_dim * m.linear_value_dim
    expert = known * m.ffn_matrices * m.d_model * m.d_ff_expert
    shared = known * m.shared_experts * m.ffn_matrices * m.d_model * m.d_ff_shared
    router = known * m.d_model * m.experts
    matrix = known * m.vocab * m.d_model

    layers_always = (
        softmax_layers * (attention.latent + attention.kv + attention.heads)
        - m.shared_kv_layers * attention.kv
        + m.linear_layers * attention.linear
        + m.sparse_layers * attention.indexer
        + dense_layers * dense_ffn
        + m.moe_layers * (shared + router)
    )
    counted_total = (
        layers_always + m.moe_layers * m.experts * expert + (2 - m.tied_embeddings) * matrix
    )
    counted_active = layers_always + m.moe_layers * m.experts_per_token * expert + matrix
    return Counts(
        attention_latent=attention.latent,
        attention_kv=attention.kv,
        attention_heads=attention.heads,
        linear=attention.linear,
        indexer=attention.indexer,
        dense_ffn=dense_ffn,
        expert=expert,
        shared=shared,
        router=router,
        embedding=matrix,
        head=matrix,
        dense_layers=dense_layers,
        softmax_layers=softmax_layers,
        full_layers=softmax_layers - m.window_layers - m.sparse_layers,
        total=choose(abstract > 0, m.params_total, counted_total),
        active=choose(abstract > 0, m.params_active, counted_active),
        kv_elements=mla * (m.kv_lora + m.qk_rope_dim) + (1 - mla) * 2 * m.kv_heads * m.head_dim,
        core_flops_absorbed=absorbed,
        core_flops_expanded=expanded,
        expand_flops=mla * 2 * m.kv_lora * m.heads * (m.qk_nope_dim + m.v_head_dim),
        index_elements=m.index_dim,
        index_flops=2 * m.index_heads * m.index_dim,
        state_bytes=state * m.linear_state_bytes,
        # a recurrent step reads the state for the correction and for the output and writes it:
        # 6 FLOP per element; a chunk at once adds two causal products within the chunk
        linear_flops=6 * state,
        linear_chunk_flops=CHUNK * m.linear_value_heads * (m.linear_key_dim + m.linear_value_dim),
        abstract=abstract,
    )
