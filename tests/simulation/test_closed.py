"""Closed forms beside the simulation, on the same traffic."""

import numpy as np
import polars as pl
import pytest

from roofrack.simulation.closed import CLOSE, FEW, trusted
from roofrack.simulation.command import answer

NAMES = ("ttft_p50_s", "tpot_p50_s", "tpot_p95_s", "batch_at_load", "usd_per_mtok_at_load")


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    """Azure's mean chat request on one GPU, lengths spread as there, Poisson arrivals."""
    words = ["workload=chat", "hardware=h100_sxm", "model=llama3_1_8b", "parallelism=single"]
    return answer(
        [*words, "batch=64", "workload.arrivals_per_s=auto", "traffic.requests=8000"]
    ).rows


def off(rows: pl.DataFrame, name: str) -> np.ndarray:
    return (rows[f"closed_{name}"] / rows[name] - 1.0).abs().to_numpy()


def test_they_agree_where_the_queue_does_not_rule(rows: pl.DataFrame) -> None:
    some = rows.filter(pl.col("utilization").is_between(0.25, 0.85))
    assert some.height == 6
    for name in NAMES:
        assert off(some, name).max() < 0.1, name
    assert off(some, "ttft_p95_s").max() < 0.15
    assert (some["trust"] == "either").sum() >= 5


def test_chunks_of_many_ranks_are_as_full_as_prompts_make_them() -> None:
    """16 ranks could take 16 chunks in a pass; at these loads a prompt or two are there."""
    words = ["workload=chat", "hardware=gb200_nvl72", "model=deepseek_v3", "parallelism=rack",
             "parallelism.dp=16", "batch=1024", "dtype=fp8_block", "workload.chunk=1024",
             "workload.arrivals_per_s=10,50", "traffic.requests=2500"]  # fmt: skip
    rows = answer(words).rows
    assert off(rows, "tpot_p50_s").max() < 0.1
    assert off(rows, "ttft_p50_s").max() < 0.6  # 2 to 5 times, if every pass were full


def test_where_they_do_not_the_row_says_whom_to_trust(rows: pl.DataFrame) -> None:
    for row in rows.iter_rows(named=True):
        names = ("ttft_p50_s", "ttft_p95_s", "tpot_p50_s", "tpot_p95_s")
        both = [(row[f"closed_{n}"], row[n]) for n in names]
        if any(form is None for form, _ in both):
            assert row["utilization"] >= 1 and row["trust"] == "simulation"
            continue
        worst = max(abs(form / run - 1.0) for form, run in both)
        assert row["closed_off"] == pytest.approx(worst)
        assert row["trust"] == ("either" if worst <= CLOSE else "simulation")


def test_a_few_requests_drawn_are_less_than_the_closed_form() -> None:
    row = {f"{p}{n}": 1.0 for p in ("", "closed_") for n in ("ttft_p50_s", "ttft_p95_s",
           "tpot_p50_s", "tpot_p95_s")} | {"ttft_p95_s": 2.0}  # fmt: skip
    assert trusted(row, FEW - 1, drawn=True)["trust"] == "closed forms"
    assert trusted(row, FEW - 1, drawn=False)["trust"] == "simulation"
    assert trusted(row, FEW, drawn=True)["trust"] == "simulation"


def test_utilisation_is_the_load_over_what_can_be_done(rows: pl.DataFrame) -> None:
    share = (rows["arrivals_per_s"] / rows["capacity_per_s"]).to_numpy()
    assert rows["utilization"].to_numpy() == pytest.approx(share, rel=1e-6)
    over = rows.filter(pl.col("utilization") > 1)
    # what comes out of an overloaded service is its capacity, once it is full
    assert over["requests_per_s"][0] == pytest.approx(over["capacity_per_s"][0], rel=0.08)
