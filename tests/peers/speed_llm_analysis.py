"""How many inference estimates llm-analysis gives a second: `LLMAnalysis.inference`.

OPT-175B is one of its own models; it refuses an FFN that is no multiple of the width, as Llama has.
"""

from importlib.metadata import version

import timing
from llm_analysis.analysis import LLMAnalysis
from llm_analysis.config import (
    ParallelismConfig,
    get_dtype_config_by_name,
    get_gpu_config_by_name,
    get_model_config_by_name,
)
from llm_analysis.logger import logger


def main() -> None:
    """Measure."""
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


if __name__ == "__main__":
    main()
