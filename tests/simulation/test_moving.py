"""Caches on their way: from a tier to the chips, and from one pool to the other."""

import numpy as np
import polars as pl
import pytest

from roofrack import api
from roofrack.cost import estimate
from roofrack.cost.caches import retrieve_s, transfer_s
from roofrack.cost.passes import places, prefill_pass
from roofrack.cost.site import site
from roofrack.errors import InputError
from roofrack.simulation.command import answer
from roofrack.simulation.moving import fetches_s, transfers_s

SMALL = ("workload=chat", "hardware=h100_sxm", "model=llama3_1_8b", "parallelism=single")
MANY = ("batch=32", "traffic.requests=200")  # one shape of arrays: compiled once
APART = ("workload.serving=disaggregated", "workload.prefill_instances=1")
LONG = ("workload.prompt=16000", "workload.cached=15000", "workload.output=50")
STEADY = ("workload.prompt_cv=0", "workload.output_cv=0")
SLOW = "workload.arrivals_per_s=0.05"


def lone(*words: str):
    with np.errstate(all="ignore"):
        return estimate(api.scenario(*SMALL, "batch=1", *words))


@pytest.mark.parametrize("tier", ["host", "flash"])
def test_cached_tokens_are_fetched_from_their_tier_before_the_prompt(tier: str) -> None:
    words = (*SMALL, *MANY, *LONG, *STEADY, SLOW)
    near = answer(words).rows.row(0, named=True)
    found = answer([*words, f"workload.cache_tier={tier}"])
    far = found.rows.row(0, named=True)
    fetched = float(lone(*LONG, f"workload.cache_tier={tier}")["retrieve_s"])
    assert fetched > 0.01
    assert far["ttft_p50_s"] - near["ttft_p50_s"] == pytest.approx(fetched, rel=1e-3)
    assert far["tpot_p50_s"] == pytest.approx(near["tpot_p50_s"], rel=1e-6)
    assert far["ttft_p50_s"] == pytest.approx(far["closed_ttft_p50_s"], rel=0.05)
    # on its way a request is in no queue
    assert far["queue_s"] == pytest.approx(near["queue_s"], abs=1e-3)
    assert (found.requests["admitted_s"] >= found.requests["arrival_s"] + 0.99 * fetched).all()


def test_each_prompt_is_fetched_as_long_as_it_is(tmp_path) -> None:
    path = tmp_path / "two.csv"
    lines = ["0,9000,2,8000", "0.001,900,2,0", *(f"{60 * n},9000,2,0" for n in range(1, 199))]
    path.write_text("\n".join(["arrival_s,prompt,output,cached", *lines]))
    words = (*SMALL, "batch=32", f"traffic={path}", "workload.cache_tier=flash")
    admitted = answer(words).requests.sort("arrival_s")["admitted_s"].to_list()
    s = api.scenario(*SMALL, "workload.cache_tier=flash")
    fetched, _ = fetches_s(s, np.array([8000, 0]))
    assert admitted[0] == pytest.approx(fetched)
    assert admitted[1:3] == [0.001, 60.0]  # who comes later may begin first


def test_a_tier_that_is_not_there_is_refused() -> None:
    s = api.scenario("workload=chat", "model=llama3_1_8b", "hardware=blackboard",
                     "workload.cache_tier=host")  # fmt: skip
    with pytest.raises(InputError, match=r"workload\.cache_tier=host.*allowed is hbm"):
        fetches_s(s, np.array([10]))


def test_lengths_together_take_what_each_takes_alone() -> None:
    lengths = np.array([10, 100, 4000])
    words = (*SMALL, *APART, "model=gpt_oss_20b", "workload.cache_tier=host")
    s = api.scenario(*words)
    for length, sent, fetched in zip(
        lengths, transfers_s(s, lengths), fetches_s(s, lengths), strict=True
    ):
        at = places(site(api.scenario(*words, f"workload.prompt={length}", "workload.cached=0")))
        one = prefill_pass(at.prefill, 1.0)
        assert sent == pytest.approx(float(transfer_s(at, one)))
        held = places(
            site(api.scenario(*words, "workload.prompt=8000", f"workload.cached={length}"))
        )
        assert fetched == pytest.approx(float(retrieve_s(held.prefill, one)))


def test_the_first_token_comes_when_its_cache_is_there() -> None:
    lengths = ("workload.prompt=16000", "workload.output=50")
    words = (*SMALL, *MANY, *APART, *lengths, *STEADY, SLOW)
    row = answer(words).rows.row(0, named=True)
    alone = lone(*APART, *lengths)
    beside = answer([*SMALL, *MANY, *lengths, *STEADY, SLOW]).rows.row(0, named=True)
    (moved,) = transfers_s(api.scenario(*SMALL, *APART), np.array([16000]))
    assert row["ttft_p50_s"] - beside["ttft_p50_s"] == pytest.approx(moved, rel=1e-3)
    assert row["ttft_p50_s"] == pytest.approx(float(alone["ttft_s"]), rel=0.04)
    assert row["ttft_p50_s"] == pytest.approx(row["closed_ttft_p50_s"], rel=0.04)
    assert row["tpot_p50_s"] == pytest.approx(row["closed_tpot_p50_s"], rel=0.03)


def test_closed_forms_of_pools_apart_agree_where_slots_do_not_rule() -> None:
    words = (*SMALL, *APART, "batch=64", "workload.arrivals_per_s=auto", "traffic.requests=3000")
    rows = answer(words).rows.filter(pl.col("utilization").is_between(0.15, 0.65))
    assert rows.height >= 4
    for name in ("ttft_p50_s", "ttft_p95_s", "tpot_p50_s", "tpot_p95_s"):
        assert (rows[f"closed_{name}"] / rows[name] - 1.0).abs().max() < 0.08, name


def test_what_the_decoding_pool_can_never_hold_is_not_computed() -> None:
    words = (*SMALL, *MANY, *APART, "workload.arrivals_per_s=4", "workload.prompt_cv=1.5",
             "workload.output_cv=0", "engine.cache_tokens=2048")  # fmt: skip
    found = answer(words)
    row = found.rows.row(0, named=True)
    long = found.requests.filter(pl.col("prompt") + pl.col("output") > 2048)
    assert 0 < row["rejected"] == long.height < 200
    assert long["admitted_s"].is_null().all() and long["first_s"].is_null().all()
    assert row["recomputed_tokens"] == 0
    none = answer([*words, "engine.cache_tokens=16"]).rows.row(0, named=True)
    assert none["rejected"] == 200 and none["prefill_busy_share"] in (0.0, None)
    assert none["usd_per_mtok_at_load"] is None
