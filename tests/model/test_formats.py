"""Number formats of parts of the weights, and the losses that belong to each format."""

from typing import Any

import numpy as np
import pytest
from model.cases import DTYPE, KINDS, result, study

from roofrack.tables import OWN_MATH, OWN_OUTPUT, OWN_WEIGHTS

V3 = study("h100_sxm", "deepseek_v3", "ideal", overlap="none")
PEAK, FAST_PEAK, BANDWIDTH = 9.89e14, 1.979e15, 3.35e12
BATCH = 64.0
# of DeepSeek-V3, from its card
ATTENTION, OUT = 61 * 187_105_280, 61 * 128 * 128 * 7168
EXPERT = 3 * 7168 * 2048
HEAD = 129_280 * 7168
VISITED = 58 * 256 * (1 - (1 - 8 / 256) ** BATCH) * EXPERT
LEAVES = {
    "attention": OWN_WEIGHTS,
    "attention_out": OWN_OUTPUT,
    "experts": OWN_WEIGHTS,
    "head": OWN_WEIGHTS,
    "experts_math": OWN_MATH,
}


def own(**formats: str) -> dict[str, Any]:
    return {f"workload.dtype.{k}": float(LEAVES[k].index(v)) for k, v in formats.items()}


@pytest.mark.parametrize(
    ("formats", "held", "read", "faster"),
    [
        # parameters that take one byte less, held and read, and those computed in FP8
        ({"attention": "fp8"}, ATTENTION, ATTENTION, ATTENTION),
        ({"attention_out": "fp8"}, OUT, OUT, OUT),
        ({"attention": "fp8", "attention_out": "bf16"}, *[ATTENTION - OUT] * 3),
        ({"experts": "fp8"}, 58 * 256 * EXPERT, VISITED, 0),
        ({"experts_math": "fp8"}, 0, 0, 58 * 8 * EXPERT),
        ({"head": "fp8"}, 2 * HEAD, HEAD, HEAD),
    ],
)  # fmt: skip
def test_a_part_with_a_format_of_its_own(
    formats: dict[str, str], held: float, read: float, faster: float
) -> None:
    wide, narrow = (result(V3, leaves, batch=BATCH) for leaves in ({}, own(**formats)))
    less = {n: wide[n] - narrow[n] for n in ("mem_weights_bytes", "t_weights_s", "t_compute_s")}
    assert less["mem_weights_bytes"] == pytest.approx(held, rel=1e-9)
    assert less["t_weights_s"] * BANDWIDTH == pytest.approx(read, rel=1e-9)
    saved = 2 * BATCH * faster * (1 / PEAK - 1 / FAST_PEAK)
    assert less["t_compute_s"] == pytest.approx(saved, rel=1e-9)
    assert wide["t_kv_s"] == narrow["t_kv_s"]


def test_the_same_as_the_others_is_the_format_of_the_others() -> None:
    """`weights`, `attention` and `math` follow what they name."""
    named = {name: "nvfp4" for name in LEAVES if name != "experts_math"} | {"experts_math": "fp8"}
    others = {"workload.dtype.weights": DTYPE["nvfp4"], "workload.dtype.math": DTYPE["fp8"]}
    follows = result(V3, others, batch=BATCH)
    told = result(V3, others | own(**named), batch=BATCH)
    # NVFP4 has no units on Hopper: what is named computes in `math` too
    for column in ("mem_weights_bytes", "t_weights_s", "t_compute_s"):
        assert told[column] == pytest.approx(follows[column], rel=1e-12)


def test_a_format_that_the_chip_cannot_compute_is_computed_in_math() -> None:
    """FP8 weights of the attention on an A100: half the bytes, the arithmetic of BF16."""
    at = study("a100_80gb", "llama3_1_8b", "ideal", overlap="none")
    wide, narrow = (result(at, leaves, batch=8.0) for leaves in ({}, own(attention="fp8")))
    assert narrow["t_compute_s"] == wide["t_compute_s"]
    assert narrow["mem_weights_bytes"] < wide["mem_weights_bytes"]


GEMM_KINDS = [
    # weights, maths, numbers
    ("bf16", "bf16", "bf16"),
    ("fp8", "bf16", "bf16"),
    ("nvfp4", "bf16", "bf16"),
    ("fp8", "fp8", "fp8"),
    ("int8", "int8", "fp8"),
    ("nvfp4", "fp8", "fp8"),
    ("fp8_block", "fp8_block", "fp8_block"),
    ("fp8_block", "fp8", "fp8_block"),
    ("fp8_block", "bf16", "bf16"),
    ("nvfp4", "nvfp4", "fp4"),
]
EXPERTS_KINDS = [
    ("bf16", "bf16", "bf16"),
    ("fp8", "bf16", "bf16"),
    ("mxfp4", "bf16", "w4a16"),
    ("int4", "bf16", "w4a16"),
    ("mxfp4", "fp8", "w4a8"),
    ("fp8", "fp8", "fp8"),
    ("fp8_block", "fp8_block", "fp8_block"),
    ("nvfp4", "nvfp4", "fp4"),
]


def launched(kernel: str, weights: str, math: str, kv: str = "bf16", **more: float) -> float:
    """Return the overhead where the launch of a kernel class takes 1, 2, 3, ... s by kind."""
    at = study("b200", "mixtral_8x7b", "ideal", more.pop("phase", "decode"))
    numbers = {f"calibration.kernel.{kernel}.{k}.launch_s": 1.0 + i
               for i, k in enumerate(KINDS[kernel])}  # fmt: skip
    formats = {"weights": weights, "math": math, "kv": kv}
    leaves = {f"workload.dtype.{name}": DTYPE[d] for name, d in formats.items()}
    return float(result(at, numbers | leaves | more, batch=1.0)["t_overhead_s"])


@pytest.mark.parametrize(("weights", "math", "kind"), GEMM_KINDS)
def test_products_have_the_losses_of_their_format(weights: str, math: str, kind: str) -> None:
    # in, out and a router of 32 layers, and the head
    each = 1.0 + KINDS["gemm"].index(kind)
    assert launched("gemm", weights, math) == pytest.approx(each * (3 * 32 + 1))


@pytest.mark.parametrize(("weights", "math", "kind"), EXPERTS_KINDS)
def test_experts_have_the_losses_of_their_format(weights: str, math: str, kind: str) -> None:
    each = 1.0 + KINDS["moe"].index(kind)
    assert launched("moe", weights, math) == pytest.approx(each * 32)


@pytest.mark.parametrize(("kv", "kind"), [("bf16", "bf16"), ("fp8", "fp8"), ("nvfp4", "fp8")])
@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_cores_have_the_losses_of_the_format_of_the_cache(phase: Any, kv: str, kind: str) -> None:
    each = 1.0 + KINDS[f"attention_{phase}"].index(kind)
    assert launched(f"attention_{phase}", "bf16", "bf16", kv, phase=phase) == pytest.approx(
        each * 32
    )


def test_experts_with_a_format_of_their_own_have_its_losses() -> None:
    fp4 = own(experts="mxfp4")
    assert launched("moe", "bf16", "bf16", **fp4) == 32.0 * (1 + KINDS["moe"].index("w4a16"))
    both = own(experts="nvfp4", experts_math="nvfp4")
    assert launched("moe", "bf16", "bf16", **both) == 32.0 * (1 + KINDS["moe"].index("fp4"))


def test_latent_attention_has_losses_of_its_own() -> None:
    for model, kernel in (("deepseek_v3", "mla_decode"), ("llama3_1_8b", "attention_decode")):
        at = study("b200", model, "ideal")
        path = f"calibration.kernel.{kernel}.bf16.hbm_efficiency"
        slow, fast = (
            result(at, {path: share}, batch=8.0, context=1e5)["t_kv_s"] for share in (0.5, 1.0)
        )
        assert slow == pytest.approx(2 * fast)


def test_formats_are_axes() -> None:
    """A sweep over formats is one evaluation, each point with its own losses."""
    indices = np.arange(len(OWN_WEIGHTS)) * 1.0
    many = result(V3, {"workload.dtype.experts": indices}, batch=BATCH)["mem_weights_bytes"]
    one = [result(V3, {"workload.dtype.experts": i}, batch=BATCH) for i in indices]
    assert many == pytest.approx([row["mem_weights_bytes"] for row in one])
    assert len(set(np.round(many))) >= 6
