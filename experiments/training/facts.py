"""The rows behind "what does a training run take?": plans that fit, and the best at each size.

Tables hold one row per plan with the columns of the result schema, the degrees of the plan (`tp`,
`pp`, `dp`, `ep`, `cp`, `zero`, `recompute`), `global_batch` and `plan` (in words).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from roofrack.results.run import JobRun, Run

from ..common.columns import COST
from ..common.jobs import leaf_of, only_axes, pair_name, settled
from ..common.pages import nearest, setting
from ..common.studies import base

DEGREES = ("tp", "pp", "dp", "ep", "cp", "zero", "recompute")
LEAVES = {
    **{degree: f"parallelism.{degree}" for degree in DEGREES},
    "global_batch": "workload.global_batch",
}
AXES = (*LEAVES.values(), "pp")
PARTS = {
    "computing": "Computing and memory",
    "exposed_tp_s": "Waiting for TP",
    "exposed_cp_s": "Waiting for CP",
    "exposed_ep_s": "Waiting for experts",
    "pipeline": "Pipeline bubble and hops",
    "exposed_dp_s": "Waiting for other ranks",
    "rest": "Optimiser and the rest",
}
"""Parts of a step in words; they sum to it."""
LOSSES = tuple(PARTS)[1:]
"""Parts that are not computing."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """What the page is computed from.

    `all` every point of the job, `good` those that run and fit, `sizes` the cheapest of each number
    of chips. `best` is the cheapest at `chips`, the number of chips nearest to the one asked for.
    """

    run: Run
    job: JobRun
    pair: str
    all: pl.DataFrame
    good: pl.DataFrame
    sizes: pl.DataFrame
    best: Row
    asked: float

    @property
    def chips(self) -> float:
        """Chips that sentences speak of."""
        return float(self.best["chips"])

    @property
    def here(self) -> pl.DataFrame:
        """Plans that fit on as many chips, the cheapest first."""
        return self.good.filter(pl.col("chips") == self.chips).sort(COST, *DEGREES)

    @property
    def tokens(self) -> float:
        """Tokens to train on; 0 where the run does not say."""
        return float(leaf_of(self.job, "workload.tokens"))

    @property
    def step_tokens(self) -> float:
        """Tokens of a step."""
        return float(self.best["global_batch"]) * float(leaf_of(self.job, "workload.sequence"))


def rows_of_job(run: Run, job: JobRun) -> pl.DataFrame:
    """Return every point of a job with its degrees and what the plan is called."""
    lazy = settled(run, job, LEAVES)
    types = {d: pl.String if d in ("ep", "recompute") else pl.Int64 for d in DEGREES}
    lazy = lazy.with_columns(*(pl.col(d).cast(t) for d, t in types.items()))
    return named(lazy.with_columns(pl.col("global_batch").cast(pl.Float64)).collect())


def named(rows: pl.DataFrame) -> pl.DataFrame:
    """Add what the plan is called, and the parts of its step."""
    words = [
        pl.when(pl.col(d).cast(pl.String) != "1").then(pl.format(f"{d.upper()} {{}}", pl.col(d)))
        for d in ("tp", "pp", "dp", "cp", "ep")
    ]
    degrees = pl.concat_str(words, separator=", ", ignore_nulls=True)
    degrees = pl.when(degrees == "").then(pl.lit("one chip")).otherwise(degrees)
    zero = pl.when(pl.col("zero") > 0).then(pl.format("ZeRO {}", pl.col("zero")))
    again = {"none": None, "full": "all recomputed", "alternate": "half recomputed"}
    again |= {"selective": "attention recomputed"}
    layers = pl.col("recompute").replace_strict(again, return_dtype=pl.String)
    plan = pl.concat_str([degrees, zero, layers], separator=", ", ignore_nulls=True)
    return rows.with_columns(*parts(), plan=plan)


def parts() -> list[pl.Expr]:
    """Return the parts of a step that are sums of columns."""
    hidden = [pl.col(f"exposed_{kind}_s").fill_null(0.0) for kind in ("tp", "cp", "ep")]
    computing = pl.col("passes_s") - sum(hidden[1:], hidden[0])
    pipeline = pl.col("bubble_s") + pl.col("exposed_pp_s")
    rest = pl.col("step_s") - pl.col("passes_s") - pipeline - pl.col("exposed_dp_s")
    return [
        computing.clip(0.0).alias("computing"),
        pipeline.alias("pipeline"),
        rest.clip(0.0).alias("rest"),
    ]


def facts(run: Run, job: JobRun) -> Facts | None:
    """Return the facts of a job; None where no plan runs and fits."""
    only_axes(run, AXES, "training")
    every = rows_of_job(run, job)
    good = every.filter("valid", "fits")
    if good.is_empty():
        return None
    sizes = cheapest(good, ["chips"])
    wanted = setting(run, "chips")
    chips = nearest(sizes["chips"].to_list(), wanted)
    return Facts(
        run=run,
        job=job,
        pair=pair_name(run, job),
        all=every,
        good=good,
        sizes=sizes,
        best=sizes.row(by_predicate=pl.col("chips") == chips, named=True),
        asked=wanted,
    )


def cheapest(rows: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Return the cheapest row of each group; of equals the one with the least degrees."""
    return rows.sort(*by, COST, *DEGREES).group_by(by, maintain_order=True).first()


def loss(row: Row) -> tuple[str, float]:
    """Return the largest part of a step that is not computing, and its share."""
    found = max(LOSSES, key=lambda part: row[part] or 0.0)
    return found, float(row[found] or 0.0) / float(row["step_s"])


def words_of(job: JobRun) -> tuple[str, ...]:
    """Return the overrides that ask a job's training again, without its axes."""
    choices = job.config["choices"]
    own = [
        text
        for text in job.overrides
        if text.startswith(("workload.", "parallelism."))
        and not text.startswith("workload.dtype.")
        and not text.partition("=")[2].startswith(("[", "${"))
    ]
    groups = [f"{group}={choices[group]}" for group in ("parallelism", "workload")]
    return (*groups, *own)


def point_words(found: Facts, row: Row) -> tuple[str, ...]:
    """Return the overrides of one plan, whole."""
    degrees = [f"parallelism.{degree}={row[degree]}" for degree in DEGREES]
    batch = f"workload.global_batch={row['global_batch']:.0f}"
    return (*base(found.job), *words_of(found.job), *degrees, batch)
