"""How many token latencies Epoch's notebook gives a second, on its own grid, and what it answers.

An evaluation is one latency for a number of GPUs and a batch, as its `pareto_fronts` asks for
160,000 of them at once. Where it searches pipelines, each is the least of 22 (`final`) or 132
(`new`) layouts.
"""

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import timing

LAYOUT = "chooses the layout itself; 58 layers, all sparse; no overlap of two batches"


def rate(function: Any, model: Any, gpu: Any, point: Mapping[str, Any]) -> float:
    """Return tokens per second and GPU of a decode step by one of its functions."""
    import numpy as np

    gpus, batch = (np.array([float(point[key])]) for key in ("dp", "batch"))
    latency = function(gpus, model, gpu, batch, input_len=point["context"], use_pp=False)
    if not np.isfinite(latency[0]):
        raise timing.Refused("does not fit")
    return float(batch[0] / latency[0] / gpus[0])


def main() -> None:
    """Measure, and answer."""
    chosen = timing.options()
    sys.path.insert(0, str(chosen.source))
    import inference_economics_notebook as notebook
    import numpy as np

    gpu, model = notebook.H100, notebook.DeepSeek_V3
    least = model.total_params * model.weight_precision_bytes / gpu.hbm_size_bytes
    batches = np.logspace(0, 18 + np.log2(model.sparsity_factor), num=400, base=2)
    gpus, batches = np.meshgrid(np.logspace(np.log2(least), 18, num=400, base=2), batches)

    def times(function: Any, pipelines: bool, context: int) -> object:
        return function(gpus, model, gpu, batches, input_len=context, use_pp=pipelines)

    for name, said in (
        ("section_2_2_token_latency_seconds", "simplest formula, no network"),
        ("token_latency_seconds_as_presented_in_paper", "formula of the paper"),
        ("final_token_latency_seconds", "final"),
        ("new_token_latency_seconds", "new"),
    ):
        for pipelines in (False, True) if said in ("final", "new") else (False,):
            given = [(getattr(notebook, name), pipelines, 2048 + n) for n in range(10_000)]
            timing.measure(
                "deepseek_decode", said + pipelines * ", pipelines searched", "2025-06",
                times, given, chosen.seconds / 2, each=gpus.size,
            )  # fmt: skip
            if pipelines:
                continue
            for question, point in timing.asked(chosen, "deepseek_decode"):
                timing.answer(
                    question, point, said, "2025-06",
                    partial(rate, getattr(notebook, name), model, gpu, point), LAYOUT,
                )  # fmt: skip


if __name__ == "__main__":
    main()
