"""Measured kernel times: two readers of one schema for each kind of kernel (`columns.SCHEMA`).

`silicon` reads the tables of the PyPI package aiconfigurator-core (Apache-2.0) where they are
installed; nothing of them is copied. `read` takes a user's own CSV or Parquet file. Both return one
row for each measured shape, in the columns of `SCHEMA[kind]` and `MEASURED`.
"""

import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import polars as pl

from roofrack.errors import InputError, nearest
from roofrack.fitting.columns import MEASURED, SCHEMA, Column

_FORMATS = {"bfloat16": "bf16", "half": "fp16"}
_SUPPLEMENT = 0.1  # of the rows of a backend's longest table: a shorter one adds to an older one


class _Source(NamedTuple):
    """One kind of table in one file of the package; `columns` are expressions of its columns.

    A call of several `stages` is that many kernels, measured one by one.
    """

    family: str
    file: str
    columns: dict[str, pl.Expr]
    where: pl.Expr | None = None
    backend: str = "*"
    stages: int = 1


def _named(*pairs: str, **others: pl.Expr) -> dict[str, pl.Expr]:
    columns = dict(pair.split("=") for pair in pairs)
    return {name: pl.col(raw) for name, raw in columns.items()} | others


def _ms(name: str = "latency") -> pl.Expr:
    return pl.col(name) * 1e-3


def _us(name: str) -> pl.Expr:
    return pl.col(name) * 1e-6


_KERNEL = pl.col("kernel_source")
_QUANTIZE = _named("m=m", "k=k", "format=quant_dtype", kernel=_KERNEL, seconds=_ms())
_ATTENTION = _named(
    "batch=batch_size", "queries=isl", "heads=num_heads", "kv_heads=num_key_value_heads",
    "head_dim=head_dim", "window=window_size", "format=attn_dtype", "kv_format=kv_cache_dtype",
    context=pl.col("isl") + pl.col("step"), kernel=_KERNEL, seconds=_ms(),
)  # fmt: skip
_MLA = _named(
    "batch=batch_size", "queries=isl", "heads=num_heads", "format=mla_dtype",
    "kv_format=kv_cache_dtype", context=pl.col("isl") + pl.col("step"), kernel=_KERNEL,
    seconds=_ms(),
    # measured on DeepSeek-V3's layer
    kv_lora=pl.lit(512.0), qk_rope_dim=pl.lit(64.0), qk_nope_dim=pl.lit(128.0),
    v_head_dim=pl.lit(128.0),
)  # fmt: skip
# the kernels keep their states in FP32 (mamba_ssm_dtype of the models' configurations)
_LINEAR = _named(
    "batch=batch_size", "key_heads=num_k_heads", "key_dim=head_k_dim", "value_heads=num_v_heads",
    "value_dim=head_v_dim", state_bytes=pl.lit(4.0), format=pl.lit("bf16"), kernel=_KERNEL,
    seconds=_ms(), queries=pl.col("seq_len"),
)  # fmt: skip
_MOE = _named(
    "tokens=num_tokens", "d_model=hidden_size", "d_ff=inter_size", "top_k=topk",
    "experts=num_experts", "tp=moe_tp_size", "ep=moe_ep_size", "distribution=distribution",
    "format=moe_dtype", kernel=_KERNEL, seconds=_ms(),
    gated=pl.when(_KERNEL.str.contains("nongated")).then(0.0).otherwise(1.0),
)  # fmt: skip
# message sizes are counted in elements (against nccl-tests and the peak of the links)
_REDUCE = _named(
    "members=num_gpus", "format=allreduce_dtype", bytes=2.0 * pl.col("message_size"),
    nodes=pl.lit(1.0), kernel=_KERNEL, seconds=_ms(),
)  # fmt: skip
_NCCL = _named(
    "members=num_gpus", "format=nccl_dtype", nodes=pl.lit(1.0), kernel=_KERNEL, seconds=_ms(),
    bytes=pl.when(pl.col("nccl_dtype") == "half").then(2.0).otherwise(1.0)
    * pl.col("message_size"),
)  # fmt: skip
_A2A = _named(
    "members=ep_size", "nodes=node_num", "tokens=num_tokens", "d_model=hidden_size", "top_k=topk",
    "experts=num_experts", "sms=sms", "format=comm_dtype", "kernel=comm_backend",
    seconds=_us("transmit_us"),  # `latency` is in microseconds there, too
)  # fmt: skip
_RACK = _named(
    "members=moe_ep_size", "tokens=num_tokens", "d_model=hidden_size", "top_k=topk",
    "experts=num_experts", "format=moe_dtype", nodes=pl.lit(1.0), sms=pl.lit(0.0), kernel=_KERNEL,
    seconds=_ms(),
)  # fmt: skip


def _linear(phase: str) -> _Source:
    """The causal convolution, and the delta rule after it."""
    return _Source("linear_attention", "gdn_perf", _LINEAR, pl.col("phase") == phase, stages=2)


def _deep_ep(phase: str, mode: str) -> _Source:
    low = mode == "ll"
    columns = _named(
        "nodes=node_num", "tokens=num_token", "d_model=hidden_size", "top_k=num_topk",
        "experts=num_experts", members=pl.col("node_num") * pl.col("chips_per_node"),
        kernel=pl.lit(f"deepep_{mode}"),
        # DeepEP sends 8-bit numbers to the experts and 16-bit ones back
        format=pl.lit("fp8" if phase == "dispatch" else "bf16"),
        sms=pl.lit(0.0) if low else pl.col(f"{phase}_sms"),
        seconds=_us(f"{phase}_avg_t_us") if low
        else _us(f"{phase}_transmit_us") + _us(f"{phase}_notify_us"),
    )  # fmt: skip
    return _Source("comm", f"wideep_deepep_{mode}_perf", columns)


def _exchange(phase: str) -> tuple[_Source, ...]:
    return (
        _Source("comm", "moe_a2a_perf", _A2A, pl.col("phase") == phase),
        _Source("comm", "trtllm_alltoall_perf", _RACK, pl.col("op_name") == f"alltoall_{phase}"),
        _deep_ep(phase, "ll"),
        _deep_ep(phase, "normal"),
    )


def _nccl(op: str) -> _Source:
    return _Source("comm", "nccl_perf", _NCCL, pl.col("op_name") == op, backend="nccl")


_SOURCES: dict[str, tuple[_Source, ...]] = {
    "gemm": (
        _Source(
            "gemm", "gemm_perf",
            _named("m=m", "n=n", "k=k", "format=gemm_dtype", kernel=_KERNEL, seconds=_ms()),
        ),
    ),
    # quantisation of activations: the scale found, then each element cast
    "scale": (_Source("quantize", "computescale_perf", _QUANTIZE),),
    "cast": (_Source("quantize", "scale_matrix_perf", _QUANTIZE),),
    "attention_prefill": (_Source("attention", "context_attention_perf", _ATTENTION),),
    "attention_decode": (_Source("attention", "generation_attention_perf", _ATTENTION),),
    "mla_prefill": (_Source("mla", "context_mla_perf", _MLA),),
    "mla_decode": (_Source("mla", "generation_mla_perf", _MLA),),
    "linear_prefill": (_linear("context"),),
    "linear_decode": (_linear("generation"),),
    "moe": (_Source("moe", "moe_perf", _MOE),),
    # engines replay captured graphs: kernels launched one by one measure the host
    "all_reduce": (
        _Source("comm", "custom_allreduce_perf", _REDUCE, ~_KERNEL.str.ends_with("_eager")),
        _nccl("all_reduce"),
    ),
    "all_gather": (_nccl("all_gather"),),
    "reduce_scatter": (_nccl("reduce_scatter"),),
    "all_to_all": (_nccl("alltoall"),),
    "dispatch": _exchange("dispatch"),
    "combine": _exchange("combine"),
    "p2p": (),
}  # fmt: skip


def chips() -> list[str]:
    """Return the chips that the installed package has tables of, by its names."""
    return sorted(p.name for p in _data().iterdir() if p.is_dir())


def backends(chip: str, kind: str) -> list[str]:
    """Return the backends that have a table of a kind on a chip; InputError if unknown."""
    return sorted({file.parts[-3] for _, file in _files(chip, kind)})


def versions(chip: str, backend: str, kind: str) -> list[str]:
    """Return the versions of a backend that have a table of a kind, latest first."""
    found = {file.parts[-2] for _, file in _files(chip, kind) if file.parts[-3] == backend}
    return sorted(found, key=_age, reverse=True)


def silicon(chip: str, backend: str, kind: str, version: str | None = None) -> pl.DataFrame:
    """Return the table of a kind that the installed package has of a chip and backend.

    The latest version of each of the backend's tables, or `version`; a table with less than a
    tenth of the rows of the longest only adds shapes to an older one and is passed over. Where
    several kernels or runs measured a shape, the fastest; ways to exchange tokens stay apart, for
    an engine is told which to take. InputError, with what there is, if the package is not
    installed or has no such table.
    """
    found: dict[str, dict[str, pl.DataFrame]] = {}
    for source, file in _files(chip, kind):
        if file.parts[-3] == backend and version in (None, file.parts[-2]):
            found.setdefault(source.file, {})[file.parts[-2]] = _normal(source, file, chip, kind)
    if not found:
        has = versions(chip, backend, kind) if version else backends(chip, kind)
        asked = f"backend {backend!r}" + (f", version {version!r}" if version else "")
        raise InputError(
            f"no table of {kind} on {chip} for {asked}; those that have one: "
            f"{', '.join(has) or 'none'}.{nearest(version or backend, has)}"
        )
    return _fastest(pl.concat(_latest(tables) for tables in found.values()), kind)


def _latest(tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
    longest = max(table.height for table in tables.values())
    whole = [name for name, table in tables.items() if table.height >= _SUPPLEMENT * longest]
    return tables[max(whole, key=_age)]


def read(path: str | Path, kind: str) -> pl.DataFrame:
    """Return a user's measurements of one kind of kernel from a CSV or Parquet file.

    Columns as in `SCHEMA[kind]` and `MEASURED`; those with a default may be left out, others are
    ignored. Of rows with the same shape the fastest counts, for each chip, backend and version.
    InputError names the missing column, or the first row with a value that cannot be.
    """
    columns = _schema(kind)
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file {path}")
    try:
        raw = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    missing = [n for n, c in columns.items() if c.default is None and n not in raw.columns]
    if missing:
        raise InputError(
            f"{path} has no column {missing[0]!r} ({columns[missing[0]].doc}), which a table of "
            f"{kind} needs.{nearest(missing[0], raw.columns)}"
        )
    given = [_checked(path, raw, n, c) for n, c in columns.items() if n in raw.columns]
    filled = [pl.lit(c.default).alias(n) for n, c in columns.items() if n not in raw.columns]
    return _fastest(raw.select(*given).with_columns(*filled).select(list(columns)), kind)


def _schema(kind: str) -> dict[str, Column]:
    if kind not in SCHEMA:
        raise InputError(f"no kind {kind!r}; there are {', '.join(SCHEMA)}.{nearest(kind, SCHEMA)}")
    return MEASURED | SCHEMA[kind]


def _checked(path: Path, raw: pl.DataFrame, name: str, column: Column) -> pl.Series:
    """Return a column of a user's file as text or numbers; InputError at the first bad value."""
    values = raw[name].cast(pl.String if column.text else pl.Float64, strict=False)
    if column.text:
        bad, allowed = values.is_null(), "text"
    else:
        above = values > column.least if name == "seconds" else values >= column.least
        bad = ~(above & values.is_finite()).fill_null(False)
        allowed = "a number above 0" if name == "seconds" else f"{column.least:g} or more"
    if bad.any():
        row = bad.arg_true()[0]
        raise InputError(
            f"{path}, row {row + 1}: {name} is {raw[name][row]!r}, but must be {allowed} "
            f"({column.doc})"
        )
    return values


def _data() -> Path:
    spec = find_spec("aiconfigurator_core")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "the measured tables need the package aiconfigurator-core: "
            "pip install 'roofrack[silicon]'"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "systems" / "data"


def _files(chip: str, kind: str) -> Iterable[tuple[_Source, Path]]:
    """Return the package's files with tables of a kind, .../family/backend/version/file."""
    _schema(kind)
    if chip not in chips():
        raise InputError(
            f"no tables of chip {chip!r}; there are {', '.join(chips())}.{nearest(chip, chips())}"
        )
    for source in _SOURCES[kind]:
        name = f"{source.backend}/*/{source.file}.parquet"
        for file in sorted((_data() / chip / source.family).glob(name)):
            yield source, file


def _age(version: str) -> tuple[tuple[int, ...], int, int]:
    """Return what orders versions: release, then rc < nothing < post, then its number."""
    found = re.fullmatch(r"(\d+(?:\.\d+)*)(?:\.?(rc|post)(\d+))?.*", version)
    if found is None:
        return ((), 0, 0)
    rank = {"rc": -1, None: 0, "post": 1}[found[2]]
    return tuple(int(part) for part in found[1].split(".")), rank, int(found[3] or 0)


def _normal(source: _Source, file: Path, chip: str, kind: str) -> pl.DataFrame:
    """Return one file of the package in our columns."""
    raw = pl.read_parquet(file)
    if source.where is not None:
        raw = raw.filter(source.where)
    if "window_size" not in raw.columns:
        raw = raw.with_columns(window_size=pl.lit(0.0))
    if source.stages > 1:
        raw = _summed(raw, source.stages)
    # DeepEP was run on whole nodes: 8 chips, 4 of the Grace ones (as in the package's a2a tables)
    raw = raw.with_columns(chips_per_node=pl.lit(4.0 if chip.startswith("gb") else 8.0))
    named = source.columns | {
        "chip": pl.lit(chip),
        "backend": pl.lit(file.parts[-3]),
        "version": pl.lit(file.parts[-2]),
    }
    columns = _schema(kind)
    table = raw.select(
        named[n].cast(pl.String if c.text else pl.Float64).alias(n) for n, c in columns.items()
    )
    formats = [n for n in ("format", "kv_format") if n in columns]
    return table.with_columns(pl.col(formats).replace(_FORMATS)).filter(pl.col("seconds") > 0)


def _summed(raw: pl.DataFrame, stages: int) -> pl.DataFrame:
    """Return calls whose kernels were all measured, with the sum of their times.

    Models with the same layer share shapes: a kernel's fastest time counts.
    """
    shape = [n for n in raw.columns if n not in ("kernel_source", "latency", "model_name")]
    return (
        raw.group_by(*shape, "kernel_source", maintain_order=True)
        .agg(pl.col("latency").min())
        .group_by(shape, maintain_order=True)
        .agg(pl.col("latency").sum(), pl.col("kernel_source").sort().str.join("+"), pl.len())
        .filter(pl.col("len") == stages)
    )


def _fastest(table: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Return the fastest row of each shape, in a fixed order."""
    shape = ["chip", "backend", "version", *SCHEMA[kind]]
    if kind in ("dispatch", "combine"):
        shape.append("kernel")
    return table.sort(*shape, "seconds").unique(shape, keep="first", maintain_order=True)
