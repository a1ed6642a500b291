"""The rows behind "what does a pipeline buy?": one stage layout at every depth, and the best plans.

Tables hold one row per plan, batch and depth, with the columns of the result schema and `pp`,
`batch`, `reading` (pp_batch), `tp`, `dp`, `ep`, `stage` (chips of a stage).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from roofrack.results.run import JobRun, Run

from ..common.columns import COST
from ..common.jobs import leaf_of, only_axes, pair_name, settled
from ..common.pages import nearest, setting

LEAVES = {
    "batch": "workload.batch",
    "pp": "parallelism.pp",
    "reading": "parallelism.pp_batch",
    "tp": "parallelism.tp",
    "dp": "parallelism.dp",
    "ep": "parallelism.ep",
}
AXES = (*LEAVES.values(), "batch", "pp")
GROW, FIXED = "grow", "fixed"
_TYPES = {"batch": pl.Float64, "pp": pl.Int64, "tp": pl.Int64, "dp": pl.Int64}
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """What the page is computed from.

    `all` every point of the job, `table` those that can run with a stage inside one rack. `home`
    is the row of the largest stage that serves at the least depth, and `ladder` all rows of its tp,
    dp and ep, at every depth, batch and reading; `reading` is what batch means where it is not
    said. `depths` of the ladder, `base` the least of them; `deep` the one that sentences compare
    with it (None with one depth). `batch` is the one shown, which fits if any does. `rack` chips
    of a rack.
    """

    run: Run
    job: JobRun
    pair: str
    all: pl.DataFrame
    table: pl.DataFrame
    ladder: pl.DataFrame
    home: Row
    reading: str
    depths: tuple[int, ...]
    base: int
    deep: int | None
    batch: float
    rack: float
    context: float

    def rung(self, reading: str | None = None) -> pl.DataFrame:
        """Return the ladder at the batch shown, by depth, in one reading (the run's own)."""
        wanted = self.reading if reading is None else reading
        return self.ladder.filter(batch=self.batch, reading=wanted).sort("pp")

    def at(self, pp: int, reading: str | None = None) -> Row | None:
        """Return the row of the ladder at a depth and the batch shown, if there is one."""
        rows = self.rung(reading).filter(pp=pp)
        return rows.row(0, named=True) if rows.height else None

    @property
    def ends(self) -> tuple[Row, Row] | None:
        """The row of the least depth and that of `deep`; None with one depth."""
        if self.deep is None:
            return None
        first, last = self.at(self.base), self.at(self.deep)
        return (first, last) if first and last else None

    @property
    def plan(self) -> tuple[str, ...]:
        """The overrides that lay a stage out as at home."""
        return tuple(f"parallelism.{degree}={self.home[degree]}" for degree in ("tp", "dp", "ep"))

    @property
    def words(self) -> str:
        """The layout of a stage in words."""
        h = self.home
        spread = ", experts over all of them" if h["ep"] == "stage" and h["experts_in"] else ""
        return f"{h['stage']:.0f} chips (TP {h['tp']} x DP {h['dp']}{spread})"


def rows_of_job(run: Run, job: JobRun) -> pl.DataFrame:
    """Return every point of a job with the columns of LEAVES."""
    lazy = settled(run, job, LEAVES)
    lazy = lazy.with_columns(*(pl.col(c).cast(t) for c, t in _TYPES.items()))
    lazy = lazy.with_columns(pl.col("ep").cast(pl.String), pl.col("reading").cast(pl.String))
    return lazy.with_columns(stage=pl.col("chips") / pl.col("pp")).collect()


def rack_chips(job: JobRun) -> float:
    """Return the chips of the innermost fabric level."""
    return float(next(iter(job.config["hardware"]["fabric"].values()))["chips"])


def facts(run: Run, job: JobRun) -> Facts | None:
    """Return the facts of a job; None where no plan of one rack to a stage can run."""
    only_axes(run, AXES, "pipeline")
    every = rows_of_job(run, job)
    table = every.filter("valid", pl.col("stage") <= rack_chips(job))
    grown = table.filter(reading=GROW) if GROW in table["reading"] else table
    if table.is_empty():
        return None
    can = grown.filter("fits") if grown["fits"].any() else grown
    batch = nearest(can["batch"].unique().to_list(), setting(run, "show_batch"))
    home = _home(grown.filter(batch=batch))
    ladder = table.filter(tp=home["tp"], dp=home["dp"], ep=home["ep"])
    reading = str(grown["reading"][0])
    shown = ladder.filter(batch=batch, reading=reading)
    depths = tuple(sorted(shown["pp"].to_list()))
    deeper = [float(d) for d in depths if d > depths[0]]
    deep = int(nearest(deeper, setting(run, "show_depth"))) if deeper else None
    return Facts(
        run=run,
        job=job,
        pair=pair_name(run, job),
        all=every,
        table=table,
        ladder=ladder.sort("pp", "batch", "reading"),
        home={**home, "experts_in": job.config["model"]["experts"]},
        reading=reading,
        depths=depths,
        base=depths[0],
        deep=deep,
        batch=batch,
        rack=rack_chips(job),
        context=float(leaf_of(job, "workload.context")),
    )


def _home(rows: pl.DataFrame) -> Row:
    """Return the layout of a stage: it serves at the least depth, is largest, and cheapest there.

    Where nothing fits at any depth, the largest and cheapest.
    """
    ordered = rows.sort(
        ~pl.col("fits"), "pp", -pl.col("stage"), COST, "tp", "dp", "ep", nulls_last=True
    )
    return ordered.row(0, named=True)


def cheapest(found: Facts) -> pl.DataFrame:
    """Return the cheapest row that fits at each depth, over all batches and stage layouts."""
    rows = found.table.filter("fits", pl.col("reading") == found.reading)
    first = rows.sort("pp", COST, "stage", "batch", "tp", "dp", "ep")
    return first.group_by("pp", maintain_order=True).first()


def same_chips(found: Facts) -> pl.DataFrame:
    """Return the cheapest way to serve the batch shown at each depth, on as many chips as home.

    The batch is the whole of what is in flight (`fixed`), whatever the depth.
    """
    rows = found.table.filter(
        pl.col("chips") == found.home["chips"] / found.home["pp"] * found.base,
        pl.col("batch") == found.batch,
        (pl.col("reading") == FIXED) | (pl.col("pp") == 1),
        pl.col("fits"),
    )
    first = rows.sort("pp", COST, "tp", "dp", "ep")
    return first.group_by("pp", maintain_order=True).first()


def least_depth(rows: pl.DataFrame) -> int | None:
    """Return the least depth at which any plan fits, at any batch; None if none does."""
    return min(rows.filter("fits")["pp"].to_list(), default=None)
