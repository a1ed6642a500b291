"""Measured serving runs: how a recorded row is read, and which rule leaves it out."""

import importlib.util
from pathlib import Path

import polars as pl
import pytest

from roofrack.config import conf_dir
from roofrack.errors import InputError
from roofrack.tables import DTYPES
from roofrack.validation import silicon
from roofrack.validation.rows import SCHEMA
from roofrack.validation.rules import apply_rules, rules
from roofrack.validation.silicon import HARDWARE, MODELS, formats, silicon_rows

POOL = ("batch_size", "num_workers", "tp_size", "pp_size", "attention_dp_size", "moe_tp_size")
SIZES = (*POOL, "moe_ep_size")
INFERENCEX = "source_file=2099-01-01.csv; silicon_concurrency={}"
GAP = "source_file=/synthetic/gap-analysis/data/x.csv; silicon_concurrency={}"

# None of these numbers was measured.
AGGREGATED = {
    "id": "synthetic",
    "silicon_data_source": INFERENCEX.format(16),
    "backend": "vllm",
    "backend_version": "0.0",
    "model_path": "MiniMaxAI/MiniMax-M2.5",
    "system": "h200_sxm",
    "precision": "fp8",
    "mode": "agg",
    "isl": 1000,
    "osl": 1000,
    "gemm_quant_mode": "fp8",
    "moe_quant_mode": "fp8",
    "batch_size": 16,
    "tp_size": 4,
    "pp_size": 1,
    "attention_dp_size": 1,
    "moe_tp_size": 4,
    "moe_ep_size": 1,
    **{f"{pool}_{size}": None for pool in ("prefill", "decode") for size in SIZES},
    "silicon_ttft_ms": 100.0,
    "silicon_tpot_ms": 10.0,
}
POOLS = {
    **AGGREGATED,
    **{size: None for size in SIZES if size != "num_workers"},
    "mode": "disagg",
    "silicon_data_source": INFERENCEX.format(64),
    **dict(zip((f"prefill_{size}" for size in SIZES), (1, 2, 4, 1, 1, 1, 4), strict=True)),
    **dict(zip((f"decode_{size}" for size in SIZES), (4, 2, 1, 1, 8, 1, 8), strict=True)),
}


def table(tmp_path: Path, *rows: dict) -> pl.DataFrame:
    """Write the changed rows as the package would and read them back; ids are their positions."""
    path = tmp_path / "sample.csv"
    numbered = [{**row, "id": row["id"] + str(i)} for i, row in enumerate(rows)]
    pl.DataFrame(numbered, infer_schema_length=None).write_csv(path)
    return silicon_rows(path)


def agg(tp: int, dp: int | None, moe_tp: int, moe_ep: int, **other: object) -> dict:
    sizes = {"tp_size": tp, "attention_dp_size": dp, "moe_tp_size": moe_tp, "moe_ep_size": moe_ep}
    return {**AGGREGATED, **sizes, **other}


@pytest.mark.parametrize(
    ("row", "degrees"),
    [
        (agg(4, 1, 4, 1), (4, 1, 1, 4)),
        (agg(4, 1, 1, 4), (4, 1, 4, 1)),  # the early export: tensor parallel attention
        (agg(16, 1, 4, 4), (4, 1, 4, 1)),  # the late one, the same run
        (agg(1, 4, 1, 4), (1, 4, 4, 1)),  # data parallel attention, early
        (agg(1, 16, 4, 4), (1, 4, 4, 1)),  # and late
        (agg(4, 4, 1, 16), (4, 1, 4, 1)),  # vLLM, late
        (agg(1, None, 2, 1, silicon_data_source=GAP.format(16)), (1, 2, 1, 2)),
        (agg(4, None, 2, 2, silicon_data_source=GAP.format(16)), (4, 1, 2, 2)),
        (agg(4, None, 1, 4, silicon_data_source=GAP.format(64)), (1, 4, 4, 1)),
    ],
)
def test_each_convention_of_the_exports_is_read(tmp_path: Path, row: dict, degrees: tuple) -> None:
    (read,) = table(tmp_path, row).select("tp", "attention_dp", "ep", "expert_tp").rows()
    assert read == degrees


def test_clients_beyond_the_batch_of_a_dense_engine_are_engines_side_by_side(
    tmp_path: Path,
) -> None:
    row = agg(2, 1, 1, 1, model_path="Qwen/Qwen3-32B", silicon_data_source=GAP.format(48))
    read = table(tmp_path, row).row(0, named=True)
    assert (read["instances"], read["chips"], read["counted"]) == (3, 6, False)


def test_requests_in_flight_stand_for_clients_that_are_not_recorded(tmp_path: Path) -> None:
    unknown = {"silicon_data_source": "source_file=2099-01-01.csv"}
    frame = table(tmp_path, {**AGGREGATED, **unknown}, {**POOLS, **unknown})
    assert frame["concurrency"].to_list() == [16, 4 * 2 * 8]


def test_pools_give_the_degrees_of_the_decode_and_all_chips(tmp_path: Path) -> None:
    read = table(tmp_path, POOLS).row(0, named=True)
    assert (read["tp"], read["attention_dp"], read["ep"], read["expert_tp"]) == (1, 8, 8, 1)
    assert read["chips"] == 2 * 4 + 2 * 8
    assert (read["excluded"], read["ttft_usable"], read["counted"]) == (None, True, True)


def test_a_lost_prefill_pool_costs_the_ttft_only(tmp_path: Path) -> None:
    lost = {f"prefill_{size}": None for size in SIZES}
    frame = table(tmp_path, {**POOLS, **lost}, {**POOLS, "decode_num_workers": None})
    assert frame["excluded"].to_list() == [None, "missing_input"]
    assert frame["ttft_usable"].to_list() == [False, True]


EACH_RULE = [
    AGGREGATED,
    {**AGGREGATED, "osl": 0},
    agg(4, 2, 4, 1),
    {**AGGREGATED, "backend_version": None, "silicon_tpot_ms": 10.0 + 1e-9},
    {**AGGREGATED, "silicon_ttft_ms": 9000.0},
    {**AGGREGATED, "silicon_ttft_ms": 9000.0, "osl": 0},  # two rules hold: the first wins
    {**AGGREGATED, "silicon_ttft_ms": 9000.0},
    {**AGGREGATED, "model_path": "nobody/unknown"},
    {**AGGREGATED, "silicon_tpot_ms": 10.001},  # a repeat of the run, not a copy
]


def test_a_row_is_left_out_by_the_first_rule_that_holds(tmp_path: Path) -> None:
    frame = table(tmp_path, *EACH_RULE)
    assert frame["excluded"].to_list() == [
        None,
        "missing_input",
        "impossible_layout",
        "duplicate",
        "admission_limited",
        "missing_input",
        "duplicate",
        "missing_input",
        None,
    ]
    assert frame["copy_of"].to_list()[3] == "synthetic0"
    assert set(frame["excluded"].drop_nulls()) == set(rules())
    by_rule = sum(frame.filter(excluded=name).height for name in rules())
    assert by_rule + frame["excluded"].is_null().sum() == frame.height


def test_applying_the_rules_again_changes_nothing(tmp_path: Path) -> None:
    frame = table(tmp_path, *EACH_RULE)
    assert apply_rules(frame).equals(frame)
    kept = frame.filter(pl.col("excluded").is_null())
    assert apply_rules(kept).equals(kept)


def test_the_share_that_limits_admission_is_that_of_the_file(tmp_path: Path) -> None:
    share = rules()["admission_limited"]["share"]
    decoding = AGGREGATED["osl"] * AGGREGATED["silicon_tpot_ms"]
    limit = decoding * (1 - share) / share
    rows = [{**AGGREGATED, "silicon_ttft_ms": limit * side} for side in (0.999, 1.001)]
    assert table(tmp_path, *rows)["excluded"].to_list() == [None, "admission_limited"]


def test_a_multiplied_degree_is_read_but_not_counted(tmp_path: Path) -> None:
    frame = table(tmp_path, agg(64, 1, 8, 8), agg(8, 1, 1, 8, isl=2000))
    assert frame["counted"].to_list() == [False, True]
    assert frame["chips"].to_list() == [8, 8]


def test_what_a_format_needs_decides_it(tmp_path: Path) -> None:
    gpt = {"model_path": "openai/gpt-oss-120b", "precision": "fp4"}
    frame = table(
        tmp_path,
        {**AGGREGATED, **gpt},
        {**AGGREGATED, **gpt, "system": "b200_sxm"},
        {**AGGREGATED, **gpt, "precision": "fp8"},
        {**AGGREGATED, "model_path": "Qwen/Qwen3-32B", "precision": None},
    )
    names = ("dtype_weights", "dtype_experts", "dtype_experts_math", "dtype_kv")
    assert frame.select(names).rows() == [
        ("bf16", "mxfp4", "bf16", "bf16"),
        ("bf16", "mxfp4", "mxfp8", "fp8"),
        ("bf16", "mxfp4", "fp8", "bf16"),
        ("bf16", "bf16", "bf16", "bf16"),
    ]


def test_every_format_has_a_source_and_is_a_dtype() -> None:
    for entry in (entry for part in formats().values() for entry in part):
        assert entry.get("source") or entry.get("assumed"), entry
        named = {*entry.get("stores", {}).values(), entry.get("holds"), entry.get("math")}
        assert named - {None, "same"} <= set(DTYPES)


def test_every_name_is_a_file_of_the_configuration() -> None:
    models = {path.stem for path in (conf_dir() / "model").glob("*.yaml")}
    chips = {path.stem for path in (conf_dir() / "hardware").glob("*.yaml")}
    assert set(MODELS.values()) <= models
    assert {name for name, _ in HARDWARE.values()} <= chips


def test_the_table_has_the_documented_columns(tmp_path: Path) -> None:
    frame = table(tmp_path, AGGREGATED, POOLS)
    assert frame.schema == {column.name: column.dtype for column in SCHEMA}
    assert all(column.meaning for column in SCHEMA)


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silicon, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'roofrack\[silicon\]'") as error:
        silicon_rows()
    assert "\n" not in str(error.value)


def test_a_missing_column_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    pl.DataFrame([{k: v for k, v in AGGREGATED.items() if k != "osl"}]).write_csv(path)
    with pytest.raises(InputError, match="osl") as error:
        silicon_rows(path)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(
    importlib.util.find_spec("aiconfigurator_core") is None,
    reason="needs the package aiconfigurator-core: pip install roofrack[silicon]",
)
def test_the_runs_of_the_installed_package() -> None:
    frame = silicon_rows()
    assert frame["id"].n_unique() == frame.height > 5000
    kept = frame.filter(pl.col("excluded").is_null())
    split = pl.col("tp") * pl.col("attention_dp") == pl.col("ep") * pl.col("expert_tp")
    assert kept.select(split.all()).item()
    assert kept["chips"].null_count() == 0
    # Copies of one run are predicted once; of the runs with inputs to trust, nearly all can be.
    counted = frame.filter(pl.col("counted") & pl.col("copy_of").is_null())
    for mode in ("aggregated", "disaggregated"):
        assert counted.filter(mode=mode)["excluded"].is_null().mean() > 0.9
