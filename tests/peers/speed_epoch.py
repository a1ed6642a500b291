"""How many token latencies Epoch's notebook gives a second: its functions, on its own grid.

An evaluation is one latency for a number of GPUs and a batch, as its `pareto_fronts` asks for
160,000 of them at once. Where it searches pipelines, each is the least of 22 (`final`) or 132
(`new`) layouts.
"""

import sys
from typing import Any

import timing


def main() -> None:
    """Measure."""
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


if __name__ == "__main__":
    main()
