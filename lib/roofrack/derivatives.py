"""How much a result changes with each number it depends on, by automatic differentiation.

The elasticity d log(result) / d log(leaf) is the change in per cent that 1 % more of a leaf makes.
All of them come out of one pass of the cost model over dual numbers. Where the model has a kink
(the longer of two times, at a tie) the derivative has two sides, and one is chosen by name; with
`overlap=smooth` and a finite `calibration.kernel.*.sharpness` the roofline itself has no kink.

Whole numbers (layers, heads) are differentiated as if they were not whole. Rounding up (tiles,
sequences per chip, rings) has the slope of what is rounded: "a little more batch" has a price.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from roofrack.cost import estimate
from roofrack.cost.layout import reasons
from roofrack.dual import SIDES, Dual, tangent_of, value_of
from roofrack.errors import InfeasibleError, InputError, nearest
from roofrack.leaves import Entry, Levels, entries, plain, put
from roofrack.nouns import Scenario
from roofrack.results.schema import COLUMNS, INPUTS
from roofrack.schema import SECTIONS

NOT_NUMBERS = frozenset(INPUTS) - {"chips", "racks"} | {"bound", "why_invalid", "fits", "valid"}
"""Columns that hold names or truth values."""
AT_ONCE = 1_000_000
"""Derivatives (leaves times points) carried at a time: more are done in several passes."""


class Slope(NamedTuple):
    """One leaf and the elasticity of a column to it, at each point of the scenario."""

    entry: Entry
    elasticity: np.ndarray


class Slopes(NamedTuple):
    """The value of a column, and its elasticities with the largest first."""

    value: np.ndarray
    slopes: list[Slope]


def slopes(
    s: Scenario,
    of: str = "usd_per_mtok",
    within: Sequence[str] = ("hardware", "model"),
    side: str = "up",
    levels: Levels | None = None,
) -> Slopes:
    """Return d log(of) / d log(leaf) for every numeric leaf of the sections `within`.

    Names, truth values, infinities and leaves that are 0 everywhere have no elasticity and are left
    out. At a kink `side` says which derivative: `up` of a leaf that grows, `down` of one that
    shrinks, `mean` of both. NaN at points without a value or where the column is 0. `levels` names
    the fabric levels (see `roofrack.leaves`). Raises InputError for a column that is no number, has
    no value in this phase or is 0 everywhere, InfeasibleError where no plan can run.
    """
    sections = _sections(within)
    if side not in SIDES:
        raise InputError(
            f"side={side}: allowed is one of {', '.join(SIDES)}.{nearest(side, SIDES)}"
        )
    check_column("of", of)
    s = plain(s)
    chosen = [e for e in entries(s, levels) if e.section in sections and _differentiable(e)]
    with np.errstate(all="ignore"):  # plans that cannot run may divide by zero
        columns = estimate(s)
        valid = np.asarray(columns["why_invalid"]) == 0
        value = np.where(valid, np.asarray(columns[of], np.float64), np.nan)
        _check_value(s, of, value, columns)
        size = max(1, AT_ONCE // value.size)
        groups = [chosen[i : i + size] for i in range(0, len(chosen), size)]
        found = [slope for group in groups for slope in tangents(s, of, group, SIDES[side], levels)]
        # adding 0 turns -0 into 0
        relative = [Slope(e, np.where(value == 0, np.nan, t / value + 0.0)) for e, t in found]
    return Slopes(value, sorted(relative, key=lambda slope: -_size(slope.elasticity)))


def check_column(key: str, column: object) -> None:
    """Raise InputError if a column does not exist or is not a number."""
    if column not in COLUMNS:
        raise InputError(f"{key}={column}: no such column.{nearest(column, COLUMNS)}")
    if column in NOT_NUMBERS:
        raise InputError(f"{key}={column}: a name or a truth value, not a number")


def refuse_invalid(mask: Any) -> None:
    """Raise InfeasibleError if not one point has a plan that can run."""
    flat = np.unique(mask)
    if np.all(flat != 0):
        why = "; or ".join(str(reasons(int(m))) for m in flat)
        raise InfeasibleError(f"this plan cannot run: {why}")


def _sections(within: Sequence[str]) -> frozenset[str]:
    names = [within] if isinstance(within, str) else list(within)
    for name in names:
        if name not in SECTIONS:
            raise InputError(
                f"within={name}: allowed is any of {', '.join(SECTIONS)}.{nearest(name, SECTIONS)}"
            )
    return frozenset(names)


def _differentiable(entry: Entry) -> bool:
    value = np.asarray(entry.value, np.float64)
    return entry.numeric and bool(np.all(np.isfinite(value)) and np.any(value != 0))


def _check_value(s: Scenario, of: str, value: np.ndarray, columns: dict[str, Any]) -> None:
    refuse_invalid(columns["why_invalid"])
    if np.all(np.isnan(value)):
        raise InputError(f"of={of}: has no value in this scenario ({s.workload.phase})")
    if not np.any(np.nan_to_num(value)):
        raise InputError(f"of={of}: is 0 here, and so has no relative change")


def tangents(
    s: Scenario,
    of: str,
    group: Sequence[Entry],
    side: float = 0.0,
    levels: Levels | None = None,
) -> Iterable[tuple[Entry, np.ndarray]]:
    """Yield each leaf of a group with d(of) / d log(leaf): one pass of the model over Duals."""
    directions = np.eye(len(group))
    seeds = {
        # the leaf itself as its derivative: relative changes come out, of numbers of any size
        e.path: Dual(v := np.asarray(e.value, np.float64), v[..., None] * directions[i], side)
        for i, e in enumerate(group)
    }
    column = estimate(put(s, seeds, levels))[of]
    shape = (*np.shape(value_of(column)), len(group))
    tangent = np.broadcast_to(tangent_of(column), shape)
    return ((entry, tangent[..., i]) for i, entry in enumerate(group))


def _size(elasticity: np.ndarray) -> float:
    finite = np.abs(elasticity[np.isfinite(elasticity)])
    return float(finite.max()) if finite.size else -1.0
