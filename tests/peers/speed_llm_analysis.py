"""How many inference estimates llm-analysis gives a second, and what it answers.

`LLMAnalysis.inference` and `LLMAnalysis.training`.

OPT-175B is one of its own models; it refuses an FFN that is no multiple of the width, as Llama has.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import timing
from llm_analysis.analysis import ActivationRecomputation, LLMAnalysis
from llm_analysis.config import (
    ModelConfig,
    ParallelismConfig,
    get_dtype_config_by_name,
    get_gpu_config_by_name,
    get_model_config_by_name,
)
from llm_analysis.logger import logger

# Its own file of that name has the shape of GPT-3: the degrees of the checkpoint's config.json.
BLOOM = ModelConfig(
    name="bloom-176b", num_layers=70, n_head=112, hidden_dim=14336, vocab_size=250880,
    ffn_embed_dim=57344,
)  # fmt: skip
FULL_SPEED = "no efficiencies: its defaults are the peaks of the chip"
RECOMPUTED = {
    "full": ActivationRecomputation.FULL,
    "selective": ActivationRecomputation.SELECTIVE,
}


def analysis(model: ModelConfig, chip: str, **plan: int) -> LLMAnalysis:
    """Return its engine for 16-bit numbers."""
    numbers = get_dtype_config_by_name("w16a16e16")
    return LLMAnalysis(model, get_gpu_config_by_name(chip), numbers, ParallelismConfig(**plan))


def inference(point: Mapping[str, Any]) -> float:
    """Return the seconds of a decode step, or of a prefill."""
    decodes = point["workload"] == "decode"
    length = point["context"] if decodes else point["prompt"]
    told = analysis(BLOOM, "h100-sxm-80gb", tp_size=point["tp"]).inference(
        batch_size_per_gpu=point["batch"], seq_len=length, num_tokens_to_generate=2
    )
    return told["decode_latency"] if decodes else told["prefill_latency"]


def training(point: Mapping[str, Any]) -> float:
    """Return the seconds of a training step."""
    engine = analysis(
        get_model_config_by_name("megatron-lm-175b"), "a100-sxm-80gb", tp_size=point["tp"],
        pp_size=point["pp"], sp_size=point["tp"] if point["sequence_parallel"] == "true" else 1,
    )  # fmt: skip
    told = engine.training(
        batch_size_per_gpu=1,
        gradient_accumulation_steps=point["microbatches"],
        seq_len=point["sequence"],
        activation_recomputation=RECOMPUTED[point["recompute"]],
        flash_attn=False,
        softmax_dropout=True,
    )
    return told["latency_per_iter"]


def main() -> None:
    """Measure, and answer."""
    logger.setLevel("ERROR")
    chosen = timing.options()
    engines = {
        tp: LLMAnalysis(
            get_model_config_by_name("facebook_opt-175b"),
            get_gpu_config_by_name("h100-sxm-80gb"),
            get_dtype_config_by_name("w8a8e16"),
            ParallelismConfig(tp_size=tp),
        )
        for tp in (4, 8)
    }

    def infer(tp: int, batch: int, context: int) -> object:
        return engines[tp].inference(
            batch_size_per_gpu=batch, seq_len=context, num_tokens_to_generate=2
        )

    points = timing.shuffled(tuple(engines), range(1, 9), range(128, 1024))
    timing.measure(
        "opt_decode", "LLMAnalysis.inference", version("llm-analysis"), infer, points,
        chosen.seconds,
    )  # fmt: skip
    for question, point in timing.asked(chosen, "bloom_decode", "bloom_prefill"):
        timing.answer(
            question, point, "LLMAnalysis.inference", version("llm-analysis"),
            lambda one=point: inference(one), FULL_SPEED,
        )  # fmt: skip
    for question, point in timing.asked(chosen, "gpt3_train"):
        timing.answer(
            question, point, "LLMAnalysis.training", version("llm-analysis"),
            lambda one=point: training(one), f"{FULL_SPEED}; no bubble of the pipeline",
        )  # fmt: skip


if __name__ == "__main__":
    main()
