"""What a plan does to bytes and traffic: each a mistake that naive rooflines make."""

import numpy as np
import pytest
from model.cases import DTYPE, HARDWARE, MODELS, columns, given, result, study

from roofrack.conversion import Study
from roofrack.model import count

V3 = study("h800", "deepseek_v3", "ideal", overlap="ideal")
LLAMA = study("h100_sxm", "llama3_1_70b", "ideal", overlap="ideal")
PALM = study("tpu_v4", "palm_540b", "ideal", overlap="ideal")
GEMMA = study("h100_sxm", "gemma3_27b", "ideal", overlap="ideal")
BOARD = study("blackboard", "blackboard", "ideal", overlap="ideal")
COMMUNICATION = ("t_scale_up_s", "t_scale_out_s", "t_pipeline_s")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("phase", ["decode", "prefill", "serve"])
def test_one_chip_does_not_communicate(model: str, phase: str) -> None:
    row = result(study("b200", model, "default", phase))
    assert [row[name] for name in COMMUNICATION] == [0, 0, 0]
    assert row["dispatch_bytes"] == row["scale_out_fraction"] == 0


def test_one_stage_has_no_hops() -> None:
    assert (
        result(LLAMA, tp=8.0)["t_pipeline_s"] == 0 < result(LLAMA, tp=8.0, pp=2.0)["t_pipeline_s"]
    )


@pytest.mark.parametrize("at", [LLAMA, V3, BOARD])
@pytest.mark.parametrize("stages", [2.0, 4.0])
def test_pipelines_divide_weights_but_not_the_cache(at: Study, stages: float) -> None:
    no_head = {"model.vocab": 0.0}
    one = result(at, no_head, batch=64.0)
    grow = result(at, no_head, batch=64.0, pp=stages)
    fixed = result(at, no_head, batch=64.0, pp=stages, pp_batch=1.0)
    assert grow["mem_weights_bytes"] * stages == pytest.approx(one["mem_weights_bytes"])
    assert grow["mem_kv_bytes"] == pytest.approx(one["mem_kv_bytes"])
    assert fixed["mem_kv_bytes"] * stages == pytest.approx(one["mem_kv_bytes"])
    # at the same chips per stage depth does not make a token faster
    assert grow["tpot_s"] - grow["t_pipeline_s"] == pytest.approx(one["tpot_s"])


def test_layers_that_do_not_divide_leave_stages_unequal() -> None:
    at = study("h100_sxm", "llama3_1_70b", "default")
    even = result(at, tp=8.0, pp=5.0, model__layers=80.0)
    uneven = result(at, tp=8.0, pp=5.0, model__layers=81.0)
    assert uneven["t_kv_s"] / even["t_kv_s"] == pytest.approx(17 / 16)


def test_attention_dp_replicates_attention() -> None:
    sharded = result(V3, tp=8.0, ep=8.0)["mem_weights_bytes"]
    replicated = result(V3, tp=8.0, ep=8.0, attention_dp=1.0)["mem_weights_bytes"]
    counts = count(V3.bind({}).model)
    moved = 61 * counts.attention_heads + 58 * counts.shared  # the latents are on every chip anyway
    assert replicated - sharded == pytest.approx(moved * (1 - 1 / 8) * 2)


@pytest.mark.parametrize(
    ("at", "tp", "share"),
    [
        (LLAMA, 8, 1 / 8),
        (LLAMA, 16, 1 / 8),  # 8 KV heads
        (PALM, 16, 1),  # one
        (V3, 16, 1),  # a latent for all heads
    ],
)
def test_cache_is_divided_by_kv_heads_at_most(at: Study, tp: float, share: float) -> None:
    whole, part = result(at), result(at, tp=float(tp))
    assert part["mem_kv_bytes"] / whole["mem_kv_bytes"] == pytest.approx(share)
    assert part["t_kv_s"] / whole["t_kv_s"] == pytest.approx(share)


@pytest.mark.parametrize("at", [V3, PALM])
def test_context_parallelism_divides_any_cache(at: Study) -> None:
    assert result(at, cp=4.0)["mem_kv_bytes"] == pytest.approx(result(at)["mem_kv_bytes"] / 4)


def test_cache_reads_do_not_amortise_but_weight_reads_do() -> None:
    small, large = result(LLAMA, batch=8.0), result(LLAMA, batch=80.0)
    assert large["t_kv_s"] == pytest.approx(10 * small["t_kv_s"])
    assert large["t_weights_s"] == pytest.approx(small["t_weights_s"])


def test_large_batches_cost_cache_and_compute() -> None:
    """B -> infinity: what is left of t/B is the larger of arithmetic and cache of one token."""
    counts = count(LLAMA.bind({}).model)
    for context in (100.0, 100_000.0):
        row = result(LLAMA, batch=1e9, context=context, **{"cost__activation_io": 0.0})
        flops = 2 * counts.active + 80 * 4 * 64 * 128 * context
        cache = 2 * 80 * 8 * 128 * 2 * context
        per_token = max(flops / 9.89e14, cache / 3.35e12)
        assert row["step_s"] / 1e9 == pytest.approx(per_token, rel=1e-6)
        usd = 2.95 / 3600 * per_token * 1e6
        assert row["usd_per_mtok"] == pytest.approx(usd, rel=1e-6)


def test_experts_touched_lie_between_one_token_and_all() -> None:
    rows = result(V3, batch=np.array([1.0, 2, 8, 64, 1e3, 1e6]))
    touched = rows["experts_touched"]
    assert touched[0] == pytest.approx(8) and touched[-1] == pytest.approx(256)
    assert np.all(np.diff(touched) > 0)


def test_critical_batches_differ_by_block() -> None:
    one = result(V3)
    assert one["critical_batch_experts"] == pytest.approx(32 * one["critical_batch_dense"])
    spread = result(V3, tp=8.0, ep=8.0, attention_dp=1.0)
    assert spread["critical_batch_attention"] == pytest.approx(8 * one["critical_batch_attention"])
    assert spread["critical_batch_experts"] == pytest.approx(one["critical_batch_experts"])


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_windows_cost_less_than_full_attention(phase: str) -> None:
    at = study("h100_sxm", "gemma3_27b", "ideal", phase)
    lengths = {"workload.context": 30_000.0, "workload.prompt": 30_000.0}
    windowed, full = result(at, lengths), result(at, lengths, model__window_layers=0.0)
    for name in ("step_s", "mem_kv_bytes", "t_compute_s"):
        assert windowed[name] < full[name]
    assert windowed["mem_kv_bytes"] / full["mem_kv_bytes"] == pytest.approx(
        (10 * 30_000 + 52 * 1_024) / (62 * 30_000)
    )
    short = {path: 1_000.0 for path in lengths}  # shorter than the window
    full = result(at, short, model__window_layers=0.0)
    assert result(at, short)["step_s"] == pytest.approx(full["step_s"], rel=1e-12)


def test_causal_prefill_computes_half() -> None:
    at = study("h100_sxm", "llama3_1_70b", "ideal", "prefill")
    prompt = 8_192.0
    core = {
        on: result(at, batch=1.0, prompt=prompt, cost__attention_core=on)["t_compute_s"]
        for on in (0.0, 1.0)
    }
    assert (core[1.0] - core[0.0]) * 9.89e14 == pytest.approx(80 * 4 * 64 * 128 * prompt**2 / 2)


def test_a_cached_prefix_still_costs_attention() -> None:
    at = study("h800", "deepseek_v3", "ideal", "prefill")
    fresh = result(at, prompt=4_096.0)
    behind = result(at, prompt=8_192.0, cached=4_096.0)
    whole = result(at, prompt=8_192.0)
    assert fresh["step_s"] < behind["step_s"] < whole["step_s"]
    assert behind["t_weights_s"] == pytest.approx(fresh["t_weights_s"])
    assert behind["t_kv_s"] == pytest.approx(2 * fresh["t_kv_s"])
    assert 0 < fresh["usd_per_mtok_cached"] < fresh["usd_per_mtok_input"]


def test_the_head_is_once_per_sampled_token() -> None:
    at = study("h100_sxm", "llama3_1_70b", "ideal", "prefill")
    blocks = [
        result(at, prompt=t, cost__activation_io=0.0)["block_head_s"] for t in (10.0, 10_000.0)
    ]
    assert blocks[0] == blocks[1] > 0
    row = result(LLAMA, batch=1e6, cost__activation_io=0.0)
    assert row["block_head_s"] == pytest.approx(2 * 128_256 * 8_192 * 1e6 / 9.89e14)


def test_block_scales_are_part_of_the_dtype() -> None:
    sizes = {"mxfp4": 4.25 / 8, "nvfp4": 4.5 / 8, "fp8": 1.0, "bf16": 2.0, "fp8_block": 1.03125}
    total = result(LLAMA)["params_total"]
    for name, size in sizes.items():
        leaves = {"workload.dtype.weights": DTYPE[name]}
        assert result(LLAMA, leaves)["mem_weights_bytes"] == pytest.approx(total * size)


@pytest.mark.parametrize("dedup", [0.0, 1.0])
@pytest.mark.parametrize("racks", [1.0, 2.0, 8.0])
def test_copies_of_a_token_add_up(dedup: float, racks: float) -> None:
    row = result(BOARD, racks=racks, ep=0.0, batch=7_200.0, dedup=dedup)
    assert row["dispatch_bytes"] == pytest.approx(7_200 / (72 * racks) * 8 * 7_168 * 2)
    if not dedup:
        assert row["copies_leaving"] == pytest.approx(8 * (racks - 1) / racks)
    # the two passes of 61 layers, on the links' own speeds
    tokens = 7_200 / (72 * racks)
    out = 2 * 61 * tokens * row["copies_leaving"] * 7_168 * 2 / 4e11
    assert row["t_scale_out_s"] == pytest.approx(out)


@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("tp", [2.0, 8.0])
def test_all_reduces_move_at_least_the_bandwidth_bound(hardware: str, tp: float) -> None:
    """Twice per layer; in-network reduction halves at most, all links together are the limit."""
    at = study(hardware, "gpt3_175b", "ideal")
    still = {"hardware.fabric.scale_up.latency_s": 0.0}
    row = columns(at.bind(still | given(tp=tp, batch=64.0)))  # with units for bf16 or without
    speeds = [v for path, v in at.leaves.items() if ".fabric." in path and "bytes_per_s" in path]
    taken = (
        row["t_scale_up_s"] + row["t_scale_out_s"]
    )  # a machine of one chip a domain has no racks
    assert taken >= 2 * 96 * 64 * 12_288 * 2 / max(speeds)
