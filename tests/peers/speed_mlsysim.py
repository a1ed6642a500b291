"""How many serving estimates mlsysim gives a second, and what it answers.

`ServingModel.solve`, of one chip (it knows no parallel layouts of a model that serves), and
`DistributedModel.solve`, of a training step.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import timing
from mlsysim import Hardware, Models, Systems
from mlsysim.solvers import DistributedModel, ServingModel


def served(point: Mapping[str, Any]) -> float:
    """Return the seconds between tokens, at half of the output."""
    told = ServingModel().solve(
        Models.Language.Llama3_8B, Hardware.Cloud.H100, batch_size=point["batch"],
        seq_len=point["prompt"] + point["output"] // 2, precision="fp16",
    )  # fmt: skip
    return told.itl.to("second").magnitude


def trained(point: Mapping[str, Any]) -> float:
    """Return the seconds of a training step on its cluster of 64 A100."""
    told = DistributedModel().solve(
        Models.Language.GPT3, Systems.Clusters.Lab_64_A100, batch_size=point["global_batch"],
        precision="fp16", tp_size=point["tp"], pp_size=point["pp"],
        v_stages=point["virtual_stages"], microbatch_count=point["microbatches"],
        activation_recomputation=point["recompute"] == "full", seq_len=point["sequence"],
    )  # fmt: skip
    return told.step_latency_total.to("second").magnitude


def main() -> None:
    """Measure, and answer."""
    chosen = timing.options()
    solver, model, chip = ServingModel(), Models.Language.Llama3_8B, Hardware.Cloud.H100

    def solve(batch: int, context: int) -> object:
        return solver.solve(model, chip, seq_len=context, batch_size=batch, precision="fp16")

    points = timing.shuffled(range(1, 65), range(512, 4096))
    timing.measure(
        "one_chip", "ServingModel.solve", version("mlsysim"), solve, points, chosen.seconds
    )
    for question, point in timing.asked(chosen, "llama8b_serve"):
        timing.answer(
            question, point, "ServingModel.solve", version("mlsysim"),
            lambda one=point: served(one),
            "Llama-3-8B for 3.1; a step at half of the output: it mixes no prompts into it",
        )  # fmt: skip
    for question, point in timing.asked(chosen, "gpt3_train"):
        partly = point["recompute"] != "full"
        timing.answer(
            question, point, "DistributedModel.solve", version("mlsysim"),
            lambda one=point: trained(one),
            "its own cluster of 64 A100, 200 Gb/s InfiniBand; efficiency 0.5, its default"
            + partly * "; everything kept: it knows no partial recomputation",
        )  # fmt: skip


if __name__ == "__main__":
    main()
