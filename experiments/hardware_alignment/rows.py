"""The cells of the map: every machine with every model, and the best plan of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from roofrack.results.run import JobRun, Run

from ..common.columns import COST, SPEED
from ..common.files import (
    PRICES,
    Choices,
    asked_names,
    choices,
    full_names,
    numbers,
    over_typical,
)
from ..common.jobs import one_phase, only_axes
from ..common.stacks import AXES, cheapest, home_of, served, with_plan

NAME = "hardware_alignment"


@dataclass(frozen=True)
class Facts:
    """What the page is computed from.

    `cells` is the cheapest plan of each machine, model, context and `floor` (tokens/s that a user
    gets at least); `counts` how many plans of each pair were tried, run and fit; `own` all rows
    that serve on the machine shown, with `model`. Keys are short names.
    """

    run: Run
    job: JobRun
    choices: Choices
    machines: Mapping[str, str]
    models: Mapping[str, str]
    cells: pl.DataFrame
    counts: pl.DataFrame
    own: pl.DataFrame
    context: float
    floor: float
    floors: list[float]
    shown: tuple[str, str]

    @property
    def home(self) -> pl.DataFrame:
        """The cells at the context and the speed shown."""
        return self.at(self.context, self.floor)

    def at(self, context: float, floor: float) -> pl.DataFrame:
        """Return the cells at a context and a floor of speed."""
        return self.cells.filter(pl.col("context") == context, pl.col("floor") == floor)

    def row(self, machine: str, model: str) -> dict[str, Any] | None:
        """Return the cell of a pair at home, None where nothing serves."""
        found = self.home.filter(pl.col("machine") == machine, pl.col("model") == model)
        return found.row(0, named=True) if found.height else None

    def named(self, table: pl.DataFrame) -> pl.DataFrame:
        """Return a table with full names in `machine` and `model` in place of short ones."""
        return table.with_columns(
            pl.col("machine").replace_strict(dict(self.machines), return_dtype=pl.String),
            pl.col("model").replace_strict(dict(self.models), return_dtype=pl.String),
        )

    @property
    def pair(self) -> str:
        """The pair shown, in words."""
        return f"{self.models[self.shown[1]]} on {self.machines[self.shown[0]]}"

    def hardware(self, machine: str) -> Mapping[str, Any]:
        """Return what the file of a machine says."""
        tree: Mapping[str, Any] = self.choices.machines[machine].config["hardware"]
        return tree

    def price(self, machine: str) -> float:
        """Return what an hour of a chip is rented for, typically."""
        return float(self.hardware(machine)["usd_per_chip_hour"])


def facts(run: Run) -> Facts:
    """Evaluate every machine with every model. Raises InputError where the run cannot be asked."""
    one_phase(run, "decode", NAME)
    only_axes(run, AXES, NAME)
    job = run.jobs[0]
    machines = asked_names(run, "machines", "hardware")
    models = asked_names(run, "models", "model")
    found = choices(run, job, machines, models)
    floors = numbers(run, "speeds", (0.0,))
    first = job.config["choices"]["hardware"]
    cells, counts, own = [], [], pl.DataFrame()
    for machine, study in found.studies.items():
        asked = served(study, [model.leaves for model in found.models.values()])
        rows = _with_models(asked.rows, models)
        best = cheapest(rows, ("model", "context"), floors)
        cells.append(best.with_columns(machine=pl.lit(machine)))
        counts.append(_with_models(asked.counts, models).with_columns(machine=pl.lit(machine)))
        own = rows if machine == first else own
    table = with_plan(pl.concat(cells))
    shown = (first, job.config["choices"]["model"])
    own_cells = table.filter(pl.col("machine") == shown[0], pl.col("model") == shown[1])
    context, floor = home_of(run, own_cells if own_cells.height else table, floors)
    return Facts(
        run=run,
        job=job,
        choices=found,
        machines=full_names(found.machines),
        models=full_names(found.models),
        cells=table,
        counts=pl.concat(counts),
        own=own,
        context=context,
        floor=floor,
        floors=floors,
        shown=shown,
    )


def _with_models(table: pl.DataFrame, models: list[str]) -> pl.DataFrame:
    keys = dict(enumerate(models))
    return table.with_columns(
        model=pl.col("item").replace_strict(keys, return_dtype=pl.String, default=None)
    )


def unserved(facts: Facts) -> dict[str, list[str]]:
    """Return, by model, the machines (in words) that no plan serves it on at any context."""
    seen = set(facts.cells.select("machine", "model").unique().iter_rows())
    return {
        facts.models[model]: missing
        for model in facts.models
        if (missing := [n for m, n in facts.machines.items() if (m, model) not in seen])
    }


def winners(cells: pl.DataFrame) -> pl.DataFrame:
    """Return the cheapest machine of each model of some cells."""
    return cells.sort("model", COST, "machine").group_by("model", maintain_order=True).first()


def reversal(facts: Facts) -> dict[str, Any] | None:
    """Return the two machines whose order changes most between two models, at home.

    `one` beats `other` by `up` for the model `for_one`, and loses by `down` for `for_other`; the
    smaller of the two ratios is the largest of all pairs. None where no order changes.
    """
    best: dict[str, Any] | None = None
    cost = {(r["machine"], r["model"]): r[COST] for r in facts.home.iter_rows(named=True)}
    keys = list(facts.machines)
    for i, one in enumerate(keys):
        for other in keys[i + 1 :]:
            both = [m for m in facts.models if (one, m) in cost and (other, m) in cost]
            if len(both) < 2:
                continue
            ratio = {m: cost[other, m] / cost[one, m] for m in both}
            high, low = max(both, key=ratio.__getitem__), min(both, key=ratio.__getitem__)
            up, down = ratio[high], 1 / ratio[low]
            if min(up, down) > 1 and (
                best is None or min(up, down) > min(best["up"], best["down"])
            ):
                best = {"one": one, "other": other, "for_one": high, "for_other": low, "up": up,
                        "down": down}  # fmt: skip
    return best


def sure_winners(facts: Facts) -> dict[str, bool]:
    """Tell of each model whether its cheapest machine stays so at the ends of the price ranges.

    That is, at its highest price it still beats every other machine at its lowest.
    """
    found = {}
    for model in facts.models:
        rows = facts.home.filter(pl.col("model") == model).sort(COST)
        if rows.height < 2:
            continue
        ends = [(r["machine"], r[COST]) for r in rows.iter_rows(named=True)]
        first = ends[0][1] * over_typical(facts.hardware(ends[0][0]), "high")
        least = [cost * over_typical(facts.hardware(m), "low") for m, cost in ends[1:]]
        found[model] = all(first < cost for cost in least)
    return found


def dataset(facts: Facts) -> pl.DataFrame:
    """Return the rows of the live charts: each cell at each of the three dated prices."""
    cells = facts.cells.select(
        "machine", "model", "context", "floor", COST, SPEED, "bound", "plan", "batch"
    )
    rented = facts.job.config["economics"].get("basis", "rent") == "rent"
    kinds = PRICES if rented else ("typical",)
    paid = paid_price(facts)
    parts = []
    for kind in kinds:
        ratio = {
            m: over_typical(facts.hardware(m), kind) / over_typical(facts.hardware(m), paid)
            for m in facts.machines
        }
        scale = pl.col("machine").replace_strict(ratio, return_dtype=pl.Float64)
        parts.append(cells.with_columns(pl.col(COST) * scale, price=pl.lit(kind)))
    table = facts.named(pl.concat(parts))
    least = pl.col(COST).min().over("model", "context", "floor", "price")
    return table.with_columns(over=pl.col(COST) / least)


def paid_price(facts: Facts) -> str:
    """Return which of the dated prices the run pays: the live charts open with it."""
    price = str(facts.job.config["economics"].get("price") or "typical")
    return price if price in PRICES else "typical"
