"""The serving runs that the `aiconfigurator-core` package carries, as rows of rows.SCHEMA.

The package's systems/silicon_sample.csv is read in place. Two families are in it: runs of
SemiAnalysis InferenceX in several exports, and NVIDIA's own runs for its gap analysis. The exports
write the layout of one run in different ways, which copies of a run show (`_engine`).
"""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from roofrack.errors import InputError
from roofrack.tables import DTYPES
from roofrack.validation.rows import conform
from roofrack.validation.rules import apply_rules

HARDWARE = {
    "h100_sxm": ("h100_sxm", "hopper"),
    "h200_sxm": ("h200", "hopper"),
    "b200_sxm": ("b200", "blackwell"),
    "b300_sxm": ("b300", "blackwell"),
    "gb200": ("gb200_nvl72", "blackwell"),
    "gb300": ("gb300_nvl72", "blackwell"),
}
"""The package's names of systems: file of conf/hardware and architecture."""

MODELS = {
    "MiniMaxAI/MiniMax-M2.5": "minimax_m2",
    "Qwen/Qwen3-235B-A22B-FP8": "qwen3_235b_a22b",
    "Qwen/Qwen3-32B": "qwen3_32b",
    "nvidia/Qwen3-32B-NVFP4": "qwen3_32b",
    "Qwen/Qwen3.5-397B-A17B": "qwen3_5_397b_a17b",
    "deepseek-ai/DeepSeek-R1": "deepseek_v3",
    "deepseek-ai/DeepSeek-V3": "deepseek_v3",
    "nvidia/DeepSeek-R1-NVFP4": "deepseek_v3",
    "nvidia/DeepSeek-V3.1-NVFP4": "deepseek_v3",
    "meta-llama/Llama-3.1-70B": "llama3_1_70b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama3_1_8b",
    "nvidia/Llama-3.1-8B-Instruct-FP8": "llama3_1_8b",
    "moonshotai/Kimi-K2.5": "kimi_k2",
    "openai/gpt-oss-120b": "gpt_oss_120b",
    "zhipuai/GLM-5": "glm_5",
}
"""Checkpoints: file of conf/model of the same shape. A row of another one misses an input."""

DENSE = ("llama3_1_70b", "llama3_1_8b", "qwen3_32b")

LENGTH_SHARE = 0.9
"""InferenceX draws prompts and outputs uniformly in 0.8 .. 1 of the nominal length:
RANDOM_RANGE_RATIO in .github/workflows/benchmark-tmpl.yml and `sample_random_requests` in
utils/bench_serving/benchmark_serving.py of SemiAnalysisAI/InferenceX@fbbf0083."""

_DENSE = pl.col("model").is_in(DENSE)
_AGG, _PREFILL, _DECODE = "", "prefill_", "decode_"
_DEGREES = ("tp", "attention_dp", "ep", "expert_tp", "pp")


def silicon_path() -> Path:
    """Return where the installed package keeps its runs; raises InputError without the package."""
    spec = find_spec("aiconfigurator_core")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "the measured serving runs are in the package aiconfigurator-core, which is not"
            " installed: pip install 'roofrack[silicon]'"
        )
    path = Path(spec.submodule_search_locations[0]) / "systems" / "silicon_sample.csv"
    if not path.is_file():
        raise InputError(f"{path.name} is not in the installed aiconfigurator-core (0.12.0 has it)")
    return path


def silicon_rows(path: str | Path | None = None) -> pl.DataFrame:
    """Return one row a run, columns of rows.SCHEMA, rules applied; nothing is dropped.

    `path` is a CSV in the columns of silicon_sample.csv, that of the installed package by default.
    """
    try:
        raw = pl.read_csv(silicon_path() if path is None else path, infer_schema_length=None)
        frame = raw.with_columns(_identity()).with_columns(_requests())
        frame = frame.with_columns(**_layouts()).with_columns(*_formats())
        frame = frame.with_columns(*_lengths(), *_pools()).with_columns(_verdict())
        return apply_rules(conform(frame))
    except pl.exceptions.ColumnNotFoundError as error:
        what = str(error).splitlines()[0]
        raise InputError(f"the table of serving runs lacks a column: {what}") from None


def _raw(prefix: str, key: str) -> pl.Expr:
    """A degree as recorded. A column without any number is read as text, hence the cast."""
    return pl.col(f"{prefix}{key}_size").cast(pl.Int64)


def _named(column: str, names: Mapping[str, str]) -> pl.Expr:
    return pl.col(column).replace_strict(names, default=None)


def _identity() -> Iterable[pl.Expr]:
    """Names in this project's terms. Exports of InferenceX are dumps of its data base, dated tables
    and, for two models, tables that carry its runs rounded: only tables kept under a path, one a
    checkpoint, hold NVIDIA's own runs."""
    source = pl.col("silicon_data_source")
    own = pl.when(source.str.contains("gap-analysis/")).then(pl.lit("gap_analysis"))
    return (
        source.alias("source"),
        own.otherwise(pl.lit("inferencex")).alias("origin"),
        pl.col("backend_version").cast(pl.String).alias("version"),
        _named("system", {k: v for k, (v, _) in HARDWARE.items()}).alias("hardware"),
        _named("system", {k: v for k, (_, v) in HARDWARE.items()}).alias("architecture"),
        _named("model_path", MODELS).alias("model"),
        pl.col("mode").replace({"agg": "aggregated", "disagg": "disaggregated"}),
    )


def _requests() -> Iterable[pl.Expr]:
    """Clients of the run, and `ranks`, the clients over the recorded batch.

    That is the number of attention ranks in every row that records all three; where clients are not
    recorded, batch times ranks stands for the requests in flight.
    """
    recorded = pl.col("source").str.extract(r"silicon_concurrency=(\d+)").cast(pl.Int64)
    flying = pl.col("batch_size").cast(pl.Int64) * _raw(_AGG, "attention_dp").fill_null(1)
    batch, workers = (pl.col(f"decode_{k}").cast(pl.Int64) for k in ("batch_size", "num_workers"))
    pool = batch * workers * _raw(_DECODE, "attention_dp")
    return (
        pl.coalesce(recorded, flying, pool).alias("concurrency"),
        (recorded // pl.col("batch_size").cast(pl.Int64)).fill_null(1).alias("ranks"),
    )


def _layouts() -> dict[str, pl.Expr]:
    """Degrees of an engine (the decode pool's, where there are pools) and of both pools."""
    disagg = pl.col("mode") == "disaggregated"
    engine, prefill, decode = _engine(), _recorded(_PREFILL), _recorded(_DECODE)
    columns = {k: pl.when(disagg).then(decode[k]).otherwise(engine[k]) for k in _DEGREES}
    columns |= {f"prefill_{key}": value for key, value in prefill.items()}
    columns |= {f"decode_{key}": value for key, value in decode.items()}
    spread = pl.col("ranks") // engine["attention_dp"].clip(lower_bound=1)
    # Only dense models of the gap analysis: elsewhere attention ranks explain all of it.
    alone = disagg | (pl.col("origin") == "inferencex") | ~_DENSE
    columns["instances"] = pl.when(disagg).then(None).when(alone).then(1).otherwise(spread)
    return columns


def _recorded(prefix: str) -> dict[str, pl.Expr]:
    """The degrees as they stand; a dense model's FFN is split over all chips of its engine."""
    tp, dp = _raw(prefix, "tp"), _raw(prefix, "attention_dp")
    return {
        "tp": tp,
        "attention_dp": dp,
        "ep": pl.when(_DENSE & tp.is_not_null()).then(1).otherwise(_raw(prefix, "moe_ep")),
        "expert_tp": pl.when(_DENSE).then(tp * dp).otherwise(_raw(prefix, "moe_tp")),
        "pp": _raw(prefix, "pp"),
    }


def _engine() -> dict[str, pl.Expr]:
    """Degrees of an aggregated engine, by the exports' conventions; g is the chips of the engine.

    InferenceX gives (tp, ep, dp-attn) of a launch. Where ep = tp = g > 1, later exports multiply:
    moe_tp = moe_ep = g with g^2 in tp (tensor parallel attention) or in attention_dp (data
    parallel attention); the early export has tp = ep = g, or dp = ep = g, for the same runs.
    vLLM's are written tp = dp = g, ep = g^2, but InferenceX starts them with
    --tensor-parallel-size g --enable-expert-parallel: attention is tensor parallel. A few of
    MiniMax-M2.5 with hundreds of clients have dp-attn; the table does not tell them apart.

    The gap analysis leaves attention_dp out. With clients = tp x batch, attention is data parallel
    over all chips; else it is what the chips of the experts leave: moe_tp moe_ep / tp.
    """
    plain, ranks = _recorded(_AGG), pl.col("ranks")
    tp, dp, m, e = plain["tp"], plain["attention_dp"], plain["expert_tp"], plain["ep"]
    squared = (m == e) & (e > 1) & (tp * dp == e * e) & ((tp == 1) | (dp == 1))
    vllm = (tp == dp) & (tp > 1) & (m == 1) & (e == tp * tp)
    published = (pl.col("origin") == "inferencex") & ~_DENSE
    unrecorded = dp.is_null() & ~_DENSE
    spread = unrecorded & (ranks == tp) & (tp > 1)
    g = pl.coalesce(pl.when(published & squared).then(e), pl.when(published & vllm).then(tp))
    multiplied = g.is_not_null()
    by_data = multiplied & (tp == 1)
    left = pl.when(unrecorded).then(m * e // tp).otherwise(dp)
    attention_tp = pl.when(by_data | spread).then(1).when(multiplied).then(g).otherwise(tp)
    alone = dp.fill_null(1)
    ours = pl.when(by_data).then(g).when(multiplied).then(1)
    attention_dp = ours.when(spread).then(tp).otherwise(left)
    return {
        "tp": attention_tp,
        "attention_dp": pl.when(_DENSE).then(alone).otherwise(attention_dp),
        "ep": pl.when(multiplied).then(g).otherwise(e),
        "expert_tp": pl.when(_DENSE).then(tp * alone).when(multiplied).then(1).otherwise(m),
        "pp": plain["pp"],
    }


@cache
def formats() -> dict[str, list[dict[str, Any]]]:
    """Return formats.yaml."""
    path = files("roofrack.validation").joinpath("formats.yaml")
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def _holds(when: Mapping[str, Any], stored: pl.Expr | None = None) -> pl.Expr:
    """Whether a row meets every condition of an entry of formats.yaml."""
    columns = {"precision": pl.col("precision").fill_null("bf16")}
    columns |= {} if stored is None else {"stored": stored}
    wanted = {key: value if isinstance(value, list) else [value] for key, value in when.items()}
    tests = (columns.get(key, pl.col(key)).is_in(values) for key, values in wanted.items())
    return pl.all_horizontal(t.fill_null(False) for t in tests)


def _first(entries: Iterable[tuple[pl.Expr, Any]]) -> pl.Expr:
    """The value of the first entry that holds, else null. A value that is no dtype is refused."""
    cases = []
    for holds, value in entries:
        if isinstance(value, str) and value not in DTYPES:
            raise InputError(f"formats.yaml: '{value}' is none of the dtypes {', '.join(DTYPES)}")
        cases.append(pl.when(holds).then(pl.lit(value) if isinstance(value, str) else value))
    return pl.coalesce(*cases)


def _stored(part: str) -> pl.Expr:
    return _first((_holds(c["when"]), c["stores"][part]) for c in formats()["checkpoints"])


def _math(stored: pl.Expr) -> pl.Expr:
    return _first(
        (_holds(u["when"], stored), stored if u["math"] == "same" else u["math"])
        for u in formats()["units"]
    )


def _formats() -> Iterable[pl.Expr]:
    weights, attention, experts = _stored("weights"), _stored("attention"), _stored("experts")
    given = [c for c in formats()["checkpoints"] if "experts_math" in c["stores"]]
    special = _first((_holds(c["when"]), c["stores"]["experts_math"]) for c in given)
    return (
        weights.alias("dtype_weights"),
        attention.alias("dtype_attention"),
        _stored("o").alias("dtype_attention_out"),
        experts.alias("dtype_experts"),
        _stored("head").alias("dtype_head"),
        _math(weights).alias("dtype_math"),
        _math(attention).alias("dtype_attention_math"),
        pl.coalesce(special, _math(experts)).alias("dtype_experts_math"),
        _first((_holds(c["when"]), c["holds"]) for c in formats()["cache"]).alias("dtype_kv"),
    )


def _lengths() -> Iterable[pl.Expr]:
    share = pl.when(pl.col("origin") == "inferencex").then(LENGTH_SHARE).otherwise(1.0)
    return (
        *(pl.col(a).alias(b) for a, b in (("isl", "prompt"), ("osl", "output"))),
        share.alias("length_share"),
        (pl.col("silicon_ttft_ms") / 1e3).alias("ttft_s"),
        (pl.col("silicon_tpot_ms") / 1e3).alias("tpot_s"),
    )


def _chips(pool: str) -> pl.Expr:
    return pl.col(f"{pool}tp") * pl.col(f"{pool}attention_dp") * pl.col(f"{pool}pp")


def _pools() -> Iterable[pl.Expr]:
    workers = {p: pl.col(f"{p}num_workers").cast(pl.Int64) for p in (_PREFILL, _DECODE)}
    both = workers[_PREFILL] * _chips(_PREFILL) + workers[_DECODE] * _chips(_DECODE)
    whole = pl.col("instances") * _chips(_AGG)
    yield pl.when(pl.col("mode") == "disaggregated").then(both).otherwise(whole).alias("chips")
    for pool in (_PREFILL, _DECODE):
        yield workers[pool].alias(f"{pool}workers")
        yield pl.col(f"{pool}batch_size").cast(pl.Int64).alias(f"{pool}batch")


def _verdict() -> Iterable[pl.Expr]:
    """Whether the TTFT can be predicted, and whether the recorded inputs can be believed.

    The TTFT of a disaggregated run needs its prefill pool: workers and a layout that is possible.
    Not counted: more than 8 tensor parallel ranks or a degree of 0 as recorded in an aggregated run
    (several engines, or a multiplied degree, written as one), engines side by side that only the
    batch betrays, and pools whose workers are not recorded.
    """
    aggregated = pl.col("mode") == "aggregated"
    prefill = [pl.col(f"prefill_{key}") for key in ("workers", "tp", "attention_dp", "ep", "pp")]
    split = pl.col("prefill_tp") * pl.col("prefill_attention_dp")
    possible = split == pl.col("prefill_ep") * pl.col("prefill_expert_tp")
    usable = pl.all_horizontal(*(c > 0 for c in prefill), possible).fill_null(False)
    plain = (_raw(_AGG, "tp") <= 8) & (_raw(_AGG, "attention_dp").fill_null(1) > 0)
    workers = pl.col("decode_workers").is_not_null() & pl.col("prefill_workers").is_not_null()
    return (
        ((pl.col("ttft_s") > 0).fill_null(False) & (aggregated | usable)).alias("ttft_usable"),
        pl.when(aggregated)
        .then(plain & (pl.col("instances") == 1))
        .otherwise(workers)
        .fill_null(False)
        .alias("counted"),
        *(pl.lit(None, pl.String).alias(later) for later in ("excluded", "copy_of")),
    )
