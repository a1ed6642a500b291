"""A calibration assembled from fits: whose table counts, and what stands in where there is none.

Where a backend has no table of a kind, or one that no form describes, another backend's on the
same chips stands in; after that the nearest kind of format, and at last the numbers of
calibration=default. What was taken is recorded.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from roofrack import config
from roofrack.fitting import links
from roofrack.fitting.calibrate import BACKENDS, FUSED
from roofrack.fitting.classes import CLASSES
from roofrack.fitting.document import link_numbers, numbers, on_one_line, rounded
from roofrack.fitting.forms import SUBJECTS, Fitted, Subject
from roofrack.schema import FALLBACK

TOLERATED = 0.35
"""Mean held-out error above which a table is not one of kernels of this form (vLLM's block-scaled
FP8 products take as long whatever their size)."""

LIBRARY = "nccl"
"""Backend of the collectives that the engines leave to a library."""

NEAREST = {
    "fp8": ("fp8_block", "bf16"),
    "fp8_block": ("fp8", "bf16"),
    "fp4": ("w4a8", "fp8", "bf16"),
    "w4a8": ("fp4", "w4a16", "fp8", "bf16"),
    "w4a16": ("fp4", "bf16"),
    "bf16": ("fp8",),
}
"""Kinds of format whose numbers stand in where a kind has no table."""

NO_TABLE = "no table that the form describes"

FUSED_LAYER_S = 6e-6
"""Small kernels of a layer where the all-reduce also adds the residual and normalises: three of 2
microseconds in the place of five. An estimate (TensorRT-LLM fuses them: its documentation,
"allreduce fusion")."""

STEP_REL_STD = 0.16
"""What no kernel explains of a step: engine versions, hosts, routing. The least that put 80 % of
one half of the serving runs inside their intervals; on the other 81 % (`roofrack validate`)."""

SPREAD_WITHOUT_TABLES = 0.5
"""Error of collectives whose numbers are assumed: half to double. An estimate."""

USUAL_DEPTH = 4096.0
"""Inner dimension of the product whose fixed time tells backends apart."""


class Choice(NamedTuple):
    """A fit, and the backend whose tables it is of."""

    backend: str
    fitted: Fitted


class Told(NamedTuple):
    """A fit with the error that the calibration states (`rel_std`) and its record.

    `assumed` says so where that error is not what the calibration promises.
    """

    fitted: Fitted
    record: dict[str, Any]
    assumed: str = ""


class Source(NamedTuple):
    """Where a calibration is from: the tables of one chip, or those of the chips of a family.

    `fit` fits a subject to a backend's tables, None where there are none; `tell` states the error
    of the one chosen; `undescribed` decides over a subject whose fits all miss too much (there may
    be none): the one that counts all the same, or None for what stands in. `where` says in words
    whose tables they are.
    """

    where: str
    fit: Callable[[Subject, str], Fitted | None]
    tell: Callable[[Subject, Choice], Told]
    undescribed: Callable[[Subject, Sequence[Choice]], Choice | None]


def assemble(source: Source, backend: str) -> dict[str, Any]:
    """Return the tree of a calibration: leaves, `fits` and what is assumed.

    What is not of kernels or collectives inside a scale-up domain (fixed times of layers and
    passes, usable memory, the network) is as in calibration=default.
    """
    base: dict[str, Any] = config.compose([f"calibration={FALLBACK}"])["calibration"]
    told = {
        of: source.tell(of, choice)  # at once: its tables are still read, its forms compiled
        for of in SUBJECTS
        if (choice := _chosen(source, of, backend))
    }
    tree: dict[str, Any] = {"kernel": {name: {} for name in CLASSES}, "scale_up": {}}
    assumed = {f"{of.path}.rel_std": one.assumed for of, one in told.items() if one.assumed}
    for of in SUBJECTS:
        if of.kind:
            leaves, stands_in = _kernel(of, told, base["kernel"], source.where)
            tree["kernel"][of.name][of.kind] = leaves
        else:
            leaves, stands_in = _link(of, told, base["scale_up"])
            tree["scale_up"][of.name] = leaves
        if stands_in:
            assumed[of.path] = f"as {stands_in}"
    rest = {n: v for n, v in base.items() if n not in (*tree, "name", "sources", "assumed")}
    ours = {
        "layer_s": FUSED_LAYER_S if backend in FUSED else rest["layer_s"],
        "fused_quantization": backend in FUSED,
        "step_rel_std": STEP_REL_STD,
        "link_rel_std": _link_rel_std(told),
    }
    fits = {of.noted: one.record for of, one in told.items()}
    return tree | rest | ours | {"fits": fits, "assumed": assumed}


def _chosen(source: Source, of: Subject, backend: str) -> Choice | None:
    """Return the fit to the first backend's tables that a form describes.

    Tables of products have quantisation and product together. Where the backend fuses the former
    and does not say what it takes, the least fixed time of any backend's product is the closest to
    the product's own.
    """
    order = (LIBRARY,) if of.name in links.LIBRARY else (backend, *BACKENDS)
    poor, with_quantization = [], []
    for by in dict.fromkeys(order):
        fitted = source.fit(of, by)
        if fitted is None:
            continue
        if fitted.fit.mean_held_out > TOLERATED:
            poor.append(Choice(by, fitted))
        elif backend in FUSED and _quantizes(of) and "quantize_s" not in fitted.given:
            with_quantization.append(Choice(by, fitted))
        else:
            return Choice(by, fitted)
    if with_quantization:
        return min(with_quantization, key=_fixed_s)
    return source.undescribed(of, poor)


def _quantizes(of: Subject) -> bool:
    return of.name == "gemm" and of.kind != "bf16"


def _fixed_s(choice: Choice) -> float:
    fitted = choice.fitted.fit.numbers
    return fitted["launch_s"] + USUAL_DEPTH * fitted["depth_s"]


def _kernel(
    of: Subject, told: Mapping[Subject, Told], default: Mapping[str, Any], where: str
) -> tuple[dict[str, Any], str]:
    """Return the numbers of a kind of format of a class, and what stands in for its own, if any."""
    if of in told:
        return numbers(told[of].fitted), ""
    for kind in (*NEAREST[of.kind], *CLASSES[of.name].kinds):
        other = Subject(of.name, kind)
        if other in told:
            return numbers(told[other].fitted), f"{kind}: no table of this format {where}"
    return on_one_line(default[of.name][of.kind]), f"in calibration={FALLBACK}: {NO_TABLE}"


def _link(
    of: Subject, told: Mapping[Subject, Told], default: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """Return the numbers of a collective, and what stands in for its own, if anything does.

    For exchanges of experts that is the library's exchange.
    """
    library = Subject("all_to_all")
    if of in told:
        return link_numbers(told[of].fitted), ""
    if of.name in links.EXPERTS and library in told:
        return link_numbers(told[library].fitted), f"{library.name}: {NO_TABLE}"
    return on_one_line(default[of.name]), f"in calibration={FALLBACK}: {NO_TABLE}"


def _link_rel_std(told: Mapping[Subject, Told]) -> float:
    """Return the root mean square of the errors of the collectives.

    Exchanges of experts are few, and wrong by more: their errors are in `fits`.
    """
    counted = [
        one.fitted.fit.rel_std
        for of, one in told.items()
        if of.name in links.NAMES and of.name not in links.EXPERTS
    ]
    return rounded(float(np.sqrt(np.mean(np.square(counted or [SPREAD_WITHOUT_TABLES])))))
