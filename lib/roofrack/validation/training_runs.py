"""Published training runs beside their predictions: a line for each, with the columns of LINES.

All runs that can be predicted are evaluated together (`composed.evaluated`), in double precision
and through the same functions as any other estimate.
"""

from collections.abc import Sequence

import polars as pl

from roofrack.validation.composed import evaluated
from roofrack.validation.errors import with_errors
from roofrack.validation.intervals import with_intervals
from roofrack.validation.training import TrainingRow, training_rows

TABLE = "training runs"
"""What `table` says in the lines of training runs, and of no other."""

COMPARED = {
    "step_s": ("step_s", "s"),
    "peak_memory_bytes": ("mem_total_bytes", "byte"),
    "activation_bytes": ("mem_activation_bytes", "byte"),
}
"""What a run's measured number is compared with: a result by its name, and its unit."""

NEVER = ("backend", "version", "clients", "copy_of", "half")
"""Columns of text that serving runs have and training runs do not."""

SCHEMA = {
    "id": pl.String,
    "origin": pl.String,
    "quantity": pl.String,
    "model": pl.String,
    "hardware": pl.String,
    "overrides": pl.String,
    "measured": pl.Float64,
    "counted": pl.Boolean,
    "excluded": pl.String,
}


def training_lines(
    calibration: str = "auto", rows: Sequence[TrainingRow] | None = None
) -> pl.DataFrame:
    """Return the columns of `runs.LINES` for published training runs; all of them if not given.

    `origin` is the group. Runs that lack something necessary, and those whose plan cannot run, have
    no prediction and say why in `excluded`; only what is predicted is counted. `flops_share` is
    the MFU that the measured time stands for. Raises InputError naming a run.
    """
    given = training_rows() if rows is None else rows
    table = pl.DataFrame([_line(row) for row in given], schema=SCHEMA)
    found = _predicted(table.filter(pl.col("excluded").is_null()), calibration)
    asked = pl.col("overrides").str
    lines = table.join(found, on="id", how="left", maintain_order="left").with_columns(
        table=pl.lit(TABLE),
        mode=pl.lit("training"),
        unit=pl.col("quantity").replace_strict(
            {name: unit for name, (_, unit) in COMPARED.items()}, default=""
        ),
        model_path=pl.col("model"),
        precision=pl.coalesce(
            asked.extract(r"workload\.dtype\.math=(\S+)"), asked.extract(r"\bdtype=(\S+)")
        ),
        calibration=pl.lit(calibration),
        excluded=pl.coalesce("excluded", "why_invalid"),
        kernel_std=pl.lit(None, pl.Float64),
        **{name: pl.lit(None, pl.String) for name in NEVER},
        **{name: pl.lit(None, pl.Int64) for name in ("prompt", "output", "concurrency")},
    )
    lines = lines.with_columns(counted=pl.col("counted") & pl.col("excluded").is_null())
    return with_intervals(with_errors(lines))


def _line(row: TrainingRow) -> dict[str, object]:
    return {
        "id": row.id,
        "origin": row.group,
        "quantity": row.compared,
        "model": row.model,
        "hardware": row.hardware,
        "overrides": " ".join(row.overrides),
        "measured": row.measured,
        "counted": not row.why_not,
        "excluded": row.why_not or None,
    }


def _predicted(rows: pl.DataFrame, calibration: str) -> pl.DataFrame:
    """Return `id`, `predicted`, `why_invalid`, `chips`, `fits`, `rel_std`, `flops_share`."""
    from roofrack.cost.layout import reasons

    overrides = () if calibration == "auto" else (f"calibration={calibration}",)
    columns = evaluated(rows, overrides)
    step = pl.col("quantity") == "step_s"
    found = rows.select("id", "quantity", "measured").with_columns(
        **{name: pl.Series(columns[name]) for name, _ in COMPARED.values()},
        implied=pl.Series(columns["mfu"] * columns["step_s"]),
        spread=pl.Series(columns["step_s_rel_std"]).fill_nan(None),
        chips=pl.Series(columns["chips"]).cast(pl.Int64),
        fits=pl.Series(columns["fits"] > 0),
        why_invalid=pl.Series([reasons(int(c)) for c in columns["why_invalid"]], dtype=pl.String),
    )
    compared = pl.coalesce(
        *(pl.when(pl.col("quantity") == q).then(pl.col(name)) for q, (name, _) in COMPARED.items())
    )
    return found.select(
        "id",
        *("why_invalid", "chips", "fits"),
        predicted=pl.when(pl.col("why_invalid").is_null()).then(compared),
        rel_std=pl.when(step).then(pl.col("spread")),
        flops_share=pl.when(step).then(pl.col("implied") / pl.col("measured")),
    )
