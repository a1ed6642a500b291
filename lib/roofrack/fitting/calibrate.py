"""From measured tables to a calibration: every class of one chip and backend, fitted.

Where a backend has no table of a kind, or one that the form cannot describe, another backend's on
the same chip stands in, and after that the nearest kind of format: what was taken is recorded.
"""

from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

import polars as pl

from roofrack import config
from roofrack.conversion import to_study
from roofrack.fitting.classes import CLASSES, KernelClass, computed, seconds_of, stored
from roofrack.fitting.fit import Fit, fit
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

CACHES = {"a100_sxm": 40e6, "h100_sxm": 50e6, "h200_sxm": 50e6, "l40s": 96e6}
"""Last-level cache of a chip, in bytes: NVIDIA's architecture white papers of A100, H100 and Ada;
126 MB on Blackwell (the other chips of the package). Benchmarks that repeat a call find it filled.
"""

TOLERATED = 0.35
"""Mean held-out error above which a table is not one of kernels of this form (vLLM's block-scaled
FP8 products take as long whatever their size)."""


class Fitted(NamedTuple):
    """One class and kind: the numbers, and where they come from."""

    fit: Fit
    given: dict[str, float]
    chip: str
    backend: str
    version: str
    formats: tuple[str, ...]


def machine(name: str) -> Hardware:
    """Return a machine of conf/hardware as its data sheet has it."""
    hardware: Hardware = (
        to_study(config.compose([f"hardware={name}", "calibration=ideal"])).grid().hardware
    )
    return hardware


def calls(
    table: pl.DataFrame, of: KernelClass, kind: str, hardware: Hardware, chip: str
) -> pl.DataFrame:
    """Return the calls of a table that a kind is fitted to, with what the chip brings to them."""
    chosen = table.filter(pl.col(of.format_column).is_in(of.kinds[kind]) & of.domain)
    if of.one_kernel and chosen.height:
        chosen = chosen.filter(pl.col("kernel") == pl.col("kernel").mode().sort().first())
    if of.table == "moe":
        chosen = with_loads(chosen)
    found = chosen[of.format_column].unique().to_list()
    peaks = {n: peak(hardware, n) for n in found}
    sizes = {n: stored(n).bytes for n in found}
    name = pl.col(of.format_column)
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


def fit_kind(
    table: pl.DataFrame,
    name: str,
    kind: str,
    hardware: Hardware,
    chip: str,
    known: Mapping[str, float] | None = None,
) -> Fitted | None:
    """Fit one kind of format of a class to a table; None where the table has too few calls of it.

    Of the numbers that are not fitted the best of each class's list is taken; `known` ones are
    given, as another table has them.
    """
    of, known = CLASSES[name], known or {}
    chosen = calls(table, of, kind, hardware, chip)
    bounds = {n: b for n, b in of.bounds.items() if n not in (*of.without.get(kind, ()), *known)}
    if chosen.height < 3 * len(bounds):
        return None
    best: Fitted | None = None
    for values in product(*of.given.values()):
        given = dict(zip(of.given, values, strict=True)) | dict(known)
        found = fit(seconds_of(name, **given), bounds, chosen)
        if best is None or found.mean_inside < best.fit.mean_inside:
            first = chosen.row(0, named=True)
            best = Fitted(
                found, given, first["chip"], first["backend"], first["version"], of.kinds[kind]
            )
    return best
