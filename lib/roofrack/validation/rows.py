"""What a measured serving run is: the columns of the table, with unit and meaning.

Published runs from any source are brought into these columns before anything is predicted.
"""

from typing import NamedTuple

import polars as pl


class Column(NamedTuple):
    """One column of the table of runs."""

    name: str
    dtype: type[pl.DataType]
    unit: str
    meaning: str


def _columns(dtype: type[pl.DataType], **meanings: str) -> tuple[Column, ...]:
    return tuple(Column(name, dtype, "", meaning) for name, meaning in meanings.items())


IDENTITY = _columns(
    pl.String,
    id="name of the run in its source",
    source="where the source says it got the run",
    origin="who measured: inferencex or gap_analysis",
    version="version of the engine; null where not recorded",
    model_path="checkpoint as the source names it",
    precision="precision as the source names it; null = not quantised",
)

_LAYOUT = {
    "tp": "tensor parallel degree of attention",
    "attention_dp": "data parallel degree of attention within an engine",
    "ep": "expert parallel degree; 1 for a dense model",
    "expert_tp": "tensor parallel degree of an expert; dense: all chips",
    "pp": "pipeline stages; one engine has tp*attention_dp*pp chips",
}
"""Degrees of an engine."""


def _pool(pool: str) -> tuple[Column, ...]:
    batch = "sequences of one attention rank, as configured"
    of = {"workers": "engines of the pool", **_LAYOUT, "batch": batch}
    where = f"disaggregated, {pool} pool: "
    return _columns(pl.Int64, **{f"{pool}_{key}": where + says for key, says in of.items()})


SETTING = (
    *_columns(
        pl.String,
        backend="engine: trtllm, vllm, sglang",
        hardware="name of a file of conf/hardware",
        model="name of a file of conf/model",
        mode="aggregated or disaggregated",
    ),
    Column("instances", pl.Int64, "", "aggregated: engines side by side that share the clients"),
    Column("chips", pl.Int64, "chips", "of the whole run: of all instances, or of both pools"),
    *_columns(pl.Int64, **{key: f"{says}; of the decode pool" for key, says in _LAYOUT.items()}),
    *_pool("prefill"),
    *_pool("decode"),
    Column("prompt", pl.Int64, "tokens", "nominal prompt"),
    Column("output", pl.Int64, "tokens", "nominal output"),
    Column("length_share", pl.Float64, "", "mean length drawn by the client over the nominal one"),
    Column("concurrency", pl.Int64, "requests", "closed-loop clients of the whole run"),
    *_columns(
        pl.String,
        dtype_weights="format of the weights of dense and shared FFNs",
        dtype_attention="weights of the projections before attention",
        dtype_attention_out="weights of the projection after attention",
        dtype_experts="weights of routed experts; dense: dtype_weights",
        dtype_head="weights of the output head",
        dtype_math="units that multiply by dtype_weights",
        dtype_attention_math="units that multiply by dtype_attention",
        dtype_experts_math="units that multiply by dtype_experts",
        dtype_kv="format of the KV cache",
    ),
)
"""What a prediction is made from, mode by mode."""

MEASURED = (
    Column("ttft_s", pl.Float64, "s", "time to the first token"),
    Column("tpot_s", pl.Float64, "s", "time per output token after the first"),
)

VERDICT = (
    Column("ttft_usable", pl.Boolean, "", "the inputs and the measurement of the TTFT are there"),
    Column("counted", pl.Boolean, "", "recorded inputs are of medium or high confidence"),
    Column("excluded", pl.String, "", "first rule of rules.yaml that leaves the row out, or null"),
    Column("copy_of", pl.String, "", "id of the first row of the same run, if not this one"),
)

SCHEMA = IDENTITY + SETTING + MEASURED + VERDICT
"""Every column, in order."""


def conform(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the columns of SCHEMA, in its order and dtypes; raises if one is not there."""
    return frame.select(pl.col(c.name).cast(c.dtype) for c in SCHEMA)
