"""The rows behind the page about sparsity: plans that can serve, by experts over experts per token.

Tables have the columns of the result schema and: `ratio` (experts over experts per token), `total`
and `active` (parameters), `plan` (in words).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from roofrack.errors import InputError
from roofrack.report.format import number
from roofrack.report.page import Job
from roofrack.results.asked import rows_of_job
from roofrack.results.run import JobRun, Run
from roofrack.results.store import config_hash

from ..common.columns import COST, SPEED
from ..common.jobs import leaf_of, only_axes, why_none_serves
from ..common.pages import names, setting
from ..common.pairs import named, pair_jobs
from ..common.studies import Studies

NAME = "sparsity"
Row = dict[str, Any]
_KNOWN = ("batch", "workload.batch", "sparsity", "model.experts", "parallelism.tp",
          "parallelism.dp")  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """What is asked: the model on its machine, one value of everything.

    `domain` chips that the innermost network joins; `levels` the names of the fabric's levels and
    the bytes/s of a chip on each, from the inside; `ratio` the model's own.
    """

    name: str
    model: str
    config: Mapping[str, Any]
    domain: int
    levels: Mapping[str, float]
    experts: float
    per_token: float
    context: float
    chip_hour: float

    @property
    def ratio(self) -> float:
        """Experts over experts per token."""
        return self.experts / self.per_token

    @property
    def pair(self) -> str:
        """The model and the machine in words."""
        return f"{self.model} on {self.name}"

    def experts_at(self, ratio: float) -> str:
        """Return a ratio as experts, in words: `8 of 256 experts`."""
        return f"{number(self.per_token)} of {number(ratio * self.per_token)} experts"


@dataclass(frozen=True)
class Facts:
    """`table` holds plans that run and fit, at every ratio, over one rack or several.

    `best` is the cheapest of each ratio and number of racks that gives each user `speed`; `ratios`
    are those of the run and the model's own; `why` says why nothing serves at a ratio.
    """

    run: Run
    machine: Machine
    speed: float
    near: float
    all: pl.DataFrame
    table: pl.DataFrame
    best: pl.DataFrame
    ratios: tuple[float, ...]

    @property
    def least(self) -> pl.DataFrame:
        """The cheapest of each ratio over any number of racks, the smallest ratio first."""
        return first(self.best, "ratio")

    @property
    def inside(self) -> pl.DataFrame:
        """The cheapest of each ratio within one rack."""
        return self.best.filter(pl.col("racks") == 1)

    def row(self, table: pl.DataFrame, ratio: float) -> Row | None:
        """Return the row of a ratio, None if it has none."""
        found = table.filter(pl.col("ratio") == ratio)
        return found.row(0, named=True) if found.height else None


def first(table: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Return the cheapest row of each group, of equals that with the fewest chips."""
    ordered = table.sort(*by, COST, "chips", "plan", nulls_last=True)
    return ordered.group_by(by, maintain_order=True).first().select(table.columns)


def facts(run: Run, studies: Studies) -> Facts:
    """Compute the tables of the page. Raises InputError where the run cannot answer it."""
    jobs = pair_jobs(run, NAME, "decode")
    if len(run.jobs) > 1:
        raise InputError(
            f"experiment={NAME}: several jobs; this page is about one machine and one model: give"
            " hardware, model and the other groups one value each"
        )
    only_axes(run, _KNOWN, NAME)
    job = run.jobs[0]
    machine = machine_of(run, studies)
    whole = _with_own(run, job, machine, studies)
    rows = named(whole, jobs, {"sequences": "workload.batch"}).with_columns(
        ratio=pl.col("sparsity").cast(pl.Float64).round_sig_figs(7),
        total=pl.col("params_total"),
        active=pl.col("params_active"),
    )
    table = rows.filter(pl.col("valid") & pl.col("fits"))
    if table.is_empty():
        raise InputError(
            f"experiment={NAME}: nothing serves at any ratio ({why_none_serves(rows.lazy())}); try"
            " another dtype, more chips (parallelism.dp) or a shorter context"
        )
    speed = setting(run, "tokens_per_s")
    quick = table.filter(pl.col(SPEED) >= speed)
    return Facts(
        run=run,
        machine=machine,
        speed=speed,
        near=setting(run, "near", above=1.0),
        all=rows,
        table=table,
        best=first(quick, "ratio", "racks"),
        ratios=tuple(rows["ratio"].unique().sort().to_list()),
    )


def machine_of(run: Run, studies: Studies) -> Machine:
    """Read the machine and the model that the run asks about."""
    config = studies.config()
    model = config["model"]
    if not model["experts"] or not model["moe_layers"] or model.get("params_total"):
        raise InputError(
            f"experiment={NAME}: {config['choices']['model']} has no experts that are counted; this"
            " question is one of mixtures of experts"
        )
    context = leaf_of(run.jobs[0], "workload.context")
    rents = run.rows.select(pl.col("usd_per_chip_hour").drop_nulls().unique()).collect()
    hour = float(rents["usd_per_chip_hour"].max() or 0.0)  # type: ignore[arg-type]
    if rents.height and hour <= 0:
        raise InputError(
            f"experiment={NAME}: an hour of {config['choices']['hardware']} costs nothing; give"
            " hardware.usd_per_chip_hour above 0, so that costs can be compared"
        )
    fabric = config["hardware"]["fabric"]
    return Machine(
        name=names(run, "hardware")[config["choices"]["hardware"]],
        model=names(run, "model")[config["choices"]["model"]],
        config=config,
        domain=int(next(iter(fabric.values()))["chips"]),
        levels={name: float(level["bytes_per_s"]) for name, level in fabric.items()},
        experts=float(model["experts"]),
        per_token=float(model["experts_per_token"]),
        context=float(context),
        chip_hour=hour,
    )


def _with_own(run: Run, job: JobRun, machine: Machine, studies: Studies) -> Run:
    """Say the ratio of every row, and add the model as it is where that was not asked."""
    rows = run.rows.with_columns(sparsity=_ratio(run, job, machine).cast(pl.Float64))
    asked = rows.select("sparsity").unique().collect()["sparsity"]
    if any(abs(ratio / machine.ratio - 1) < 1e-6 for ratio in asked):
        return replace(run, rows=rows)
    own = {**job.config, "sparsity": None, "model": machine.config["model"]}
    kept = [word for word in job.overrides if not word.startswith(("sparsity=", "model.experts="))]
    studies.jobs.append(Job("the model as it is", tuple(kept), config_hash(own)))
    more = rows_of_job(own).lazy().with_columns(sparsity=pl.lit(machine.ratio, pl.Float64))
    return replace(run, rows=pl.concat([rows, more], how="diagonal_relaxed"))


def _ratio(run: Run, job: JobRun, machine: Machine) -> pl.Expr:
    """Return the ratio of a row: results of plans that cannot run are empty, inputs are not."""
    if "sparsity" in run.axes:
        return pl.col("sparsity")
    if "model.experts" in run.axes:
        return pl.col("model.experts") / machine.per_token
    return pl.lit(job.config["sparsity"] or machine.ratio)
