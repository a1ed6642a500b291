"""The table of published training runs, read and told: columns, groups, and the runs of vTrain."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from roofrack.errors import InputError
from roofrack.validation.published import Field, read
from roofrack.validation.training_flops import convention

HERE = Path(__file__).parent
RUNS, VTRAIN, GROUPS = (
    HERE / name for name in ("training.csv", "training_vtrain.csv", "training_groups.yaml")
)

SHAPES = {
    "layers": "layers",
    "d_model": "d_model",
    "heads": "heads",
    "head_dim": "head_dim",
    "d_ff": "d_ff",
    "vocab": "vocab",
}
"""Columns that reshape the model, and the leaves they set; all reshaped models are multi-head."""

DEGREES = ("tp", "pp", "cp", "ep", "dp", "virtual_stages", "zero")
NEEDED = (
    *("hardware", "model", "chips", "sequence", "global_batch", "micro_batch", *DEGREES),
    *("sp", "schedule", "recompute", "precision"),
)
"""Columns without which a run cannot be predicted: printed, or assumed for the whole group."""

MATHS = {"fp8": "fp8", "fp8_block": "fp8_block", "mxfp8": "mxfp8", "nvfp4": "nvfp4"}
"""Precisions in which only the matrix products are narrow; weights and activations are BF16."""

_TEXT = {
    "id": "name of the run, unique and lasting",
    "group": "one of training_groups.yaml",
    "where": "table, section or file of the group's source",
    "hardware": "machine, by its name in conf/hardware",
    "model": "model, by its name in conf/model",
    "chips": "of the whole run",
    "sequence": "tokens of a sequence",
    "global_batch": "sequences of a step",
    "micro_batch": "sequences that a rank works on at once",
    "tp": "tensor-parallel degree",
    "sp": "sequence parallelism: true or false",
    "pp": "pipeline stages",
    "virtual_stages": "parts of the layers on each stage",
    "schedule": "of the pipeline",
    "cp": "context-parallel degree",
    "ep": "expert-parallel degree",
    "dp": "data-parallel degree",
    "zero": "what data-parallel ranks shard, 0 to 3",
    "recompute": "none, selective, full or alternate",
    "overlap_ep": "exchanges of experts pass beside another micro-batch: true or false",
    "dedup": "a token is sent once to a node: true or false",
    "precision": "fp16, bf16 or one of MATHS",
    **{name: "where the run's differs from the model's file" for name in SHAPES},
    "slice": "chips of one scale-up domain, where a run used smaller ones than the file has",
    "mtp": "modules that predict further tokens",
    "gradients": "format in which gradients are reduced",
    "optimizer": "where it is another than Adam",
    "quantity": "one of QUANTITIES",
}
FITTED_TO = "the pace of the host was fitted to it"
"""Why half of vTrain's runs on one node are not predicted."""

FIELDS = {
    **{name: Field(pl.String, doc) for name, doc in _TEXT.items()},
    "measured": Field(pl.Float64, "what the source prints, in the unit of the quantity"),
    "how": Field(pl.String, "one of HOW"),
    "confidence": Field(pl.String, "one of CONFIDENCE"),
    "why_not": Field(pl.String, "why the run is not predicted; empty where it is"),
    "notes": Field(pl.String, "what else the source prints of it"),
}
"""The columns of training.csv, in order; empty where the source does not print one."""


@lru_cache
def groups() -> Mapping[str, Mapping[str, Any]]:
    """Return what holds for each group of runs: source, software, FLOPs, settings, assumed."""
    found: dict[str, Any] = yaml.safe_load(GROUPS.read_text(encoding="utf-8"))
    for name, group in found.items():
        convention(group["flops"])
        for key, entry in group["assumed"].items():
            if set(entry) != {"value", "why"} or not str(entry["why"]).strip():
                raise InputError(f"{GROUPS.name}: {name}: assumed.{key}: give value and why")
    return found


def runs() -> Iterator[dict[str, Any]]:
    """Yield the lines of training.csv, all of them text but `measured`."""
    yield from read(RUNS, FIELDS).iter_rows(named=True)


def vtrain() -> Iterator[dict[str, Any]]:
    """Yield vTrain's runs in the columns of training.csv."""
    table = pl.read_csv(VTRAIN, infer_schema=False)
    blank = dict.fromkeys(FIELDS, "")
    for run in table.iter_rows(named=True):
        multi = run["table"] == "multi"
        yield {
            **blank,
            **{key: run[key] for key in run if key in FIELDS},
            "id": f"vtrain_{run['table']}_{run['run']}",
            "group": f"vtrain_{run['table']}",
            "where": f"data/ground_truth_{run['table']}.csv, run {run['run']}",
            "hardware": "a100_80gb_4hdr" if multi else "a100_80gb",
            "model": "gpt3_175b",
            **dict.fromkeys(("virtual_stages", "cp", "ep"), "1"),
            **{"sp": "false", "schedule": "1f1b", "zero": "0", "recompute": "full"},
            "precision": "fp16",
            "head_dim": str(int(run["d_model"]) // int(run["heads"])),
            "d_ff": str(4 * int(run["d_model"])),
            "vocab": "50257",
            "quantity": "step_s",
            "measured": float(run["step_ms"]) / 1e3,
            "how": "read",
            "confidence": "medium",
            "why_not": "" if multi or int(run["run"]) % 2 == 0 else FITTED_TO,
        }
