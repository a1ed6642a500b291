"""A few physical factors on a whole calibration: what an engine has in common over all kernels."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from roofrack.arithmetic import Number, least, most
from roofrack.leaves import Entry, entries
from roofrack.nouns import Scenario


class Factor(NamedTuple):
    """One factor: what it changes, and its prior.

    `width` is one standard deviation of the logarithm, or seconds of what is added (`added`).
    """

    doc: str
    width: float
    added: bool = False


FACTORS = {
    "compute": Factor("compute efficiencies of all kernels, times", 0.2),
    "memory": Factor("memory efficiencies of all kernels, times", 0.2),
    "launch": Factor("fixed times of all kernels, times", 0.5),
    "link": Factor("speed of all collectives, times", 0.3),
    "step": Factor("fixed time of a pass, plus", 1e-3, added=True),
    "layer": Factor("small kernels of a layer, times", 0.5),
}
"""By name. The widths are stated, not fitted: compute and memory have at least what the base's own
`rel_std` say of its kernels; engines launch kernels by graphs or one by one, and spend 0.1 to 1 ms,
some several, between two passes."""


def widths(s: Scenario) -> dict[str, float]:
    """Return the width of each prior: that of FACTORS, or the error of the base's kernels if more.

    The root mean square of `rel_std` over all kernel classes, of `link_rel_std` for links.
    """
    errors = [
        float(e.value)
        for e in entries(s)
        if e.path.startswith("calibration.kernel.") and e.path.endswith(".rel_std")
    ]
    kernels = (sum(error**2 for error in errors) / len(errors)) ** 0.5
    own = {"compute": kernels, "memory": kernels, "link": float(s.calibration.link_rel_std)}
    return {name: max(factor.width, own.get(name, 0.0)) for name, factor in FACTORS.items()}


def changed(s: Scenario, by: Mapping[str, Number]) -> dict[str, Any]:
    """Return the leaves of a calibration that the factors change, by path; efficiencies up to 1."""
    found = {e.path: _changed(e, by) for e in entries(s) if e.path.startswith("calibration.")}
    return {path: value for path, value in found.items() if value is not None}


def _changed(entry: Entry, by: Mapping[str, Number]) -> Number | None:
    section, name, value = entry.path.split(".")[1], entry.path.split(".")[-1], entry.value
    if section == "layer_s":
        return value * by["layer"]
    if section == "step_s":
        return most(value + by["step"], 0.0)
    if section == "kernel":
        if name == "compute_efficiency":
            return least(value * by["compute"], 1.0)
        if name == "hbm_efficiency":
            return least(value * by["memory"], 1.0)
        return value * by["launch"] if entry.leaf.unit == "s" else None
    if section in ("scale_up", "scale_out"):
        if name == "efficiency":
            return least(value * by["link"], 1.0)
        return value / by["link"] if entry.leaf.unit == "s" else None
    return None
