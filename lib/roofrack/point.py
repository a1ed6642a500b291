"""One scenario, answered at once: the same cost model on plain numbers, nothing compiled."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from roofrack.conversion import Study, to_study
from roofrack.cost import estimate
from roofrack.cost.layout import reasons
from roofrack.errors import InfeasibleError, InputError
from roofrack.results.schema import COLUMNS, KEPT_WHEN_INVALID, PARTS

AT_ONCE = 10_000
"""More points than a person reads: `point` refuses and names `sweep`."""


def point(
    container: Mapping[str, Any], *, strict: bool = True
) -> dict[str, Any] | list[dict[str, Any]]:
    """Return the result of a composed configuration: one row, or one per point if it has axes.

    A row has the keys of the result schema, in double precision; None where there is no value. A
    single plan that cannot run raises InfeasibleError if `strict`; otherwise, and among several, it
    is a row that says why.
    """
    study = to_study(container)
    total = int(np.prod(study.shape))
    if total > AT_ONCE:
        raise InputError(f"point: {total:,} points; `roofrack sweep` is made for that many")
    with np.errstate(all="ignore"):  # a plan that cannot run may divide by zero
        columns = estimate(study.grid())
    flat = {name: np.broadcast_to(value, study.shape).ravel() for name, value in columns.items()}
    if strict and not study.axes and (mask := int(flat["why_invalid"][0])):
        raise InfeasibleError(_why_not(study, mask))
    rows = [_row(study, flat, index) for index in range(total)]
    return rows if study.axes else rows[0]


def _row(study: Study, flat: Mapping[str, np.ndarray], index: int) -> dict[str, Any]:
    places = np.unravel_index(index, study.shape) if study.axes else ()
    mask = int(flat["why_invalid"][index])
    row: dict[str, Any] = {**study.labels, "overlap": study.overlap, "phase": study.phase}
    row |= {axis.column: axis.shown[i] for axis, i in zip(study.axes, places, strict=True)}
    for name in COLUMNS:
        if name in row:
            continue
        if name == "valid":
            row[name] = mask == 0
        elif name == "why_invalid":
            row[name] = reasons(mask)
        elif mask and name not in KEPT_WHEN_INVALID:
            row[name] = None
        else:
            row[name] = _plain(name, flat[name][index])
    return row


def _plain(name: str, value: Any) -> Any:
    """Return a value as JSON has it: null instead of NaN and infinity."""
    if name == "bound":
        return PARTS[int(value)]
    if isinstance(value, np.bool_):
        return bool(value)
    return float(value) if np.isfinite(value) else None


def _why_not(study: Study, mask: int) -> str:
    """Say why a plan cannot run, with the numbers that clash."""
    plan = {k: study.leaves[f"parallelism.{k}"] for k in ("tp", "ep", "pp", "dp", "cp")}
    sizes = ("layers", "heads", "kv_heads", "d_ff", "d_ff_expert", "experts")
    model = {k: study.leaves[f"model.{k}"] for k in sizes}
    return (
        f"this plan cannot run: {reasons(mask)} "
        f"(parallelism {_listed(plan)}; model {study.labels['model']} {_listed(model)})"
    )


def _listed(values: Mapping[str, float]) -> str:
    return " ".join(f"{name}={value:g}" for name, value in values.items())
