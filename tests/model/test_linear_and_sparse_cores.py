"""Cores that are not dense: walks of linear attention, padded heads of sparse attention."""

import pytest
from model.cases import given, result, study

from roofrack.calibration import LinearCore
from roofrack.cost import attention
from roofrack.cost.kernels import linear
from roofrack.cost.passes import decode_pass, prefill_pass
from roofrack.cost.roofline import Chip, block_time
from roofrack.cost.site import site

FIT = LinearCore(
    compute_efficiency=0.5, hbm_efficiency=0.8, sharpness=float("inf"), launch_s=1e-5,
    rel_std=0.0, passes=3.0,
)  # fmt: skip
CHIP = Chip(1e15, 4e12, 100.0)


def seconds(sequences: float, heads: float, tokens: float, fit: LinearCore = FIT) -> float:
    walks = sequences * heads
    call = linear.Call(sequences, heads, 1e5 * walks * tokens, 1e5 * walks, 1e3 * walks * tokens)
    time = block_time(linear.work(call, CHIP, fit, 1.0), CHIP.hbm_bytes_per_s)
    return float(time.busy + time.launch)


def test_few_heads_walk_alone_and_many_share_the_memory() -> None:
    # one head on one multiprocessor of a hundred: 1e5 FLOP a token at half of 1e13 FLOP/s
    alone = seconds(1, 1, 1000)
    assert alone == pytest.approx(1e-5 + 1e5 * 1000 / (0.5 * 1e13))
    assert seconds(1, 10, 1000) == pytest.approx(alone)
    # 10,000 walks: three passes of 1 kB a token, and the states, at 0.8 of 4 TB/s
    busy = 10_000 * (3 * 1e3 * 1000 + 1e5) / (0.8 * 4e12)
    assert seconds(100, 100, 1000) == pytest.approx(1e-5 + busy)


def test_nothing_idles_where_nothing_is_rounded() -> None:
    call = linear.Call(1.0, 1.0, 1e8, 0.0, 0.0)
    assert linear.work(call, CHIP, FIT, 0.0).flops == 1e8
    assert linear.work(call, CHIP._replace(sms=0.0), FIT, 1.0).flops == 1e8
    assert linear.work(call._replace(sequences=0.0), CHIP, FIT, 1.0).fixed_s == 0.0


def test_a_layer_reads_and_writes_the_states_of_its_chip() -> None:
    s = study("h200", "qwen3_5_397b_a17b").bind(given(tp=8.0, batch=64.0))
    at = site(s)
    p = decode_pass(at)
    work = attention.linear(at, at.share(p), p)
    # 64 value heads of 128 x 128 FP32, over 8 chips, in and out; 45 layers
    assert work.kv_bytes == pytest.approx(64 * 2 * 64 * 128 * 128 * 4 / 8)
    assert work.times == 45
    assert work.kernel == s.calibration.kernel.linear_decode.bf16


@pytest.mark.parametrize(("group", "rows"), [(1.0, 16.0), (64.0, 64.0), (24.0, 24.0)])
def test_sparse_kernels_compute_whole_groups_of_heads(group: float, rows: float) -> None:
    leaves = given(tp=8.0, batch=8.0, prompt=8192.0, calibration__sparse_group=group)
    s = study("h200", "deepseek_v3_2", phase="prefill").bind(leaves)
    at = site(s)
    p = prefill_pass(at, 0.0)
    _, core = attention.sparse(at, at.share(p), p)
    # 128 heads over 8 chips; each query 2 (2 * 512 + 64) FLOP per pick: 2048, fewer at first
    picks = 2048 - 2048**2 / (2 * 8192)
    assert core.flops == pytest.approx(8 * 8192 * picks * rows * 2 * (2 * 512 + 64))


def test_prompts_of_linear_layers_pay_for_each_pass_over_their_activations() -> None:
    at = study("h200", "qwen3_next_80b_a3b", phase="prefill")
    path = "calibration.kernel.linear_prefill.bf16"
    leaves = given(prompt=8192.0, batch=1.0) | {"hardware.hbm_bytes": 1e13}
    five, ten = (result(at, leaves | {f"{path}.passes": n}) for n in (5.0, 10.0))
    # q, k, v and the output in BF16, of 16 and 32 heads of 128, in 36 layers
    once = 36 * 8192 * 2 * (16 + 32) * 128 * 2
    bandwidth = at.bind(leaves).hardware.hbm_bytes_per_s * 0.8
    more = ten["t_activation_s"] - five["t_activation_s"]
    assert more == pytest.approx(5 * once / bandwidth)
