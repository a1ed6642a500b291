"""From the composed configuration (a plain tree) to a Study: a scenario and its axes, checked.

The rule of the whole tool stands here: a leaf is a value or a list, and a list is an axis.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from roofrack.axes import Axis, axis_of
from roofrack.errors import InputError, nearest
from roofrack.fields import REQUIRED, Leaf, leaf_of
from roofrack.hardware import DEPTH, Hardware, Level
from roofrack.nouns import Draft, Pool, Scenario
from roofrack.plan import Plan
from roofrack.schema import ALIASES, GROUPS, LABELS, NOTES, PARTS, SECTIONS
from roofrack.tables import FEATURES, OVERLAPS, PHASES
from roofrack.uses import check_parts, check_racks, check_sparsity, check_used

_PATHS = ALIASES | {"racks": "parallelism.racks", "sparsity": "model.sparsity"}
"""Where a study keeps the value of an alias."""
SPARSITY = Leaf("experts per expert visited", "", 1.0, at_least=1.0)
MOST_KEPT = 100_000_000
"""Points of one job."""


@dataclass(frozen=True)
class Study:
    """What a composed configuration asks: leaves by path, axes, and the names behind numbers.

    `leaves` maps `section.path` to a float; an axis' leaf holds its first value. `labels` are the
    files chosen, by group; `levels` the names of the fabric levels of each machine (by the path of
    its section), innermost first.
    """

    leaves: Mapping[str, float]
    axes: tuple[Axis, ...]
    phase: str
    overlap: str
    levels: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, str | None]

    def check_size(self) -> None:
        """Raise InputError for a grid too large to keep: 45 bytes a point on disk."""
        if self.points > MOST_KEPT:
            raise InputError(
                f"sweep: {self.points:,} points in one job; at most {MOST_KEPT:,}: shorten an axis"
            )

    @property
    def points(self) -> int:
        """Number of points of the grid."""
        return math.prod(self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(len(axis) for axis in self.axes)

    def bind(self, values: Mapping[str, ArrayLike]) -> Scenario:
        """Return the scenario with the leaves named in `values` (by path) replaced by arrays."""
        leaves: dict[str, Any] = dict(self.leaves) | dict(values)
        if "model.sparsity" in leaves:
            per_token = leaves["model.experts_per_token"]
            leaves["model.experts"] = leaves.pop("model.sparsity") * per_token
        return Scenario(
            **{
                _noun_name(section): self._noun(noun, section, leaves)
                for section, noun in SECTIONS.items()
            },
            prefill=self._pool("prefill", leaves)
            if self._has("workload.serving", 1, leaves)
            else None,
            ffn=self._pool("ffn", leaves) if self._has("workload.serving", 2, leaves) else None,
            draft=Draft(model=self._part("draft", "model", leaves))
            if self._has("workload.draft_tokens", 1e-9, leaves)
            else None,
            features=tuple(
                name for name, (path, least) in FEATURES.items() if self._has(path, least, leaves)
            ),
            overlap=self.overlap,
        )

    def grid(self) -> Scenario:
        """Return the scenario over the open grid of its axes: axis i varies along dimension i."""
        open_grid = np.ix_(*(axis.values for axis in self.axes))
        return self.bind({a.path: v for a, v in zip(self.axes, open_grid, strict=True)})

    def _has(self, path: str, least: float, leaves: Mapping[str, Any]) -> bool:
        """Tell whether a leaf is large enough at any point: parts that none has are not computed.

        Every block of a study has the same parts. A plan's leaf counts in every pool.
        """
        swept = {axis.path: axis.values for axis in self.axes}
        values = [leaves[path], swept.get(path, leaves[path])]
        for part in PARTS:
            inner = f"{part}.{path}"
            if inner in leaves:
                values += [leaves[inner], swept.get(inner, leaves[inner])]
        return any(bool(np.any(np.asarray(value) >= least)) for value in values)

    def _pool(self, part: str, leaves: Mapping[str, Any]) -> Pool:
        return Pool(
            hardware=self._part(part, "hardware", leaves),
            plan=self._part(part, "parallelism", leaves),
            calibration=self._part(part, "calibration", leaves),
        )

    def _part(self, part: str, group: str, leaves: Mapping[str, Any]) -> Any:
        given = self.labels[f"{part}_{group}"] is not None
        return self._noun(PARTS[part][group], f"{part}.{group}", leaves) if given else None

    def _noun(self, noun: Any, path: str, leaves: Mapping[str, Any]) -> Any:
        given: dict[str, Any] = {}
        for field in dataclasses.fields(noun):
            where = f"{path}.{field.name}"
            if field.name == "phase":
                given[field.name] = self.phase
            elif leaf_of(field) is not None:
                given[field.name] = leaves[where]
            elif field.name == "fabric":
                given[field.name] = _padded(
                    [self._noun(Level, f"{where}.{level}", leaves) for level in self.levels[path]]
                )
            else:
                given[field.name] = self._noun(field.type, where, leaves)
        return noun(**given)


def _padded(levels: list[Level]) -> tuple[Level, ...]:
    """Fill a fabric up to DEPTH with levels that connect no more than the last one: always idle.

    All machines so have the same shape, and one compiled function.
    """
    idle = Level(chips=levels[-1].chips, bytes_per_s=1.0, latency_s=0.0)
    return (*levels, *[idle] * (DEPTH - len(levels)))


def _noun_name(section: str) -> str:
    return "plan" if section == "parallelism" else section


def to_study(config: Mapping[str, Any]) -> Study:
    """Check a composed configuration and return its Study; raise InputError for what is wrong.

    `config["choices"]` names the file that each group came from.
    """
    found: dict[str, Axis] = {}  # in the order of the columns
    leaves: dict[str, float] = {}

    def take(column: str, path: str, leaf: Leaf, value: Any) -> None:
        axis = axis_of(column, path, leaf, value)
        leaves[path] = float(axis.values[0])
        if isinstance(value, list):
            found[path] = axis

    for alias, path in _PATHS.items():
        if config.get(alias) is not None:
            take(alias, path, _alias_leaf(alias), config[alias])
    for section, noun in SECTIONS.items():
        for path, leaf, value in _walk(noun, section, _section(config, section)):
            if path not in leaves:  # an alias wins over the leaf it writes
                take(path, path, leaf, value)
    parts = {
        f"{part}.{group}": (noun, config[part][group])
        for part, groups in PARTS.items()
        for group, noun in groups.items()
        if config["choices"].get(f"{part}_{group}") is not None
    }
    for where, (noun, tree) in parts.items():
        for path, leaf, value in _walk(noun, where, _inner(where, tree)):
            take(path, path, leaf, value)
        if noun is Plan:
            leaves[f"{where}.racks"] = 0.0
    phase = _static(config["workload"], "phase", "workload.phase", PHASES)
    check_used(phase, config, found)
    check_parts(phase, config, leaves, found)
    check_racks(config)
    check_sparsity(config, leaves, found)
    leaves.setdefault("parallelism.racks", 0.0)
    return Study(
        leaves=leaves,
        axes=tuple(found.values()),
        phase=phase,
        overlap=_static(config, "overlap", "overlap", OVERLAPS),
        levels={
            "hardware": tuple(_section(config, "hardware")["fabric"]),
            **{w: tuple(t["fabric"]) for w, (noun, t) in parts.items() if noun is Hardware},
        },
        labels={name: _label(config["choices"].get(name)) for name in LABELS},
    )


def _label(choice: Any) -> str | None:
    return None if choice is None else str(choice)


def _section(config: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    value = config.get(section)
    if not isinstance(value, Mapping):
        raise InputError(
            f"{section}={value}: expected a group of keys, as a file in conf/{section} gives"
        )
    return value


def _walk(noun: Any, path: str, tree: Mapping[str, Any]) -> Iterator[tuple[str, Leaf, Any]]:
    """Yield (path, declaration, value) of every leaf; raise for missing and unknown keys."""
    fields = {f.name: f for f in dataclasses.fields(noun)}
    known = [name for name in fields if not (noun is Plan and name == "racks")]
    for key in tree:
        if key not in known and not (path.split(".")[-1] in GROUPS and key in NOTES):
            raise InputError(
                f"{path}.{key}: no such key; {path} has {', '.join(known)}.{nearest(key, known)}"
            )
    for name in known:
        field, where = fields[name], f"{path}.{name}"
        leaf = leaf_of(field)
        if leaf is None and name == "fabric":
            yield from _walk_fabric(where, tree.get(name))
        elif leaf is None:
            yield from _walk(field.type, where, _inner(where, tree.get(name, {})))
        elif name != "phase":
            value = tree.get(name, leaf.default)
            if value is None or value == REQUIRED:
                raise InputError(f"{where} is missing: {leaf.doc}; give {leaf.allowed()}")
            yield where, leaf, value


def _inner(where: str, tree: Any) -> Mapping[str, Any]:
    if not isinstance(tree, Mapping):
        raise InputError(f"{where}={tree}: expected a group of keys")
    return tree


def _walk_fabric(where: str, levels: Any) -> Iterator[tuple[str, Leaf, Any]]:
    levels = _inner(where, levels)
    if not 1 <= len(levels) <= DEPTH:
        raise InputError(f"{where}: {len(levels)} levels; give 1 to {DEPTH}, innermost first")
    reach = 0.0
    for name, tree in levels.items():
        yield from _walk(Level, f"{where}.{name}", _inner(f"{where}.{name}", tree))
        chips = tree.get("chips")
        given = [c for c in (chips if isinstance(chips, list) else [chips]) if c]
        if given and all(isinstance(c, int | float) for c in given):
            if min(given) < reach:
                raise InputError(
                    f"{where}.{name}.chips={min(given):g}: less than the {reach:g} of the level "
                    "inside it; give levels innermost first"
                )
            reach = max(given)


def _alias_leaf(alias: str) -> Leaf:
    if alias == "sparsity":
        return SPARSITY
    section, name = _PATHS[alias].split(".")
    leaf = leaf_of(next(f for f in dataclasses.fields(SECTIONS[section]) if f.name == name))
    assert leaf is not None
    # 0 racks means "not given" inside; whoever gives the alias wants at least one
    return replace(leaf, at_least=None, above=0.0, integer=True) if alias == "racks" else leaf


def _static(tree: Mapping[str, Any], key: str, where: str, choices: tuple[str, ...]) -> str:
    value = tree.get(key)
    if isinstance(value, list):
        raise InputError(
            f"{where}={value}: one value per job; sweep it as {where}={','.join(map(str, value))}"
        )
    if value not in choices:
        raise InputError(
            f"{where}={value}: allowed is one of {', '.join(choices)}.{nearest(value, choices)}"
        )
    return str(value)
