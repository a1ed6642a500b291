"""Measured numbers beside predicted ones: one table, a line for each number of each row.

The serving runs of the installed package give two lines each, TPOT and TTFT; a published fact gives
one, of whatever column it measures, and so does a published collective. All have the columns of
LINES.
"""

from typing import Any

import numpy as np
import polars as pl

from roofrack import cost
from roofrack.validation import collectives, protocol, published
from roofrack.validation.composed import Options
from roofrack.validation.errors import band, with_errors
from roofrack.validation.intervals import halves, with_intervals
from roofrack.validation.predict import named, scenarios
from roofrack.validation.rows import SETTING

LINES = (
    *("id", "table", "quantity", "unit", "origin", "mode", "model", "model_path", "hardware"),
    *("backend", "version", "precision", "prompt", "output", "concurrency", "clients", "chips"),
    *("calibration", "measured", "predicted", "log_ratio", "error", "rel_std", "low", "high"),
    *("inside", "kernel_std", "counted", "excluded", "copy_of", "half", "fits", "flops_share"),
)
"""Columns of the table, in order."""

PREDICTED_ALSO = "admission_limited"
"""The one rule whose rows have every input: they are predicted and shown, and not counted."""

SETTINGS = tuple(c.name for c in SETTING if c.name != "concurrency")
"""What decides the half of a run: its setting without version, date and the number of clients, so
that no curve over the clients has points in both halves."""

COUNTED = pl.col("counted") & pl.col("excluded").is_null()
"""Rows that the targets are about: recorded inputs of medium or high confidence, no rule holds."""

EVERY = pl.col("copy_of").is_null()
"""All rows that can be predicted, each run once: those of low confidence and those whose admission
was limited as well."""

SETS = {"counted": COUNTED, "all": EVERY}


def with_calibration(rows: pl.DataFrame, calibration: str) -> pl.DataFrame:
    """Return `rows` with the calibration of each: of its machine and engine, or the one named."""
    own = pl.concat_str("hardware", "backend", separator="_")
    return rows.with_columns(calibration=own if calibration == "auto" else pl.lit(calibration))


def predicted(rows: pl.DataFrame, calibration: str = "auto") -> pl.DataFrame:
    """Return the rows of rows.SCHEMA with what is computed for them; null where it cannot be.

    Added: `step_s` (seconds of a decode pass and its share of prefill, per token of a sequence),
    `own_s` (of one prefill pass), `rank_clients`, `prompt_drawn`, `output_drawn`, `rel_std`,
    `kernel_std`, `fits`, `mfu`, `half`, `clients`, `calibration`. Rows that a rule leaves out for
    a missing input have no prediction; a copy has that of the first row of its run.
    """
    rows = with_calibration(rows, calibration).with_columns(band())
    rows = rows.with_columns(
        halves(rows, SETTINGS),
        prompt_drawn=pl.col("prompt") * pl.col("length_share"),
        output_drawn=pl.col("output") * pl.col("length_share"),
    )
    able = pl.col("excluded").is_null() | (pl.col("excluded") == PREDICTED_ALSO)
    options = named(rows.filter(able))
    parts = []
    for mode, compute in (("aggregated", _computed), ("disaggregated", _pools)):
        part = rows.filter(able, pl.col("mode") == mode)
        if not part.is_empty():
            parts.append(compute(part, options))
    if not parts:
        parts = [pl.DataFrame(schema={"id": pl.String} | dict.fromkeys(COMPUTED, pl.Float64))]
    first = pl.coalesce("copy_of", "id").alias("first")
    joined = rows.with_columns(first).join(
        pl.concat(parts), left_on="first", right_on="id", how="left", maintain_order="left"
    )
    return joined.drop("first")


COMPUTED = ("step_s", "own_s", "rank_clients", "rel_std", "kernel_std", "fits", "mfu")
"""What `predicted` computes."""


def _computed(rows: pl.DataFrame, options: Options) -> pl.DataFrame:
    """Return `id` and COMPUTED for rows of one mode."""
    s = scenarios(rows, options)
    with np.errstate(all="ignore"):
        columns = cost.estimate(s)

    def column(value: Any) -> np.ndarray:
        return np.broadcast_to(np.asarray(value, np.float64), (rows.height,)).copy()

    whole, total = column(s.calibration.step_rel_std), column(columns["step_s_rel_std"])
    ranks = rows["attention_dp"].clip(1) * rows["instances"].fill_null(1)
    return pl.DataFrame(
        {
            "id": rows["id"],
            "step_s": column(columns["tpot_s"]),
            "own_s": column(columns["ttft_s"]),
            "rank_clients": rows["concurrency"] / ranks,
            "rel_std": total,
            "kernel_std": np.sqrt(np.maximum(total**2 - whole**2, 0.0)),
            "fits": column(columns["fits"]),
            "mfu": column(columns["mfu"]),
        }
    ).with_columns(pl.col(c).cast(pl.Float64).fill_nan(None) for c in COMPUTED)


def _pools(rows: pl.DataFrame, options: Options) -> pl.DataFrame:
    """Return `id` and COMPUTED for disaggregated rows: steps of the decode pool, own prefill and
    clients of a rank of the prefill pool, as engines that do both."""
    decode = _computed(rows, options)
    usable = rows.filter("ttft_usable")
    if usable.is_empty():
        return decode
    degrees = {k: pl.col(f"prefill_{k}") for k in ("tp", "attention_dp", "ep", "expert_tp", "pp")}
    prefill = _computed(
        usable.with_columns(
            mode=pl.lit("aggregated"), instances=pl.col("prefill_workers"), **degrees
        ),
        options,
    )
    kept = prefill.select("id", "own_s", "rank_clients")
    return (
        decode.drop("own_s", "rank_clients")
        .join(kept, on="id", how="left", maintain_order="left")
        .select("id", *COMPUTED)
    )


def lines(rows: pl.DataFrame, hosts: dict[str, protocol.Host]) -> pl.DataFrame:
    """Return the columns of LINES for rows of `predicted`: TPOT and, where usable, TTFT."""
    tpot = rows.with_columns(
        quantity=pl.lit("tpot_s"), measured=pl.col("tpot_s"), predicted=pl.col("step_s")
    )
    ready = ("own_s", "step_s", "rank_clients", "prompt_drawn", "output_drawn")
    some = rows.filter("ttft_usable", *(pl.col(c).is_not_null() for c in ready))
    ttft = some.with_columns(
        pl.Series("predicted", protocol.first_token_s(some, hosts), dtype=pl.Float64),
        quantity=pl.lit("ttft_s"),
        measured=pl.col("ttft_s"),
    )
    both = pl.concat([tpot, ttft.select(tpot.columns)])
    # work done does not change with the speed at which it was done
    implied = pl.col("mfu") * pl.col("step_s") / pl.col("tpot_s")
    both = both.with_columns(
        table=pl.lit("serving runs"), unit=pl.lit("s"), flops_share=implied, fits=pl.col("fits") > 0
    )
    return with_intervals(with_errors(both)).select(LINES)


def published_lines(calibration: str = "auto") -> pl.DataFrame:
    """Return the columns of LINES for the project's own tables of published facts.

    None has an interval of its own yet: what is compared is often a throughput or a utilisation.
    Rows whose plan cannot run have no prediction, and say why in `excluded`.
    """
    given = () if calibration == "auto" else (f"calibration={calibration}",)
    facts = published.predict(published.load(), given)
    single = collectives.predict(collectives.load(), given)
    rows = pl.concat([_of_facts(facts), _of_collectives(single)], how="diagonal").with_columns(
        table=pl.lit("published facts"),
        mode=pl.lit("published"),
        calibration=pl.lit(calibration),
        counted=pl.lit(True),
        **{name: pl.lit(None, pl.String) for name in ("backend", "version", "copy_of")},
        **{name: pl.lit(None, pl.Float64) for name in ("rel_std", "kernel_std", "flops_share")},
    )
    return with_intervals(with_errors(rows.with_columns(band()))).select(LINES)


def _of_facts(rows: pl.DataFrame) -> pl.DataFrame:
    asked = pl.col("overrides").str
    return rows.with_columns(
        halves(rows, ("group", "hardware", "model")),
        quantity=pl.col("column"),
        origin=pl.col("group"),
        model_path=pl.col("model"),
        precision=asked.extract(r"\bdtype=(\S+)"),
        prompt=asked.extract(r"workload\.prompt=(\d+)").cast(pl.Int64),
        output=asked.extract(r"workload\.output=(\d+)").cast(pl.Int64),
        concurrency=asked.extract(r"workload\.batch=(\d+)").cast(pl.Int64),
        excluded=pl.col("why_invalid"),
    )


def _of_collectives(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        halves(rows, ("operation", "hardware")),
        quantity=pl.concat_str("operation", pl.lit("_s")),
        unit=pl.lit("s"),
        origin=pl.lit("collectives"),
        precision=pl.col("dtype"),
        chips=pl.col("ranks"),
        measured=pl.col("microseconds") / 1e6,
    )
