"""Scenarios from the overrides of many rows, without composing files for each of them.

Composing takes the better part of a second, and hundreds of rows choose among a few dozen files. No
file refers to another group, so each option is composed once, several groups at a time, and the
parts are put together; single values are set as `compose` would set them.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from roofrack.config import compose
from roofrack.config.overrides import parse
from roofrack.conversion import to_study
from roofrack.errors import InputError

CHOSEN = ("hardware", "model", "parallelism", "workload", "dtype")
"""Groups of which each row names an option, so that it does not depend on defaults."""

Options = Mapping[tuple[str, str], Mapping[str, Any]]
"""A composed configuration for each (group, option): its part of that group counts."""


def given(text: str) -> dict[str, str]:
    """Return the overrides of a row by their keys."""
    return dict(part.split("=", 1) for part in text.split())


def chosen(texts: Sequence[str] | pl.Series, overrides: Sequence[str] = ()) -> Options:
    """Compose every option that rows choose; `overrides` are set in all of them besides."""
    rows = [given(text) for text in texts]
    return options_of({group: [row[group] for row in rows] for group in CHOSEN}, overrides)


def options_of(names: Mapping[str, Sequence[str]], overrides: Sequence[str] = ()) -> Options:
    """Compose every option named of each group, several groups at a time; names may repeat."""
    each = {group: list(dict.fromkeys(given)) for group, given in names.items()}
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for place in range(max(map(len, each.values()), default=0)):
        some = {group: options[place % len(options)] for group, options in each.items()}
        tree = compose([*(f"{group}={name}" for group, name in some.items()), *overrides])
        for group, name in some.items():
            found.setdefault((group, name), tree)
    return found


def composed(single: Mapping[str, str], options: Options) -> dict[str, Any]:
    """Return what `compose` makes of a row's overrides, by their keys."""
    of = {group: options[group, single[group]] for group in CHOSEN}
    tree: dict[str, Any] = copy.deepcopy(dict(of["hardware"]))  # with its calibration and price
    for group in ("model", "parallelism", "workload"):
        tree[group] = copy.deepcopy(of[group][group])
    tree["workload"]["dtype"] = copy.deepcopy(of["dtype"]["workload"]["dtype"])
    tree["choices"] |= {group: single[group] for group in CHOSEN}
    for override in parse([f"{k}={v}" for k, v in single.items() if k not in CHOSEN]):
        *path, leaf = override.key_or_group.split(".")
        branch = tree
        for name in path:
            branch = branch[name]
        branch[leaf] = override.value()
    return tree


def scenario(rows: pl.DataFrame, options: Options) -> Any:
    """Return the scenario of rows (`id`, `overrides`) that choose the same and set the same keys.

    Each leaf is an array with a value for each row: what differs between rows is given as a list,
    and of the axis that makes each row takes the value it asks for. Raises InputError naming a row.
    """
    import jax

    texts = [given(text) for text in rows["overrides"]]
    values = {key: list(dict.fromkeys(text[key] for text in texts)) for key in texts[0]}
    lists = {key: f"[{','.join(v)}]" if len(v) > 1 else v[0] for key, v in values.items()}
    try:
        study = to_study(composed(lists, options))
    except InputError as error:
        if len(rows) > 1:  # find out which of them it is
            for one in range(len(rows)):
                scenario(rows[one : one + 1], options)
        raise InputError(f"row {rows['id'][0]}: {error}") from error
    odd = [axis for axis in study.axes if len(values.get(axis.path, ())) != len(axis)]
    if odd:
        raise InputError(f"row {rows['id'][0]}: {odd[0].column} has several values; give one")
    places = {a.path: [values[a.path].index(text[a.path]) for text in texts] for a in study.axes}
    bound = study.bind({axis.path: axis.values[places[axis.path]] for axis in study.axes})
    return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (len(rows),)), bound)


def evaluated(rows: pl.DataFrame, overrides: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Return every result of rows (`id`, `overrides`) by its name, an array with a value a row.

    `overrides` are set in every row besides, `calibration=ideal` for example; NaN where the
    structure of a row has no such column. Raises InputError naming a row that does not compose.
    """
    from roofrack.cost import estimate

    found: dict[str, np.ndarray] = {}
    for where, stacked in together(rows, overrides):
        with np.errstate(all="ignore"):  # NumPy: compiling each structure would take a minute
            columns = estimate(stacked)
        for name, column in columns.items():
            found.setdefault(name, np.full(len(rows), np.nan))[where] = column
    return found


def together(rows: pl.DataFrame, overrides: Sequence[str] = ()) -> Iterator[tuple[np.ndarray, Any]]:
    """Yield scenarios of many rows at once, each with the places of its rows.

    Rows that choose the same files and set the same keys are one scenario, and those of one
    structure (phase, parts of the deployment) are put together.
    """
    import jax

    from roofrack.cost import pytrees  # noqa: F401  (registers the nouns)

    options = chosen(rows["overrides"], overrides)
    alike: dict[Any, list[int]] = {}
    for index, text in enumerate(rows["overrides"]):
        asked = given(text)
        same = tuple((key, asked[key] if key in CHOSEN else "") for key in sorted(asked))
        alike.setdefault(same, []).append(index)
    structures: dict[Any, list[tuple[list[int], Any]]] = {}
    for places in alike.values():
        s = scenario(rows[places], options)
        structures.setdefault(jax.tree.structure(s), []).append((places, s))
    for parts in structures.values():
        where = np.concatenate([places for places, _ in parts])
        yield where, jax.tree.map(lambda *leaves: np.concatenate(leaves), *[s for _, s in parts])
