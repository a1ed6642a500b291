"""The architectures that can be imported: one row each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from roofrack.importing import layers as rules
from roofrack.importing import parts
from roofrack.importing.layers import LINEAR, WINDOW, every
from roofrack.importing.parts import Part, attends, experts


@dataclass(frozen=True)
class Family:
    """Architectures whose configurations are read alike.

    `names` are values of `architectures`; `types` of `model_type`. `tied` is what the class means
    by no `tie_word_embeddings`, `biases` that its linear layers have some; `defaults` are its other
    defaults that published files rely on.
    """

    names: tuple[str, ...]
    types: tuple[str, ...]
    parts: tuple[Part, ...]
    matrices: int = 3
    tied: bool = False
    biases: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)


def _family(names: str, types: str, *pieces: Part, **rest: Any) -> Family:
    return Family(tuple(names.split()), tuple(types.split()), pieces, **rest)


FULL = attends(rules.everywhere)
QWEN = attends(rules.windows_from)
QWEN_EXPERTS = experts(rules.stepped, "shared_expert_intermediate_size")
HYBRID = attends(every(4, LINEAR, "full_attention_interval"))

FAMILIES = (
    _family("LlamaForCausalLM", "llama", FULL, parts.gqa, parts.dense),
    _family("MistralForCausalLM", "mistral", attends(rules.windows), parts.gqa, parts.dense),
    _family("Phi3ForCausalLM", "phi3", attends(rules.windows), parts.gqa, parts.dense),
    _family("Olmo2ForCausalLM", "olmo2", FULL, parts.gqa, parts.dense),
    _family("Olmo3ForCausalLM", "olmo3", attends(every(4, WINDOW)), parts.gqa, parts.dense),
    _family("Qwen2ForCausalLM", "qwen2", QWEN, parts.gqa, parts.dense),
    _family("MiMoForCausalLM", "mimo", QWEN, parts.gqa, parts.dense),
    _family(
        "Qwen3ForCausalLM Qwen3VLForConditionalGeneration", "qwen3 qwen3_vl qwen3_vl_text",
        QWEN, parts.stated_gqa, parts.dense,
    ),
    _family(
        "Gemma2ForCausalLM", "gemma2",
        attends(rules.alternating), parts.stated_gqa, parts.dense, tied=True,
    ),
    _family(
        "Gemma3ForConditionalGeneration Gemma3ForCausalLM", "gemma3 gemma3_text",
        attends(every(6, WINDOW, "sliding_window_pattern", "_sliding_window_pattern")),
        parts.stated_gqa, parts.dense, tied=True,
        defaults={"vocab_size": 262208, "max_position_embeddings": 131072},
    ),
    _family("NemotronForCausalLM", "nemotron", FULL, parts.gqa, parts.dense, matrices=2),
    _family(
        "GPT2LMHeadModel", "gpt2",
        FULL, parts.gqa, parts.dense_fourfold, matrices=2, tied=True, biases=True,
    ),
    _family(
        "OPTForCausalLM", "opt",
        FULL, parts.gqa, parts.dense, matrices=2, tied=True, biases=True,
    ),
    _family(
        "BloomForCausalLM", "bloom",
        FULL, parts.gqa, parts.dense_fourfold, matrices=2, tied=True, biases=True,
    ),
    _family(
        "GPTNeoXForCausalLM", "gpt_neox",
        FULL, parts.gqa, parts.dense, matrices=2, biases=True,
    ),
    _family("GPTJForCausalLM", "gptj", FULL, parts.gqa, parts.dense_fourfold, matrices=2),
    _family(
        "MixtralForCausalLM PhimoeForCausalLM PhiMoEForCausalLM", "mixtral phimoe",
        attends(rules.windows), parts.gqa, parts.mixtral_experts,
    ),
    _family("OlmoeForCausalLM", "olmoe", FULL, parts.gqa, parts.mixtral_experts),
    _family(
        "Grok1ModelForCausalLM Grok1ForCausalLM", "grok-1",
        FULL, parts.gqa, parts.mixtral_experts, tied=True,
    ),
    _family("DbrxForCausalLM", "dbrx", FULL, parts.nested_gqa, parts.nested_experts),
    _family(
        "GptOssForCausalLM", "gpt_oss",
        attends(rules.alternating), parts.stated_gqa, parts.mixtral_experts,
    ),
    _family(
        "MiniMaxM2ForCausalLM", "minimax_m2",
        attends(rules.all_ones), parts.normed_gqa, parts.mixtral_experts,
    ),
    _family(
        "MiniMaxText01ForCausalLM MiniMaxM1ForCausalLM MiniMaxForCausalLM",
        "minimax_text_01 minimax_m1 minimax",
        attends(rules.lightning),
        parts.stated_gqa, parts.lightning_attention, parts.mixtral_experts,
    ),
    _family(
        "Llama4ForConditionalGeneration Llama4ForCausalLM", "llama4 llama4_text",
        attends(rules.chunks), parts.stated_gqa, parts.llama4_experts,
    ),
    _family(
        "Qwen2MoeForCausalLM Qwen3MoeForCausalLM Qwen3VLMoeForConditionalGeneration",
        "qwen2_moe qwen3_moe qwen3_vl_moe qwen3_vl_moe_text",
        QWEN, parts.gqa, QWEN_EXPERTS,
    ),
    _family(
        "Qwen3NextForCausalLM Qwen3_5MoeForConditionalGeneration Qwen3_5MoeForCausalLM",
        "qwen3_next qwen3_5_moe qwen3_5_moe_text",
        HYBRID, parts.gated_gqa, parts.delta_net, QWEN_EXPERTS,
    ),
    _family(
        "Qwen3_5ForConditionalGeneration Qwen3_5ForCausalLM", "qwen3_5 qwen3_5_text",
        HYBRID, parts.gated_gqa, parts.delta_net, parts.dense,
    ),
    _family(
        "DeepseekV2ForCausalLM DeepseekV3ForCausalLM KimiK25ForConditionalGeneration",
        "deepseek_v2 deepseek_v3 kimi_k2 kimi_k25", FULL, parts.mla, experts(),
    ),
    _family(
        "DeepseekV32ForCausalLM GlmMoeDsaForCausalLM", "deepseek_v32 glm_moe_dsa",
        FULL, parts.indexed_mla, experts(),
    ),
    _family("Glm4MoeForCausalLM", "glm4_moe", FULL, parts.stated_gqa, experts()),
    _family("BailingMoeV2ForCausalLM", "bailing_moe_v2 bailing_moe", FULL, parts.gqa, experts()),
    _family(
        "KimiLinearForCausalLM", "kimi_linear",
        attends(rules.numbered), parts.mla, parts.delta_attention, experts(),
    ),
    _family(
        "Step3VLForConditionalGeneration Step3TextForCausalLM", "step3_vl step3_text",
        FULL, parts.low_rank_query, experts(rules.enumerated, "share_expert_dim"),
    ),
    _family(
        "HunYuanForCausalLM HunYuanMoEV1ForCausalLM", "hunyuan hunyuan_v1_moe",
        FULL, parts.shared_kv, parts.hunyuan_experts,
    ),
    _family("NemotronHForCausalLM", "nemotron_h", parts.nemotron_h, matrices=2),
)  # fmt: skip

BY_NAME = {name: family for family in FAMILIES for name in (*family.names, *family.types)}
