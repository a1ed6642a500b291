"""Published services beside their predictions: a line a figure, with the columns of LINES."""

import polars as pl

from roofrack.validation import service
from roofrack.validation.errors import band, statistics, with_errors
from roofrack.validation.intervals import with_intervals
from roofrack.validation.service_predict import predict

TABLE = "services"
"""What `table` says in the lines of services, and of no other."""

NONE = ("copy_of", "half")
"""Columns of text that serving runs have and services do not."""


def service_lines(calibration: str = "auto", table: pl.DataFrame | None = None) -> pl.DataFrame:
    """Return the columns of `runs.LINES` for rows of service.csv; all of them if not given.

    `origin` is the group, `mode` the method and `concurrency` the clients. Rows whose plan cannot
    run have no prediction and say why in `excluded`.
    """
    rows = service.load() if table is None else table
    found = predict(rows, calibration)
    asked = pl.col("overrides").str
    units = {name: quantity.unit for name, quantity in service.QUANTITIES.items()}
    lines = found.join(rows.drop(*service.QUANTITIES), on="id", maintain_order="left").with_columns(
        table=pl.lit(TABLE),
        mode=pl.col("method"),
        origin=pl.col("group"),
        unit=pl.col("quantity").replace_strict(units, default=""),
        model_path=pl.col("model"),
        backend=pl.col("engine"),
        precision=asked.extract(r"\bdtype=(\S+)"),
        prompt=_length("prompt"),
        output=_length("output"),
        concurrency=pl.col("clients").cast(pl.Int64),
        chips=pl.col("chips").round().cast(pl.Int64),
        excluded=pl.col("why_invalid"),
        counted=pl.col("predicted").is_not_null(),
        kernel_std=pl.lit(None, pl.Float64),
        flops_share=pl.lit(None, pl.Float64),
        **{name: pl.lit(None, pl.String) for name in NONE},
    )
    return with_intervals(with_errors(lines.with_columns(band())))


def _length(name: str) -> pl.Expr:
    found = pl.col("overrides").str.extract(rf"workload\.{name}=([\d.]+)")
    return found.cast(pl.Float64).round().cast(pl.Int64)


def errors(lines: pl.DataFrame) -> pl.DataFrame:
    """Return errors of lines by `group`, `mode` and `quantity`, in the columns of `statistics`."""
    made = statistics(lines, ("origin", "mode", "quantity")).rename({"origin": "group"})
    return made.sort("group", "mode", "quantity")


def whole(lines: pl.DataFrame) -> pl.DataFrame:
    """Return the lines of the groups that have a whole service, with its pools."""
    origins = lines.filter(pl.col("mode") == "fleet")["origin"].unique()
    return lines.filter(pl.col("origin").is_in(origins.implode()))


def left_out(lines: pl.DataFrame) -> pl.DataFrame:
    """Return how many rows of each `group` are not predicted, with the `reason`."""
    none = lines.filter(pl.col("predicted").is_null())
    counted = none.group_by("origin", "excluded").agg(rows=pl.col("id").n_unique())
    return counted.sort("origin", "excluded").rename({"origin": "group", "excluded": "reason"})
