"""The lecture's own machine and model, asked through the same cost model as everything else."""

from dataclasses import dataclass

import polars as pl

from roofrack import config
from roofrack.cost.money import FastMode, fast_mode
from roofrack.point import point
from roofrack.report.page import Job
from roofrack.results.store import config_hash

from .rows import COST, Settings


@dataclass(frozen=True)
class Blackboard:
    """`rows` over batch without a context and with the run's; `closed` the form for a fast mode."""

    job: Job
    chips: float
    params_total: float
    params_active: float
    rows: pl.DataFrame
    closed: FastMode

    @property
    def critical_batch(self) -> float:
        """Tokens in a pass from which on arithmetic takes longer than reading the weights."""
        return float(self.rows["critical_batch"].item(0))

    @property
    def contexts(self) -> list[float]:
        """The contexts asked, ascending."""
        return sorted(set(self.rows["context"].to_list()))

    def penalty(self, context: float) -> float:
        """Return what a token costs at batch 1 over the cheapest one."""
        costs = self.rows.filter(pl.col("context") == context).sort("batch")[COST]
        return float(costs.item(0)) / float(costs.min())  # type: ignore[arg-type]


def overrides(context: float) -> tuple[str, ...]:
    """Return the overrides that ask the lecture's question: bare data sheet, perfect overlap."""
    contexts = f"context=[0,{context:g}]" if context else "context=[0]"
    return (
        "hardware=blackboard",
        "model=blackboard",
        "parallelism=rack",
        "racks=1",
        "dtype=fp8",
        "calibration=ideal",
        "overlap=ideal",
        "batch=${geom:1,65536,33}",
        contexts,
    )


def blackboard(context: float, wishes: Settings) -> Blackboard:
    """Evaluate the blackboard over batch at two contexts: none, and the run's own."""
    asked = overrides(context)
    container = config.compose(asked)
    rows = point(container)
    assert isinstance(rows, list)
    columns = (
        "batch",
        "context",
        "step_s",
        COST,
        "critical_batch",
        "bound",
        "t_compute_s",
        "t_weights_s",
        "t_kv_s",
        "t_scale_up_s",
        "fits",
    )
    table = pl.DataFrame(
        [{name: row[name] for name in columns} for row in rows], infer_schema_length=None
    )
    table = table.with_columns(pl.col("batch").cast(pl.Float64), pl.col("context").cast(pl.Float64))
    return Blackboard(
        job=Job("blackboard", asked, config_hash(container)),
        chips=rows[0]["chips"],
        params_total=rows[0]["params_total"],
        params_active=rows[0]["params_active"],
        rows=table.sort("context", "batch"),
        closed=fast_mode(wishes.price_ratio, wishes.speed_ratio),
    )
