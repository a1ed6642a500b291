"""How many serving estimates mlsysim gives a second: `ServingModel.solve`.

One chip: it knows no parallel layouts of a model that serves.
"""

from importlib.metadata import version

import timing
from mlsysim import Hardware, Models
from mlsysim.solvers import ServingModel


def main() -> None:
    """Measure."""
    chosen = timing.options()
    solver, model, chip = ServingModel(), Models.Language.Llama3_8B, Hardware.Cloud.H100

    def solve(batch: int, context: int) -> object:
        return solver.solve(model, chip, seq_len=context, batch_size=batch, precision="fp16")

    points = timing.shuffled(range(1, 65), range(512, 4096))
    timing.measure(
        "one_chip", "ServingModel.solve", version("mlsysim"), solve, points, chosen.seconds
    )


if __name__ == "__main__":
    main()
