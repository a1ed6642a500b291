"""The numbers of a scenario by the paths that overrides use: listed, and replaced.

`hardware.hbm_bytes_per_s`, `parallelism.tp`, `prefill.hardware.power_w`. A scenario does not know
what its fabric levels are called: without names they are numbered from the inside,
`hardware.fabric.0.chips`. Levels that only fill a fabric up to one depth are left out.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from roofrack.fields import Leaf, leaf_of
from roofrack.hardware import Level
from roofrack.nouns import Scenario

_PATHS = {"plan": "parallelism", "draft": "draft.model"}
"""Parts of a scenario that overrides call otherwise."""

Levels = Mapping[str, tuple[str, ...]]
"""Names of the fabric levels of each machine, by the path of its section, innermost first."""


@dataclass(frozen=True)
class Entry:
    """One leaf: where it is, what it may be, and its value."""

    path: str
    leaf: Leaf
    value: Any

    @property
    def section(self) -> str:
        """The group of configuration that the leaf belongs to: hardware for prefill.hardware.*."""
        parts = self.path.split(".")
        return parts[1] if parts[0] in ("prefill", "ffn", "draft") else parts[0]

    @property
    def numeric(self) -> bool:
        """Whether the leaf is a number, not a name or a truth value."""
        return not (self.leaf.choices or self.leaf.flag)


def entries(s: Scenario, levels: Levels | None = None) -> Iterator[Entry]:
    """Yield every leaf of a scenario but the static ones, in the order of its declaration."""
    yield from _walk(s, "", levels or {})


def _walk(noun: Any, path: str, levels: Levels) -> Iterator[Entry]:
    for field in dataclasses.fields(noun):
        where, value, leaf = _join(path, field.name), getattr(noun, field.name), leaf_of(field)
        if leaf is not None:
            if not isinstance(value, str):
                yield Entry(where, leaf, value)
        elif field.name == "fabric":
            for name, level in zip(_names(value, levels.get(path)), value, strict=False):
                yield from _walk(level, _join(where, name), levels)
        elif dataclasses.is_dataclass(value):
            yield from _walk(value, where, levels)


def plain(s: Scenario) -> Scenario:
    """Return the scenario with every number a NumPy one in double precision, whatever it was."""
    converted: Scenario = _plain(s)
    return converted


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value))
        return replace(value, **{name: _plain(getattr(value, name)) for name in names})
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    # [()] turns an array without axes into a number
    return value if value is None or isinstance(value, str) else np.asarray(value, np.float64)[()]


def put(s: Scenario, values: Mapping[str, Any], levels: Levels | None = None) -> Scenario:
    """Return the scenario with the leaves at these paths replaced; other paths do nothing."""
    changed: Scenario = _put(s, "", values, levels or {})
    return changed


def _put(noun: Any, path: str, values: Mapping[str, Any], levels: Levels) -> Any:
    given: dict[str, Any] = {}
    for field in dataclasses.fields(noun):
        where, value = _join(path, field.name), getattr(noun, field.name)
        if where in values:
            given[field.name] = values[where]
        elif field.name == "fabric":
            given[field.name] = _put_fabric(value, where, values, levels, levels.get(path))
        elif dataclasses.is_dataclass(value):
            given[field.name] = _put(value, where, values, levels)
    return replace(noun, **given)


def _put_fabric(
    fabric: tuple[Level, ...],
    where: str,
    values: Mapping[str, Any],
    levels: Levels,
    given: tuple[str, ...] | None,
) -> tuple[Level, ...]:
    names = _names(fabric, given)
    kept = [
        _put(level, _join(where, name), values, levels)
        for name, level in zip(names, fabric, strict=False)
    ]
    # what fills up connects as many chips as the last real level
    idle = [replace(level, chips=kept[-1].chips) for level in fabric[len(kept) :]]
    return (*kept, *idle)


def _names(fabric: tuple[Level, ...], given: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the names of the levels that are not there only to fill up."""
    if given is not None:
        return given
    depth = len(fabric)
    while depth > 1 and np.all(np.equal(fabric[depth - 1].chips, fabric[depth - 2].chips)):
        depth -= 1
    return tuple(str(number) for number in range(depth))


def _join(path: str, name: str) -> str:
    own = _PATHS.get(name, name)
    return f"{path}.{own}" if path else own
