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


_POOL = (
    ("workers", "engines of the pool"),
    ("tp", "tensor parallel degree of attention"),
    ("attention_dp", "data parallel degree of attention within an engine"),
    ("ep", "expert parallel degree"),
    ("expert_tp", "tensor parallel degree of one expert"),
    ("pp", "pipeline stages of an engine"),
    ("batch", "sequences of one attention rank, as configured"),
)


def _pool(pool: str) -> tuple[Column, ...]:
    return tuple(
        Column(f"{pool}_{key}", pl.Int64, "", f"disaggregated, {pool} pool: {meaning}")
        for key, meaning in _POOL
    )


IDENTITY = (
    Column("id", pl.String, "", "name of the run in its source"),
    Column("source", pl.String, "", "where the source says it got the run"),
    Column("origin", pl.String, "", "who measured: inferencex or gap_analysis"),
    Column("version", pl.String, "", "version of the engine; null where not recorded"),
    Column("model_path", pl.String, "", "checkpoint as the source names it"),
    Column("precision", pl.String, "", "precision as the source names it; null = not quantised"),
)

SETTING = (
    Column("backend", pl.String, "", "engine: trtllm, vllm, sglang"),
    Column("hardware", pl.String, "", "name of a file of conf/hardware"),
    Column("model", pl.String, "", "name of a file of conf/model"),
    Column("mode", pl.String, "", "aggregated or disaggregated"),
    Column("instances", pl.Int64, "", "aggregated: engines side by side that share the clients"),
    Column("chips", pl.Int64, "chips", "of the whole run: of all instances, or of both pools"),
    Column("tp", pl.Int64, "", "tensor parallel degree of attention; of the decode pool"),
    Column("attention_dp", pl.Int64, "", "data parallel degree of attention; of the decode pool"),
    Column("ep", pl.Int64, "", "expert parallel degree; 1 for a dense model"),
    Column("expert_tp", pl.Int64, "", "tensor parallel degree of an expert; dense: all chips"),
    Column("pp", pl.Int64, "", "pipeline stages; one engine has tp*attention_dp*pp chips"),
    *_pool("prefill"),
    *_pool("decode"),
    Column("prompt", pl.Int64, "tokens", "nominal prompt"),
    Column("output", pl.Int64, "tokens", "nominal output"),
    Column("length_share", pl.Float64, "", "mean length drawn by the client over the nominal one"),
    Column("concurrency", pl.Int64, "requests", "closed-loop clients of the whole run"),
    Column("dtype_weights", pl.String, "", "format of the weights of dense and shared FFNs"),
    Column("dtype_attention", pl.String, "", "weights of the projections before attention"),
    Column("dtype_attention_out", pl.String, "", "weights of the projection after attention"),
    Column("dtype_experts", pl.String, "", "weights of routed experts; dense: dtype_weights"),
    Column("dtype_head", pl.String, "", "weights of the output head"),
    Column("dtype_math", pl.String, "", "units that multiply by dtype_weights"),
    Column("dtype_attention_math", pl.String, "", "units that multiply by dtype_attention"),
    Column("dtype_experts_math", pl.String, "", "units that multiply by dtype_experts"),
    Column("dtype_kv", pl.String, "", "format of the KV cache"),
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
