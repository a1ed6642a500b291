"""Measured kernel tables: a user's file, and the package's through a small copy of its layout."""

from importlib.util import find_spec

import numpy as np
import polars as pl
import pytest

from roofrack.errors import InputError
from roofrack.fitting import tables
from roofrack.fitting.columns import MEASURED, SCHEMA

GEMM = "m,n,k,format,seconds\n16,4096,4096,fp8,5e-6\n16,4096,4096,fp8,4e-6\n32,4096,4096,fp8,6e-6\n"


def written(folder, text):
    path = folder / "mine.csv"
    path.write_text(text)
    return path


def test_a_users_file_has_one_row_a_shape_the_fastest(tmp_path):
    table = tables.read(written(tmp_path, GEMM), "gemm")
    assert table["m"].to_list() == [16.0, 32.0]
    assert table["seconds"].to_list() == [4e-6, 6e-6]
    assert table["chip"].to_list() == ["", ""]
    assert set(table.columns) == set(MEASURED) | set(SCHEMA["gemm"])


def test_chips_of_a_users_file_stay_apart_and_parquet_reads_as_csv(tmp_path):
    csv = written(tmp_path, GEMM)
    rows = pl.read_csv(csv).with_columns(chip=pl.Series(["a", "b", "b"]))
    rows.write_parquet(tmp_path / "mine.parquet")
    table = tables.read(tmp_path / "mine.parquet", "gemm")
    assert table.select("chip", "m", "seconds").rows() == [
        ("a", 16.0, 5e-6), ("b", 16.0, 4e-6), ("b", 32.0, 6e-6),
    ]  # fmt: skip


def test_columns_with_a_default_may_be_left_out(tmp_path):
    text = "batch,queries,context,heads,format,kv_format,seconds\n4,1,1024,16,bf16,bf16,1e-5\n"
    row = tables.read(written(tmp_path, text), "mla_decode").row(0, named=True)
    assert (row["kv_lora"], row["qk_rope_dim"]) == (512.0, 64.0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seconds", "second", "no column 'seconds'.*time of one call.*Did you mean 'second'"),
        ("16,4096,4096,fp8,4e-6", "16,0,4096,fp8,4e-6", "row 2: n is 0.*1 or more"),
        ("16,4096,4096,fp8,4e-6", "16,x,4096,fp8,4e-6", "row 2: n is 'x'.*1 or more"),
        ("6e-6", "0", "row 3: seconds is 0.*above 0"),
        ("6e-6", "inf", "row 3: seconds is inf.*above 0"),
        ("6e-6", "", "row 3: seconds is None.*above 0"),
    ],
)
def test_what_a_users_file_lacks_or_gets_wrong_is_named(tmp_path, old, new, said):
    path = written(tmp_path, GEMM.replace(old, new, 1))
    with pytest.raises(InputError, match=said):
        tables.read(path, "gemm")


def test_unknown_kinds_and_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no kind 'gem'.*Did you mean 'gemm'"):
        tables.read(written(tmp_path, GEMM), "gem")
    with pytest.raises(InputError, match="no file"):
        tables.read(tmp_path / "none.csv", "gemm")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder laid out as the package's data, its tables written by the test."""
    monkeypatch.setattr(tables, "_data", lambda: tmp_path)

    def put(place, **columns):
        file = tmp_path / f"{place}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(columns).write_parquet(file)

    return put


def gemm(rows, latency):
    size = list(range(1, rows + 1))
    return {
        "m": size, "n": size, "k": size, "gemm_dtype": ["bfloat16"] * rows,
        "kernel_source": ["one"] * rows, "latency": [latency] * rows,
    }  # fmt: skip


def test_the_latest_version_counts_and_milliseconds_become_seconds(package):
    package("chip/gemm/vllm/0.9.2/gemm_perf", **gemm(3, 1.0))
    package("chip/gemm/vllm/0.10.0rc1/gemm_perf", **gemm(3, 2.0))
    package("chip/gemm/vllm/0.10.0rc12/gemm_perf", **gemm(3, 3.0))
    table = tables.silicon("chip", "vllm", "gemm")
    assert tables.versions("chip", "vllm", "gemm") == ["0.10.0rc12", "0.10.0rc1", "0.9.2"]
    assert table["seconds"].to_list() == pytest.approx([3e-3] * 3)
    assert set(table["format"]) == {"bf16"}
    assert tables.silicon("chip", "vllm", "gemm", "0.9.2")["seconds"][0] == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("older", "newer"),
    [("1.2.0", "1.10.0"), ("1.3.0rc20", "1.3.0"), ("0.5.6", "0.5.6.post2"), ("1.0", "1.0.1")],
)
def test_versions_are_ordered_as_their_authors_number_them(package, older, newer):
    for version in (newer, older):
        package(f"chip/gemm/vllm/{version}/gemm_perf", **gemm(1, 1.0))
    assert tables.versions("chip", "vllm", "gemm") == [newer, older]


def test_a_later_table_of_a_few_shapes_is_passed_over(package):
    package("chip/gemm/vllm/1.0/gemm_perf", **gemm(40, 1.0))
    package("chip/gemm/vllm/1.1/gemm_perf", **gemm(3, 2.0))
    assert set(tables.silicon("chip", "vllm", "gemm")["version"]) == {"1.0"}


def test_sizes_of_collectives_are_bytes_and_eager_launches_are_left_out(package):
    package(
        "chip/comm/vllm/1.0/custom_allreduce_perf",
        kernel_source=["custom_graph", "custom_eager"], allreduce_dtype=["bfloat16"] * 2,
        num_gpus=[8, 8], message_size=[1024, 4096], latency=[0.004, 0.02],
    )  # fmt: skip
    package(
        "chip/comm/nccl/2.0/nccl_perf",
        op_name=["all_gather", "all_gather", "alltoall"], nccl_dtype=["half", "int8", "half"],
        kernel_source=["NCCL"] * 3, num_gpus=[8] * 3, message_size=[1024] * 3, latency=[0.01] * 3,
    )  # fmt: skip
    reduced = tables.silicon("chip", "vllm", "all_reduce")
    assert reduced.select("bytes", "kernel").rows() == [(2048.0, "custom_graph")]
    gathered = tables.silicon("chip", "nccl", "all_gather").sort("bytes")
    assert gathered.select("format", "bytes").rows() == [("int8", 1024.0), ("fp16", 2048.0)]
    assert tables.backends("chip", "all_gather") == ["nccl"]


def test_kernels_of_one_call_add_up_where_all_were_measured(package):
    package(
        "chip/linear_attention/vllm/1.0/gdn_perf",
        phase=["generation"] * 4 + ["context"], kernel_source=["conv", "conv", "rule", "conv", "x"],
        batch_size=[1, 1, 1, 2, 1], seq_len=[1] * 5, num_k_heads=[16] * 5, head_k_dim=[128] * 5,
        num_v_heads=[64] * 5, head_v_dim=[128] * 5, model_name=["a", "b", "a", "a", "a"],
        latency=[0.003, 0.002, 0.005, 0.003, 1.0],
    )  # fmt: skip
    table = tables.silicon("chip", "vllm", "linear_decode")
    # the faster convolution counts; of two sequences the delta rule is not there
    assert table.select("batch", "kernel").rows() == [(1.0, "conv+rule")]
    assert table["seconds"].to_list() == pytest.approx([7e-6])
    assert table["state_bytes"].to_list() == [4.0]


def test_ways_to_exchange_tokens_stay_apart_in_microseconds(package):
    package(
        "chip/comm/vllm/1.0/moe_a2a_perf",
        op_name=["moe_a2a"] * 3, kernel_source=["deepep"] * 3, phase=["dispatch"] * 2 + ["combine"],
        comm_backend=["ht", "ll", "ht"], comm_dtype=["fp8"] * 3, ep_size=[8] * 3, node_num=[1] * 3,
        hidden_size=[7168] * 3, topk=[8] * 3, num_experts=[256] * 3, num_tokens=[128] * 3,
        sms=[0] * 3, transmit_us=[90.0, 30.0, 70.0], latency=[90.0, 30.0, 70.0],
    )  # fmt: skip
    table = tables.silicon("chip", "vllm", "dispatch")
    assert table["kernel"].to_list() == ["ht", "ll"]
    assert table["seconds"].to_list() == pytest.approx([9e-5, 3e-5])


def test_what_the_package_lacks_is_named(package):
    package("chip/gemm/vllm/1.0/gemm_perf", **gemm(1, 1.0))
    with pytest.raises(InputError, match=r"no tables of chip 'chop'.*Did you mean 'chip'"):
        tables.silicon("chop", "vllm", "gemm")
    with pytest.raises(
        InputError, match=r"no table of gemm on chip for backend 'sglang'.* one: vllm\."
    ):
        tables.silicon("chip", "sglang", "gemm")
    with pytest.raises(InputError, match=r"version '2\.0'.* one: 1\.0\."):
        tables.silicon("chip", "vllm", "gemm", "2.0")
    assert tables.backends("chip", "p2p") == []


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(tables, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'roofrack\[silicon\]'"):
        tables.chips()


installed = pytest.mark.skipif(
    find_spec("aiconfigurator_core") is None, reason="needs the package aiconfigurator-core"
)


@installed
@pytest.mark.parametrize(("kind", "rounds"), [("all_reduce", 2.0), ("all_gather", 1.0)])
def test_units_of_collectives_agree_with_the_links(kind, rounds):
    table = tables.silicon("h200_sxm", "nccl", kind).filter(pl.col("bytes") > 4e8)
    n, size, seconds = (table[c].to_numpy() for c in ("members", "bytes", "seconds"))
    bus = rounds * (n - 1.0) / n * size / seconds  # as nccl-tests reports it
    assert np.all((bus > 200e9) & (bus < 2.0 * 450e9))  # NVLink 4: 450 GB/s one way


@installed
def test_units_of_attention_agree_with_the_memory():
    table = tables.silicon("h200_sxm", "trtllm", "attention_decode").filter(
        pl.col("window") == 0, pl.col("kv_format") == "bf16"
    )
    cache = pl.col("batch") * pl.col("context") * pl.col("kv_heads") * pl.col("head_dim") * 4.0
    reached = table.filter(cache > 1e9).select(cache / pl.col("seconds")).to_series()
    assert reached.len() > 100
    assert 0.8 * 4.8e12 < reached.median() < 4.8e12  # HBM3e: 4.8 TB/s
