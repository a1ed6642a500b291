"""Questions to the simulator from words to tables, on real machines and models."""

import json

import numpy as np
import polars as pl
import pytest

from roofrack import api
from roofrack.cost import estimate
from roofrack.errors import InfeasibleError, InputError
from roofrack.simulation.command import answer
from roofrack.simulation.files import check

SMALL = (
    "workload=chat",
    "hardware=h100_sxm",
    "model=llama3_1_8b",
    "parallelism=single",
    "batch=32",
    "traffic.requests=200",
)


def one(*words):
    return answer([*SMALL, *words])


def test_every_token_of_every_request_is_accounted_for_once():
    found = one("workload.arrivals_per_s=4,12", "workload.output_cv=1", "workload.prompt_cv=1")
    assert found.rows.height == 2
    for lane, row in enumerate(found.rows.iter_rows(named=True)):
        requests = found.requests.filter(pl.col("lane") == lane)
        assert row["requests"] == requests.height == 200
        assert row["rejected"] == row["recomputed_tokens"] == row["preemptions"] == 0
        assert row["tokens_per_s"] * row["duration_s"] == pytest.approx(requests["output"].sum())
        assert (requests["done_s"] >= requests["first_s"]).all()
        assert (requests["first_s"] > requests["admitted_s"]).all()
        assert (requests["admitted_s"] >= requests["arrival_s"]).all()
        counted = requests.filter("counted")
        assert row["ttft_p95_s"] == pytest.approx(np.percentile(counted["ttft_s"], 95))
    fast, slow = found.rows.row(1, named=True), found.rows.row(0, named=True)
    assert fast["usd_per_mtok_at_load"] < slow["usd_per_mtok_at_load"]  # the delayed payoff
    assert fast["ttft_p95_s"] > slow["ttft_p95_s"] and fast["tpot_p50_s"] > slow["tpot_p50_s"]


def test_an_empty_service_is_as_fast_as_the_estimate_says():
    alike = ("workload.prompt_cv=0", "workload.output_cv=0")
    found = one("workload.arrivals_per_s=0.01", *alike).rows.row(0, named=True)
    alone = [word for word in SMALL if word.split("=")[0] not in ("batch", "traffic.requests")]
    with np.errstate(all="ignore"):
        lone = estimate(api.scenario(*alone, "batch=1"))
        pass_ = estimate(api.scenario(*alone, "batch=1", "workload=decode", "context=1260"))
    assert found["ttft_p50_s"] == pytest.approx(float(lone["ttft_s"]), rel=0.04)
    assert found["tpot_p50_s"] == pytest.approx(float(pass_["tpot_s"]), rel=0.02)


def test_pools_apart_do_not_disturb_each_other():
    words = ("workload.arrivals_per_s=10", "workload.serving=disaggregated",
             "workload.prefill_instances=2")  # fmt: skip
    apart = one(*words).rows.row(0, named=True)
    beside = one("workload.arrivals_per_s=10").rows.row(0, named=True)
    assert apart["chips"] == 3 * beside["chips"]
    assert apart["tpot_p99_s"] < beside["tpot_p50_s"]
    assert 0 < apart["prefill_busy_share"] < 1 and beside["prefill_busy_share"] is None


def test_drafted_tokens_make_decoding_faster():
    still = one("workload.arrivals_per_s=2").rows.row(0, named=True)
    drafts = one("workload.arrivals_per_s=2", "workload.draft_tokens=3").rows.row(0, named=True)
    assert drafts["tpot_p50_s"] < 0.6 * still["tpot_p50_s"]
    assert drafts["passes"] < still["passes"]


def test_a_small_cache_preempts_or_reserves():
    words = ("workload.arrivals_per_s=20", "engine.cache_tokens=16384", "workload.output_cv=1")
    on_demand = one(*words).rows.row(0, named=True)
    reserved = one(*words, "engine.reserve=true").rows.row(0, named=True)
    assert on_demand["preemptions"] > 0 and on_demand["recomputed_tokens"] > 0
    assert reserved["preemptions"] == 0 and reserved["recomputed_tokens"] == 0
    assert reserved["batch_at_load"] < on_demand["batch_at_load"]


def test_requests_longer_than_the_cache_are_rejected_and_counted():
    words = ("workload.arrivals_per_s=5", "workload.prompt_cv=1.5", "engine.cache_tokens=2048")
    found = one(*words)
    row = found.rows.row(0, named=True)
    long = found.requests.filter(pl.col("prompt") + pl.col("output") > 2048)
    assert row["rejected"] == long.height > 0
    assert long["done_s"].is_null().all() and not long["kept"].any()
    none = one("workload.arrivals_per_s=5", "engine.cache_tokens=16").rows.row(0, named=True)
    assert none["rejected"] == 200 and none["ttft_p50_s"] is None
    assert none["usd_per_mtok_at_load"] is None and none["goodput"] == 0.0


def test_prefixes_are_found_and_followed():
    words = [*SMALL[:-1], "traffic=mooncake_conversation", "traffic.requests=300",
             "model=llama3_1_8b", "parallelism.replicas=2"]  # fmt: skip
    found = answer([*words, "engine.routing=round_robin,prefix", "engine.prefix_tokens=inf"])
    shares = dict(zip(found.rows["routing"], found.rows["cached_share"], strict=True))
    assert 0 < shares["round_robin"] < shares["prefix"]


@pytest.mark.slow
def test_replicas_come_and_go():
    words = ("workload.arrivals_per_s=30", "parallelism.replicas=4", "engine.routing=least_loaded")
    still = one(*words).rows.row(0, named=True)
    scaled = one(*words, "engine.scale_at=8", "engine.start_s=1").rows.row(0, named=True)
    assert still["replicas_on"] == pytest.approx(4)
    assert 1 <= scaled["replicas_on"] < 4
    assert scaled["ttft_p95_s"] >= still["ttft_p95_s"]


@pytest.mark.slow
def test_highest_load_under_limits():
    found = one("workload.arrivals_per_s=auto", "limits.ttft_s=0.1", "limits.tpot_s=0.01")
    assert found.rows.height == 12
    most = found.most.row(0, named=True)
    kept = found.rows.filter(pl.col("arrivals_per_s") <= most["most_per_s"])
    broken = found.rows.filter(pl.col("arrivals_per_s") > most["most_per_s"])
    assert (kept["goodput"] >= 0.95).all() and broken["goodput"][0] < 0.95
    assert set(found.rows["trust"]) <= {"either", "simulation", "closed forms"}


def test_files_are_written_whole_and_nothing_else_is_overwritten(tmp_path):
    from roofrack.simulation import files

    found = one("workload.arrivals_per_s=2")
    files.write(found, tmp_path / "run", ["x=1"])
    assert pl.read_parquet(tmp_path / "run" / "rows.parquet").equals(found.rows)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["asked"] == ["x=1"]
    check(tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(InputError, match="not of a simulation"):
        check(tmp_path / "other")


BAD = {
    "workload.arrivals_per_s=0": "allowed is a number above 0",
    "workload.arrivals_per_s=nan": "allowed is a number above 0",
    "workload.arrivals_per_s=inf": "allowed is a number above 0",
    "workload.arrivals_per_s=-1": "allowed is a number above 0",
    "workload.arrivals_per_s=many": "allowed is a number above 0",
    "engine.polcy=chunked": "did you mean 'policy'",
    "engine.policy=chunks": "did you mean 'chunked'",
    "engine.block=0": "a whole number of at least 1",
    "engine.block=16.5": "a whole number of at least 1",
    "traffic=azure_2023_cov": "did you mean 'azure_2023_conv'",
    "traffic.requests=1e99": "at most 1e\\+07",
    "traffic.seeds=0": "at least 1",
    "limits.ttft_s=0": "above 0",
    "limits.tpot=1": "did you mean 'tpot_s'",
    "workload=decode": "a simulation serves requests",
    "engine.policy=chunked engine.budget=16": "must be more than its 32 decoding",
    "workload.draft_tokens=1.5": "whole tokens",
    "engine.routing=prefix": "no prefix blocks",
    "traffic": "expected key=value",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_words_get_one_clear_line(words):
    with pytest.raises(InputError, match=f"(?i){BAD[words]}") as caught:
        one(*(["workload.arrivals_per_s=2"] if "arrivals" not in words else []), *words.split())
    assert "\n" not in str(caught.value)


def test_what_cannot_be_served_is_said():
    with pytest.raises(InfeasibleError, match="no memory for a KV cache"):
        answer([*SMALL, "model=llama3_1_70b", "workload.arrivals_per_s=1"])
    with pytest.raises(InputError, match=r"give workload\.arrivals_per_s"):
        one()


def test_runs_together_are_those_of_each_alone():
    words = [word for word in SMALL if not word.startswith("batch")]
    words += ["workload.arrivals_per_s=25", "workload.output_cv=0.5"]
    both = answer([*words, "batch=20,24"]).rows
    for row in both.iter_rows(named=True):
        alone = answer([*words, f"batch={row['batch']}"]).rows.row(0, named=True)
        assert row["tpot_p95_s"] == pytest.approx(alone["tpot_p95_s"], rel=1e-9)
        assert row["ttft_p95_s"] == pytest.approx(alone["ttft_p95_s"], rel=1e-9)


@pytest.mark.slow
def test_a_time_brings_more_requests_at_a_higher_rate():
    words = [word for word in SMALL if not word.startswith("traffic")]
    found = answer([*words, "traffic.duration_s=60", "workload.arrivals_per_s=2,8"]).rows
    few, many = found["requests"].to_list()
    assert 90 < few < 150 and 400 < many < 560


def test_a_lone_prompt_takes_a_pipeline_as_long_as_the_estimate_says():
    alike = ("workload.prompt_cv=0", "workload.output_cv=0", "parallelism.pp=4")
    found = one("workload.arrivals_per_s=0.01", *alike).rows.row(0, named=True)
    alone = [word for word in SMALL if word.split("=")[0] not in ("batch", "traffic.requests")]
    with np.errstate(all="ignore"):
        lone = estimate(api.scenario(*alone, *alike, "batch=1"))
    assert found["ttft_p50_s"] == pytest.approx(float(lone["ttft_s"]), rel=0.08)
