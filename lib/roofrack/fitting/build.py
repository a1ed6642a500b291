"""A whole calibration of one chip and backend: every class, kind and collective, as a tree."""

from typing import Any

import numpy as np

from roofrack import config
from roofrack.errors import InputError
from roofrack.fitting import links, tables
from roofrack.fitting.calibrate import (
    BACKENDS,
    MACHINES,
    TOLERATED,
    Fitted,
    fit_kind,
    machine,
)
from roofrack.fitting.classes import CLASSES
from roofrack.fitting.document import numbers, record, rounded
from roofrack.fitting.fit import fit
from roofrack.hardware import Hardware

FUSED = ("trtllm",)
"""Backends whose kernels before a product quantise its activations."""

FUSED_LAYER_S = 6e-6
"""Small kernels of a layer where the all-reduce also adds the residual and normalises: three of 2
microseconds in the place of five. An estimate (TensorRT-LLM fuses them: its documentation,
"allreduce fusion")."""

NEAREST = {
    "fp8": ("fp8_block", "bf16"),
    "fp8_block": ("fp8", "bf16"),
    "fp4": ("w4a8", "fp8", "bf16"),
    "w4a8": ("fp4", "w4a16", "fp8", "bf16"),
    "w4a16": ("fp4", "bf16"),
    "bf16": ("fp8",),
}
"""Kinds of format whose numbers stand in where a kind has no table."""

STEP_REL_STD = 0.16
"""What no kernel explains of a step: engine versions, hosts, routing. The least that put 80 % of
one half of the serving runs inside their intervals; on the other 81 % (`roofrack validate`)."""

SPREAD_WITHOUT_TABLES = 0.5
"""Error of collectives whose numbers are assumed: half to double. An estimate."""

LIBRARY = "nccl"
"""Backend of the collectives that the engines leave to a library."""


def build(chip: str, backend: str) -> dict[str, Any]:
    """Return the tree of a calibration: leaves, `fits` and what is assumed; InputError if no data.

    What is not of kernels (fixed times of layers and passes, usable memory) is as in `default`.
    """
    if chip not in MACHINES:
        raise InputError(f"chip={chip}: allowed: {', '.join(MACHINES)}")
    hardware = machine(MACHINES[chip])
    fits: dict[str, Any] = {}
    assumed: dict[str, str] = {}
    kernels = {name: _class(name, chip, backend, hardware, fits, assumed) for name in CLASSES}
    up = _links(chip, backend, hardware)
    fits |= {f"scale_up.{name}": record(found) for name, found in up.items()}
    base = config.compose(["calibration=default"])["calibration"]
    rest = {
        k: v
        for k, v in base.items()
        if k not in ("name", "kernel", "scale_up", "sources", "assumed")
    }
    # exchanges of experts are few, and wrong by more: their errors are in `fits`
    collectives = [one.fit.rel_std for name, one in up.items() if name not in links.EXPERTS]
    squares = np.square(collectives or [SPREAD_WITHOUT_TABLES])
    return {
        "kernel": kernels,
        "scale_up": _leaves(up, base["scale_up"], assumed),
        **rest,
        "layer_s": FUSED_LAYER_S if backend in FUSED else rest["layer_s"],
        "link_rel_std": rounded(float(np.sqrt(np.mean(squares)))),
        "fused_quantization": backend in FUSED,
        "step_rel_std": STEP_REL_STD,
        "fits": fits,
        "assumed": assumed,
    }


def _class(
    name: str, chip: str, backend: str, hardware: Hardware, fits: dict[str, Any],
    assumed: dict[str, str],
) -> dict[str, Any]:  # fmt: skip
    """Return the numbers of a class by kind; `fits` and `assumed` note where they are from."""
    found: dict[str, Fitted] = {}
    for kind in CLASSES[name].kinds:
        one = _first(name, kind, chip, backend, hardware)
        if one is not None:
            found[kind] = one
            fits[f"{name}.{kind}"] = record(one)
    leaves: dict[str, Any] = {kind: numbers(one) for kind, one in found.items()}
    for kind in CLASSES[name].kinds:
        if kind not in found:
            other = next(k for k in (*NEAREST[kind], *found) if k in found)
            leaves[kind] = dict(leaves[other])
            assumed[f"kernel.{name}.{kind}"] = f"as {other}: no table of this format on this chip"
    return {kind: leaves[kind] for kind in CLASSES[name].kinds}


def _first(name: str, kind: str, chip: str, backend: str, hardware: Hardware) -> Fitted | None:
    """Return the fit of the first backend that has a table which the form describes."""
    candidates = []
    for source in (backend, *(other for other in BACKENDS if other != backend)):
        try:
            table = tables.silicon(chip, source, CLASSES[name].table)
        except InputError:
            continue
        known = quantizing(chip, source, hardware) if (name, kind) == ("gemm", "fp8") else {}
        found = fit_kind(table, name, kind, hardware, chip, known)
        if found is None or found.fit.mean_held_out > TOLERATED:
            continue
        if backend not in FUSED or name != "gemm" or kind == "bf16" or known:
            return found
        candidates.append(found)
    return min(candidates, key=_fixed_s, default=None)


def _fixed_s(found: Fitted) -> float:
    """Return the fixed time of a product of the usual depth.

    The tables have quantisation and product together. Where a backend fuses the former and does not
    say what it takes, the least time of any backend's product is the closest to the product's own.
    """
    return found.fit.numbers["launch_s"] + 4096.0 * found.fit.numbers["depth_s"]


def quantizing(chip: str, backend: str, hardware: Hardware) -> dict[str, float]:
    """Return the numbers of quantising activations, of a backend that fuses it and has them.

    Least squares on `quantize_s + quantize_passes * 3 bytes * m k / bandwidth` over the tables of
    finding scales and casting.
    """
    if backend not in FUSED:
        return {}
    try:
        scale, cast = (tables.silicon(chip, backend, kind) for kind in ("scale", "cast"))
    except InputError:
        return {}
    both = scale.join(cast, on=["m", "k"], suffix="_cast")
    moved = 3.0 * both["m"].to_numpy() * both["k"].to_numpy() / hardware.hbm_bytes_per_s
    seconds = (both["seconds"] + both["seconds_cast"]).to_numpy()
    # relative errors count: each row divided by what was measured
    system = np.stack([np.ones_like(moved), moved], 1) / seconds[:, None]
    (fixed, passes), *_ = np.linalg.lstsq(system, np.ones_like(seconds))
    return {"quantize_s": float(max(fixed, 0.0)), "quantize_passes": float(max(passes, 0.0))}


def _links(chip: str, backend: str, hardware: Hardware) -> dict[str, Fitted]:
    """Return the fits of the collectives inside a scale-up domain."""
    leaves: dict[str, Fitted] = {}
    for name in links.NAMES:
        order = (LIBRARY,) if name in links.LIBRARY else (backend, *BACKENDS)
        for source in dict.fromkeys(order):
            found = _link(chip, source, name, hardware)
            if found is not None and found.fit.mean_held_out <= TOLERATED:
                leaves[name] = found
                break
    return leaves


def _leaves(
    up: dict[str, Fitted], default: dict[str, Any], assumed: dict[str, str]
) -> dict[str, Any]:
    """Return the numbers of each collective; what has no table that the form describes is assumed.

    Exchanges of experts are then the library's, all others as in `default`.
    """
    found = {
        name: {n: v for n, v in numbers(one).items() if n != "rel_std"} for name, one in up.items()
    }
    for name in links.NAMES:
        if name not in found:
            exchange = name in links.EXPERTS and "all_to_all" in found
            found[name] = dict(found["all_to_all"] if exchange else default[name])
            as_what = "as all_to_all" if exchange else "as in calibration=default"
            assumed[f"scale_up.{name}"] = f"{as_what}: no table that the form describes"
    return found


def _link(chip: str, backend: str, name: str, hardware: Hardware) -> Fitted | None:
    """Return the fit of a collective to a backend's table; of all-reduces, by the better form."""
    try:
        calls = links.calls(tables.silicon(chip, backend, name), hardware)
    except InputError:
        return None
    first = calls.row(0, named=True)
    best: Fitted | None = None
    for direct in (False, True) if name == "all_reduce" else (False,):
        found = fit(links.seconds_of(name, direct), links.bounds(name, direct), calls)
        if best is None or found.mean_inside < best.fit.mean_inside:
            given: dict[str, float] = {"direct": direct} if name == "all_reduce" else {}
            best = Fitted(found, given, chip, first["backend"], first["version"], (name,))
    return best
