"""How many decode steps GenZ estimates a second, and what it answers.

`decode_moddeling` and `prefill_moddeling`, its functions for one step and one pass.
"""

import shutil
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import timing
from GenZ import decode_moddeling, prefill_moddeling
from GenZ.Models import ModelConfig

WRITTEN = Path("/tmp") / "genz/data"
"""Where GenZ leaves a file a call."""
# The package has no BLOOM: the degrees of the checkpoint's own config.json.
BLOOM = ModelConfig(
    model="bigscience/bloom", hidden_size=14336, num_attention_heads=112, num_key_value_heads=112,
    num_ffi=1, intermediate_size=57344, num_decoder_layers=70, vocab_size=250880,
)  # fmt: skip
MODELS = {
    "llama3_1_70b": "meta-llama/Llama-3.1-70B",
    "llama3_1_8b": "meta-llama/Llama-3.1-8B",
    "bloom_176b": BLOOM,
}
NO_MIX = "one decode step in the middle of the output: it mixes no prompts into it"


def step(tp: int, batch: int, context: int) -> object:
    """One decode step of Llama-3.1-70B in fp8 on H100."""
    return decode_moddeling(
        model="meta-llama/Llama-3.1-70B",
        system_name="H100_GPU",
        bits="fp8",
        batch_size=batch,
        input_tokens=context,
        output_tokens=2,
        Bb=1,
        tensor_parallel=tp,
        parallelism_heirarchy=f"TP{{{tp}}}_EP{{1}}_PP{{1}}",
    )


def seconds(point: Mapping[str, Any]) -> float:
    """Return the seconds of a decode step in the middle of the output, or of a prefill."""
    tp, decodes = point.get("tp", 1), point["workload"] != "prefill"
    common = {
        "model": MODELS[point["model"]],
        "system_name": "H100_GPU",
        "bits": "bf16",
        "batch_size": point["batch"],
        "tensor_parallel": tp,
        "parallelism_heirarchy": f"TP{{{tp}}}_EP{{1}}_PP{{1}}",
    }
    if not decodes:
        return prefill_moddeling(**common, input_tokens=point["prompt"])["Latency"] / 1e3
    # its step reads the mean of the first and the last context
    lengths = {"input_tokens": point.get("prompt", point.get("context"))}
    lengths["output_tokens"] = point.get("output", 2)
    return decode_moddeling(**common, **lengths, Bb=1)["Latency"] / 1e3


def main() -> None:
    """Measure, and answer."""
    warnings.filterwarnings("ignore")
    chosen = timing.options()
    points = timing.shuffled((2, 4, 8), range(1, 65), range(512, 4096))
    timing.measure(
        "llama_decode", "decode_moddeling", version("genz-llm"), step, points, chosen.seconds
    )
    wanted = ("llama70b_serve", "llama8b_serve", "bloom_decode", "bloom_prefill", "curve")
    for question, point in timing.asked(chosen, *wanted):
        what = "prefill_moddeling" if point["workload"] == "prefill" else "decode_moddeling"
        timing.answer(
            question, point, what, version("genz-llm"), lambda one=point: seconds(one),
            NO_MIX if point["workload"] == "chat" else "",
        )  # fmt: skip
    shutil.rmtree(WRITTEN, ignore_errors=True)


if __name__ == "__main__":
    main()
