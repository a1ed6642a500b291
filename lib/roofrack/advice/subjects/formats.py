"""Number formats, one kind of data at a time: bytes and units only, no word on quality."""

from collections.abc import Iterator

from roofrack.advice.case import Case, Change
from roofrack.advice.words import same
from roofrack.tables import DTYPES

PHYSICS = "bytes and units only: what it does to the quality of answers is not modelled"
NARROWER = ("fp8", "nvfp4")
"""Formats to try: of eight bits, and of four."""
_SAID = {
    "weights": "weights in {0}",
    "kv": "the cache in {0}",
    "dispatch": "tokens on their way to experts in {0}",
    "math": "weights and maths in {0}",
}
_NAMES = list(DTYPES)


def propose(case: Case) -> Iterator[Change]:
    """Yield every kind of data in each narrower format that the chip has units for."""
    for name in NARROWER:
        for part in _SAID:
            if (values := _values(case, part, name)) is not None:
                said = same(_SAID[part].format(name))
                yield Change("format", f"{part}.{name}", values, said, assumes=PHYSICS)


def _values(case: Case, part: str, name: str) -> dict[str, float] | None:
    """Return the leaves of a kind of data in a format; None where it is nothing new."""
    if part == "dispatch" and not case.s.model.experts:
        return None
    if case.phase == "train" and part in ("weights", "kv"):
        return None  # weights are trained in the format of the maths; there is no cache
    path = f"workload.dtype.{part}"
    now, then = DTYPES[_NAMES[int(case.now(path))]], DTYPES[name]
    if then.bytes >= now.bytes:
        return None
    code = float(_NAMES.index(name))
    if part == "weights" and case.now("workload.dtype.experts"):
        return None  # the experts, most of the weights, have a format of their own
    if part != "math":
        return {path: code}
    if not case.s.workload.dtype.experts_math == 0:
        return None
    if not case.now(f"hardware.flops_per_s.{then.math}"):
        return None
    held = DTYPES[_NAMES[int(case.now("workload.dtype.weights"))]]
    both = {"workload.dtype.weights": code} if held.bytes > then.bytes else {}
    return {path: code, **both}
