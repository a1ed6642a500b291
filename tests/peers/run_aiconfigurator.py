"""What NVIDIA's aiconfigurator predicts for the measured serving rows. See README.md beside this.

The prediction is the package's public `cli_estimate`, one call a row. The version of its data is
resolved once per system and backend and handed over: without it each call reads some five hundred
YAML files again, which is 98 % of its time. `--check N` compares N rows with the command line.
"""

import argparse
import contextlib
import functools
import io
import logging
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import rows
from aiconfigurator.cli.api import cli_estimate
from aiconfigurator.sdk.errors import InterpolationDataNotAvailableError, PerfDataNotAvailableError
from aiconfigurator.sdk.perf_database import get_latest_database_version

Arguments = dict[str, str | int | None]

TOOLS = {
    "SILICON": "aiconfigurator",
    "SOL": "aiconfigurator_sol",
    "HYBRID": "aiconfigurator_hybrid",
}
NO_DATA = (PerfDataNotAvailableError, InterpolationDataNotAvailableError)
# The names under which the package carries the configurations: the pairs of its own adapter for
# InferenceX records, and for the rows of the gap analysis the same architecture.
MODELS = {
    ("zhipuai/GLM-5", "fp8"): "zai-org/GLM-5-FP8",
    ("zhipuai/GLM-5", "fp4"): "nvidia/GLM-5-NVFP4",
    ("zhipuai/GLM-5", "bf16"): "zai-org/GLM-5",
    ("meta-llama/Llama-3.1-70B", None): "meta-llama/Meta-Llama-3.1-70B",
    ("meta-llama/Llama-3.1-8B-Instruct", None): "meta-llama/Meta-Llama-3.1-8B",
    ("nvidia/Llama-3.1-8B-Instruct-FP8", None): "meta-llama/Meta-Llama-3.1-8B",
    ("nvidia/DeepSeek-R1-NVFP4", None): "deepseek-ai/DeepSeek-R1",
    ("nvidia/Qwen3-32B-NVFP4", None): "Qwen/Qwen3-32B",
}
# Checkpoints that are themselves quantised, and how the row's quantisation must begin for the
# package to be allowed to take that of the checkpoint (DeepSeek's FP8, for one, is block-wise).
OWN_WEIGHTS = {
    "deepseek-ai/DeepSeek-R1": "fp8",
    "deepseek-ai/DeepSeek-V3": "fp8",
    "MiniMaxAI/MiniMax-M2.5": "fp8",
    "Qwen/Qwen3-235B-A22B-FP8": "fp8",
    "moonshotai/Kimi-K2.5": "int4",
    "openai/gpt-oss-120b": "",
}
# The adapter leaves these to the checkpoint from the start.
NATIVE = {("openai/gpt-oss-120b", "fp4")}


@functools.cache
def database(system: str, backend: str) -> str | None:
    """The version of the performance database that the package chooses by itself."""
    return get_latest_database_version(system=system, backend=backend)


def worker(engine: rows.Layout, role: str = "") -> Arguments:
    """The layout of one engine as arguments of `cli_estimate`."""
    return {
        f"{role}tp_size": engine.tp,
        f"{role}pp_size": 1,
        f"{role}attention_dp_size": engine.dp,
        f"{role}moe_tp_size": engine.moe_tp or None,
        f"{role}moe_ep_size": engine.moe_ep or None,
    }


def arguments(row: rows.Row, mode: str, part: float) -> tuple[Arguments, list[str]] | None:
    """Arguments of `cli_estimate` and notes on how the row was read; None: the file lacks a number.

    `part` of the nominal lengths is asked for where InferenceX draws them at random.
    """
    notes = []
    share = 1.0 if rows.PLAIN in row["silicon_data_source"] else part
    asked: Arguments = {
        "model_path": MODELS.get(
            (row["model_path"], row["precision"]),
            MODELS.get((row["model_path"], None), row["model_path"]),
        ),
        "system_name": row["system"],
        "mode": row["mode"],
        "backend_name": row["backend"],
        "backend_version": database(row["system"], row["backend"]),
        "database_mode": mode,
        "isl": round(share * int(row["isl"])),
        "osl": round(share * int(row["osl"])),
        "gemm_quant_mode": row["gemm_quant_mode"] or None,
        "moe_quant_mode": None if rows.dense(row) else row["moe_quant_mode"] or None,
    }
    if (row["model_path"], row["precision"]) in NATIVE:
        asked |= {"gemm_quant_mode": None, "moe_quant_mode": None}
    if row["mode"] == "agg":
        engine = rows.layout(row)
        size = engine and rows.batch(row, engine)
        if not engine or not size:
            return None
        notes += ["layout"] * engine.repaired
        return asked | worker(engine) | {"batch_size": size}, notes
    for role in ("prefill_", "decode_"):
        engine = rows.layout(row, role)
        counts = {
            f"{role}{key}": rows.degree(row, f"{role}{key}")
            for key in ("batch_size", "num_workers")
        }
        if not engine or None in counts.values():
            return None
        asked |= worker(engine, role) | counts
    return asked, notes


def readings(
    row: rows.Row, asked: Arguments, notes: list[str]
) -> Iterator[tuple[Arguments, list[str]]]:
    """The row as its columns say, then with the quantisation that the checkpoint itself carries."""
    yield asked, notes
    own = OWN_WEIGHTS.get(row["model_path"])
    given = str(asked["gemm_quant_mode"] or "")
    if own is not None and given and given.startswith(own):
        yield asked | {"gemm_quant_mode": None, "moe_quant_mode": None}, [*notes, "checkpoint"]


def refusal(error: Exception) -> str:
    """The class of a refusal, in two words."""
    text = str(error)
    if isinstance(error, NO_DATA):
        return "no operator data"
    if text.startswith("OOM"):
        return "does not fit"
    if "Failed to download" in text:
        return "no model"
    if isinstance(error, AssertionError) or "Parallelism width mismatch" in text:
        return "layout refused"
    return f"error: {type(error).__name__}"


def name(mode: str, part: float) -> str:
    """What the tool is called in the table."""
    return TOOLS[mode] if part == 1.0 else f"{TOOLS[mode]}_{part:g}"


def predict(row: rows.Row, mode: str, part: float = 1.0) -> dict[str, object]:
    """One line of the table of predictions."""
    used = database(row["system"], row["backend"])
    line: dict[str, object] = {
        "id": row["id"],
        "tool": name(mode, part),
        "version": f"{version('aiconfigurator')}/{used}",
        "answered": "false",
    }
    read = arguments(row, mode, part)
    if read is None:
        return line | {"reason": "missing input"}
    why = ""
    for asked, notes in readings(row, *read):
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                result = cli_estimate(**asked)
        except Exception as error:
            why = why or refusal(error)
            if not isinstance(error, NO_DATA):
                break
            continue
        notes = [*notes, "kv"] if result.kv_cache_warning else notes
        return line | {
            "ttft_ms": f"{result.ttft:.4g}",
            "tpot_ms": f"{result.tpot:.4g}",
            "answered": "true",
            "reason": "+".join(notes),
        }
    return line | {"reason": why}


def command_line(row: rows.Row, mode: str) -> tuple[float, float]:
    """TTFT and TPOT in ms as `aiconfigurator cli estimate` prints them, the database left to it."""
    read = arguments(row, mode, 1.0)
    assert read
    flags = {"mode": "estimate-mode", "system_name": "system", "backend_name": "backend"}
    command = [str(Path(sys.executable).parent / "aiconfigurator"), "cli", "estimate"]
    for key, value in read[0].items():
        if value is not None and key != "backend_version":
            command += [f"--{flags.get(key, key.replace('_', '-'))}", str(value)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ttft, tpot = (
        float(re.search(rf"{key}:\s+([\d.,]+) ms", printed)[1].replace(",", ""))
        for key in ("TTFT", "TPOT")
    )
    return ttft, tpot


def check(todo: list[rows.Row], mode: str, number: int) -> None:
    """Compare `number` answered rows, one a mode, model and backend, with the command line."""
    seen: set[tuple[str, ...]] = set()
    for row in todo:
        kind = (row["mode"], row["model_path"], row["backend"])
        if kind in seen or len(seen) == number:
            continue
        here = predict(row, mode)
        if here["answered"] == "false" or "checkpoint" in str(here["reason"]):
            continue
        seen.add(kind)
        there = command_line(row, mode)
        mine = (float(str(here[key])) for key in ("ttft_ms", "tpot_ms"))
        # Four digits here, three decimals there.
        same = all(abs(a - b) <= 5e-4 * b + 5e-4 for a, b in zip(mine, there, strict=True))
        print("same" if same else "DIFFERENT", row["id"], here["ttft_ms"], here["tpot_ms"], *there)


def main() -> None:
    """Append the predictions that the file lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("aiconfigurator.csv"))
    parser.add_argument("--mode", choices=TOOLS, default="SILICON")
    parser.add_argument("--part", type=float, default=1.0, help="of the lengths of InferenceX")
    parser.add_argument("--limit", type=int, help="rows at most, a fair sample of all")
    parser.add_argument("--check", type=int, help="compare this many rows with the command line")
    chosen = parser.parse_args()
    logging.disable(logging.WARNING)
    todo = rows.fair_order(rows.sample())
    if chosen.check:
        check(todo, chosen.mode, chosen.check)
        return
    held = rows.done(chosen.out)
    todo = [
        row
        for row in todo[: chosen.limit]
        if (row["id"], name(chosen.mode, chosen.part)) not in held
    ]
    begin = time.perf_counter()
    count = rows.append(
        chosen.out, (predict(row, chosen.mode, chosen.part) for row in rows.in_turns(todo))
    )
    print(f"{count} rows in {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
