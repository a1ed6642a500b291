"""The own plan at any load, as it is and with one physical thing changed.

All cases and loads are one call of the cost model: closer rates than the sweep has, up to those at
which its queue grows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from roofrack import config
from roofrack.conversion import to_study
from roofrack.grid.stream import at_once
from roofrack.report.format import number

from .measures import BATCH, RATE

LEAVES = {RATE: "workload.arrivals_per_s", BATCH: "workload.batch"}
TIMES = 2.0
"""Factor by which physical things are changed."""
GRID = np.concatenate(
    [np.geomspace(0.02, 0.7, 16), np.linspace(0.72, 1.0, 15)[:-1], np.geomspace(1.0, 5.0, 28)]
)
"""Rates of the curves, over what the own plan can serve: close where its queue begins to grow."""
COLUMNS = ("ttft_p95_s", "tpot_p95_s", "utilization")


def curves(
    same: tuple[str, ...], full: Mapping[str, Any], config_dir: str | Path | None
) -> dict[str, pl.DataFrame]:
    """Return the curve of each case, by what was changed in words; as it is under "".

    `same` composes the plan, `full` is a row of it. Columns: `rate`, COLUMNS, and the `prompt` and
    `output` tokens of a request; times are null where the queue grows.
    """
    study = to_study(config.compose([*same, f"{LEAVES[RATE]}=1"], config_dir))
    leaves = study.leaves

    def times(*paths: str) -> dict[str, float]:
        return {path: TIMES * float(leaves[path]) for path in paths}

    links = [p for p in leaves if p.startswith("hardware.fabric.") and p.endswith(".bytes_per_s")]
    cases: dict[str, Mapping[str, float]] = {
        "": {},
        f"answers of {number(TIMES * full['output'])} tokens": times("workload.output"),
        f"prompts of {number(TIMES * full['prompt'])} tokens": times("workload.prompt"),
        "twice the memory bandwidth": times("hardware.hbm_bytes_per_s"),
        "links twice as fast": times(*links),
    }
    rates = GRID * float(full["capacity_per_s"])
    size = len(rates) * len(cases)
    values = {
        path: np.repeat(
            [case.get(path, float(leaves[path])) for case in cases.values()], len(rates)
        )
        for path in {path for case in cases.values() for path in case}
    }
    values[LEAVES[RATE]] = np.tile(rates, len(cases))
    columns = at_once(study.bind(values), double=True)
    table = pl.DataFrame(
        {
            "case": np.repeat(list(cases), len(rates)),
            RATE: values[LEAVES[RATE]],
            **{name: np.broadcast_to(columns[name], size) for name in COLUMNS},
            "prompt": values["workload.prompt"],
            "output": values["workload.output"],
        }
    ).with_columns(pl.col(COLUMNS).fill_nan(None))
    return {case: table.filter(pl.col("case") == case) for case in cases}
