"""What GenZ predicts for the measured serving rows that it can take. See README.md beside this.

GenZ gives the time of one decode step and of one prefill; queueing and the mixing of the two are
not in it. So TPOT is a step in the middle of the output, and TTFT the prefill of one prompt on an
idle engine. Only systems and efficiencies as the package ships them.
"""

import argparse
import shutil
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import rows
from GenZ import decode_moddeling, prefill_moddeling
from GenZ.Models import ModelConfig

SYSTEMS = {"h100_sxm": "H100_GPU"}
"""The package's own presets that are one of the measured chips at its dense peak."""
PRESETS = {
    "meta-llama/Llama-3.1-70B": "meta-llama/Llama-3.1-70B",
    "meta-llama/Llama-3.1-8B-Instruct": "meta-llama/Llama-3.1-8B",
    "nvidia/Llama-3.1-8B-Instruct-FP8": "meta-llama/Llama-3.1-8B",
}
# The package has no Qwen3. The degrees are those of the checkpoint's own config.json.
QWEN3_32B = ModelConfig(
    model="Qwen/Qwen3-32B",
    hidden_size=5120,
    num_attention_heads=64,
    num_key_value_heads=8,
    head_dim=128,
    num_ffi=2,
    intermediate_size=25600,
    num_decoder_layers=64,
    vocab_size=151936,
)
WRITTEN = Path("/tmp") / "genz/data"
"""Where GenZ leaves a file a call."""


def refused(row: rows.Row) -> str:
    """Why a row is not asked, or nothing."""
    if row["mode"] != "agg":
        return "no disaggregation"
    if not rows.dense(row):
        # A decode step reads the top-k experts of one token, however many sequences decode.
        return "experts ignore the batch"
    if row["system"] not in SYSTEMS:
        return "no such chip"
    return ""


def predict(row: rows.Row) -> dict[str, object]:
    """One line of the table of predictions."""
    line: dict[str, object] = {
        "id": row["id"],
        "tool": "genz",
        "version": version("genz-llm"),
        "answered": "false",
    }
    engine = rows.layout(row)
    size = engine and rows.batch(row, engine)
    reason = refused(row) or ("" if size else "missing input")
    if reason or not engine:
        return line | {"reason": reason}
    common = {
        "model": PRESETS.get(row["model_path"], QWEN3_32B),
        "system_name": SYSTEMS[row["system"]],
        "bits": "fp8" if row["gemm_quant_mode"] else "bf16",
        "input_tokens": int(row["isl"]),
        "tensor_parallel": engine.tp,
        "parallelism_heirarchy": f"TP{{{engine.tp}}}_EP{{1}}_PP{{1}}",
    }
    try:
        step = decode_moddeling(**common, batch_size=size, output_tokens=int(row["osl"]) // 2, Bb=1)
        prompt = prefill_moddeling(**common, batch_size=1)
    except ValueError as error:
        if "would not fit" not in str(error):
            raise
        return line | {"reason": "does not fit"}
    return line | {
        "ttft_ms": f"{prompt['Latency']:.4g}",
        "tpot_ms": f"{step['Latency']:.4g}",
        "answered": "true",
        "reason": "",
    }


def main() -> None:
    """Append the predictions that the file lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("genz.csv"))
    parser.add_argument("--sample", type=Path, help="silicon_sample.csv, if not installed here")
    parser.add_argument("--limit", type=int, help="rows at most, a fair sample of all")
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore")
    held = rows.done(chosen.out)
    todo = rows.fair_order(rows.sample(chosen.sample))
    todo = [row for row in todo[: chosen.limit] if (row["id"], "genz") not in held]
    begin = time.perf_counter()
    count = rows.append(chosen.out, (predict(row) for row in todo))
    shutil.rmtree(WRITTEN, ignore_errors=True)
    print(f"{count} rows in {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
