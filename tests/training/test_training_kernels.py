"""Attention kernels, passes beside products, the host, and alternate recomputation, by hand."""

import numpy as np
import pytest
from golden.asking import ask
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st
from model.cases import columns, given, random_scenario

from roofrack.cost.site import site
from roofrack.cost.training.readings import won
from roofrack.leaves import put

ONE = (
    "workload=train hardware=h100_sxm model=llama3_1_8b parallelism=single workload.global_batch=1"
)
"""One chip that is far too small: only times are looked at."""

TOKENS, HEADS, HEAD, LAYERS = 8192, 32, 128, 32
BOTH = 3.5 * 4 * HEAD * HEADS * LAYERS * TOKENS**2 / 2
"""FLOP of all cores forward and backward, half of the pairs, as the papers count them."""


def core_s(words: str) -> float:
    """Seconds of the cores: what a step takes longer than with cores that take nothing."""
    base = f"{ONE} workload.sequence={TOKENS} overlap=none {words}"
    return ask(base)["step_s"] - ask(f"{base} cost.attention_core=false")["step_s"]


@pytest.mark.parametrize(
    ("kernel", "share", "ramp"),
    [("flash_1", 0.142, 350), ("flash_2", 0.339, 500), ("flash_3", 0.591, 450),
     ("cudnn", 0.538, 950)],
)  # fmt: skip
def test_a_published_kernel_is_as_fast_as_published(kernel: str, share: float, ramp: int) -> None:
    expected = BOTH / (9.89e14 * share * TOKENS / (TOKENS + ramp))
    assert core_s(f"parallelism.attention_kernel={kernel}") == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("hardware", "kernel", "width", "sequence", "printed"),
    [
        # figures 4 and 7 of arXiv:2307.08691, TFLOP/s forward and backward, causal
        ("a100_80gb", "flash_2", 128, 2048, 155), ("a100_80gb", "flash_2", 128, 16384, 189),
        ("a100_80gb", "flash_2", 64, 4096, 156), ("a100_80gb", "flash_1", 128, 4096, 76),
        ("h100_sxm", "flash_2", 128, 1024, 221), ("h100_sxm", "flash_2", 128, 8192, 308),
        ("h100_sxm", "flash_2", 64, 8192, 273), ("h100_sxm", "flash_1", 128, 8192, 135),
        # figures 5 and 6 of arXiv:2407.08608 together: 579 forward, causal, 542 backward, not
        ("h100_sxm", "flash_3", 128, 4096, 3.5 / (1 / 579 + 2.5 / 542)),
        # cudnn-frontend@3929da2ef4c1, Llama 3.1's heads, causal: forward and backward
        ("h200", "cudnn", 128, 4096, 3.5 / (1 / 591 + 2.5 / 474)),
        ("gb200_nvl72", "cudnn", 128, 8192, 3.5 / (1 / 1574 + 2.5 / 1332)),
        ("gb300_nvl72", "cudnn", 128, 8192, 3.5 / (1 / 1856 + 2.5 / 1435)),
    ],
)  # fmt: skip
def test_speeds_are_those_of_the_figures(
    hardware: str, kernel: str, width: int, sequence: int, printed: float
) -> None:
    """The form (a share, a ramp and an exponent for each kernel) is within 8 % of the points."""
    base = (
        f"workload=train hardware={hardware} model=llama3_1_8b parallelism=single overlap=none "
        f"workload.global_batch=1 workload.sequence={sequence} model.head_dim={width} "
        f"parallelism.attention_kernel={kernel}"
    )
    seconds = ask(base)["step_s"] - ask(f"{base} cost.attention_core=false")["step_s"]
    flops = 3.5 * 4 * width * HEADS * LAYERS * sequence**2 / 2
    assert flops / seconds / 1e12 == pytest.approx(printed, rel=0.08)


def test_the_best_kernel_is_the_fastest_published() -> None:
    best = core_s("parallelism.attention_kernel=best")
    each = [core_s(f"parallelism.attention_kernel={k}") for k in ("flash_1", "flash_2", "flash_3")]
    assert best == pytest.approx(min(each)) and max(each) > 3 * best


def test_without_losses_nothing_published_counts() -> None:
    assert core_s("calibration=ideal") == pytest.approx(BOTH / 9.89e14 * 73 / 63, rel=0.08)


def test_quantisation_is_written_twice() -> None:
    """Inputs and gradients of outputs are read in two bytes, written by rows and by columns."""
    words = f"{ONE} workload.sequence=2048 overlap=none dtype=bf16 workload.dtype.head=bf16"
    inside = 4096 + 4096 + 4096 + 14336  # inputs of qkv, out, gate and up, down
    outside = (4096 + 2 * 1024) + 4096 + 2 * 14336 + 4096
    moved = 2048 * 32 * (inside + outside) * (2 + 1 + 1)
    narrow, wide = (
        ask(f"{words} calibration=ideal workload.dtype.math={math}")["t_activation_s"]
        for math in ("fp8", "bf16")
    )
    assert narrow - wide == pytest.approx(moved / 3.35e12, rel=1e-9)


def test_gradients_of_biases_read_the_gradients_of_outputs() -> None:
    words = f"{ONE} workload.sequence=2048 overlap=none calibration=ideal"
    outside = (4096 + 2 * 1024) + 4096 + 2 * 14336 + 4096
    with_them, without = (
        ask(f"{words} model.biases={on}")["t_activation_s"] for on in ("true", "false")
    )
    assert with_them - without == pytest.approx(2048 * 32 * outside * 2 / 3.35e12, rel=1e-9)
    # outputs that are summed over chips have their bias where the sum is: divided, if it is
    for divided, own in ((False, 2 * 4096), (True, 2 * 4096 / 8)):
        words = f"{words} parallelism.tp=8 parallelism.sequence_parallel={divided}"
        on, off = (ask(f"{words} model.biases={b}")["t_activation_s"] for b in (True, False))
        each = own + (4096 + 2 * 1024 + 2 * 14336) / 8
        assert on - off == pytest.approx(2048 * 32 * each * 2 / 3.35e12, rel=1e-9)


@forall(st.integers(0, 10_000))
@settings(max_examples=15)
def test_a_slow_host_sets_the_pace(seed: int) -> None:
    """Nothing changes below the chip's own pace; far beyond it only the host counts."""
    s = random_scenario(np.random.default_rng(seed), "train")
    steps = [
        columns(put(s, {"calibration.host_s": np.float64(host)}))["step_s"]
        for host in (0.0, 1e-12, 1e-4, 1e3, 2e3)
    ]
    assert steps[0] == pytest.approx(steps[1], rel=1e-9)
    assert steps[1] <= steps[2] * (1 + 1e-9) and steps[2] < steps[3]
    assert steps[4] == pytest.approx(2 * steps[3], rel=1e-2)


def test_the_host_launches_a_layer_three_times_over() -> None:
    """Forward once, backward for both gradients; a whole layer computed again once more."""
    for recompute, units in (("none", 3), ("full", 4)):
        row = ask(f"{ONE} parallelism.recompute={recompute} calibration.host_s=10")
        assert row["step_s"] == pytest.approx(10 * units * LAYERS, rel=1e-3)


def test_alternate_recomputation_keeps_every_second_product() -> None:
    """Input, queries, values, the core's output and one inward product of the FFN."""
    words = "workload=train hardware=h100_sxm model=llama3_1_8b parallelism=single"
    words = f"{words} workload.global_batch=1 workload.sequence=2048 calibration=ideal overlap=none"
    kept = ask(f"{words} parallelism.recompute=alternate")
    elements = 4096 + 4096 + 1024 + 4096 + 14336
    assert kept["mem_activation_bytes"] == pytest.approx(2 * 2048 * 32 * elements)
    none, full = (ask(f"{words} parallelism.recompute={r}") for r in ("none", "full"))
    assert (
        full["mem_activation_bytes"] < kept["mem_activation_bytes"] < none["mem_activation_bytes"]
    )
    assert none["step_s"] < kept["step_s"] < full["step_s"]
    half = ask(f"{words} parallelism.recompute=alternate parallelism.recompute_layers=16")
    both = (none["mem_activation_bytes"] + kept["mem_activation_bytes"]) / 2
    assert half["mem_activation_bytes"] == pytest.approx(both)
    assert half["step_s"] == pytest.approx((none["step_s"] + kept["step_s"]) / 2, rel=1e-6)
    again = (1024 + 4096 + 14336) / (2 * 4096 + 2 * 1024 + 3 * 14336)
    layers = 2 * 2048 * (4096 * (2 * 4096 + 2 * 1024) + 3 * 4096 * 14336) * 32
    executed = (kept["hfu"] * kept["step_s"] - none["hfu"] * none["step_s"]) * 9.89e14
    assert executed == pytest.approx(again * layers, rel=1e-6)


def test_alternate_recomputation_keeps_scores() -> None:
    """Cores are not computed again, so that what they keep stays: more than `selective` keeps."""
    words = f"{ONE} workload.sequence=2048 parallelism.flash_attention=false"
    none, selective, alternate = (
        ask(f"{words} parallelism.recompute={r}") for r in ("none", "selective", "alternate")
    )
    scores = 2 * 32 * 2048**2 * 32
    elements = 4096 + 4096 + 1024 + 4096 + 14336
    assert alternate["mem_activation_bytes"] == pytest.approx(scores + 2 * 2048 * 32 * elements)
    assert selective["mem_activation_bytes"] < alternate["mem_activation_bytes"]
    assert alternate["mem_activation_bytes"] < none["mem_activation_bytes"]


def test_hidden_exchanges_do_not_outrun_the_host() -> None:
    words = (
        "workload=train hardware=h800 model=deepseek_v3 parallelism=train_tp8_pp8 parallelism.tp=1 "
        "parallelism.dp=64 parallelism.ep=64 workload.global_batch=1024 parallelism.pp=1"
    )
    for overlap in (False, True):
        row = ask(f"{words} parallelism.overlap_ep={overlap} calibration.host_s=0.03")
        assert row["passes_s"] >= row["microbatches"] * 3 * 0.03 * 61 * (1 - 1e-9)


def test_what_hides_wins_what_computation_keeps_of_its_speed() -> None:
    """Beside an exchange that is longer all is hidden at last; beside a shorter one, 1 - loss."""
    s = random_scenario(np.random.default_rng(3), "train")
    at = site(s)
    loss = float(at.s.hardware.overlap_loss)
    for sent, busy in ((1.0, 10.0), (10.0, 1.0), (2.0, 2.0)):
        alone = max(sent, busy + loss * sent)
        assert sent + busy - won(at, sent, busy) == pytest.approx(alone)


def test_half_precision_scales_its_gradients() -> None:
    half, brain = (
        ask(f"{ONE} dtype={name} calibration=ideal")["optimizer_s"] for name in ("fp16", "bf16")
    )
    params = 8.03e9
    assert half - brain == pytest.approx(2 * 2 * params / 3.35e12, rel=1e-2)


@forall(st.integers(0, 10_000))
@settings(max_examples=10)
def test_loss_bytes_are_those_of_the_logits(seed: int) -> None:
    s = random_scenario(np.random.default_rng(seed), "train")
    less, more = (
        columns(put(s, {p: np.float64(v) for p, v in given(loss_bytes=b).items()}))
        for b in (6.0, 14.0)
    )
    assert more["step_s"] == less["step_s"]
    assert more["mem_total_bytes"] >= less["mem_total_bytes"]


def test_loss_bytes_on_one_chip() -> None:
    less, more = (
        ask(f"{ONE} workload.sequence=2048 parallelism.loss_bytes={b}")["mem_buffer_bytes"]
        for b in (6, 14)
    )
    assert more - less == pytest.approx(8 * 2048 * 128256)
