"""The rows behind the page about racks: plans that can serve, by the size of the scale-up domain.

A domain is a group of chips that the innermost network joins; the page calls it a rack. Tables have
the columns of the result schema and: `domain` (its chips), `plan` (in words), `label` (the domain
in words).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from roofrack.errors import InputError
from roofrack.results.run import JobRun, Run

from ..common.columns import COST, SPEED
from ..common.files import PRICES
from ..common.jobs import leaf_of, one_phase, only_axes, settled, why_none_serves
from ..common.pages import RESOURCES, names, setting
from ..common.studies import Studies

Row = dict[str, Any]
_DEGREES = {name: f"parallelism.{name}" for name in ("tp", "dp", "pp", "cp", "redundant_experts")}

NEEDED = (
    "domain", "label", "plan", "chips", "racks", "tp", "dp", "redundant_experts", "sequences",
    COST, SPEED, "step_s", "step_upper_s", "step_s_rel_std", "bound", "scale_out_fraction",
    *(f"t_{part}_s" for part in RESOURCES), "mem_total_bytes", "mem_capacity_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """The machine as its file has it, and the model: what all parts of the page ask.

    `domain` chips of its scale-up domain; `inner`, `outer` names of the two innermost levels of its
    fabric, with `inner_bytes_per_s` and `outer_bytes_per_s` of a chip in one direction.
    """

    name: str
    model: str
    config: Mapping[str, Any]
    domain: int
    inner: str
    outer: str
    inner_bytes_per_s: float
    outer_bytes_per_s: float
    experts: int
    per_token: int
    context: float
    chip_hour: float

    @property
    def pair(self) -> str:
        """The model and the machine in words."""
        return f"{self.model} on {self.name}"


@dataclass(frozen=True)
class Facts:
    """`table` holds plans that run, fit and fill whole racks or a part of one.

    `frontier` those of each domain that no other beats in cost and speed; `best` the cheapest of
    each domain that gives each user `speed`, `fastest` the quickest at any cost; `tried` counts
    the points, `reached` are the domains that reach the speed, `domains` those of the run.
    """

    machine: Machine
    speed: float
    near: float
    link_ratio: float
    table: pl.DataFrame
    frontier: pl.DataFrame
    best: pl.DataFrame
    fastest: pl.DataFrame
    domains: tuple[int, ...]
    tried: int

    def row(self, table: pl.DataFrame, domain: int) -> Row | None:
        """Return the row of a domain, None if it has none."""
        rows = table.filter(pl.col("domain") == domain)
        return rows.row(0, named=True) if rows.height else None


def machine_of(run: Run, studies: Studies) -> Machine:
    """Read the machine and the model that the run asks about, axes of the run put back."""
    job = run.jobs[0]
    config = studies.config()
    levels = list(config["hardware"]["fabric"].items())
    if len(levels) < 2:
        raise InputError(
            f"experiment=racks: {config['choices']['hardware']} has one level of fabric; a rack is"
            " left only where there is a second"
        )
    (inner, first), (outer, second) = levels[:2]
    context = leaf_of(job, "workload.context")
    if isinstance(context, list):
        raise InputError("experiment=racks: context is swept; give it one value")
    hardware, model = names(run, "hardware"), names(run, "model")
    return Machine(
        name=hardware[job.config["choices"]["hardware"]],
        model=model[job.config["choices"]["model"]],
        config=config,
        domain=int(first["chips"]),
        inner=inner,
        outer=outer,
        inner_bytes_per_s=float(first["bytes_per_s"]),
        outer_bytes_per_s=float(second["bytes_per_s"]),
        experts=int(config["model"]["experts"]),
        per_token=int(config["model"]["experts_per_token"]),
        context=float(context),
        chip_hour=float(config["hardware"][PRICES[config["economics"]["price"]]]),
    )


def facts(run: Run, studies: Studies) -> Facts:
    """Compute the tables of the page. Raises InputError where the run cannot answer it."""
    one_phase(run, "decode", "racks")
    if len(run.jobs) > 1:
        raise InputError(
            "experiment=racks: several jobs; this page is about one machine and one model: give"
            " hardware, model and the other groups one value each"
        )
    job = run.jobs[0]
    machine = machine_of(run, studies)
    size = f"hardware.fabric.{machine.inner}.chips"
    known = ("batch", "workload.batch", "parallelism.ep", "pp", "racks", size, *_DEGREES.values())
    only_axes(run, known, "racks")
    rows = settled(run, job, {"domain": size, "sequences": "workload.batch", **_DEGREES})
    told = _serving(rows, job).select(NEEDED).collect()
    if told.is_empty():
        raise InputError(
            "experiment=racks: no plan of this run serves in whole racks"
            f" ({why_none_serves(rows)}); try another dtype, more chips (parallelism.dp) or a"
            " shorter context"
        )
    speed = setting(run, "tokens_per_s")
    quick = told.filter(pl.col(SPEED) >= speed)
    return Facts(
        machine=machine,
        speed=speed,
        near=setting(run, "near", above=1.0),
        link_ratio=setting(run, "link_ratio"),
        table=told,
        frontier=frontier(told),
        best=_first(quick, COST, SPEED),
        fastest=_first(told, SPEED, COST),
        domains=tuple(int(d) for d in told["domain"].unique().sort()),
        tried=run.points,
    )


def _serving(rows: pl.LazyFrame, job: JobRun) -> pl.LazyFrame:
    """Keep what runs, fits and fills whole racks; copies that share no experts count once."""
    whole = (pl.col("chips") <= pl.col("domain")) | (pl.col("chips") % pl.col("domain") == 0)
    has_experts = float(job.config["model"]["experts"]) > 0
    apart = pl.lit(has_experts) | (pl.col("dp") == 1) | (pl.col("racks") > 1)
    # a dense model's data-parallel copies exchange nothing: one copy costs the same
    rows = rows.filter(pl.col("valid"), pl.col("fits"), whole, apart)
    chips = pl.col("chips").cast(pl.Int64)
    words = pl.format("{} chips: TP {}, DP {}", chips, pl.col("tp"), pl.col("dp"))
    more = pl.format("{}, {} experts held twice", words, pl.col("redundant_experts"))
    words = pl.when(pl.col("redundant_experts") > 0).then(more).otherwise(words)
    return rows.with_columns(
        pl.col("domain").cast(pl.Int64),
        plan=words.str.replace(r"^1 chips", "1 chip"),
        label=pl.format("{} chips", pl.col("domain").cast(pl.Int64)),
    )


def _first(table: pl.DataFrame, *keys: str) -> pl.DataFrame:
    """Return the best row of each domain by `keys` (speed counts down), fewest chips of equals."""
    down = [key == SPEED for key in keys]
    ordered = table.sort("domain", *keys, "chips", descending=[False, *down, False])
    return ordered.group_by("domain", maintain_order=True).first().select(table.columns)


def frontier(table: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of each domain that no other beats in cost and speed, cheapest first."""
    ordered = table.sort("domain", COST, SPEED, "chips", descending=[False, False, True, False])
    before = pl.col(SPEED).cum_max().shift(1).over("domain")
    return ordered.filter(before.is_null() | (pl.col(SPEED) > before))


def copies(experts: int, chips: int) -> int | None:
    """Return how many second copies let experts divide over chips; None if no number does.

    256 experts on 72 chips: 32, so that each holds 4. At most each expert has one second copy.
    """
    if not experts:
        return 0
    more = -(-experts // chips) * chips - experts
    return more if more <= experts else None


def spread(experts: int, chips: int) -> int:
    """Return the most of `chips` that experts with second copies can be divided over."""
    return min(chips, 2 * experts) if experts else chips
