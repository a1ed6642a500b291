"""Values of a leaf, checked against its declaration and held as the cost model holds them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from roofrack.errors import InputError, nearest
from roofrack.fields import Leaf


@dataclass(frozen=True)
class Axis:
    """One swept leaf: the column it becomes, the leaf it writes, its values as given and coded."""

    column: str
    path: str
    shown: tuple[float | str | bool, ...]
    values: np.ndarray

    def __len__(self) -> int:
        """Return the number of values."""
        return len(self.values)


def axis_of(column: str, path: str, leaf: Leaf, value: Any) -> Axis:
    """Return a leaf's value, or its list of values, as an axis; raise InputError for a bad one."""
    shown = value if isinstance(value, list) else [value]
    if not shown:
        raise InputError(f"{column}=[]: an axis needs at least one value")
    if set(map(type, shown)) <= {int, float} and not leaf.flag and not leaf.choices:
        coded = np.array(shown, dtype=np.float64)
        for index in np.flatnonzero(_out_of_range(leaf, coded))[:1]:
            _check_range(column, leaf, float(coded[index]))
    else:
        coded = np.array([_code(column, leaf, v) for v in shown], dtype=np.float64)
    return Axis(column, path, tuple(shown), coded)


def _code(where: str, leaf: Leaf, value: Any) -> float:
    """Return one value as the cost model holds it; raise if the declaration does not allow it."""
    if leaf.choices:
        if value not in leaf.choices:
            raise InputError(
                f"{where}={value}: allowed is {leaf.allowed()}.{nearest(value, leaf.choices)}"
            )
        return float(leaf.choices.index(value))
    if leaf.flag:
        if not isinstance(value, bool):
            raise InputError(f"{where}={value}: allowed is {leaf.allowed()}")
        return float(value)
    words = dict(leaf.words)
    if isinstance(value, str) and value in words:
        return words[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where}={value!r}: allowed is {leaf.allowed()}{_number_hint(value)}")
    _check_range(where, leaf, float(value))
    return float(value)


def _number_hint(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    try:
        float(value)
    except ValueError:
        return ""
    return f"; this is text: YAML reads numbers written as {float(value):.3e}"


def _out_of_range(leaf: Leaf, values: np.ndarray) -> np.ndarray:
    """Return which values a declaration does not allow, too large ones included."""
    bad = np.isnan(values) | (values > leaf.ceiling)
    if leaf.above is not None:
        bad |= values <= leaf.above
    if leaf.at_least is not None:
        bad |= values < leaf.at_least
    if leaf.at_most is not None:
        bad |= values > leaf.at_most
    if leaf.integer:
        bad |= values != np.floor(values)
    return bad


def _check_range(where: str, leaf: Leaf, value: float) -> None:
    if not _out_of_range(leaf, np.array([value]))[0]:
        return
    if leaf.at_most is None and value > leaf.ceiling:
        raise InputError(f"{where}={value:g}: too large to mean anything; at most {leaf.ceiling:g}")
    raise InputError(f"{where}={value:g}: allowed is {leaf.allowed()}")
