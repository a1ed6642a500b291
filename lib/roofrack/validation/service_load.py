"""What a simulation says of published runs in which requests come at a rate."""

import numpy as np
import polars as pl

from roofrack import config
from roofrack.conversion import to_study
from roofrack.errors import InfeasibleError
from roofrack.simulation.asked import asked
from roofrack.simulation.deployments import deployments
from roofrack.simulation.jobs import Job
from roofrack.simulation.measured import row as measured
from roofrack.simulation.played import Maker, played_of
from roofrack.validation.service import QUANTITIES

ALIKE = (
    "workload.batch=256",
    "engine.budget=8192",
    "workload.prompt_cv=0",
    "workload.output_cv=0",
    "traffic.warmup=0",
)
"""Lengths in these benchmarks are all the same, their means are over the whole run; 256 sequences
and 8,192 tokens a pass are what TensorRT-LLM builds an engine for unless told otherwise (taken for
0.14 too: its page does not say). Overrides of a row win."""
SEEDS = 4
"""Runs with other arrivals, whose mean is taken: the published one is a sample too."""
FOUND = {"tokens_per_s": "tokens_per_s", "tpot_s": "tpot_mean_s", "ttft_s": "ttft_mean_s"}
"""The column of a simulation that a quantity is."""


def predict_load(rows: pl.DataFrame, calibration: str = "auto") -> pl.DataFrame:
    """Return a row for each row of method `load`: every quantity, and what it was asked of.

    Columns `id`, `why_invalid`, `batch` (in flight, on average), `chips`, `fits`, `calibration`,
    the quantities, and `spread`: the relative standard error of a pass, which the times have as
    long as no queue grows, and those of the arrivals, together.
    """
    jobs: list[Job] = []
    found: dict[str, dict[str, object]] = {}
    for row in rows.iter_rows(named=True):
        name = calibration if calibration != "auto" else row["calibration"]
        words = [*ALIKE, *row["overrides"].split(), f"traffic.requests={row['requests']}"]
        question = asked([*words, f"workload.arrivals_per_s={row['rate_per_s']}"])
        found[row["id"]] = {"id": row["id"], "calibration": name, "why_invalid": None}
        try:
            study = to_study(config.compose([*question.overrides, f"calibration={name}"]))
            (deployment,) = deployments(study, question.engine)
        except InfeasibleError as error:
            found[row["id"]]["why_invalid"] = str(error)
            continue
        maker = Maker(question)
        jobs += [maker.job(deployment, row["rate_per_s"], seed) for seed in range(SEEDS)]
        found[row["id"]] |= {"fits": True, "jobs": len(jobs)}
    played = played_of(jobs)
    for one in found.values():
        if (end := one.pop("jobs", None)) is None:
            continue
        runs = played[int(str(end)) - SEEDS : int(str(end))]
        lines = [measured(run, asked([]).limits) for run in runs]
        values = {q: np.array([line[name] for line in lines]) for q, name in FOUND.items()}
        step = runs[0].deployment.row["step_s_rel_std"]
        one |= {
            "batch": float(np.mean([line["batch_at_load"] for line in lines])),
            "chips": runs[0].deployment.row["chips"],
            **{q: float(v.mean()) for q, v in values.items()},
            **{
                f"{q}_std": float(np.hypot(step, v.std(ddof=1) / v.mean()))
                for q, v in values.items()
            },
        }
    names = [*QUANTITIES, *(f"{q}_std" for q in QUANTITIES)]
    schema = {
        "id": pl.String, "why_invalid": pl.String, "batch": pl.Float64, "chips": pl.Float64,
        "fits": pl.Boolean, "calibration": pl.String, **dict.fromkeys(names, pl.Float64),
    }  # fmt: skip
    return pl.DataFrame(list(found.values()), schema=schema)
