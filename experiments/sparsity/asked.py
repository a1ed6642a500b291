"""What is asked beside the ratios: experts cut finer, tokens sent otherwise, one number changed."""

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from roofrack.conversion import to_study
from roofrack.report.format import number

from ..common.columns import SPEED
from ..common.files import numbers
from ..common.overrides import axis
from ..common.stacks import served, with_plan
from ..common.studies import Studies
from .layouts import Layouts, layout_words, path_of
from .rows import COST, Facts, Machine, first

BATCHES = tuple(2.0**n for n in range(17))
"""Batches at which the experts that are read are counted."""
LIMITS = (0, 1, 2, 4)
"""Domains that a token's experts may lie in at most; 0 is no limit."""


def grains(facts: Facts) -> list[float]:
    """Return the cuts of the experts that leave whole numbers of everything; 1 is the model's."""
    given = [grain for grain in numbers(facts.run, "grains") if grain > 0]
    m = facts.machine
    width = float(m.config["model"]["d_ff_expert"])
    kept = [
        g
        for g in given
        if all(size >= 1 and size == round(size) for size in (m.experts * g, m.per_token * g))
        and width / g == round(width / g)
    ]
    return sorted({1.0, *kept})


def cut(facts: Facts, studies: Studies) -> pl.DataFrame:
    """Return the cheapest plan of each cut of the experts, in one rack and beyond.

    Experts g times as many, each 1/g as wide, a token visiting g times as many: the parameters, the
    total and the active ones, stay (but for the router). Columns `grain`, `racks`, `per_token`,
    `experts`, `width`.
    """
    m = facts.machine
    width = float(m.config["model"]["d_ff_expert"])
    found = grains(facts)
    if len(found) < 2:
        return pl.DataFrame()
    items = [
        {
            "model.experts": m.experts * g,
            "model.experts_per_token": m.per_token * g,
            "model.d_ff_expert": width / g,
        }
        for g in found
    ]
    words = ["workload=decode", "parallelism=rack", *_plans(facts), f"context={m.context:.12g}"]
    rows = served(to_study(studies.config(*words)), items).rows
    studies.note("experts cut finer or coarser", studies.words(*words))
    quick = with_plan(rows.filter(pl.col(SPEED) >= facts.speed))
    if quick.is_empty():
        return pl.DataFrame()
    table = first(quick, "item", "racks")
    place = pl.col("item").cast(pl.Int64)
    return table.with_columns(
        grain=place.replace_strict(dict(enumerate(found)), return_dtype=pl.Float64),
        per_token=place.replace_strict(
            {i: m.per_token * g for i, g in enumerate(found)}, return_dtype=pl.Float64
        ),
        experts=place.replace_strict(
            {i: m.experts * g for i, g in enumerate(found)}, return_dtype=pl.Float64
        ),
        width=place.replace_strict(
            {i: width / g for i, g in enumerate(found)}, return_dtype=pl.Float64
        ),
    ).sort("grain", "racks")


def _plans(facts: Facts) -> list[str]:
    """Return the plans and batches of the run as overrides."""
    words = []
    paths = {"tp": "parallelism.tp", "dp": "parallelism.dp", "sequences": "batch"}
    for column, path in paths.items():
        values = sorted(float(value) for value in facts.all[column].unique())
        words.append(axis(path, values))
    return words


def touched(facts: Facts, studies: Studies) -> pl.DataFrame:
    """Return how many experts of a layer a batch visits; columns `ratio`, `batch`, `share`."""
    rows = studies.rows(
        "experts that a batch visits",
        "workload=decode",
        "parallelism=rack",
        axis("sparsity", facts.ratios),
        axis("batch", BATCHES),
    )
    ratio = pl.col("sparsity").cast(pl.Float64).round_sig_figs(7)
    experts = ratio * facts.machine.per_token
    return rows.select(
        ratio=ratio,
        batch=pl.col("batch").cast(pl.Float64),
        touched=pl.col("experts_touched").cast(pl.Float64),
        share=pl.col("experts_touched").cast(pl.Float64) / experts,
    ).sort("ratio", "batch")


def sent(facts: Facts, found: Layouts, studies: Studies) -> pl.DataFrame:
    """Return ways to send tokens to experts in several racks, all else equal.

    Columns `racks`, `way` (in words), `dispatch`, `dedup`, `limit`, `over` (the cost over that of
    one rack with the format of the run). Empty where there is no second rack.
    """
    if len(found.chips) < 2:
        return pl.DataFrame()
    one, two = found.chips[:2]
    chips = (one, two, 2 * two, 4 * two)
    own = str(facts.machine.config["workload"]["dtype"]["dispatch"])
    formats = list(dict.fromkeys([own, "bf16", "fp8_block"]))
    rows = studies.rows(
        "ways to send tokens",
        *layout_words(chips),
        axis("batch", (found.sequences * n for n in chips)),
        f"context={facts.machine.context:.12g}",
        axis("workload.dtype.dispatch", formats),
        "parallelism.dedup=[false,true]",
        axis("model.node_limit", LIMITS),
    )
    rows = rows.filter(pl.col("valid"), (pl.col("batch") / pl.col("chips")) == found.sequences)
    told = rows.with_columns(
        pl.col("racks").cast(pl.Int64),
        dispatch=pl.col("workload.dtype.dispatch").cast(pl.String),
        dedup=pl.col("parallelism.dedup").cast(pl.Boolean),
        limit=pl.col("model.node_limit").cast(pl.Int64),
    )
    base = told.filter(
        pl.col("racks") == 1, pl.col("dispatch") == own, ~pl.col("dedup"), pl.col("limit") == 0
    )
    ways = [Way("bf16", False, 0), Way("fp8_block", False, 0), Way("fp8_block", True, 0)]
    ways += [Way("fp8_block", True, limit) for limit in LIMITS if limit]
    made = [w.of(told).with_columns(way=pl.lit(w.words), place=pl.lit(i, pl.Int64))
            for i, w in enumerate(ways)]  # fmt: skip
    table = pl.concat(made).filter(pl.col("racks") > 1, (pl.col("limit") < pl.col("racks")))
    if base.is_empty() or table.is_empty():
        return pl.DataFrame()
    return table.with_columns(over=pl.col(COST) / base[COST][0]).sort("racks", "place")


class Way(NamedTuple):
    """A way to send tokens to experts: number format, one copy to each rack, at most so many."""

    dispatch: str
    dedup: bool
    limit: int

    @property
    def words(self) -> str:
        """The way in words."""
        text = "BF16" if self.dispatch == "bf16" else "FP8"
        text += ", once to each rack" if self.dedup else ", once to each expert"
        return text + (f", {self.limit} at most" if self.limit else "")

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of this way."""
        return rows.filter(
            pl.col("dispatch") == self.dispatch,
            pl.col("dedup") == self.dedup,
            pl.col("limit") == self.limit,
        )


def changed(facts: Facts, studies: Studies) -> pl.DataFrame:
    """Return what one changed number makes of the price of capacity.

    Columns `change` (in words, empty for none), `few` and `own` (the cost at the smallest ratio and
    at the model's own, USD/Mtok), `growth` of one to the other, `second` (the cost in two racks
    over that in one at the own ratio; null where either is too slow).
    """
    m = facts.machine
    low = min(facts.ratios)
    if low >= m.ratio:
        return pl.DataFrame()
    links = m.levels.items()
    changes: dict[str, Sequence[str]] = {
        "": (),
        "network 4x as fast": [f"{path_of(n)}={4 * v:.12g}" for n, v in links if v],
        "network 1/4 as fast": [f"{path_of(n)}={v / 4:.12g}" for n, v in links if v],
        "memory 2x as large": [f"hardware.hbm_bytes={2 * m.config['hardware']['hbm_bytes']:.12g}"],
        "memory 2x as fast": [
            f"hardware.hbm_bytes_per_s={2 * m.config['hardware']['hbm_bytes_per_s']:.12g}"
        ],
        "context 1/4 as long": [f"context={m.context / 4:.12g}"],
        "context 4x as long": [f"context={4 * m.context:.12g}"],
        "weights in BF16": ["dtype=bf16"],
    }
    rows = []
    for change, words in changes.items():
        if change and not words:
            continue
        found = studies.rows(
            f"changed: {change or 'nothing'}",
            "workload=decode",
            "parallelism=rack",
            *_plans(facts),
            f"context={m.context:.12g}",
            axis("sparsity", (low, m.ratio)),
            *words,
        )
        rows.append({"change": change, **_prices(found, low, m, facts.speed)})
    for speed in (facts.speed / 2, 2 * facts.speed):
        rows.append({"change": f"{number(speed)} tokens/s asked", **_at(facts, low, speed)})
    table = pl.DataFrame(rows, infer_schema_length=None)
    return table.with_columns(growth=pl.col("own") / pl.col("few"))


def _at(facts: Facts, low: float, speed: float) -> dict[str, float | None]:
    return _least(facts.table, low, facts.machine, speed)


def _prices(rows: pl.DataFrame, low: float, m: Machine, speed: float) -> dict[str, float | None]:
    told = rows.filter("valid", "fits").with_columns(
        ratio=pl.col("sparsity").cast(pl.Float64).round_sig_figs(7)
    )
    return _least(told, low, m, speed)


def _least(rows: pl.DataFrame, low: float, m: Machine, speed: float) -> dict[str, float | None]:
    quick = rows.filter(pl.col(SPEED) >= speed)

    def cost(ratio: float, racks: pl.Expr) -> float | None:
        some = quick.filter(pl.col("ratio").is_close(ratio, rel_tol=1e-6), racks)[COST]
        return float(some.min()) if len(some) else None  # type: ignore[arg-type]

    one, two = cost(m.ratio, pl.col("racks") == 1), cost(m.ratio, pl.col("racks") > 1)
    return {
        "few": cost(low, pl.lit(True)),
        "own": cost(m.ratio, pl.lit(True)),
        "second": two / one if one and two else None,
    }
