"""Questions to a large sweep, and one of many jobs: `python tests/bench_aggregate.py [1e7]`.

Writes a synthetic sweep under a temporary folder (3 GB for 1e8 rows, removed at the end), asks each
question of it in a process of its own, and prints the wall time and the peak memory. Exit status 1
when a question needs more memory than the project allows, whatever the number of rows. Then 5,000
jobs of one shard each are opened, and asked.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from roofrack.results import books, store
from roofrack.results.schema import COLUMNS, VERSION

LIMIT_BYTES = 2.5e9
SHARD_ROWS = 2**17
MACHINES = ("h100_sxm", "h200", "b200", "gb200_nvl72", "h800")
MODELS = ("llama3_1_70b", "deepseek_v3", "qwen3_235b_a22b", "gpt_oss_120b")
AXES = ("parallelism.tp", "parallelism.dp", "parallelism.ep", "context", "batch")
QUESTIONS = {
    "best by machine and model": 'run.best(by=("hardware", "model"), within={"tpot_s": 0.03})',
    "best by model and batch": 'run.best(by=("model", "batch"), within={"tpot_s": 0.03})',
    "best, all rows equal": 'run.best(by="model", minimise="racks")',
    "frontier of two": 'run.frontier("usd_per_mtok", "tokens_per_s_per_user", by="model")',
    "frontier of three": 'run.frontier("usd_per_mtok", "tokens_per_s_per_user", "chips")',
    "marginal, least": 'run.marginal("batch", "usd_per_mtok")',
    "marginal, median": 'run.marginal("batch", "usd_per_mtok", "median")',
    "compare machines": 'run.compare("hardware", "b200", "h100_sxm", "usd_per_mtok", by="model")',
    "compare degrees": 'run.compare("parallelism.tp", 8, 1, "usd_per_mtok", by="model")',
    "sensitivity to batch": 'run.sensitivity("batch", "usd_per_mtok")',
    "sensitivity to context": 'run.sensitivity("context", "usd_per_mtok")',
}
ASK = """
import resource, sys, time
from roofrack.results.run import load
begun = time.perf_counter()
run = load(sys.argv[1])
opened = time.perf_counter()
answer = {question}
told = time.perf_counter()
unit = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
print(opened - begun, told - opened, peak, answer.height)
"""


def grid(total: int) -> tuple[np.ndarray, ...]:
    """The values of AXES for a job of about so many points."""
    batch = np.unique(np.geomspace(1, 65536, 64).astype(np.int64))
    tp, dp, ep = np.array([1, 2, 4, 8]), np.array([1, 2, 4, 8, 16]), np.array([0, 1])
    contexts = max(2, total // (len(batch) * len(tp) * len(dp) * len(ep)))
    return tp, dp, ep, np.linspace(1024, 131072, contexts).round(), batch


def shards(machine: int, model: int, axes: tuple[np.ndarray, ...]) -> Iterator[pl.DataFrame]:
    """The rows of a job, made up: each result depends on each axis, some plans cannot run."""
    shape = tuple(map(len, axes))
    for start in range(0, int(np.prod(shape)), SHARD_ROWS):
        flat = np.arange(start, min(start + SHARD_ROWS, int(np.prod(shape))))
        places = np.unravel_index(flat, shape)
        tp, dp, ep, context, batch = (a[i] for a, i in zip(axes, places, strict=True))
        chips = tp * dp
        step = 1e-3 * (1 + model + np.log2(1 + chips)) + 5e-3 / tp + 2e-4 * ep
        step = step + batch * context * 1e-9 / chips * (1 + machine)
        memory = 1e9 * (10 + model) / tp + batch * context * 100 / chips
        valid = (tp != 4) | (model != 1)
        words = pl.Series(["tp does not divide the query heads", None], dtype=pl.String)
        labels = {
            "hardware": MACHINES[machine], "model": MODELS[model], "parallelism": "rack",
            "workload": "decode", "dtype": "fp8", "economics": "rent",
            "calibration": f"{MACHINES[machine]}_trtllm", "overlap": "smooth", "phase": "decode",
        }  # fmt: skip
        single = {
            "step_s": step, "tpot_s": step, "ttft_s": 10 * step, "tokens_per_s": batch / step,
            "tokens_per_s_per_user": 1 / step, "mfu": batch / step * 1e-9,
            "mem_total_bytes": memory, "usd_per_mtok": step * chips * (1 + machine) / batch * 100,
            "joule_per_token": step * chips / batch, "chips": chips, "racks": np.ones(len(flat)),
        }  # fmt: skip
        result = {name: pl.Series(v.astype(np.float32)) for name, v in single.items()}
        result |= {"fits": pl.Series(memory < 1.2e11), "valid": pl.Series(valid)}
        result["why_invalid"] = words.gather(valid.astype(np.uint32))
        ways = pl.Series(["1", "stage"]).gather(ep.astype(np.uint32))
        swept = dict(zip(AXES, (tp, dp, ways, context, batch), strict=True))
        ordered = {name: result[name] for name in COLUMNS if name in result}
        yield pl.DataFrame(swept | ordered).select(
            *(pl.lit(value).alias(name) for name, value in labels.items()), pl.all()
        )


def write_job(folder: Path, machine: int, model: int, total: int) -> int:
    """Write a job as `roofrack sweep` does, and return its rows."""
    folder.mkdir(parents=True)
    axes, sizes, rows = grid(total), {}, 0
    points = int(np.prod([len(axis) for axis in axes]))
    choices = {
        "hardware": MACHINES[machine], "model": MODELS[model], "parallelism": "rack",
        "workload": "decode", "dtype": "fp8", "economics": "rent",
        "calibration": f"{MACHINES[machine]}_trtllm",
    }  # fmt: skip
    config = {
        "choices": choices, "overlap": "smooth", "workload": {"phase": "decode"},
        "parallelism": {
            "tp": [], "dp": [], "ep": [], "pp": 1, "cp": 1, "replicas": 1,
        },
    }  # fmt: skip
    told = {"axes": list(AXES), "config": config, "overrides": [], "points": points}
    told |= {"units": {}, "docs": {}, "versions": books.versions()}
    about = {f"roofrack.{name}": json.dumps(value) for name, value in told.items()}
    about |= {"roofrack.schema_version": VERSION, "roofrack.config_hash": folder.name}
    for number, table in enumerate(shards(machine, model, axes)):
        path = folder / store.SHARD.format(number)
        table.write_parquet(path, metadata=about, statistics=True)
        sizes[path.name], rows = path.stat().st_size, rows + len(table)
    kinds = [(name, str(kind)) for name, kind in table.schema.items()]
    books.JobBook(
        about=books.digest(about), schema=books.digest(kinds), schema_version=VERSION,
        choices=choices, points=rows, shards=sizes, seconds=0.0, started="", python="",
    ).write(folder)  # fmt: skip
    return rows


def ask(folder: Path, question: str) -> tuple[float, float, float, int]:
    """Seconds to open a sweep and to answer, peak resident bytes, rows of the answer."""
    run = subprocess.run(
        [sys.executable, "-c", ASK.format(question=question), str(folder)],
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise SystemExit(f"{question} failed:\n{run.stderr}")
    opened, told, peak, rows = run.stdout.split()
    return float(opened), float(told), float(peak), int(rows)


def told(title: str, found: tuple[float, float, float, int]) -> bool:
    """Print a line; return whether it took too much memory."""
    opened, answered, peak, rows = found
    late = peak > LIMIT_BYTES
    print(
        f"{title:32}{opened:8.2f}{answered:10.2f}{rows:8,}{peak / 1e9:9.2f}"
        f"{'  too much' if late else ''}",
        flush=True,
    )
    return late


def main() -> None:
    """Write, ask, print; exit status 1 when a question needs too much memory."""
    total = int(float(sys.argv[1])) if len(sys.argv) > 1 else 10**7
    missed = False
    with tempfile.TemporaryDirectory() as name:
        large, many = Path(name, "large"), Path(name, "many")
        pairs = [(i, j) for i in range(len(MACHINES)) for j in range(len(MODELS))]
        begun = time.perf_counter()
        rows = sum(
            write_job(large / str(n), i, j, total // len(pairs)) for n, (i, j) in enumerate(pairs)
        )
        size = sum(path.stat().st_size for path in large.rglob("*.parquet"))
        wrote = time.perf_counter() - begun
        print(f"{rows:,} rows in {len(pairs)} jobs, {size / 1e9:.2f} GB, made in {wrote:.0f} s")
        print(f"{'question':32}{'open s':>8}{'answer s':>10}{'rows':>8}{'peak GB':>9}")
        for title, question in QUESTIONS.items():
            missed |= told(title, ask(large, question))
        for number in range(5_000):
            write_job(many / str(number), *pairs[number % len(pairs)], total=5_000)
        told("5,000 jobs of a shard each: best", ask(many, next(iter(QUESTIONS.values()))))
    sys.exit(missed)


if __name__ == "__main__":
    main()
