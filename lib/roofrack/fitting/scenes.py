"""Measured rows as scenarios of arrays, and what the cost model says of them under factors.

Composing is slow, so rows that choose the same files and set the same keys are composed once; all
rows of one structure are evaluated together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from roofrack import config
from roofrack.arithmetic import Number
from roofrack.conversion import Study, to_study
from roofrack.cost import estimate, pytrees  # noqa: F401  (pytrees registers the nouns)
from roofrack.cost.layout import reasons
from roofrack.dual import Dual, tangent_of, value_of
from roofrack.errors import InfeasibleError, InputError
from roofrack.fitting.factors import FACTORS, changed
from roofrack.fitting.measurements import Measurements, Observed
from roofrack.leaves import put
from roofrack.nouns import Scenario
from roofrack.schema import ALIASES, AUTO, CHOICES
from roofrack.uses import check_used

AT_ONCE = 256
"""Rows composed together: their values become lists, which Hydra's parser is slow with."""


class Scenes(NamedTuple):
    """Scenarios of arrays, the rows that each is of, and the calibration all of them have."""

    parts: tuple[tuple[np.ndarray, Scenario], ...]
    base: str
    tree: dict[str, Any]

    @property
    def first(self) -> Scenario:
        """Any of the scenarios: all have the same calibration."""
        return self.parts[0][1]


def scenes(m: Measurements, base: str = AUTO, config_dir: str | Path | None = None) -> Scenes:
    """Return the scenarios of the rows; InputError names the row that cannot be composed or run.

    The rows have to share one calibration: that of their machine (`auto`), or `base`.
    """
    groups: dict[Any, list[int]] = {}
    for number, row in enumerate(m.rows):
        same = tuple((key, row[key] if _structural(key) else "") for key in sorted(row))
        groups.setdefault(same, []).append(number)
    found: list[tuple[list[int], Scenario]] = []
    bases: dict[str, int] = {}
    tree: dict[str, Any] = {}
    for numbers in groups.values():
        for start in range(0, len(numbers), AT_ONCE):
            some = numbers[start : start + AT_ONCE]
            scenario, used, tree = _group(m, some, base, config_dir)
            bases.setdefault(used, some[0])
            found.append((some, scenario))
    if len(bases) > 1:
        (one, at), (two, other), *_ = bases.items()
        raise InputError(
            f"{m.name}: row {at + 1} is of a machine calibrated as {one}, row {other + 1} as "
            f"{two}: one file makes one calibration; split it, or choose where to start with "
            "base=NAME"
        )
    parts = _joined(found)
    _refuse_invalid(m, parts, base, config_dir)
    return Scenes(parts, next(iter(bases)), tree)


def _structural(key: str) -> bool:
    """Tell whether rows with different values of a key cannot be one scenario of arrays."""
    return key in CHOICES or "@" in key or key in config.STATIC


def _overrides(row: Mapping[str, str], base: str) -> list[str]:
    """Return the overrides of a row; lengths given without a phase say which one it is."""
    phase = []
    if not {"workload", "workload.phase"} & row.keys():
        if "workload.output" in row:
            phase = ["workload.phase=serve"]
        elif "workload.prompt" in row:
            phase = ["workload.phase=prefill"]
    chosen = [f"{key}={value}" for key, value in row.items()]
    return [f"calibration={base}", *phase, *chosen]


def _group(
    m: Measurements, numbers: Sequence[int], base: str, config_dir: str | Path | None
) -> tuple[Scenario, str, dict[str, Any]]:
    """Return rows of one kind as one scenario, the calibration's name and its tree."""
    rows = [m.rows[n] for n in numbers]
    values = {key: list(dict.fromkeys(row[key] for row in rows)) for key in rows[0]}
    texts = {k: f"[{','.join(v)}]" if len(v) > 1 else v[0] for k, v in values.items()}
    try:
        container = config.compose(_overrides(texts, base), config_dir)
        study = to_study(container)
        # a single value that nothing looks at is no axis, and as wrong as one
        paths = [ALIASES.get(key, key) for key in values]
        check_used(study.phase, {}, cast(Any, dict.fromkeys(paths)))
    except InputError as error:
        if len(numbers) > 1:  # find out which of them it is
            for one in numbers:
                _group(m, [one], base, config_dir)
        raise InputError(f"{m.where(numbers[0])}: {error}") from error
    return (
        _bound(study, rows, values),
        str(container["choices"]["calibration"]),
        container["calibration"],
    )


def _bound(study: Study, rows: Sequence[Mapping[str, str]], values: Mapping[str, Any]) -> Scenario:
    """Return the scenario in which each axis takes the value that each row asks for."""
    by_path = {ALIASES.get(key, key): key for key in values}
    places = {
        axis.path: [values[key].index(row[key]) for row in rows]
        for axis in study.axes
        for key in [by_path.get(axis.path, axis.column)]
    }
    scenario = study.bind({axis.path: axis.values[places[axis.path]] for axis in study.axes})
    spread: Scenario = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (len(rows),)), scenario)
    return replace(spread, calibration=scenario.calibration)


def _joined(found: Sequence[tuple[list[int], Scenario]]) -> tuple[tuple[np.ndarray, Scenario], ...]:
    """Return scenarios of one structure joined along their rows."""
    alike: dict[Any, list[tuple[list[int], Scenario]]] = {}
    for numbers, scenario in found:
        alike.setdefault(jax.tree.structure(scenario), []).append((numbers, scenario))
    parts = []
    for same in alike.values():
        rows = np.concatenate([numbers for numbers, _ in same])
        whole = jax.tree.map(
            lambda *leaves: np.concatenate([np.atleast_1d(x) for x in leaves]),
            *[s for _, s in same],
        )
        parts.append((rows, replace(whole, calibration=same[0][1].calibration)))
    return tuple(parts)


def _refuse_invalid(m: Measurements, parts: Any, base: str, config_dir: Any) -> None:
    """Raise InputError for the first row whose plan cannot run, with the reason of `point`."""
    from roofrack.point import point

    for rows, scenario in parts:
        with np.errstate(all="ignore"):
            mask = np.broadcast_to(estimate(scenario)["why_invalid"], rows.shape)
        for row, why in sorted(zip(rows.tolist(), mask.tolist(), strict=True)):
            if why:
                try:
                    point(config.compose(_overrides(m.rows[row], base), config_dir))
                except InfeasibleError as error:
                    raise InputError(f"{m.where(row)}: {error}") from None
                raise InputError(f"{m.where(row)}: this plan cannot run: {reasons(int(why))}")


def predictions(
    s: Scenes, observed: Sequence[Observed], by: Mapping[str, Number]
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the model says of each observation, and d/d(direction) where factors are Duals.

    Shapes (observations,) and (observations, directions).
    """
    value = np.empty(len(observed))
    directions = len(FACTORS)
    slope = np.zeros((len(observed), directions))
    wanted: dict[str, list[int]] = {}
    for place, o in enumerate(observed):
        wanted.setdefault(o.column, []).append(place)
    for rows, scenario in s.parts:
        with np.errstate(all="ignore"):
            columns = estimate(put(scenario, changed(scenario, by)))
        position = {row: i for i, row in enumerate(rows.tolist())}
        for column, places in wanted.items():
            here = [p for p in places if observed[p].row in position]
            at = [position[observed[p].row] for p in here]
            result = columns[column]
            value[here] = np.broadcast_to(value_of(result), rows.shape)[at]
            if isinstance(result, Dual):
                tangent = np.broadcast_to(tangent_of(result), (len(rows), directions))
                slope[here] = tangent[at]
    return value, slope
