"""Models, shapes of a model or changed machines evaluated together over the axes of one study.

What differs between items are numbers at paths of leaves; one array evaluation answers them all.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from roofrack.conversion import Study
from roofrack.grid.stream import AT_ONCE, at_once
from roofrack.nouns import Scenario
from roofrack.results.run import Run
from roofrack.results.schema import PARTS
from roofrack.tables import DTYPES

from .columns import COST, DEGREES, SPEED
from .files import Leaves
from .jobs import leaf_of
from .pages import RESOURCES, setting

RESULTS = (
    COST,
    SPEED,
    "step_s",
    "tpot_s",
    "step_s_rel_std",
    "chips",
    "racks",
    "mem_weights_bytes",
    "mem_kv_bytes",
    "mem_capacity_bytes",
    "scale_out_fraction",
    *(f"t_{part}_s" for part in PARTS),
)
"""Results kept of each row, beside `bound` and the degrees of the plan."""
SETTINGS = {
    "batch": "workload.batch",
    "context": "workload.context",
    **{degree: f"parallelism.{degree}" for degree in DEGREES},
    "math": "workload.dtype.math",
}
"""Columns of a row that say which point it is, and the leaves that they are."""
AXES = (
    *("batch", "context", "pp", "workload.batch", "workload.context", "workload.dtype.math"),
    *(f"parallelism.{degree}" for degree in (*DEGREES, "attention_dp")),
)
"""What a run may sweep if its study is evaluated so."""
_EPS = 1e-9


class Served(NamedTuple):
    """Rows that can serve, and for each item how many were tried, can run, and fit."""

    rows: pl.DataFrame
    counts: pl.DataFrame


def served(
    study: Study,
    items: Sequence[Leaves],
    only: Callable[[Mapping[str, np.ndarray]], np.ndarray] | None = None,
) -> Served:
    """Evaluate a study once for each item, whose leaves take the place of the study's.

    Rows have `item` (its place), `batch`, `context`, DEGREES, `math` (its code), RESULTS and
    `bound` in words. Copies that share nothing
    are left out (`dp` above its least without experts in common), and so are units that the chip
    does not have, but for the first of those it has. `only` says which points to evaluate.
    """
    grid = _grid(study)
    keeps = only(grid) if only else np.ones(_size(grid), bool)
    parts, counts = [], []
    places: list[tuple[int, np.ndarray]] = []
    for number, leaves in enumerate(items):
        places.append((number, np.flatnonzero(keeps & _differing(study, grid, leaves))))
    tried = {number: len(where) for number, where in places}
    for group in _grouped(places):
        item = np.concatenate([np.full(len(w), n) for n, w in group])
        where = np.concatenate([w for _, w in group])
        part, count = _evaluated(study, items, grid, item, where)
        parts.append(part)
        counts.append(count)
    told = pl.concat(counts).group_by("item").agg(pl.col("runs", "fits").sum())
    told = pl.DataFrame({"item": list(tried), "tried": list(tried.values())}).join(
        told.with_columns(pl.col("item").cast(pl.Int64)), on="item", how="left"
    )
    return Served(pl.concat(parts), told.with_columns(pl.col("runs", "fits").fill_null(0)))


def _grid(study: Study) -> dict[str, np.ndarray]:
    """Return the value of each axis at every point, by path."""
    index = np.unravel_index(np.arange(study.points), study.shape) if study.axes else ()
    return {axis.path: axis.values[i] for axis, i in zip(study.axes, index, strict=True)}


def _size(grid: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(grid.values()))) if grid else 1


def _differing(study: Study, grid: Mapping[str, np.ndarray], leaves: Leaves) -> np.ndarray:
    """Return which points are worth evaluating for an item."""
    kept = np.ones(_size(grid), bool)
    experts = leaves.get("model.experts", study.leaves["model.experts"])
    if experts == 0 and "parallelism.ep" in grid:
        kept &= grid["parallelism.ep"] == grid["parallelism.ep"].max()
    if "parallelism.dp" in grid:
        ep = grid.get("parallelism.ep", study.leaves["parallelism.ep"])
        dp = grid["parallelism.dp"]
        kept &= (dp == dp.min()) | ((experts > 0) & (np.asarray(ep) != 1))
    if (math := grid.get("workload.dtype.math")) is not None:
        has = [code for code in dict.fromkeys(math) if _has_unit(study, code)]
        kept &= math == (has[0] if has else math[0])
    return kept


def _has_unit(study: Study, code: float) -> bool:
    unit = list(DTYPES.values())[int(code)].math
    return study.leaves[f"hardware.flops_per_s.{unit}"] > 0


def _grouped(
    places: Sequence[tuple[int, np.ndarray]],
) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Yield items together as long as NumPy answers them at once."""
    group: list[tuple[int, np.ndarray]] = []
    for number, where in places:
        for start in range(0, max(len(where), 1), AT_ONCE):
            part = where[start : start + AT_ONCE]
            if group and sum(len(w) for _, w in group) + len(part) > AT_ONCE:
                yield group
                group = []
            group.append((number, part))
    if group:
        yield group


def _evaluated(
    study: Study,
    items: Sequence[Leaves],
    grid: Mapping[str, np.ndarray],
    item: np.ndarray,
    where: np.ndarray,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    values: dict[str, np.ndarray] = {path: axis[where] for path, axis in grid.items()}
    paths = dict.fromkeys(path for leaves in items for path in leaves)
    for path in paths:
        each = np.array([leaves.get(path, study.leaves[path]) for leaves in items], np.float64)
        if np.ptp(each) == 0 and each[0] == study.leaves[path] and path not in grid:
            continue
        values[path] = each[item]
    columns = at_once(study.bind(values), double=True)
    size = len(item)
    whole = {n: np.broadcast_to(columns[n], size) for n in (*RESULTS, "bound", "fits")}
    runs = np.broadcast_to(columns["why_invalid"], size) == 0
    fits = runs & (whole["fits"] != 0)
    settings = {
        name: np.broadcast_to(values.get(path, np.float64(study.leaves[path])), size)[fits]
        for name, path in SETTINGS.items()
    }
    bound = pl.Series("bound", [RESOURCES[part] for part in PARTS]).gather(
        whole["bound"][fits].astype(np.uint32)
    )
    table = pl.DataFrame(
        {"item": item[fits], **settings, **{n: whole[n][fits] for n in RESULTS}}
    ).with_columns(bound=bound, **{"step_s_rel_std": pl.col("step_s_rel_std").fill_nan(None)})
    counts = pl.DataFrame({"item": item, "runs": runs, "fits": fits})
    return table, counts.group_by("item").agg(pl.col("runs", "fits").cast(pl.Int64).sum())


def cheapest(
    rows: pl.DataFrame, by: Sequence[str], floors: Sequence[float] = (0.0,)
) -> pl.DataFrame:
    """Return the cheapest row of each group that gives each user at least a floor of tokens/s.

    One row for each group and `floor` that any row reaches; of equals the fewest chips.
    """
    order = (COST, "chips", "tp")
    found = [
        rows.filter(pl.col(SPEED) >= floor * (1 - _EPS))
        .sort(*by, *order)
        .group_by(by, maintain_order=True)
        .first()
        .with_columns(floor=pl.lit(float(floor)))
        for floor in floors
    ]
    return pl.concat(found)


def best_at(study: Study, items: Sequence[Leaves], context: float, floor: float) -> pl.DataFrame:
    """Return the cheapest plan, in words, of each item at a context and a floor of speed."""
    return with_plan(
        cheapest(served(study, items, only_context(context)).rows, ("item",), (floor,))
    )


def only_context(context: float) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """Return the choice of the points at one context, for `served`."""

    def only(grid: Mapping[str, np.ndarray]) -> np.ndarray:
        if "workload.context" not in grid:
            return np.ones(_size(grid), bool)
        chosen: np.ndarray = grid["workload.context"] == context
        return chosen

    return only


def home_of(run: Run, cells: pl.DataFrame, floors: Sequence[float]) -> tuple[float, float]:
    """Return the context of some cells nearest to `experiment.show_context`, and a floor of speed.

    That is `experiment.show_speed`, or the highest floor below it that a cell there reaches;
    without any the lowest.
    """
    wanted = setting(run, "show_context", above=-1.0)
    asked = leaf_of(run.jobs[0], "workload.context")  # what was asked, where nothing serves
    asked = asked if isinstance(asked, list) else [asked]
    contexts = sorted(cells["context"].unique()) or [float(context) for context in asked]
    context = float(min(contexts, key=lambda context: abs(context - wanted)))
    most = setting(run, "show_speed", above=-1.0)
    reached = cells.filter(pl.col("context") == context, pl.col("floor") <= most)["floor"]
    return context, max([floors[0], *reached])


def with_plan(rows: pl.DataFrame) -> pl.DataFrame:
    """Add a column `plan`: the degrees in words, `16 chips: TP 2, DP 8, EP 16`."""
    whole = {n: pl.col(n).cast(pl.Int64) for n in ("chips", *DEGREES)}
    ep = pl.when(pl.col("ep") == 0).then(whole["chips"] // whole["pp"]).otherwise(whole["ep"])
    chips = pl.when(pl.col("chips") == 1).then(pl.lit("1 chip"))
    words = pl.format(
        "{}: TP {}", chips.otherwise(pl.format("{} chips", whole["chips"])), whole["tp"]
    )
    for name, value in {"DP": whole["dp"], "EP": ep, "PP": whole["pp"], "CP": whole["cp"]}.items():
        words = (
            pl.when(value > 1).then(pl.format(f"{{}}, {name} {{}}", words, value)).otherwise(words)
        )
    return rows.with_columns(plan=words)


def scenario(study: Study, rows: Sequence[Mapping[str, Any]], items: Sequence[Leaves]) -> Scenario:
    """Return the scenario of some rows, each with the leaves of its item, as arrays of one axis."""
    values = {p: np.array([row[name] for row in rows]) for name, p in SETTINGS.items()}
    for path in dict.fromkeys(path for leaves in items for path in leaves):
        values[path] = np.array([leaves.get(path, study.leaves[path]) for leaves in items])
    return study.bind(values)
