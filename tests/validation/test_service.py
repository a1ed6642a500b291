"""Published services: the table, pools, closed loops and fleets, and what `validate` says of them.

Predictions are checked against conditions that do not mention how they were found: Little's law,
the speed asked for, memory that is full, sums over pools.
"""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofrack import cli, config, cost
from roofrack.conversion import to_study
from roofrack.errors import InputError
from roofrack.report.render import render
from roofrack.report.validation import page
from roofrack.validation import service, service_predict, service_runs, silicon, verdict

LOOP = "gpustack_qwen3_8b_trtllm_bf16_c4"
FULL = ("nim_llama70b_h100_tp2_5000_500_c50", "nim_llama70b_h100_tp2_5000_500_c200",
        "nim_llama70b_h100_tp2_5000_500_c250")  # fmt: skip


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return service.load()


@pytest.fixture(scope="module")
def day(table: pl.DataFrame) -> pl.DataFrame:
    return service_runs.service_lines(table=rows(table, group="deepseek_day"))


@pytest.fixture(scope="module")
def loops(table: pl.DataFrame) -> pl.DataFrame:
    return service_predict.predict(table.filter(pl.col("id").is_in([LOOP, *FULL])))


def rows(table: pl.DataFrame, **chosen: str) -> pl.DataFrame:
    found = table.filter(**chosen)
    assert not found.is_empty()
    return found


def one(lines: pl.DataFrame, name: str, quantity: str) -> dict[str, float]:
    return lines.filter(id=name, quantity=quantity).row(0, named=True)


def asked(overrides: str) -> dict[str, float]:
    """What one command says, computed apart from `predict`."""
    with np.errstate(all="ignore"):
        found = cost.estimate(to_study(config.compose(overrides.split())).bind({}))
    return {name: float(value) for name, value in found.items()}


def test_schema(table: pl.DataFrame) -> None:
    assert table.columns == list(service.FIELDS)
    assert set(table["method"]) == set(service.METHODS)
    assert set(table["engine"]) == {"", "vllm", "sglang", "trtllm"}
    assert all(table[name].dtype == pl.Float64 for name in service.NUMBERS)
    assert table["source"].str.contains(r"@[0-9a-f]{12}:|https://").all()
    assert (table["notes"] != "").all()
    assert table.filter(pl.col("in_flight") > pl.col("clients")).is_empty()
    loads = table.filter(method="load")
    assert loads.height > 20 and loads["clients"].null_count() == loads.height


def test_what_deepseek_prints_agrees_with_itself(table: pl.DataFrame) -> None:
    """Nodes of both pools, from tokens and rates, make the printed nodes; those make the rent."""
    pools = table.filter(fleet="deepseek_day", method="steady")
    whole = table.filter(id="deepseek_day").row(0, named=True)
    nodes = pools["per_day"] / 86_400 / pools["tokens_per_s"]
    assert nodes.to_list() == pytest.approx(pools["nodes"].to_list(), rel=1e-3)
    assert nodes.sum() == pytest.approx(whole["nodes"], rel=1e-3)
    assert whole["nodes"] * 8 * 24 * 2.0 == pytest.approx(whole["usd_per_day"], rel=1e-9)
    output = pools.filter(id="deepseek_day_decode").row(0, named=True)
    assert whole["usd_per_day"] / output["per_day"] * 1e6 == pytest.approx(
        whole["usd_per_mtok"], rel=1e-4
    )
    assert output["tokens_per_s"] / 8 / output["speed"] == pytest.approx(
        output["batch_per_chip"], rel=1e-3
    )


def test_a_sought_batch_has_the_speed_asked_for(day: pl.DataFrame, table: pl.DataFrame) -> None:
    batch = one(day, "deepseek_day_decode", "batch_per_chip")
    overrides = table.filter(id="deepseek_day_decode")["overrides"][0]
    alone = asked(f"{overrides} workload.batch={batch['predicted'] * 144:.3f}")
    assert alone["tokens_per_s_per_user"] == pytest.approx(21.0, rel=0.01)
    node = one(day, "deepseek_day_decode", "tokens_per_s")
    assert node["predicted"] == pytest.approx(8 * alone["tokens_per_s_per_chip"], rel=0.01)
    # the batch moves more than the step: its error bar is wider
    assert batch["rel_std"] > 1.5 * alone["step_s_rel_std"]


def test_prompt_tokens_count_those_that_were_cached(day: pl.DataFrame, table: pl.DataFrame) -> None:
    overrides = table.filter(id="deepseek_day_prefill")["overrides"][0]
    computed = asked(overrides)["tokens_per_s_per_chip"]
    node = one(day, "deepseek_day_prefill", "tokens_per_s")
    assert node["predicted"] == pytest.approx(8 * computed * 4383 / (4383 - 2465), rel=1e-9)


def test_a_fleet_is_the_sum_of_its_pools(day: pl.DataFrame) -> None:
    pools = [one(day, f"deepseek_day_{name}", "nodes") for name in ("decode", "prefill")]
    nodes, rent, token = (
        one(day, "deepseek_day", q) for q in ("nodes", "usd_per_day", "usd_per_mtok")
    )
    assert nodes["predicted"] == pytest.approx(sum(p["predicted"] for p in pools))
    assert rent["predicted"] == pytest.approx(nodes["predicted"] * 8 * 24 * 2.0)
    assert token["predicted"] == pytest.approx(rent["predicted"] / 168e3)
    parts = [p["predicted"] * p["rel_std"] for p in pools]
    assert nodes["rel_std"] == pytest.approx(np.hypot(*parts) / nodes["predicted"])


def test_deepseeks_day_within_its_error_bars(day: pl.DataFrame) -> None:
    """All but the prefill pool, whose average has idle time in it: it yields less than it could."""
    inside = day.filter(pl.col("inside"))["id"].unique().to_list()
    assert sorted(inside) == [
        "deepseek_day", "deepseek_day_decode", "deepseek_day_decode_at_its_batch"
    ]  # fmt: skip
    idle = one(day, "deepseek_day_prefill", "tokens_per_s")
    assert idle["predicted"] > idle["measured"]
    rent = one(day, "deepseek_day", "usd_per_day")
    assert abs(rent["error"]) < 0.2


def test_a_closed_loop_keeps_littles_law(loops: pl.DataFrame, table: pl.DataFrame) -> None:
    row = table.filter(id=LOOP).row(0, named=True)
    tpot, ttft, rate = (one(loops, LOOP, q) for q in ("tpot_s", "ttft_s", "tokens_per_s"))
    output, clients, batch = 220.6, row["clients"], tpot["batch"]
    latency = ttft["predicted"] + (output - 1) * tpot["predicted"]
    assert rate["predicted"] / output * latency == pytest.approx(clients, rel=1e-6)
    # those that decode are all that are not waiting for their first token
    waiting = rate["predicted"] / output * ttft["predicted"]
    assert batch + waiting == pytest.approx(clients, rel=1e-4)
    alone = asked(f"{row['overrides']} workload.batch={batch:.9f} calibration=h100_sxm_trtllm")
    assert tpot["predicted"] == pytest.approx(alone["tpot_s"], rel=1e-6)
    assert ttft["predicted"] > alone["ttft_s"] + alone["tpot_s"]


def test_where_memory_is_full_more_clients_only_wait_longer(loops: pl.DataFrame) -> None:
    room, full, more = FULL
    assert one(loops, room, "tpot_s")["batch"] < 50
    assert one(loops, full, "tpot_s")["batch"] < 100 and one(loops, full, "tpot_s")["fits"]
    rate = one(loops, full, "tokens_per_s")["predicted"]
    assert one(loops, more, "tokens_per_s")["predicted"] == pytest.approx(rate, rel=1e-6)
    longer = one(loops, more, "ttft_s")["predicted"] - one(loops, full, "ttft_s")["predicted"]
    assert longer == pytest.approx(50 * 500 / rate, rel=1e-6)  # 50 more requests at that rate


def test_closed_loops_of_nim_within_ten_percent(loops: pl.DataFrame) -> None:
    found = loops.filter(pl.col("id").is_in(FULL), pl.col("quantity") != "ttft_s")
    assert ((found["predicted"] / found["measured"]).log().abs() < 0.1).all()


def test_a_speed_that_no_batch_has_is_no_prediction(table: pl.DataFrame) -> None:
    pool = table.filter(id="deepseek_day_decode").with_columns(speed=pl.lit(60.0))
    found = service_predict.predict(pl.concat([pool, table.filter(id="deepseek_day")]))
    assert found["predicted"].null_count() == found.height
    assert set(found["why_invalid"]) == {service_predict.NO_BATCH, "a pool of it is not predicted"}


@given(st.floats(0.5, 1e7), st.floats(1.0, 1e6))
def test_a_search_finds_the_edge(edge: float, most: float) -> None:
    found = service_predict._largest(lambda b: b <= edge, np.array([most]))
    assert found[0] == pytest.approx(max(min(edge, most), 1.0), rel=1e-5)


def test_rows_with_arrivals_are_simulated(table: pl.DataFrame) -> None:
    some = table.filter(method="load").head(2)
    lines = service_runs.service_lines(table=some)
    assert lines["predicted"].is_not_null().all() and lines["excluded"].is_null().all()
    by = {(row["id"], row["quantity"]): row for row in lines.iter_rows(named=True)}
    slow, fast = some.iter_rows(named=True)
    for row in (slow, fast):
        # far below what they can do, all tokens asked for come out; the last of them late
        asked_for = row["rate_per_s"] * 256.0
        assert 0.85 * asked_for < by[row["id"], "tokens_per_s"]["predicted"] < 1.1 * asked_for
    more = by[fast["id"], "tpot_s"]["predicted"] / by[slow["id"], "tpot_s"]["predicted"]
    assert fast["rate_per_s"] > slow["rate_per_s"] and more > 1.1
    never = "model=llama3_1_405b parallelism=single workload=chat"
    bad = some.head(1).with_columns(overrides=pl.lit(never))
    told = service_runs.left_out(service_runs.service_lines(table=bad))
    assert told["rows"].to_list() == [1] and "no memory for a KV cache" in told["reason"][0]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("method", "closed", r"row gpustack.*method=closed: .*'closed_loop'"),
        ("hardware", "h100", r"hardware=h100: "),
        ("model", "qwen3_9b", r"model=qwen3_9b: .*'qwen3_8b'"),
        ("clients", "", r"clients is empty: method=closed_loop needs it"),
        ("clients", "-4", r"clients=-4: give a positive number"),
        ("tpot_s", "7 ms", r"tpot_s=7 ms: no number"),
        ("ttft_s", "nan", r"ttft_s=nan: give a positive number"),
        ("usd_per_day", "87072", r"usd_per_day: method=closed_loop does not predict it"),
        ("nodes", "2", r"nodes: method=closed_loop does not|node_chips is empty: nodes needs it"),
        ("statistic", "median", r"statistic=median: allowed: mean, day"),
        ("source", " ", r"source is empty"),
        ("overrides", "hardware=h100_sxm", r"model=\(nothing\): allowed"),
    ],
)
def test_a_tampered_row_is_refused(
    table: pl.DataFrame, tmp_path: Path, column: str, value: str, message: str
) -> None:
    row = table.filter(id=LOOP).cast(pl.String).with_columns(pl.lit(value).alias(column))
    row.write_csv(tmp_path / "service.csv")
    with pytest.raises(InputError, match=message):
        service.load(tmp_path / "service.csv")


def test_a_row_without_a_figure_is_refused(table: pl.DataFrame, tmp_path: Path) -> None:
    row = table.filter(id=LOOP).cast(pl.String)
    none = row.with_columns(pl.lit("").alias(name) for name in service.QUANTITIES)
    none.write_csv(tmp_path / "service.csv")
    with pytest.raises(InputError, match="no figure: give one of batch_per_chip"):
        service.load(tmp_path / "service.csv")


def test_validate_tells_of_services(
    table: pl.DataFrame,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = pl.concat([table.filter(group="deepseek_day"), table.filter(method="load").head(1)])
    monkeypatch.setattr(service, "load", lambda: few)
    monkeypatch.setattr(silicon, "find_spec", lambda name: None)
    assert cli.main(["validate", "rows=service", f"out={tmp_path / 'v'}"]) == 0
    out = capsys.readouterr().out
    assert "Services under a known load" in out and "deepseek day: rent of a day" in out
    assert "tensorrt llm load" in out
    errors = pl.read_csv(tmp_path / "v" / "service_errors.csv")
    assert set(errors["group"]) == {"deepseek_day", "tensorrt_llm_load"}
    kept = pl.read_parquet(tmp_path / "v" / "rows.parquet").filter(table=service_runs.TABLE)
    assert kept.height > 6 and kept["predicted"].is_not_null().all()
    html = (tmp_path / "v" / "report.html").read_text()
    assert "Whole services" in html and "cancel in part" in html


def test_errors_of_services_are_not_those_of_other_runs(day: pl.DataFrame) -> None:
    lines = day.select(verdict.runs.LINES).with_columns(
        drafting=pl.lit(False), reason=pl.lit(None, pl.String)
    )
    found = verdict.judge("service", "auto", lines, {})
    assert found.groups.is_empty() and found.facts.is_empty() and found.runs.is_empty()
    assert found.services.height == day.height
    assert "Services under a known load" in render(page(found))
