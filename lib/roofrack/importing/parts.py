"""The parts of a configuration: each reads the fields it knows into leaves of Model."""

import re
from collections.abc import Callable
from typing import Any

from roofrack.errors import InputError
from roofrack.importing.layers import Rule, after_first, all_layers, experts_in, interleaved, kinds
from roofrack.importing.reader import Fields, short

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
WIDTH = ("hidden_size", "n_embd", "d_model", "n_embed")
HEADS = ("num_attention_heads", "n_head", "n_heads")
KV_HEADS = ("num_key_value_heads", "num_attention_groups", "kv_n_heads")
HEAD_DIM = ("head_dim", "attention_head_dim")
FFN = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
CONTEXT = (
    "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_position_embedding",
    "seq_length", "model_max_length",
)  # fmt: skip
EXPERTS = ("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")
TOP_K = (
    "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_top_k", "moe_topk",
)  # fmt: skip
SHARED = ("n_shared_experts", "num_shared_experts", "num_shared_expert")
BLOCKS = {"mamba": "M", "attention": "*", "moe": "E", "mlp": "-"}
STATE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

Part = Callable[[Fields, int], dict[str, Any]]
"""Reads some fields of a configuration of so many layers into leaves of Model."""


def gqa(f: Fields, layers: int) -> dict[str, Any]:
    """Read attention; without a field for them, as many KV heads as heads, as Llama's class has."""
    heads, width = f.whole(*HEADS), f.whole(*WIDTH)
    head_dim = f.whole(*HEAD_DIM, default=0)
    if not head_dim and width % heads and not f.missing:
        f.missing.append("head_dim")
    kv_heads = f.whole(*KV_HEADS, default=heads)
    if heads % kv_heads and not f.missing:
        raise InputError(f"{f.origin}: {kv_heads} KV heads do not divide {heads} query heads")
    return {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim or width // heads}


def stated_gqa(f: Fields, layers: int) -> dict[str, Any]:
    """Read attention of a class whose own defaults are a certain model's: all must be stated."""
    f.whole(*KV_HEADS)
    f.whole(*HEAD_DIM)
    return gqa(f, layers)


def gated_gqa(f: Fields, layers: int) -> dict[str, Any]:
    """Read attention with a gate on its output (Qwen3-Next)."""
    return stated_gqa(f, layers) | {"attention_gate": f.flag("attn_output_gate", default=True)}


def normed_gqa(f: Fields, layers: int) -> dict[str, Any]:
    """Read attention that normalises queries and keys, over all heads together (MiniMax-M2)."""
    return stated_gqa(f, layers) | {"qk_norm_all_heads": f.flag("use_qk_norm", default=True)}


def low_rank_query(f: Fields, layers: int) -> dict[str, Any]:
    """Read attention whose queries go through a low rank (Step-3, arXiv:2507.19427)."""
    return stated_gqa(f, layers) | {"q_lora": f.whole("share_q_dim")}


def shared_kv(f: Fields, layers: int) -> dict[str, Any]:
    """Read attention where so many layers in a row share one cache (Hunyuan-Large)."""
    share = f.whole("cla_share_factor", default=1) if f.flag("use_cla", default=False) else 1
    f.read.add("cla_share_factor")
    return gqa(f, layers) | {"shared_kv_layers": layers - -(-layers // share)}


def nested_gqa(f: Fields, layers: int) -> dict[str, Any]:
    """Read attention whose KV heads stand in a map of their own (DBRX)."""
    heads, width = f.whole(*HEADS), f.whole(*WIDTH)
    kv_heads = f.inside("attn_config").whole(*KV_HEADS)
    return {"heads": heads, "kv_heads": kv_heads, "head_dim": width // heads}


def mla(f: Fields, layers: int) -> dict[str, Any]:
    """Read multi-head latent attention; head_dim and KV heads mean nothing there."""
    f.read.update(("head_dim", "qk_head_dim", "num_key_value_heads"))
    heads = f.whole(*HEADS)
    return {
        "heads": heads,
        "kv_heads": heads,
        "q_lora": f.whole("q_lora_rank", default=0, least=0),
        "kv_lora": f.whole("kv_lora_rank"),
        "qk_nope_dim": f.whole("qk_nope_head_dim"),
        "qk_rope_dim": f.whole("qk_rope_head_dim"),
        "v_head_dim": f.whole("v_head_dim"),
    }


def indexed_mla(f: Fields, layers: int) -> dict[str, Any]:
    """Read latent attention to the tokens an indexer picks (DeepSeek-V3.2)."""
    own = f.each("indexer_types", layers, ("full", "shared"))
    if own and "shared" in own:
        raise InputError(
            f"{f.origin}: indexer_types: {own.count('shared')} of {layers} layers reuse another "
            "layer's indexer, which a model file cannot say; each layer needs its own ('full')"
        )
    return mla(f, layers) | {
        "sparse_layers": layers,
        "sparse_tokens": f.whole("index_topk"),
        "index_heads": f.whole("index_n_heads"),
        "index_dim": f.whole("index_head_dim"),
    }


def delta_net(f: Fields, layers: int) -> dict[str, Any]:
    """Read Gated DeltaNet: a gate as wide as the values, decay and beta per head (Qwen3-Next)."""
    return {
        "linear_key_heads": f.whole("linear_num_key_heads"),
        "linear_key_dim": f.whole("linear_key_head_dim"),
        "linear_value_heads": f.whole("linear_num_value_heads"),
        "linear_value_dim": f.whole("linear_value_head_dim"),
        "linear_gates": 1,
        "linear_head_gates": 2,
        "linear_state_bytes": _state_bytes(f, "mamba_ssm_dtype"),
    }


def lightning_attention(f: Fields, layers: int) -> dict[str, Any]:
    """Read lightning attention: full heads for keys and values, one output gate (MiniMax)."""
    heads, size = f.whole(*HEADS), f.whole(*HEAD_DIM)
    return {
        "linear_key_heads": heads,
        "linear_key_dim": size,
        "linear_value_heads": heads,
        "linear_value_dim": size,
        "linear_gates": 1,
        "linear_state_bytes": 4,
    }


def delta_attention(f: Fields, layers: int) -> dict[str, Any]:
    """Read Kimi Delta Attention: decay, output gate through the rank of a head; beta per head."""
    inner = f.inside("linear_attn_config")
    heads, size = inner.whole("num_heads"), inner.whole("head_dim")
    return {
        "linear_key_heads": heads,
        "linear_key_dim": size,
        "linear_value_heads": heads,
        "linear_value_dim": size,
        "linear_gates": 2,
        "linear_head_gates": 1,
        "linear_gate_rank": size,
        "linear_state_bytes": 4,
    }


def _state_bytes(f: Fields, *names: str) -> int:
    name = f.raw(*names)
    if name is not None and (not isinstance(name, str) or name not in STATE_BYTES):
        raise InputError(
            f"{f.origin}: {names[0]}={short(name)}: known are {', '.join(STATE_BYTES)}"
        )
    return STATE_BYTES[name] if name else 4


def dense(f: Fields, layers: int) -> dict[str, Any]:
    """Read a dense FFN."""
    return {"d_ff": f.whole(*FFN)}


def dense_fourfold(f: Fields, layers: int) -> dict[str, Any]:
    """Read a dense FFN that is four times as wide as the model unless the file says otherwise."""
    return {"d_ff": f.whole(*FFN, default=4 * f.whole(*WIDTH))}


def mixtral_experts(f: Fields, layers: int) -> dict[str, Any]:
    """Read experts in each layer, as wide as `intermediate_size`."""
    f.whole("shared_intermediate_size", default=0, least=0)
    if f.raw("shared_intermediate_size"):
        raise InputError(
            f"{f.origin}: shared_intermediate_size={short(f.raw('shared_intermediate_size'))}: "
            "a shared expert is not known for this family; 0 is expected"
        )
    return _experts(f) | {"moe_layers": layers, "d_ff_expert": f.whole(*FFN)}


def nested_experts(f: Fields, layers: int) -> dict[str, Any]:
    """Read experts in each layer whose sizes stand in a map of their own (DBRX)."""
    return mixtral_experts(f.inside("ffn_config"), layers)


def experts(rule: Callable[[Fields, int], list[bool]] = after_first, shared: str = "") -> Part:
    """Return the part that reads experts in some layers, dense FFNs in the others.

    `shared` names the field with the width of one shared expert; empty: SHARED of them, as wide as
    a routed one.
    """

    def part(f: Fields, layers: int) -> dict[str, Any]:
        moe = experts_in(f, layers, rule)
        width = f.whole("moe_intermediate_size")
        f.raw(*FFN)
        read = _experts(f) | {"moe_layers": moe, "d_ff_expert": width}
        shared_width = f.whole(shared, default=0, least=0) if shared else width
        number = f.whole(*SHARED, default=int(bool(shared and shared_width)), least=0)
        if number:
            read |= {"shared_experts": number, "d_ff_shared": shared_width or width}
        if moe < layers:
            read["d_ff"] = f.whole(*FFN)
        return read

    return part


def llama4_experts(f: Fields, layers: int) -> dict[str, Any]:
    """Read Llama 4's: `intermediate_size` is an expert's and the one shared expert's."""
    moe, width = experts_in(f, layers, interleaved), f.whole("intermediate_size")
    f.raw("intermediate_size_mlp")
    read = _experts(f) | {"moe_layers": moe, "d_ff_expert": width}
    read |= {"shared_experts": 1, "d_ff_shared": width}
    return read | ({"d_ff": f.whole("intermediate_size_mlp")} if moe < layers else {})


def hunyuan_experts(f: Fields, layers: int) -> dict[str, Any]:
    """Read Hunyuan-Large's: experts in each layer, shared ones of the same width."""
    used = f.flag("use_mixed_mlp_moe", default=True)
    shared = f.whole(*SHARED, default=0, least=0) * used
    read = mixtral_experts(f, layers)
    return read | {"shared_experts": shared, "d_ff_shared": read["d_ff_expert"]}


def _experts(f: Fields) -> dict[str, Any]:
    experts, used = f.whole(*EXPERTS), f.whole(*TOP_K)
    if used > experts and not f.missing:
        raise InputError(f"{f.origin}: {used} experts per token of {experts}")
    groups = f.whole("n_group", "num_expert_group", default=1, least=0)
    most = f.whole("topk_group", default=groups or 1, least=0)
    read = {"experts": experts, "experts_per_token": used}
    if 0 < most < groups:
        read["node_limit"] = most
        f.assumed["node_limit"] = f"topk_group of {groups} groups of experts, each in one domain"
    return read


def nemotron_h(f: Fields, layers: int) -> dict[str, Any]:
    """Read a pattern of blocks: M Mamba-2, * attention, E experts, - dense FFN.

    A block is a mixer or an FFN; a layer of Model is a mixer and the FFN after it, if there is one.
    """
    pattern = f.raw("hybrid_override_pattern")
    listed = f.each("layers_block_type", layers, tuple(BLOCKS))
    if listed and pattern is None:
        pattern = "".join(BLOCKS[block] for block in listed)
    if pattern is None:
        f.missing.append("hybrid_override_pattern or layers_block_type")
    if not isinstance(pattern, str) or len(pattern) != layers or set(pattern) - set("M*E-"):
        raise InputError(
            f"{f.origin}: hybrid_override_pattern={short(pattern)}: {layers} letters out of M*E- "
            "are needed"
        )
    mixers = pattern.count("M") + pattern.count("*")
    moe, plain = pattern.count("E"), pattern.count("-")
    follows = re.fullmatch(r"([M*][E-]?)+", pattern)
    if not follows or (plain and plain < mixers):
        raise InputError(
            f"{f.origin}: hybrid_override_pattern: {plain} dense FFNs and {moe} with experts for "
            f"{mixers} mixers; a model file has one dense FFN for each layer without experts"
        )
    inner = f.whole("mamba_num_heads") * f.whole("mamba_head_dim")
    read = stated_gqa(f, layers) | {
        "layers": mixers,
        "linear_layers": pattern.count("M"),
        "linear_key_heads": f.whole("n_groups"),
        "linear_key_dim": f.whole("ssm_state_size"),
        "linear_value_heads": f.whole("mamba_num_heads"),
        "linear_value_dim": inner // f.whole("mamba_num_heads"),
        "linear_gates": 1,
        "linear_state_bytes": _state_bytes(f, "mamba_ssm_cache_dtype"),
    }
    f.assumed["layers"] = (
        f"{layers} blocks, each a mixer or an FFN, as {mixers} layers of a mixer and the FFN after "
        f"it, if any ({mixers - moe - plain} have none)"
    )
    if plain:
        return read | dense(f, layers)
    return (
        read
        | experts(all_layers, "moe_shared_expert_intermediate_size")(f, mixers)
        | {
            "moe_layers": moe,
            "d_ff": 0,
        }
    )


def attends(rule: Rule) -> Part:
    """Return the part that counts the kinds of layers by a rule."""
    return lambda f, layers: kinds(f, layers, rule)
