"""Chips and backends of the measured tables: the calls that are fitted, and what else they tell."""

from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
import polars as pl

from roofrack import config
from roofrack.conversion import to_study
from roofrack.errors import InputError, nearest
from roofrack.fitting import links, tables
from roofrack.fitting.classes import CLASSES, computed, stored
from roofrack.fitting.forms import Subject
from roofrack.fitting.loads import with_loads
from roofrack.hardware import Hardware

MACHINES = {
    "a100_sxm": "a100_80gb",
    "h100_sxm": "h100_sxm",
    "h200_sxm": "h200",
    "b200_sxm": "b200",
    "b300_sxm": "b300",
    "gb200": "gb200_nvl72",
    "gb300": "gb300_nvl72",
    "l40s": "l40s",
}
"""Chips of the package, and the machine of conf/hardware that has them."""

BACKENDS = ("trtllm", "vllm", "sglang")
"""Backends, in the order in which one stands in for another."""

FUSED = ("trtllm",)
"""Backends whose kernels before a product quantise its activations."""

CACHES = {"a100_sxm": 40e6, "h100_sxm": 50e6, "h200_sxm": 50e6, "l40s": 96e6}
"""Last-level cache of a chip, in bytes: NVIDIA's architecture white papers of A100, H100 and Ada;
126 MB on Blackwell (the other chips of the package). Benchmarks that repeat a call find it filled.
"""


def check(chips: Sequence[str], backend: str) -> None:
    """Raise InputError for chips or a backend that the package does not have."""
    asked = [*(("chip", chip, MACHINES) for chip in chips), ("backend", backend, BACKENDS)]
    for key, value, allowed in asked:
        if value not in allowed:
            names = ", ".join(allowed)
            raise InputError(f"{key}={value}: allowed: {names}.{nearest(value, allowed)}")


@cache
def machine(chip: str) -> Hardware:
    """Return the machine of conf/hardware that has a chip, as its data sheet has it."""
    overrides = [f"hardware={MACHINES[chip]}", "calibration=ideal"]
    hardware: Hardware = to_study(config.compose(overrides)).grid().hardware
    return hardware


@lru_cache(maxsize=32)  # a class is fitted kind by kind, and chips are left out in turn
def table(chip: str, backend: str, kind: str) -> pl.DataFrame | None:
    """Return the package's table of a kind, or None where a chip and backend have none."""
    try:
        return tables.silicon(chip, backend, kind)
    except InputError:
        return None


def calls(of: Subject, measured: pl.DataFrame, hardware: Hardware, chip: str) -> pl.DataFrame:
    """Return the calls of a table that a subject is fitted to, with what the chip brings to them.

    `chip` is the package's name of it, or any other: then the last-level cache is a Blackwell's.
    """
    if not of.kind:
        return links.calls(measured, hardware)
    kernel = CLASSES[of.name]
    name = pl.col(kernel.format_column)
    chosen = measured.filter(name.is_in(of.formats) & kernel.domain)
    if kernel.one_kernel and chosen.height:
        chosen = chosen.filter(pl.col("kernel") == pl.col("kernel").mode().sort().first())
    if of.table == "moe":
        chosen = with_loads(chosen)
    found = chosen[kernel.format_column].unique().to_list()
    peaks = {n: peak(hardware, n) for n in found}
    sizes = {n: stored(n).bytes for n in found}
    return chosen.with_columns(
        peak=name.replace_strict(peaks, return_dtype=pl.Float64, default=None),
        bytes=name.replace_strict(sizes, return_dtype=pl.Float64, default=None),
        hbm_bytes_per_s=pl.lit(float(hardware.hbm_bytes_per_s)),
        sms=pl.lit(float(hardware.sms)),
        cache_bytes=pl.lit(CACHES.get(chip, 126e6)),
    )


def peak(hardware: Hardware, format: str) -> float:
    """Return the FLOP/s that a machine has for a format of the tables; those of BF16 if none."""
    units = hardware.flops_per_s
    return float(getattr(units, computed(format)) or units.bf16)


def known(of: Subject, chip: str, backend: str) -> dict[str, float]:
    """Return the numbers of a subject that other tables of the chip and backend tell, if any do.

    Those of quantising activations, of a backend that fuses it and has tables of finding scales
    and casting: least squares on `quantize_s + quantize_passes * 3 bytes * m k / bandwidth`.
    """
    if of != Subject("gemm", "fp8") or backend not in FUSED:
        return {}
    scale, cast = (table(chip, backend, kind) for kind in ("scale", "cast"))
    if scale is None or cast is None:
        return {}
    both = scale.join(cast, on=["m", "k"], suffix="_cast")
    elements = both["m"].to_numpy() * both["k"].to_numpy()
    moved = 3.0 * elements / machine(chip).hbm_bytes_per_s
    seconds = (both["seconds"] + both["seconds_cast"]).to_numpy()
    # relative errors count: each row divided by what was measured
    system = np.stack([np.ones_like(moved), moved], 1) / seconds[:, None]
    (fixed, passes), *_ = np.linalg.lstsq(system, np.ones_like(seconds))
    return {"quantize_s": float(max(fixed, 0.0)), "quantize_passes": float(max(passes, 0.0))}
