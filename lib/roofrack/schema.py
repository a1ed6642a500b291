"""The tree of every configuration key, made from the nouns: what a file may and must give."""

import dataclasses
from typing import Any

from roofrack.calibration import Calibration
from roofrack.economics import Economics
from roofrack.fields import REQUIRED, leaf_of
from roofrack.hardware import Hardware
from roofrack.model import Model
from roofrack.nouns import Cost
from roofrack.plan import Plan
from roofrack.workload import Workload

GROUPS: dict[str, type] = {
    "hardware": Hardware,
    "model": Model,
    "parallelism": Plan,
    "workload": Workload,
    "economics": Economics,
    "calibration": Calibration,
}
"""Configuration group -> the noun it becomes."""

SECTIONS: dict[str, type] = GROUPS | {"cost": Cost}
"""Every part of the configuration that becomes part of a scenario."""

PARTS: dict[str, dict[str, type]] = {
    "prefill": {"hardware": Hardware, "parallelism": Plan, "calibration": Calibration},
    "ffn": {"hardware": Hardware, "parallelism": Plan, "calibration": Calibration},
    "draft": {"model": Model},
}
"""Parts of a deployment that may differ from the rest: `hardware@prefill.hardware=h800` chooses a
file for one. A part that is not chosen is null."""

CHOICES = ("hardware", "model", "parallelism", "workload", "dtype", "economics", "calibration")
"""Groups whose chosen file is told in the results (`dtype` fills workload.dtype)."""

LABELS = (*CHOICES, *(f"{part}_{group}" for part, groups in PARTS.items() for group in groups))
"""Columns that name the files chosen; null for a part that is like the rest."""

ALIASES = {
    "batch": "workload.batch",
    "context": "workload.context",
    "pp": "parallelism.pp",
    "racks": "parallelism.dp",
    "sparsity": "model.experts",
}
"""Axes people think in, and the leaf that each one writes; `racks` solves its leaf from the chips
of a rack, `sparsity` sets its leaf to so many times experts_per_token."""

NOTES = ("name", "sources", "assumed", "published", "price_date", "calibrated_as", "fits")
"""Keys of a group file that tell about it and never reach the cost model."""

AUTO = "auto"
"""The calibration that stands for the one a machine's file names (`calibrated_as`)."""

FALLBACK = "default"
"""The calibration of a machine whose file names none."""


def defaults(group: str) -> dict[str, Any]:
    """Return every key of a section with its default, `???` where a file has to give the value."""
    tree: dict[str, Any] = {}
    if group in GROUPS:
        tree = {
            "name": REQUIRED if group in ("hardware", "model") else None,
            "sources": {},
            "assumed": {},
        }
    return tree | _tree(SECTIONS[group])


def _tree(noun: type) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for field in dataclasses.fields(noun):
        leaf = leaf_of(field)
        if leaf is not None:
            tree[field.name] = REQUIRED if leaf.default is None else leaf.default
        elif field.name == "fabric":  # a named map: its levels are the file's to name
            tree[field.name] = {}
        else:
            tree[field.name] = _tree(field.type)  # type: ignore[arg-type]
    if noun is Plan:
        # racks is reached through its alias only, so that dp given beside it can be refused
        del tree["racks"]
    return tree
