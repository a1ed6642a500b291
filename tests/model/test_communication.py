"""What is exchanged costs at least what its links need."""

import numpy as np
import pytest
from model.cases import result, study

NO_LATENCY = {
    "hardware.fabric.scale_up.latency_s": 0.0,
    "hardware.fabric.scale_out.latency_s": 0.0,
}


@pytest.mark.parametrize("hardware", ["h100_sxm", "a100_80gb"])
@pytest.mark.parametrize("cp", [2.0, 8.0])
def test_context_parallel_prefill_gathers_all_keys_and_values(hardware: str, cp: float) -> None:
    """Each chip receives what the others hold, (g - 1)/g of the cache, whatever switches do."""
    at = study(hardware, "llama2_13b", "ideal", "prefill")
    row = result(at, NO_LATENCY, cp=cp, batch=1.0, prompt=4_096.0)
    cache = row["kv_bytes_per_token"] * 4_096
    speed = at.leaves["hardware.fabric.scale_up.bytes_per_s"]
    assert row["t_scale_up_s"] == pytest.approx(cache * (cp - 1) / cp / speed)


def test_context_parallel_prefill_gathers_the_cached_prefix_too() -> None:
    at = study("h100_sxm", "llama2_13b", "ideal", "prefill")
    fresh = result(at, NO_LATENCY, cp=8.0, batch=1.0, prompt=4_096.0)
    behind = result(at, NO_LATENCY, cp=8.0, batch=1.0, prompt=8_192.0, cached=4_096.0)
    assert behind["t_scale_up_s"] == pytest.approx(2 * fresh["t_scale_up_s"])


def test_context_parallel_prefill_reads_all_keys_and_values() -> None:
    """A chip's queries attend to every key before them: cp divides the cache, not its reads."""
    at = study("h100_sxm", "llama2_13b", "ideal", "prefill")
    one, eight = (result(at, cp=cp, batch=1.0, prompt=4_096.0) for cp in (1.0, 8.0))
    assert eight["t_kv_s"] == pytest.approx(one["t_kv_s"])
    assert eight["mem_kv_bytes"] == pytest.approx(one["mem_kv_bytes"] / 8)
    # rows per chip are an eighth: that much longer a prompt is needed to be compute bound
    assert eight["critical_batch_dense"] == pytest.approx(8 * one["critical_batch_dense"])


@pytest.mark.parametrize("sharing", ["attention_dp", "sequence_parallel"])
def test_scattered_tokens_are_gathered_without_help_from_switches(sharing: str) -> None:
    """Reduce-scatter and all-gather take (g - 1)/g each: switches only shorten an all-reduce."""
    at = study("h100_sxm", "llama3_1_70b", "ideal")
    row = result(at, NO_LATENCY, tp=8.0, batch=64.0, **{sharing: 1.0})
    times = (
        1 if sharing == "attention_dp" else 2
    )  # attention-DP has nothing to reduce after attention
    vector = 64 * 8_192 * 2
    assert row["t_scale_up_s"] == pytest.approx(times * 80 * 2 * vector * 7 / 8 / 4.5e11)


@pytest.mark.parametrize("stages", [2.0, 4.0])
def test_a_hop_on_a_full_mesh_has_one_link(stages: float) -> None:
    """MI300X: 64 GB/s to any one peer, however many stages the group has."""
    at = study("mi300x", "llama3_1_70b", "ideal")
    row = result(at, NO_LATENCY, tp=2.0, pp=stages, batch=64.0)
    assert row["t_pipeline_s"] == pytest.approx(stages * (32 * 8_192 * 2) / 64e9)


def test_a_part_of_a_torus_axis_is_a_line() -> None:
    """8 of a v5e pod's 16 x 16 chips as 4 x 2: no ring closes, half of the links carry a gather."""
    at = study("tpu_v5e", "gpt3_175b", "ideal")
    row = result(at, NO_LATENCY, tp=8.0, batch=64.0)
    vector = 64 * 12_288 * 2
    assert row["t_scale_up_s"] == pytest.approx(96 * 2 * 2 * vector * 7 / 8 / 0.9e11)


def test_norms_of_attention_dp_touch_own_tokens_only() -> None:
    at = study("h800", "deepseek_v3", "ideal")
    row = {a: result(at, tp=8.0, ep=8.0, attention_dp=a, batch=64.0) for a in (0.0, 1.0)}
    assert row[1.0]["block_residual_s"] == pytest.approx(row[0.0]["block_residual_s"] / 8)


def test_the_slowest_stage_sets_the_pace() -> None:
    """Layers divide evenly: the last stage has the head on top, for each micro-batch in flight."""
    at = study("h100_sxm", "llama3_1_70b", "default")

    def head_s(stages: float) -> float:
        leaves = {"parallelism.tp": 8.0, "parallelism.pp": stages}
        with_head, without = result(at, leaves), result(at, leaves, model__vocab=0.0)
        return with_head["step_s"] - without["step_s"]

    assert head_s(4.0) == pytest.approx(4 * head_s(1.0))


def test_serve_needs_room_for_a_prefill_pass() -> None:
    lengths = {"workload.prompt": 32_768.0, "workload.prefill_batch": 2.0}
    serve = result(study("b200", "llama2_13b", "default", "serve"), lengths, batch=8.0)
    prefill = result(study("b200", "llama2_13b", "default", "prefill"), lengths, batch=2.0)
    assert serve["mem_activation_bytes"] >= prefill["mem_activation_bytes"]


def test_cached_tokens_never_cost_less_than_nothing() -> None:
    at = study("h100_sxm", "llama3_1_70b", "default", "prefill")
    prompts = np.array([1.0, 10.0, 1e3, 1e5])
    row = result(at, {"workload.prompt": prompts}, batch=1.0)
    assert np.all(row["usd_per_mtok_cached"] > 0)
