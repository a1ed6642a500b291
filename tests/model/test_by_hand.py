"""Columns worked out by hand from the numbers of a model and a machine."""

import numpy as np
import pytest
from model.cases import DTYPE, result, study

from roofrack.cost.roofline import smooth_max

V3 = study("h800", "deepseek_v3", "ideal", "prefill")
LLAMA = study("h100_sxm", "llama3_1_70b", "ideal", overlap="none")
SERVE = study("h100_sxm", "llama3_1_70b", "default", "serve")
PEAK, FAST_PEAK, BANDWIDTH = 9.89e14, 1.979e15, 3.35e12


def test_latents_cached_earlier_are_expanded_again() -> None:
    """T tokens behind T cached ones: T^2 + T^2 / 2 pairs, and T latents of 512 for 128 heads."""
    tokens = 4_096.0
    leaves = {"workload.prompt": 2 * tokens, "workload.cached": tokens}
    on, off = (result(V3, leaves, batch=1.0, cost__attention_core=x)["t_compute_s"] for x in (1, 0))
    pairs = 2 * 128 * (192 + 128) * 1.5 * tokens**2
    expanded = 2 * 512 * 128 * (128 + 128) * tokens
    assert (on - off) * PEAK == pytest.approx(61 * (pairs + expanded))


@pytest.mark.parametrize(
    ("hardware", "math", "kv", "peak"),
    [
        ("h100_sxm", "fp8", "bf16", PEAK),
        ("h100_sxm", "fp8", "fp8", FAST_PEAK),
        ("h100_sxm", "bf16", "fp8", FAST_PEAK),
        ("a100_80gb", "bf16", "fp8", 3.12e14),  # no such units: as the GEMMs do
        ("a100_80gb", "int8", "fp8", 6.24e14),
    ],
)
def test_the_core_computes_in_the_format_of_the_cache(
    hardware: str, math: str, kv: str, peak: float
) -> None:
    at = study(hardware, "llama3_1_70b", "ideal", overlap="none")
    leaves = {"workload.dtype.math": DTYPE[math], "workload.dtype.kv": DTYPE[kv]}
    on, off = (
        result(at, leaves, batch=64.0, context=4e3, cost__attention_core=x)["t_compute_s"]
        for x in (1.0, 0.0)
    )
    assert (on - off) * peak == pytest.approx(80 * 64 * 4 * 64 * 128 * 4e3)


@pytest.mark.parametrize("tp", [1.0, 2.0, 8.0])
def test_experts_are_cut_over_a_tensor_parallel_group(tp: float) -> None:
    at = study("b200", "mixtral_8x7b", "ideal")
    row = result(at, tp=tp, batch=64.0, cost__activation_io=0.0)
    expert = 3 * 4_096 * 14_336 / tp
    read = 32 * 8 * (1 - 0.75**64) * expert * 2 / 8e12
    assert row["block_routed_experts_s"] == pytest.approx(read)


def test_sharpness_rounds_the_roofline() -> None:
    """(a^p + b^p)^(1/p): the sum at 1, the maximum at infinity, a square root of squares at 2."""
    a, b = np.array([3.0, 0.0, 0.0]), np.array([4.0, 2.0, 0.0])
    for p, expected in ((1.0, a + b), (2.0, np.hypot(a, b)), (np.inf, np.maximum(a, b))):
        assert smooth_max(a, b, p) == pytest.approx(expected)
    huge = smooth_max(1e300, 1e300, 50.0)
    assert huge == pytest.approx(1e300 * 2 ** (1 / 50))


@pytest.mark.parametrize("hidden", [0.0, 0.5, 1.0])
def test_communication_hides_behind_the_rest_as_far_as_stated(hidden: float) -> None:
    at = study("h100_sxm", "llama3_1_70b", "default")
    row = result(at, tp=8.0, batch=256.0, calibration__comm_overlap=hidden)
    busy = sum(value for name, value in row.items() if name.startswith("block_"))
    comm = row["t_scale_up_s"] + row["t_scale_out_s"]
    expected = busy + comm - hidden * min(busy, comm) + row["t_overhead_s"]
    assert row["step_s"] == pytest.approx(expected)


def test_an_answer_pays_for_its_prompt() -> None:
    """Per output token: its decode pass, and its share of the prompt tokens computed for it."""
    leaves = {"workload.prompt": 3_000.0, "workload.cached": 1_000.0, "workload.output": 250.0}
    row = result(SERVE, leaves, tp=8.0, batch=32.0)
    prompt = row["usd_per_mtok_input"] * 2_000 + row["usd_per_mtok_cached"] * 1_000
    in_and_out = row["usd_per_mtok_output"] + prompt / 250
    assert row["usd_per_mtok"] == pytest.approx(in_and_out)
    assert row["tpot_s"] * 32 == pytest.approx(
        row["usd_per_mtok"] / 1e6 * 32 * 32 * 3_600 / row["usd_per_hour"]
    )


def test_idle_hours_are_paid_for() -> None:
    full, half = (result(LLAMA, economics__utilization=u) for u in (1.0, 0.5))
    assert half["usd_per_mtok"] == pytest.approx(2 * full["usd_per_mtok"])
    assert half["usd_per_hour"] == full["usd_per_hour"]  # the rent does not depend on use


def test_energy_is_idle_power_and_the_rest_while_busy() -> None:
    row = result(LLAMA, batch=64.0, economics__idle_power_fraction=0.3, economics__pue=1.25)
    memory = row["t_weights_s"] + row["t_kv_s"] + row["t_activation_s"]
    busy = max(row["t_compute_s"], memory) / row["step_s"]
    joule = 700 * (0.3 + 0.7 * busy) * 1.25 * row["step_s"] / 64
    assert 0 < busy < 1 and row["joule_per_token"] == pytest.approx(joule)


def test_critical_batch_of_a_block_is_where_its_times_cross() -> None:
    """Per block: arithmetic equals weight reads on a chip; dp ranks each need as many tokens."""
    for leaves in ({"parallelism.tp": 8.0}, {"parallelism.tp": 2.0, "parallelism.dp": 4.0}):
        critical = result(LLAMA, leaves)["critical_batch_dense"]
        row = result(
            LLAMA, leaves, batch=critical, cost__attention_core=0.0, cost__activation_io=0.0
        )
        assert row["t_compute_s"] == pytest.approx(row["t_weights_s"])
    assert critical == pytest.approx(4 * PEAK / BANDWIDTH)


def test_utilisation_is_useful_work_over_peak() -> None:
    row = result(LLAMA, tp=8.0, batch=64.0, context=1_000.0)
    flops = 64 * (2 * row["params_active"] + 80 * 4 * 64 * 128 * 1_000)
    assert row["mfu"] == pytest.approx(flops / (8 * PEAK * row["step_s"]))
    read = row["t_weights_s"] + row["t_kv_s"]
    assert row["mbu"] == pytest.approx(read / row["step_s"])
