"""Reading a configuration field by field, so that what nobody understood can be told.

Every field read is ticked off; what is left over must be in IGNORED (no effect on cost) or NEUTRAL
(no effect at this value), or the import is refused and names it: a field nobody understood could
be a matrix nobody counted. A null field is one left out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from roofrack.errors import InputError

IGNORED = frozenset(
    """
    _attn_implementation _name_or_path activation activation_function add_bias_linear
    add_classification_head apply_residual_connection_post_layernorm architectures attention_bias
    attention_dropout attention_in_fp32 attention_softmax_in_fp32 attn_impl attn_logit_softcapping
    attn_output_multiplier attn_pdrop attn_scale attn_temperature_tuning auto_map aux_loss_alpha
    bad_words_ids begin_suppress_tokens bias_dropout_fusion block_size bos_token bos_token_id
    capacity_factor chunk_size chunk_size_feed_forward class_num clip_qkv conv_kernel
    diversity_penalty do_layer_norm_before do_sample dropout dtype early_stopping embd_pdrop
    embedding_dropout embedding_multiplier_scale encoder_no_repeat_ngram_size eos_token ep_size
    expand exponential_decay_length_penalty ffn_act_fn final_logit_softcapping finetuning_task
    floor_scale forced_bos_token_id forced_eos_token_id full_attn_alpha_factor
    full_attn_beta_factor group_limited_greedy hidden_act hidden_activation hidden_dropout
    hidden_dropout_prob id2label ignore_index im_end_token im_patch_token im_start_token
    image_placeholder index_share_for_mtp_iteration index_skip_topk_offset indexer_rope_interleave
    initial_context_length initializer_range label2id language language_model_only layer_norm_eps
    layer_norm_epsilon layerdrop layernorm_full_attention_alpha layernorm_full_attention_beta
    layernorm_linear_attention_alpha layernorm_linear_attention_beta layernorm_mlp_alpha
    layernorm_mlp_beta length_penalty linear_attn_alpha_factor linear_attn_beta_factor
    linear_conv_kernel_dim mamba_hidden_act mamba_proj_bias masked_softmax_fusion max_length
    min_length mla_use_nope mlp_alpha_factor mlp_beta_factor mlp_bias mlp_hidden_act
    mm_tokens_per_image model_type moe_drop_tokens moe_jitter_eps moe_loss_weight
    moe_normalize_expert_weights moe_random_routing_dropped_token moe_renormalize
    moe_router_activation_func moe_router_dtype moe_router_enable_expert_bias
    moe_router_enable_routed_scaling moe_router_topk_scaling_factor moe_shared_expert_overlap
    mtp_loss_scaling_factor mtp_use_dedicated_embeddings multi_modal_projector_bias
    no_repeat_ngram_size norm_eps norm_epsilon norm_expert_weight norm_head norm_softmax
    norm_topk_prob num_beam_groups num_beams num_logits_to_keep num_return_sequences offset_alibi
    original_max_position_embeddings output_attentions output_dropout output_gate_type
    output_hidden_states output_multiplier_scale output_router_logits output_scores pad_token
    pad_token_id partial_rotary_factor pipeline_parallel postnorm prefix pretraining_tp
    problem_type projector_bias qk_layernorm qk_norm_type qkv_bias query_pre_attn_scalar
    remove_invalid_values reorder_and_upcast_attn repetition_penalty rescale_prenorm_residual
    resid_pdrop residual_in_fp32 return_dict return_dict_in_generate rms_norm_eps rope_interleave
    rope_local_base_freq rope_parameters rope_scaling rope_theta rope_type rotary rotary_dim
    rotary_emb_base rotary_pct routed_scaling_factor router_aux_loss_coef router_bias router_dtype
    router_jitter_noise scale_attention_softmax_in_fp32 scale_attn_by_inverse_layer_idx
    scale_attn_weights score_function scoring_func sep_token_id seq_aux shared_moe_mode
    short_conv_kernel_size skip_bias_add skip_bias_add_qkv slow_but_exact summary_activation
    summary_first_dropout summary_proj_to_labels summary_type summary_use_proj suppress_tokens
    swiglu_limit task_specific_params temperature text_config tf_legacy_loss tie_encoder_decoder
    time_step_floor time_step_limit time_step_max time_step_min time_step_rank tokenizer_class
    top_k top_p topk_method torch_dtype torchscript transformers_version typical_p
    understand_projector_stride uniform_expert_assignment unk_token unk_token_id use_bfloat16
    use_bias use_cache use_conv_bias use_expert_bias use_grouped_topk use_mamba_kernels
    use_parallel_residual use_qk_norm use_qkv_bias use_rmsnorm use_rotary_pos_emb use_routing_bias
    use_unified_vision_chunk video_placeholder vision_feature_layer
    """.split()
)
"""Fields without effect on what is counted: positions, norms, dropout, sampling, tokens, labels.
Names that end as in TOKENS are among them."""

TOKENS = ("_token_id", "_token_index", "_token_ids")

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "attention_output_gate": (False,),
    "hidden_size_per_layer_input": (0,),
    "index_topk_freq": (1,),
    "is_decoder": (False, True),
    "is_encoder_decoder": (False,),
    "mla_use_output_gate": (False,),
    "mlp_only_layers": ([],),
    "moe_latent_size": (0,),
    "num_kv_shared_layers": (0,),
    "pruned_heads": ({},),
    "use_cla": (False,),
    "use_mrope": (False,),
    "use_sliding_window": (False,),
}
"""Fields without effect at these values."""

PREDICTION = (
    "num_nextn_predict_layers", "num_mtp_modules", "mtp_transformer_layers", "use_mtp",
    "mtp_num_hidden_layers", "mtp_hybrid_override_pattern", "mtp_layers_block_type",
    "num_mtp_layers",
)  # fmt: skip
"""Fields of multi-token-prediction layers, which a model file leaves out."""

ENCODERS = ("vision_config", "audio_config", "vision_tower_config")
"""Parts of a multimodal model that take no part in decoding text."""


@dataclass
class Fields:
    """A configuration being read: what was asked for, what is missing, what to say about it."""

    tree: Mapping[str, Any]
    origin: str
    read: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    assumed: dict[str, str] = field(default_factory=dict)
    children: dict[str, "Fields"] = field(default_factory=dict)

    def raw(self, *names: str) -> Any:
        """Return the value of a field by any of its names, None if it has none; tick it off."""
        self.read.update(names)
        found = {n: self.tree[n] for n in names if self.tree.get(n) is not None}
        if len({json.dumps(v) for v in found.values()}) > 1:
            told = ", ".join(f"{n}={short(v)}" for n, v in found.items())
            raise InputError(f"{self.origin}: {told}: names of one thing that disagree")
        return next(iter(found.values()), None)

    def whole(self, *names: str, default: int | None = None, least: int = 1) -> int:
        """Return a whole number; without a default, note a missing one and go on."""
        value = self.raw(*names)
        if value is None and default is None:
            self.missing.append(" or ".join(names[:3]))
            return 1
        if value is None:
            return int(default or 0)
        if isinstance(value, list) and value and value == value[:1] * len(value):
            value = value[0]  # one number for each layer
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not least <= value <= 1e9 or value != int(value):
            name = next(n for n in names if self.tree.get(n) is not None)
            raise InputError(
                f"{self.origin}: {name}={short(value)}: a whole number of {least} to 1e9 is needed"
            )
        return int(value)

    def flag(self, name: str, default: bool) -> bool:
        """Return a truth value."""
        value = self.raw(name)
        if not isinstance(default if value is None else value, bool):
            raise InputError(f"{self.origin}: {name}={short(value)}: true or false is needed")
        return default if value is None else bool(value)

    def each(self, name: str, layers: int, allowed: Sequence[Any]) -> list[Any] | None:
        """Return a list with one of `allowed` for each layer, None if there is no such field."""
        value = self.raw(name)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != layers:
            size = f"{len(value)} entries" if isinstance(value, list) else short(value)
            raise InputError(f"{self.origin}: {name}: {size} for {layers} layers; one each needed")
        for entry in value:
            if entry not in allowed:
                known = ", ".join(map(str, allowed))
                raise InputError(f"{self.origin}: {name}: {short(entry)} is none of {known}")
        return value

    def numbers(self, name: str, layers: int) -> list[int] | None:
        """Return a list of numbers of layers, below `layers`; None if there is no such field."""
        value = self.raw(name)
        good = isinstance(value, list) and all(
            isinstance(n, int) and not isinstance(n, bool) and 0 <= n < layers for n in value
        )
        if value is not None and not good:
            raise InputError(f"{self.origin}: {name}={short(value)}: numbers of layers are needed")
        return value

    def inside(self, name: str) -> "Fields":
        """Return the fields of a map within; they are checked and reported with these."""
        if name not in self.children:
            value = self.raw(name)
            if not isinstance(value, Mapping):
                self.missing.append(name)
                value = {}
            self.children[name] = Fields(
                value, f"{self.origin}, {name}", set(), self.missing, self.sources, self.assumed
            )
        return self.children[name]

    def unknown(self) -> list[str]:
        """Return the fields nobody has read and nobody knows, with their values."""
        inner = [f"{child}.{text}" for child, f in self.children.items() for text in f.unknown()]
        return inner + [
            f"{name}={short(value)}"
            for name, value in self.tree.items()
            if value is not None
            and name not in self.read | IGNORED
            and not name.endswith(TOKENS)
            and name not in (*PREDICTION, *ENCODERS, "quantization_config")
            and value not in NEUTRAL.get(name, ())
        ]


def short(value: Any) -> str:
    """Write a value in one short line."""
    text = " ".join(json.dumps(value).split()) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
