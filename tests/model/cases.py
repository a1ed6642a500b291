"""Scenarios for the tests of the cost model: any machine with any model, leaves set by their path.

Composing takes a quarter of a second, so one composition is kept and the files of conf/ are put in
by hand (test_grid compares a few with what is composed); the rest is bound.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from roofrack import config
from roofrack.calibration import Kernels, Links
from roofrack.conversion import Study, to_study
from roofrack.cost import estimate
from roofrack.cost.fabric import Wires, trunks, wires
from roofrack.cost.forward import Parts
from roofrack.nouns import Draft, Pool, Scenario
from roofrack.plan import Plan
from roofrack.tables import (
    ATTENTION_KERNELS,
    BASES,
    CACHE_TIERS,
    DTYPES,
    FEATURES,
    MATH_UNITS,
    OPTIMIZERS,
    PLACEMENTS,
    RECOMPUTE,
    SCHEDULES,
    SERVING,
    TOPOLOGIES,
)

CONF = Path(__file__).resolve().parents[2] / "conf"
HARDWARE = tuple(sorted(path.stem for path in (CONF / "hardware").glob("*.yaml")))
MODELS = tuple(sorted(path.stem for path in (CONF / "model").glob("*.yaml")))
DTYPE = {name: float(index) for index, name in enumerate(DTYPES)}
PLACEMENT = {name: float(index) for index, name in enumerate(PLACEMENTS)}
TOPOLOGY = {name: float(index) for index, name in enumerate(TOPOLOGIES)}
AGGREGATED, DISAGGREGATED, AFD = (float(index) for index in range(len(SERVING)))
PARTS = tuple(f"t_{part}_s" for part in Parts._fields)
MEMORY = ("mem_weights_bytes", "mem_kv_bytes", "mem_activation_bytes", "mem_optimizer_bytes")
MORE_MEMORY = ("mem_gradient_bytes", "mem_buffer_bytes")

FLOPS = tuple(f"hardware.flops_per_s.{unit}" for unit in MATH_UNITS)
LINKS = tuple(f"hardware.fabric.{level}.bytes_per_s" for level in ("scale_up", "scale_out"))
LATENCIES = tuple(f"hardware.fabric.{level}.latency_s" for level in ("scale_up", "scale_out"))
KINDS = {kernel.name: tuple(f.name for f in fields(kernel.type)) for kernel in fields(Kernels)}
"""Kernel classes, and the formats that each tells apart."""
COLLECTIVES = tuple(f.name for f in fields(Links))
EFFICIENCIES = (
    *(
        tuple(f"calibration.kernel.{kernel}.{kind}.{e}_efficiency" for kind in kinds)
        for kernel, kinds in KINDS.items()
        for e in ("compute", "hbm")
    ),
    *(
        tuple(f"calibration.{link}.{kind}.efficiency" for kind in COLLECTIVES)
        for link in ("scale_up", "scale_out")
    ),
)
"""An efficiency of a kernel class in all its formats, or of a kind of links in all collectives."""


@cache
def _composed(*overrides: str) -> dict[str, Any]:
    return config.compose(["parallelism=single", *overrides])


@cache
def from_file(group: str, name: str) -> dict[str, Any]:
    """Return a file of conf/, on top of those that its list of defaults names."""
    tree = yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8"))
    below: dict[str, Any] = {}
    for other in tree.pop("defaults", []):
        if other != "_self_":
            below = merged(below, from_file(group, other))
    return merged(below, tree)


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return a tree with another one laid on top of it."""
    both = {k: merged(below[k], v) for k, v in above.items() if isinstance(below.get(k), dict)}
    return below | above | both


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
    container["hardware"] = from_file("hardware", hardware)
    container["model"] = from_file("model", model)
    container["workload"] = container["workload"] | {"phase": phase}
    container["choices"] = container["choices"] | {"hardware": hardware, "model": model}
    return to_study(container | {"overlap": overlap})


def given(**leaves: Any) -> dict[str, Any]:
    """Return leaves by path: those of plan and workload have bare names, others __ for dots."""
    paths: dict[str, Any] = {}
    for name, value in leaves.items():
        if "__" in name:
            paths[name.replace("__", ".")] = value
        else:
            section = "parallelism" if name in Plan.__dataclass_fields__ else "workload"
            paths[f"{section}.{name}"] = value
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


def pooled(scenario: Scenario, prefill: str, ffn: str, draft: str) -> Scenario:
    """Return a scenario with all its parts, two machines and a small model: one tree for all."""
    first, second = (study(name).bind({}).hardware for name in (prefill, ffn))
    return replace(
        scenario,
        prefill=Pool(hardware=first, plan=scenario.plan),
        ffn=Pool(hardware=second, plan=scenario.plan),
        draft=Draft(model=study(model=draft).bind({}).model),
        # a load has tests of its own: without arrivals it is nothing but a minute of compiling
        features=tuple(name for name in FEATURES if name != "load"),
    )


TRIES = 16


def random_leaves(draw: np.random.Generator, at: Study, phase: str) -> dict[str, Any]:
    """Return TRIES random plans and workloads, each leaf an array; many of them cannot run."""

    def some(*values: float) -> np.ndarray:
        return draw.choice(np.array(values), TRIES)

    units = [u for u in MATH_UNITS if at.leaves[f"hardware.flops_per_s.{u}"] > 0]
    math = [name for name, dtype in DTYPES.items() if dtype.math in units]
    prompt = np.ceil(10 ** draw.uniform(0, 4.5, TRIES))
    output = np.ceil(10 ** draw.uniform(0, 3.6, TRIES))
    cached = np.where(draw.random(TRIES) < 0.5, 0.0, np.floor(prompt / 3))
    tp = some(1, 2, 4, 8, 16)
    tiers = [t for t in ("host", "flash") if at.leaves[f"hardware.tiers.{t}.bytes"] > 0]
    leaves = given(
        tp=tp,
        tp_rows=np.where(draw.random(TRIES) < 0.2, np.minimum(tp, 2), 1.0),
        ep=some(0, 1, 2, 8, 32),
        pp=some(1, 1, 2, 4),
        dp=some(1, 2, 8, 64),
        cp=some(1, 1, 2),
        attention_dp=some(0, 1),
        sequence_parallel=some(0, 1),
        overlap_batches=some(1, 1, 2, 3),
        placement=draw.integers(len(PLACEMENTS), size=TRIES) * 1.0,
        redundant_experts=some(0, 0, 0, 8),
        pp_batch=some(0, 1),
        dedup=some(0, 1),
        batch=np.ceil(10 ** draw.uniform(0, 4, TRIES)),
        context=np.floor(10 ** draw.uniform(0, 6, TRIES)),
        prompt=prompt,
        cached=cached,
        cache_tier=some(0, *(float(CACHE_TIERS.index(t)) for t in tiers)),
        hold_s=some(0, 10, 3600),
        output=output,
        shared_prefix=some(0, 0, 50, 5000),
        routing_skew=some(1, 1.5),
        routing_spread=some(0, 0, 0.7),
        cost__routing_noise=some(0, 1),
        workload__dtype__math=draw.choice([DTYPE[m] for m in math], TRIES),
        workload__dtype__weights=some(*(DTYPE[d] for d in ("bf16", "fp8", "int8", "nvfp4"))),
        workload__dtype__kv=some(DTYPE["bf16"], DTYPE["fp8"]),
        economics__basis=some(
            *(float(i) for i in range(len(BASES)) if i == 0 or at.leaves["hardware.capex_usd"] > 0)
        ),
        economics__interest=some(0.0, 0.08),
    )
    if phase in ("decode", "serve"):
        leaves |= given(draft_tokens=some(0, 0, 1, 3), acceptance=some(0.0, 0.6, 1.0))
    if phase == "decode":
        leaves |= given(serving=some(AGGREGATED, AGGREGATED, AFD))
    if phase == "train":
        leaves |= _training_leaves(draw, some)
    if phase == "serve":
        leaves |= given(
            serving=some(AGGREGATED, AGGREGATED, DISAGGREGATED, AFD),
            chunk=np.where(draw.random(TRIES) < 0.5, 0.0, np.ceil(prompt * some(0.1, 0.5, 2.0))),
            prefill_batch=some(1, 4),
            prefill_instances=some(0, 0, 2),
        )
    return leaves


def _training_leaves(draw: np.random.Generator, some: Callable[..., np.ndarray]) -> dict[str, Any]:
    """Return random training plans: micro-batches that divide, and all that a step can do."""
    schedule = draw.integers(len(SCHEDULES), size=TRIES) * 1.0
    return given(
        attention_dp=some(0),
        sequence=some(1, 512, 4096, 32768),
        global_batch=some(64, 256, 2048),
        microbatches=some(0, 1, 4, 8),
        schedule=schedule,
        virtual_stages=np.where(schedule == SCHEDULES.index("interleaved"), some(1, 2), 1.0),
        zero=some(0, 1, 2, 3),
        recompute=draw.integers(len(RECOMPUTE), size=TRIES) * 1.0,
        recompute_layers=some(0, 0, 2),
        flash_attention=some(0, 1),
        context_parallel=some(0, 1),
        data_placed=some(0, 1),
        overlap_tp=some(0, 1),
        overlap_ep=some(0, 1),
        overlap_dp=some(0, 1),
        overlap_pp=some(0, 1),
        hardware__overlap_loss=some(0.0, 0.15, 1.0),
        attention_kernel=draw.integers(len(ATTENTION_KERNELS), size=TRIES) * 1.0,
        loss_bytes=some(6, 14),
        biases=some(0, 1),
        calibration__host_s=some(0.0, 0.0, 1e-3),
        optimizer=draw.integers(len(OPTIMIZERS), size=TRIES) * 1.0,
        gradient_clipping=some(0, 1),
        dropout=some(0, 1),
        mtp_layers=some(0, 0, 1),
        tokens=some(0, 1e12),
        workload__dtype__gradients=some(DTYPE["bf16"], DTYPE["fp32"]),
        workload__failures__chip_mtbf_s=some(0, 1e8),
    )


def random_scenario(
    draw: np.random.Generator, phase: str, overlap: str = "smooth", calibration: str | None = None
) -> Scenario:
    """Return a random plan and workload on random machines and a random model that can run.

    It has all parts, so that many of them stack; those that it does not use change nothing.
    """
    while True:
        hardware, *pools = (str(name) for name in draw.choice(HARDWARE, 3))
        model, small = (str(name) for name in draw.choice(MODELS, 2))
        chosen = calibration or str(draw.choice(["ideal", "default"]))
        at = study(hardware, model, chosen, phase, overlap)
        leaves = random_leaves(draw, at, phase)
        mask = columns(pooled(at.bind(leaves), *pools, small))["why_invalid"]
        able = np.flatnonzero(np.broadcast_to(mask, TRIES) == 0)
        if able.size:
            index = draw.choice(able)
            one = {path: float(values[index]) for path, values in leaves.items()}
            return pooled(at.bind(one), *pools, small)


def lay(scenario: Scenario, *dimensions: tuple[float, float]) -> Wires:
    """Lay a group (members and stride along each dimension) over the machine of a scenario."""
    levels = trunks(scenario.hardware, scenario.calibration)
    return wires(levels, scenario.calibration.quantize, *dimensions)
