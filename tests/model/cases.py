"""Scenarios for the tests of the cost model: any machine with any model, leaves set by their path.

Composing takes a tenth of a second, so each file of conf/ is composed once and the rest is bound.
"""

from functools import cache
from typing import Any

import numpy as np

from roofrack import config
from roofrack.conversion import Study, to_study
from roofrack.cost import estimate
from roofrack.cost.forward import Parts
from roofrack.nouns import Scenario
from roofrack.tables import DTYPES, MATH_UNITS

HARDWARE = (
    "a100_80gb", "b200", "blackboard", "gb200_nvl72", "h100_sxm", "h800", "mi300x", "tpu_v4",
    "tpu_v5e",
)  # fmt: skip
MODELS = (
    "blackboard", "deepseek_v3", "gemma3_27b", "gpt3_175b", "llama2_13b", "llama3_1_70b",
    "mixtral_8x7b", "palm_540b", "qwen3_235b_a22b",
)  # fmt: skip
DTYPE = {name: float(index) for index, name in enumerate(DTYPES)}
PARTS = tuple(f"t_{part}_s" for part in Parts._fields)
MEMORY = ("mem_weights_bytes", "mem_kv_bytes", "mem_activation_bytes", "mem_optimizer_bytes")

FLOPS = tuple(f"hardware.flops_per_s.{unit}" for unit in MATH_UNITS)
LINKS = tuple(f"hardware.fabric.{level}.bytes_per_s" for level in ("scale_up", "scale_out"))
LATENCIES = tuple(f"hardware.fabric.{level}.latency_s" for level in ("scale_up", "scale_out"))
KERNELS = ("gemm", "attention_prefill", "attention_decode", "moe")
EFFICIENCIES = (
    *(f"calibration.kernel.{k}.{e}_efficiency" for k in KERNELS for e in ("compute", "hbm")),
    "calibration.scale_up.efficiency",
    "calibration.scale_out.efficiency",
)


@cache
def _composed(*overrides: str) -> dict[str, Any]:
    return config.compose(["parallelism=single", *overrides])


@cache
def study(
    hardware: str = "h100_sxm",
    model: str = "llama3_1_70b",
    calibration: str = "default",
    phase: str = "decode",
    overlap: str = "smooth",
) -> Study:
    """Return what these choices compose to, on one chip in bf16."""
    container = dict(_composed(f"calibration={calibration}"))
    container["hardware"] = _composed(f"hardware={hardware}")["hardware"]
    container["model"] = _composed(f"model={model}")["model"]
    container["workload"] = container["workload"] | {"phase": phase}
    container["choices"] = container["choices"] | {"hardware": hardware, "model": model}
    return to_study(container | {"overlap": overlap})


def given(**leaves: Any) -> dict[str, Any]:
    """Return leaves by path: those of plan and workload have bare names, others __ for dots."""
    plan = (
        "tp",
        "ep",
        "pp",
        "dp",
        "cp",
        "attention_dp",
        "sequence_parallel",
        "pp_batch",
        "dedup",
        "racks",
    )
    paths: dict[str, Any] = {}
    for name, value in leaves.items():
        if name in plan:
            paths[f"parallelism.{name}"] = value
        elif "__" in name:
            paths[name.replace("__", ".")] = value
        else:
            paths[f"workload.{name}"] = value
    return paths


def columns(scenario: Scenario) -> dict[str, Any]:
    """Evaluate in NumPy, double precision."""
    with np.errstate(all="ignore"):
        return estimate(scenario)


def result(at: Study, leaves: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return the columns of a study with some leaves replaced; it has to be valid."""
    answer = columns(at.bind((leaves or {}) | given(**more)))
    assert np.all(answer["why_invalid"] == 0)
    return answer


def random_scenario(
    draw: np.random.Generator, phase: str, overlap: str = "smooth", calibration: str | None = None
) -> Scenario:
    """Return a random plan and workload on a random machine and model that can run."""
    while True:
        at = study(
            str(draw.choice(HARDWARE)),
            str(draw.choice(MODELS)),
            calibration or str(draw.choice(["ideal", "default"])),
            phase,
            overlap,
        )
        prompt = float(draw.integers(1, 20_000))
        leaves = given(
            tp=float(draw.choice([1, 2, 4, 8, 16])),
            ep=float(draw.choice([0, 1, 2, 8, 32])),
            pp=float(draw.choice([1, 1, 2, 4])),
            dp=float(draw.choice([1, 2, 8, 64])),
            cp=float(draw.choice([1, 1, 2])),
            attention_dp=float(draw.integers(2)),
            sequence_parallel=float(draw.integers(2)),
            pp_batch=float(draw.integers(2)),
            dedup=float(draw.integers(2)),
            batch=float(np.ceil(10 ** draw.uniform(0, 4))),
            context=float(np.floor(10 ** draw.uniform(0, 6))),
            prompt=prompt,
            cached=float(draw.choice([0.0, np.floor(prompt / 3)])),
            output=float(draw.integers(1, 4_000)),
            routing_skew=float(draw.choice([1.0, 1.5])),
            dtype__math=DTYPE[str(draw.choice(["bf16", "fp8", "int8"]))],
            dtype__weights=DTYPE[str(draw.choice(["bf16", "fp8", "int8", "nvfp4"]))],
            dtype__kv=DTYPE[str(draw.choice(["bf16", "fp8"]))],
        )
        leaves = {p.replace("dtype.", "workload.dtype."): v for p, v in leaves.items()}
        scenario = at.bind(leaves)
        if columns(scenario)["why_invalid"] == 0:
            return scenario
