"""The relative standard error of a step: classes independent, all calls of one wrong alike."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from model.cases import result, study

from roofrack.calibration import Kernels
from roofrack.cost.forward import BLOCKS

LLAMA = study("h100_sxm", "llama3_1_70b", "default", overlap="none")
KERNEL = "calibration.kernel"


NONE = {
    f"{KERNEL}.{of.name}.{kind.name}.rel_std": 0.0
    for of in dataclasses.fields(Kernels)
    for kind in dataclasses.fields(of.type)
} | {"calibration.link_rel_std": 0.0, "calibration.step_rel_std": 0.0}


def serial(row: dict[str, Any]) -> float:
    """Seconds of blocks at their roofline, launches and collectives one after the other."""
    blocks = sum(row[f"block_{name}_s"] for name in BLOCKS)
    return blocks + row["t_overhead_s"] + row["t_scale_up_s"] + row["t_scale_out_s"]


def rel_std(row: dict[str, Any]) -> float:
    return float(row["step_s_rel_std"])


@pytest.mark.parametrize("phase", ["decode", "prefill", "serve"])
def test_there_is_none_without_losses(phase: str) -> None:
    row = result(study("h100_sxm", "llama3_1_70b", "ideal", phase), tp=8.0)
    assert np.isnan(rel_std(row))


def test_what_is_assumed_has_wider_bars_than_what_is_fitted() -> None:
    found = [
        rel_std(result(study("h100_sxm", "llama3_1_70b", name), tp=8.0))
        for name in ("h100_sxm_trtllm", "hopper", "default")
    ]
    assert 0.16 < found[0] < found[1] < found[2] < 1.0


def test_the_root_of_the_squares_of_the_classes_by_hand() -> None:
    """80 layers of 4 products, a core and 2 all-reduces, and the head; 8 chips.

    Seconds of each class with its launches, each times its error, over the step without overlap;
    and beside them the error of the whole.
    """
    leaves = NONE | {
        f"{KERNEL}.gemm.bf16.rel_std": 0.1,
        f"{KERNEL}.attention_decode.bf16.rel_std": 0.2,
        "calibration.link_rel_std": 0.3,
        "calibration.step_rel_std": 0.05,
        # of classes that this model and phase do not have: no part of it
        f"{KERNEL}.gemm.fp8.rel_std": 9.0,
        f"{KERNEL}.attention_decode.fp8.rel_std": 9.0,
        f"{KERNEL}.attention_prefill.bf16.rel_std": 9.0,
        f"{KERNEL}.mla_decode.bf16.rel_std": 9.0,
        f"{KERNEL}.moe.bf16.rel_std": 9.0,
    }
    row = result(LLAMA, leaves, tp=8.0, batch=64.0)
    products = ("attention_projections", "dense_ffn", "head", "residual")
    gemms = sum(row[f"block_{name}_s"] for name in products) + (80 * 4 + 1) * 4e-6
    cores = row["block_attention_core_s"] + 80 * 8e-6
    links = row["t_scale_up_s"]
    assert row["t_scale_out_s"] == 0 < links
    kernels = np.sqrt((0.1 * gemms) ** 2 + (0.2 * cores) ** 2 + (0.3 * links) ** 2)
    step = serial(row)
    assert rel_std(row) == pytest.approx(np.sqrt((kernels / step) ** 2 + 0.05**2), rel=1e-9)


def test_experts_are_a_class_of_their_own() -> None:
    at = study("h100_sxm", "mixtral_8x7b", "default", overlap="none")
    row = result(at, NONE | {f"{KERNEL}.moe.bf16.rel_std": 0.2}, batch=64.0)
    experts = row["block_routed_experts_s"] + 32 * 1.6e-5
    assert rel_std(row) == pytest.approx(0.2 * experts / serial(row), rel=1e-9)


def test_the_error_of_the_whole_alone() -> None:
    row = result(LLAMA, NONE | {"calibration.step_rel_std": 0.07}, tp=8.0)
    assert rel_std(row) == pytest.approx(0.07)


def test_errors_of_the_format_used_count() -> None:
    at = study("h100_sxm", "llama3_1_70b", "default")
    only = NONE | {f"{KERNEL}.gemm.fp8.rel_std": 0.1}
    fp8 = {"workload.dtype.math": 4.0, "workload.dtype.weights": 4.0}
    assert np.isnan(rel_std(result(at, only, tp=8.0)))
    assert 0 < rel_std(result(at, only | fp8, tp=8.0)) < 0.1


@pytest.mark.parametrize("overlap_batches", [1.0, 2.0])
def test_a_pass_in_parts_is_as_uncertain(overlap_batches: float) -> None:
    """All calls of a class are wrong by one factor, however many there are."""
    at = study("h100_sxm", "deepseek_v3", "ideal", overlap="none")
    leaves = {f"{KERNEL}.{c}.bf16.rel_std": 0.1 for c in ("gemm", "moe", "mla_decode")}
    row = result(
        at, leaves | {"cost.activation_io": 0.0}, batch=512.0, overlap_batches=overlap_batches
    )
    blocks = {n: row[f"block_{n}_s"] for n in ("routed_experts", "attention_core")}
    rest = sum(v for n, v in row.items() if n.startswith("block_")) - sum(blocks.values())
    squares = rest**2 + sum(v**2 for v in blocks.values())
    assert rel_std(row) == pytest.approx(0.1 * np.sqrt(squares) / serial(row), rel=1e-9)


def test_serving_mixes_the_errors_of_its_passes() -> None:
    """Decode passes and prefill passes, each as often as requests need them."""
    at = study("h100_sxm", "llama3_1_70b", "ideal", "serve", "none")
    lengths = {"workload.prompt": 2000.0, "workload.output": 100.0, "parallelism.tp": 8.0}
    both = {f"{KERNEL}.gemm.bf16.rel_std": 0.1}
    row = result(at, lengths | both | {"cost.activation_io": 0.0}, batch=32.0)
    products = ("attention_projections", "dense_ffn", "head", "residual")
    gemms = sum(row[f"block_{name}_s"] for name in products)
    assert rel_std(row) == pytest.approx(0.1 * gemms / serial(row), rel=1e-9)
