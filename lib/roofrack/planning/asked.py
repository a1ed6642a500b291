"""What a caller asks of the enumerator: a scenario, chips, and what each leaf may be."""

from collections.abc import Mapping
from dataclasses import fields
from math import inf
from typing import Any

import numpy as np

from roofrack.axes import axis_of
from roofrack.errors import InputError, nearest
from roofrack.fields import Leaf, leaf_of
from roofrack.leaves import entries, plain
from roofrack.nouns import Scenario
from roofrack.plan import Plan

LEAVES = (
    "pp", "tp", "cp", "dp", "tp_rows", "attention_dp", "ep", "redundant_experts",
    "overlap_batches", "pp_batch", "placement", "dedup", "sequence_parallel",
    "microbatches", "schedule", "virtual_stages", "zero", "recompute",
)  # fmt: skip
"""The leaves of a plan that may vary, in the order that plans are listed in: the last runs first.

`replicas` is not one of them (plans are of one instance), nor is `racks`, which only solves dp."""

DEGREES = ("pp", "tp", "cp", "dp")
"""The leaves that multiply to the chips of an instance."""

VARIED = (*DEGREES, "ep", "attention_dp", "dedup", "sequence_parallel")
"""The leaves that take all their values unless told otherwise; others stay as in the scenario."""

TRAINED = (*DEGREES, "ep", "dedup", "sequence_parallel", "microbatches", "schedule",
           "virtual_stages")  # fmt: skip
"""The same in training."""


def scalar(s: Scenario) -> Scenario:
    """Return the scenario in double precision; raise InputError if it has axes."""
    for entry in entries(s):
        if np.ndim(entry.value):
            raise InputError(f"{entry.path}: an axis; plans are of one scenario, give one value")
    return plain(s)


def check_chips(s: Scenario, chips: Any) -> None:
    """Raise InputError for what is no number of chips, or more than the fabric connects."""
    real = isinstance(chips, int | float | np.number) and not isinstance(chips, bool)
    if not real or not 1 <= chips < inf or chips != int(chips):
        raise InputError(f"chips={chips}: allowed is a whole number of at least 1")
    reach = s.hardware.fabric[-1].chips
    if chips > reach:
        raise InputError(f"chips={chips:g}: the fabric connects {reach:g} at most")


def allowed_of(s: Scenario, within: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the values that each leaf may take, first choice first; empty: all divisors."""
    for name in within:
        if name not in LEAVES:
            raise InputError(
                f"within.{name}: not a leaf that plans vary in, which are {', '.join(LEAVES)}."
                f"{nearest(name, LEAVES)}"
            )
    varied = TRAINED if s.workload.phase == "train" else VARIED
    declared = {field.name: leaf_of(field) for field in fields(Plan)}
    found = {}
    for name in LEAVES:
        leaf = declared[name]
        assert leaf is not None
        value = within.get(name, "all" if name in varied else None)
        if value is None and name not in within:
            found[name] = np.array([getattr(s.plan, name)], float)
        elif isinstance(value, str) and value == "all":
            found[name] = _every(s, name, leaf)
        else:
            found[name] = _values(name, leaf, value)
    return found


def _every(s: Scenario, name: str, leaf: Leaf) -> np.ndarray:
    if leaf.choices or leaf.flag:
        return np.arange(len(leaf.choices) or 2, dtype=float)
    if name == "zero":
        return np.arange(leaf.ceiling + 1.0)
    if name == "redundant_experts":
        return np.arange(s.model.experts + 1.0)
    if name == "overlap_batches":
        raise InputError(f"within.{name}=all: there is no end of them; give a list of values")
    return np.empty(0)


def _values(name: str, leaf: Leaf, value: Any) -> np.ndarray:
    """Return values as a plan holds them, each once, in the order given."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    several = list(value) if isinstance(value, list | tuple | range | set | frozenset) else [value]
    several = [v.item() if isinstance(v, np.generic) else v for v in several]
    where = f"within.{name}"
    coded = axis_of(where, where, leaf, several).values
    return np.array(list(dict.fromkeys(coded.tolist())))
