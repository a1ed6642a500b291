"""Error statistics, intervals, halves, reasons and targets, on numbers made up here."""

import math

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from roofrack.validation import peers, protocol, reasons, targets
from roofrack.validation.errors import band, by_group, statistics, with_errors
from roofrack.validation.intervals import Z80, discrepancy, halves, with_intervals
from roofrack.validation.protocol import Host
from roofrack.validation.rows import SETTING
from roofrack.validation.runs import SETTINGS


def lines(count: int = 1, **columns: object) -> pl.DataFrame:
    """Return lines of an invented aggregated run, `columns` in place of theirs."""
    base = {
        "id": [f"row{i}" for i in range(count)],
        "quantity": "tpot_s",
        "origin": "inferencex",
        "mode": "aggregated",
        "model": "llama3_1_70b",
        "model_path": "some/model",
        "hardware": "h100_sxm",
        "backend": "vllm",
        "version": "1.0",
        "precision": "fp8",
        "clients": "1 to 4",
        "prompt": 1024,
        "output": 1024,
        "concurrency": 8,
        "chips": 8,
        "measured": 1.0,
        "predicted": 1.0,
        "rel_std": 0.1,
        "flops_share": 0.1,
        "fits": True,
        "counted": True,
        "excluded": pl.Series([None] * count, dtype=pl.String),
        "copy_of": pl.Series([None] * count, dtype=pl.String),
        "half": "test",
    }
    made = {k: v if isinstance(v, list | pl.Series) else [v] * count for k, v in base.items()}
    made |= {k: v if isinstance(v, list | pl.Series) else [v] * count for k, v in columns.items()}
    return with_intervals(with_errors(pl.DataFrame(made)))


def test_statistics_are_those_computed_by_hand() -> None:
    # errors +10 %, -20 %, +50 %, -50 %; sizes .1 .2 .5 .5: median .35, mean .325
    rows = lines(4, predicted=[1.1, 0.8, 1.5, 0.5])
    found = statistics(rows).row(0, named=True)
    assert found["rows"] == 4
    assert found["median_abs"] == pytest.approx(0.35)
    assert found["mean_abs"] == pytest.approx(0.325)
    assert found["bias"] == pytest.approx((math.log(1.1) + math.log(0.8)) / 2)
    assert found["within"] == pytest.approx(0.5)
    # 80 % intervals of 0.1 reach to exp(0.128) = 1.137: only the first lies inside
    assert found["inside"] == pytest.approx(0.25)


def test_what_has_no_prediction_or_measurement_has_no_error() -> None:
    rows = lines(5, predicted=[None, math.nan, 0.0, 1.2, 1.2], measured=[1.0, 1.0, 1.0, None, 1.0])
    assert rows["log_ratio"].is_null().to_list() == [True, True, True, True, False]
    assert statistics(rows)["rows"].item() == 1
    assert statistics(rows)["median_abs"].item() == pytest.approx(0.2)


def test_groups_hold_each_row_once_and_keep_what_is_not_recorded() -> None:
    rows = lines(3, precision=["fp8", "fp8", None], predicted=[1.1, 1.3, 1.5])
    groups = by_group(rows, {"counted": pl.col("id") != "row1"})
    found = groups.filter(pl.col("grouping") == "precision").sort("group")
    assert found["group"].to_list() == ["fp8", "not recorded"]
    assert found["mean_abs"].to_list() == pytest.approx([0.1, 0.5])
    whole = groups.filter(pl.col("grouping") == "all")
    assert whole["mean_abs"].item() == pytest.approx(0.3)


def test_bands_of_clients() -> None:
    clients = pl.DataFrame({"concurrency": [1, 4, 5, 256, 257, None]})
    assert clients.select(band())["clients"].to_list() == [
        "1 to 4", "1 to 4", "5 to 16", "65 to 256", "over 256", None
    ]  # fmt: skip


def synthetic(spread: float, kernel: float, count: int = 4000) -> pl.DataFrame:
    """Return rows whose logarithms are normal with the given spread, in alternating halves."""
    noise = np.random.default_rng(7).normal(0.0, spread, count)
    rows = lines(count, predicted=np.exp(noise).tolist(), rel_std=spread)
    half = pl.Series("half", ["learn", "test"] * (count // 2))
    return rows.with_columns(half, kernel_std=pl.lit(kernel))


def test_an_interval_of_the_right_width_holds_80_percent() -> None:
    assert statistics(synthetic(0.3, 0.0))["inside"].item() == pytest.approx(0.8, abs=0.02)
    one = lines(2, predicted=2.0, rel_std=[0.1, None])
    assert one["high"][0] == pytest.approx(2.0 * math.exp(Z80 * 0.1))
    assert one["low"][0] == pytest.approx(2.0 * math.exp(-Z80 * 0.1))
    assert one["inside"].to_list() == [False, None]


@pytest.mark.parametrize("kernel", [0.0, 0.05, 0.12])
def test_a_planted_discrepancy_is_found(kernel: float) -> None:
    planted = 0.2
    found = discrepancy(synthetic(math.hypot(planted, kernel), kernel))
    assert found.step_rel_std == pytest.approx(planted, rel=0.06)
    assert (found.learnt_rows, found.tested_rows) == (2000, 2000)
    assert found.covered_learnt == pytest.approx(0.8, abs=0.001)
    assert found.covered_tested == pytest.approx(0.8, abs=0.025)


def test_kernels_that_explain_all_leave_no_discrepancy() -> None:
    assert discrepancy(synthetic(0.1, 0.3)).step_rel_std == 0.0
    assert math.isnan(discrepancy(synthetic(0.1, 0.1).filter(half="test")).step_rel_std)


def test_halves_do_not_share_a_run() -> None:
    count = 600
    setting = {c.name: ["x"] * count for c in SETTING}
    # two versions of each run, at two numbers of clients
    setting |= {
        "prompt": [str(i // 4) for i in range(count)],
        "concurrency": [str(i % 2) for i in range(count)],
    }
    rows = pl.DataFrame(setting | {"version": [str(i % 4) for i in range(count)]})
    rows = rows.with_columns(halves(rows, SETTINGS))
    assert rows.group_by("prompt").agg(pl.col("half").n_unique())["half"].max() == 1
    assert 0.35 < (rows["half"] == "learn").mean() < 0.65
    turned = rows.reverse()
    assert halves(turned, SETTINGS).to_list() == turned["half"].to_list()


def test_the_wait_of_a_start_burst() -> None:
    """With requests that live for ever only the burst is left: (N - 1) t / (2 W)."""
    one = np.array([1.0])
    never = np.array([1e12])
    waits = protocol.waiting_s(np.array([21.0]), one * 0.1, never, one * 10.0)
    assert waits[0] == pytest.approx(20 * 0.1 / 20)
    assert protocol.waiting_s(one, one, one * 2.0, one)[0] == 0.0


def test_a_queue_is_never_longer_than_the_other_clients() -> None:
    clients = np.array([2.0, 4.0])
    waits = protocol.waiting_s(clients, np.array([1.0, 1.0]), np.array([1.0, 1.0]), np.full(2, 1e9))
    assert waits == pytest.approx([0.5, 1.5], rel=1e-6)


def test_planted_host_times_are_found_on_the_half_that_learns() -> None:
    rng = np.random.default_rng(3)
    count = 200
    rows = pl.DataFrame(
        {
            "own_s": rng.uniform(0.02, 0.3, count),
            "step_s": rng.uniform(0.005, 0.05, count),
            "rank_clients": rng.integers(1, 64, count).astype(float),
            "output_drawn": np.full(count, 900.0),
            "prompt_drawn": rng.uniform(500, 8000, count),
        }
    ).with_columns(
        origin=pl.lit("inferencex"), mode=pl.lit("aggregated"), backend=pl.lit("vllm"),
        model=pl.lit("m"), counted=True, ttft_usable=True, excluded=pl.lit(None, pl.String),
        half=pl.Series(["learn", "test"] * (count // 2)),
    )  # fmt: skip
    truth = Host(0.04, 2e-5)
    measured = protocol.first_token_s(rows, {"inferencex": truth})
    wrong = np.where(rows["half"].to_numpy() == "learn", measured, 10.0)  # of the other half
    found = protocol.learn_all(rows.with_columns(ttft_s=pl.Series(wrong)))
    assert found["inferencex"] == pytest.approx(truth, rel=0.03)
    assert found["gap_analysis"] == protocol.START


def test_a_curve_that_is_faster_everywhere_looks_like_drafting() -> None:
    clients = [4, 8, 16]
    fast = lines(3, concurrency=clients, predicted=[1.4, 1.5, 1.6])
    mixed = lines(3, concurrency=clients, predicted=[1.4, 1.5, 1.1], version="2.0")
    short = lines(2, concurrency=[4, 8], predicted=[1.5, 1.5], version="3.0")
    found = reasons.with_drafting(pl.concat([fast, mixed, short]))
    assert found["drafting"].to_list() == [True] * 3 + [False] * 5


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"predicted": 1.1}, None),
        ({"predicted": 1.5, "flops_share": 0.6}, "prefix hits"),
        ({"predicted": 1.5, "fits": False}, "cache full"),
        ({"predicted": 0.4, "quantity": "ttft_s"}, "held back"),
        ({"predicted": 0.6, "concurrency": 2}, "host"),
        ({"predicted": 0.6, "concurrency": 512}, "many clients"),
        ({"predicted": 0.6}, reasons.NONE),
    ],
)
def test_a_large_error_has_the_first_reason_that_holds(columns: dict, reason: str | None) -> None:
    assert reasons.with_reasons(lines(1, **columns))["reason"].to_list() == [reason]


def test_another_version_that_agrees_is_a_reason_for_the_one_that_does_not() -> None:
    found = reasons.with_reasons(lines(2, version=["1", "2"], predicted=[1.05, 1.6]))
    assert found["reason"].to_list() == [None, "version"]


def test_targets_are_met_or_missed() -> None:
    good, bad = (
        targets.judged(lines(10, predicted=p), covered).select("target", "met")
        for p, covered in ((1.05, 0.95), (1.4, 0.85))
    )
    of = {name: (a, b) for (name, a), (_, b) in zip(good.rows(), bad.rows(), strict=True)}
    assert of["TPOT, aggregated: median error"] == (True, False)
    assert of["TPOT, aggregated: share within 20 %"] == (True, False)
    assert of["TPOT, aggregated: largest bias of a model"] == (True, False)
    assert of["TPOT, disaggregated: median error"] == (None, None)
    assert of["Coverage of medium and high confidence"] == (True, False)


def test_a_copy_of_a_kept_run_is_covered() -> None:
    rows = lines(
        5,
        counted=[True, True, True, True, False],
        excluded=[None, "duplicate", "duplicate", "missing_input", None],
        copy_of=[None, "row0", "row3", None, None],
        predicted=[1.0, 1.0, None, None, 1.0],
    )
    expected = pl.DataFrame(
        {"mode": ["aggregated", "both"], "rows": [4, 4], "covered": [2, 2], "share": [0.5, 0.5]},
        schema_overrides={"rows": pl.UInt32, "covered": pl.UInt32},
    )
    assert_frame_equal(targets.coverage(rows), expected)


def test_peers_are_compared_on_the_rows_that_both_answer() -> None:
    rows = lines(3, predicted=[1.1, 1.5, None])
    answers = pl.DataFrame(
        {"id": ["row0", "row1", "row2"], "tool": "t", "quantity": "tpot_s", "theirs": [2.0, 1.1, 1]}
    )
    found = peers.side_by_side(rows, answers).row(0, named=True)
    assert found["rows"] == 2
    assert found["median_ours"] == pytest.approx(0.3)
    assert found["median_theirs"] == pytest.approx(0.55)
    assert found["closer"] == pytest.approx(0.5)
    assert set(peers.load()["quantity"]) == {"tpot_s", "ttft_s"}
