"""The rows behind "what does speed cost?": plans that can serve, the best of them, and the tiers.

A pair is one model on one machine. All tables hold one row per plan and batch, with the columns of
the result schema and: `pair` (and as `two_lines`), `machine`, `model_name` (full names), `plan` (in
words), `ways` (the plan's degrees and dtype as one key), `tier`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from roofrack.errors import InputError
from roofrack.results.run import Run
from roofrack.results.schema import COLUMNS

from ..common.pages import names

PAIR = ("hardware", "model")
DEGREES = ("tp", "dp", "ep", "pp", "cp")
TIERS = ("slow", "normal", "fast", "fastest")
"""Ways to serve, from the cheapest token to the quickest one (`tiers` defines them)."""
Configs = Mapping[tuple[str, str], Mapping[str, Any]]
"""The composed configuration of each pair."""
COST, SPEED = "usd_per_mtok", "tokens_per_s_per_user"


@dataclass(frozen=True)
class Settings:
    """The numbers of conf/experiment/fast_mode.yaml: ratios above 1, and the pair shown first."""

    price_ratio: float
    speed_ratio: float
    normal_premium: float
    penalty: float
    show_hardware: str
    show_model: str


def settings(experiment: Mapping[str, Any]) -> Settings:
    """Read the settings of the question; raise InputError for a ratio that is not above 1."""
    return Settings(
        price_ratio=_ratio(experiment, "price_ratio"),
        speed_ratio=_ratio(experiment, "speed_ratio"),
        normal_premium=_ratio(experiment, "normal_premium"),
        penalty=_ratio(experiment, "penalty"),
        show_hardware=str(experiment.get("show_hardware")),
        show_model=str(experiment.get("show_model")),
    )


def _ratio(experiment: Mapping[str, Any], key: str) -> float:
    value = experiment.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 < value < 1e9:
        raise InputError(f"experiment.{key}={value}: allowed is a number above 1")
    return float(value)


@dataclass(frozen=True)
class Facts:
    """What the page is computed from; every table is sorted by pair, in the order of the run.

    `table` all plans that can serve, one rack at most; `frontier` those that no other beats in both
    cost and speed; `best` the cheapest at each batch; `tiers` one row per pair and tier; `home` all
    batches of the plan of the slow tier, and `away` those of the normal tier; `counts` per pair how
    many plans were tried, can run, fit.
    """

    settings: Settings
    table: pl.DataFrame
    frontier: pl.DataFrame
    best: pl.DataFrame
    tiers: pl.DataFrame
    home: pl.DataFrame
    away: pl.DataFrame
    counts: pl.DataFrame
    configs: Configs
    machines: Mapping[str, str]
    models: Mapping[str, str]
    context: float

    @property
    def losses(self) -> str:
        """Say where launch times and other fixed costs come from."""
        fitted = self.configs[self.shown]["calibration"]["step_rel_std"]
        return "fitted" if fitted else "assumed, not fitted"

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs that can be served, (hardware, model)."""
        return list(self.best.select(PAIR).unique(maintain_order=True).iter_rows())

    @property
    def shown(self) -> tuple[str, str]:
        """The pair that the detailed charts open with."""
        asked = (self.settings.show_hardware, self.settings.show_model)
        return asked if asked in self.pairs else self.pairs[0]

    @property
    def smallest(self) -> float:
        """The smallest batch of the run."""
        return float(self.table["batch"].min())  # type: ignore[arg-type]

    @property
    def longest(self) -> float:
        """The largest batch of the run, whether it fits or not."""
        return float(self.counts["largest"].max())  # type: ignore[arg-type]

    def label(self, pair: tuple[str, str]) -> str:
        """Return a pair in words."""
        return pair_name(self.machines[pair[0]], self.models[pair[1]])

    def of(self, table: pl.DataFrame, pair: tuple[str, str]) -> pl.DataFrame:
        """Return the rows of a pair."""
        return table.filter(pl.col("hardware") == pair[0], pl.col("model") == pair[1])

    def tier(self, pair: tuple[str, str], tier: str) -> dict[str, Any]:
        """Return the row of a tier."""
        return self.of(self.tiers, pair).row(by_predicate=pl.col("tier") == tier, named=True)


def pair_name(machine: str, model: str) -> str:
    """Return how a pair is called."""
    return f"{model} on {machine}"


def facts(run: Run) -> Facts:
    """Compute the tables of the page. Raises InputError where the run cannot answer it."""
    configs = _configs(run)
    machines, models = names(run, "hardware"), names(run, "model")
    rows, counts = _rows(run, configs)
    if rows.is_empty():
        raise InputError(
            "experiment=fast_mode: no plan of this run fits any machine; nothing to compare"
        )
    table = _named(rows, machines, models)
    wishes = settings(run.experiment)
    frontier = pareto(table)
    ends = tiers(frontier, wishes)
    return Facts(
        settings=wishes,
        table=table,
        frontier=frontier,
        best=_first(table, COST, SPEED, by=(*PAIR, "batch")).sort(*_order(table), "batch"),
        tiers=ends,
        home=_same_plan(table, ends, "slow"),
        away=_same_plan(table, ends, "normal"),
        counts=counts,
        configs=configs,
        machines=machines,
        models=models,
        context=_context(next(iter(configs.values()))),
    )


def _context(config: Mapping[str, Any]) -> float:
    alias = config.get("context")
    return float(config["workload"]["context"] if alias is None else alias)


def _configs(run: Run) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return the configuration of each pair; refuse a run in which anything else differs."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for job in run.jobs:
        choices = job.config["choices"]
        pair = (choices["hardware"], choices["model"])
        if pair in found:
            raise InputError(
                f"experiment=fast_mode: two jobs for {' and '.join(pair)}; the page compares plans,"
                " batches, machines and models: choose one value of everything else"
            )
        found[pair] = job.config
    return found


def _plan_axes(run: Run) -> list[str]:
    """Return the swept columns other than batch; refuse what the page does not compare."""
    axes = [axis for axis in run.axes if axis not in ("batch", "workload.batch")]
    if len(axes) == len(run.axes):
        raise InputError("experiment=fast_mode: batch is not an axis; give it a list of values")
    known = ("parallelism.", "workload.dtype.")
    if strange := [axis for axis in axes if not axis.startswith(known) and axis != "pp"]:
        raise InputError(
            f"experiment=fast_mode: {strange[0]} is swept too; give it one value per run"
        )
    return axes


def _rows(run: Run, configs: Configs) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the plans that can serve within one rack, and counts of all that were tried."""
    axes = _plan_axes(run)
    if next(iter(configs.values()))["workload"]["phase"] != "decode":
        raise InputError("experiment=fast_mode: speed is a matter of decoding; leave phase=decode")
    lazy = run.rows.rename({"workload.batch": "batch"}, strict=False).with_row_index("place")
    kept = [name for name in COLUMNS if name not in PAIR]
    lazy = lazy.select("place", *PAIR, "batch", *axes, *kept)
    lazy = lazy.join(_degrees(configs, axes), on=PAIR, how="left", maintain_order="left")
    types = {d: pl.String if d == "ep" else pl.Int64 for d in DEGREES}
    lazy = lazy.with_columns(**{d: pl.col(s).cast(types[d]) for d, s in _sources(axes).items()})
    if "parallelism.dp" in axes:  # copies that share nothing cost what one copy costs
        shares_experts = (pl.col("experts") > 0) & (pl.col("ep") != "1")
        lazy = lazy.filter((pl.col("dp") == 1) | shares_experts)
    ways = pl.concat_str([pl.col(a).cast(pl.String) for a in axes], separator=" ")
    lazy = lazy.with_columns(ways=ways if axes else pl.lit(""))
    near = pl.col("valid") & (pl.col("racks") == 1)
    return lazy.filter(near & pl.col("fits")).collect(), _counts(lazy, near).collect()


def _counts(lazy: pl.LazyFrame, near: pl.Expr) -> pl.LazyFrame:
    """Count per pair what was tried, runs, stays in a rack (`near`), and what weights take."""
    return lazy.group_by(PAIR, maintain_order=True).agg(
        tried=pl.len(),
        largest=pl.col("batch").max(),
        runs=pl.col("valid").sum(),
        one_rack=near.sum(),
        weights=pl.col("mem_weights_bytes").filter(near).min(),
        room=pl.col("mem_capacity_bytes").max(),
    )


def _sources(axes: list[str]) -> dict[str, str]:
    """Return the column that holds each degree: its axis if it was swept, else the setting."""
    swept = {
        d: a for d in DEGREES for a in (f"parallelism.{d}", d if d == "pp" else "") if a in axes
    }
    return {d: swept.get(d, f"given_{d}") for d in DEGREES}


def _degrees(configs: Configs, axes: list[str]) -> pl.LazyFrame:
    """Return what the configuration of each pair says of its plan, and the model's experts."""
    rows = []
    for (hardware, model), config in configs.items():
        plan = dict(config["parallelism"])
        plan["pp"] = plan["pp"] if config.get("pp") is None else config["pp"]
        given = {
            f"given_{d}": str(plan[d]) for d in DEGREES if _sources(axes)[d].startswith("given")
        }
        experts = config["model"]["experts"]
        rows.append({"hardware": hardware, "model": model, "experts": float(experts), **given})
    return pl.LazyFrame(rows)


def _named(
    rows: pl.DataFrame, machines: Mapping[str, str], models: Mapping[str, str]
) -> pl.DataFrame:
    """Add names in words."""
    machine = pl.col("hardware").replace_strict(machines, return_dtype=pl.String)
    model = pl.col("model").replace_strict(models, return_dtype=pl.String)
    spread = pl.when(pl.col("ep") == "stage").then(pl.col("chips").cast(pl.Int64).cast(pl.String))
    experts = spread.otherwise(pl.col("ep"))
    words = pl.format("{} chips: TP {}", pl.col("chips").cast(pl.Int64), pl.col("tp"))
    words = (
        pl.when(pl.col("dp") > 1).then(pl.format("{}, DP {}", words, pl.col("dp"))).otherwise(words)
    )
    has_experts = (pl.col("experts") > 0) & (experts != "1")
    words = pl.when(has_experts).then(pl.format("{}, EP {}", words, experts)).otherwise(words)
    words = (
        pl.when(pl.col("pp") > 1).then(pl.format("{}, PP {}", words, pl.col("pp"))).otherwise(words)
    )
    return rows.with_columns(
        machine=machine,
        model_name=model,
        pair=pl.format("{} on {}", model, machine),
        two_lines=pl.format("{}\n{}", model, machine),
        plan=words.str.replace(r"^1 chips", "1 chip"),
    )


def _order(table: pl.DataFrame) -> tuple[pl.Expr, ...]:
    """Return the sort keys that keep pairs in the order in which the run has them."""
    return tuple(
        pl.col(key).replace_strict(
            {v: i for i, v in enumerate(table[key].unique(maintain_order=True))}
        )
        for key in ("model", "hardware")
    )


def _first(table: pl.DataFrame, *keys: str, by: tuple[str, ...]) -> pl.DataFrame:
    """Return the first row of each group by `keys` (speed counts down), ties as in the run."""
    down = [key == SPEED for key in keys]
    ordered = table.sort(*keys, "chips", "place", descending=[*down, False, False])
    return ordered.group_by(by, maintain_order=True).first().select(table.columns)


def pareto(table: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of each pair that no other beats in cost and speed, the cheapest first."""
    ordered = table.sort(
        *_order(table),
        COST,
        SPEED,
        "chips",
        "place",
        descending=[False, False, False, True, False, False],
    )
    before = pl.col(SPEED).cum_max().shift(1).over(PAIR)
    return ordered.filter(before.is_null() | (pl.col(SPEED) > before))


def tiers(frontier: pl.DataFrame, wishes: Settings) -> pl.DataFrame:
    """Return four rows per pair. What each tier is:

    slow: the cheapest token. normal: the fastest way within `normal_premium` of that cost. fast:
    the fastest within `price_ratio` times the cost of normal. fastest: at any cost.
    """
    found = []
    for pair in frontier.select(PAIR).unique(maintain_order=True).iter_rows():
        rows = frontier.filter(pl.col("hardware") == pair[0], pl.col("model") == pair[1])
        slow = rows.head(1)
        # of a frontier sorted by cost the last within a limit is the fastest within it
        normal = rows.filter(pl.col(COST) <= wishes.normal_premium * slow[COST].item()).tail(1)
        fast = rows.filter(pl.col(COST) <= wishes.price_ratio * normal[COST].item()).tail(1)
        for tier, row in zip(TIERS, (slow, normal, fast, rows.tail(1)), strict=True):
            found.append(row.with_columns(tier=pl.lit(tier)))
    return pl.concat(found)


def _same_plan(table: pl.DataFrame, ends: pl.DataFrame, tier: str) -> pl.DataFrame:
    """Return every batch of the plan that a tier uses."""
    plans = ends.filter(pl.col("tier") == tier).select(*PAIR, "ways")
    return table.join(plans, on=[*PAIR, "ways"], how="semi").sort(*_order(table), "batch")
