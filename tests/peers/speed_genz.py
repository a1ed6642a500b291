"""How many decode steps GenZ estimates a second: `decode_moddeling`, its function for one."""

import shutil
import warnings
from importlib.metadata import version
from pathlib import Path

import timing
from GenZ import decode_moddeling

WRITTEN = Path("/tmp") / "genz/data"
"""Where GenZ leaves a file a call."""


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


def main() -> None:
    """Measure."""
    warnings.filterwarnings("ignore")
    chosen = timing.options()
    points = timing.shuffled((2, 4, 8), range(1, 65), range(512, 4096))
    timing.measure(
        "llama_decode", "decode_moddeling", version("genz-llm"), step, points, chosen.seconds
    )
    shutil.rmtree(WRITTEN, ignore_errors=True)


if __name__ == "__main__":
    main()
