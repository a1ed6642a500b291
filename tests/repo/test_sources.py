"""Every fact in conf/ says where it comes from.

The rule, in this one place: a number of the groups in FACTS is covered by an entry of the file's
`sources` or `assumed` map (the number's dotted path, a map above it, or `default`), by a `source`
text beside it, or, of a calibration, by a record of `fits` (the data that its class was fitted to).
The numbers of the other groups, and the rest of a workload (a batch, a
skew), are choices: nobody measured them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CONF = Path(__file__).resolve().parents[2] / "conf"
ALL = None
FACTS: dict[str, frozenset[str] | None] = {
    "hardware": ALL,
    "model": ALL,
    "calibration": ALL,
    "workload": frozenset({"context", "prompt", "output"}),
}
NOUNS = (*FACTS, "parallelism", "economics", "dtype")
NOT_VALUES = ("defaults", "sources", "assumed", "fits")  # what a file says about its values
FILES = [path for group in NOUNS for path in sorted((CONF / group).rglob("*.yaml"))]

each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")


def leaves(tree: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of each leaf."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{at}.{key}" if at else str(key))
    else:
        yield at, tree


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def values(content: dict[str, Any]) -> dict[str, Any]:
    """The leaves a user can set."""
    return dict(leaves({key: v for key, v in content.items() if key not in NOT_VALUES}))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def unsourced(group: str, content: dict[str, Any]) -> list[str]:
    """Paths of the facts that nothing covers."""
    if group not in FACTS:
        return []
    explained = {**(content.get("sources") or {}), **(content.get("assumed") or {})}
    explained |= {fitted(key, content): "data" for key in content.get("fits") or {}}
    all_values = values(content)

    def covered(path: str) -> bool:
        parts = path.split(".")
        above = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
        beside = ".".join([*parts[:-1], "source"])
        return "default" in explained or bool(above & explained.keys()) or beside in all_values

    wanted = FACTS[group]
    return [
        path
        for path, value in all_values.items()
        if is_number(value) and (wanted is ALL or path in wanted) and not covered(path)
    ]


def fitted(key: str, content: dict[str, Any]) -> str:
    """The path that a record of `fits` is about: kernel classes go by their own name."""
    return key if key.split(".")[0] in content else f"kernel.{key}"


@each_file
def test_every_fact_has_its_source(path: Path):
    assert not unsourced(path.parent.name, load(path))


@each_file
def test_sources_name_what_is_there_and_say_something(path: Path):
    content = load(path)
    paths = {p for leaf in values(content) for p in (leaf, *parents(leaf))} | {"default", "fits"}
    for kind in ("sources", "assumed"):
        for key, text in (content.get(kind) or {}).items():
            assert key in paths, f"{kind}.{key}: the file has no such key"
            assert isinstance(text, str) and text.strip(), f"{kind}.{key} is empty"


@each_file
def test_a_fit_names_what_is_there_its_data_and_what_it_is_worth(path: Path):
    content = load(path)
    paths = {p for leaf in values(content) for p in (leaf, *parents(leaf))}
    for key, record in (content.get("fits") or {}).items():
        assert fitted(key, content) in paths, f"fits.{key}: the file has no such key"
        assert isinstance(record["data"], str) and record["data"].strip(), f"fits.{key}.data"
        assert record["points"] >= 1 and 0 <= record["mean_held_out"] < 1, f"fits.{key}"


@each_file
def test_a_leaf_is_a_number_a_name_or_a_bool(path: Path):
    for leaf, value in values(load(path)).items():
        assert isinstance(value, int | float | str | bool), f"{leaf} is {value!r}"
        assert not (isinstance(value, str) and reads_as_number(value)), (
            f"{leaf}: YAML reads {value!r} as text; write 9.89e+14"
        )


def parents(leaf: str) -> list[str]:
    parts = leaf.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_the_rule_itself():
    content: dict[str, Any] = {"a": {"b": 1, "c": 2.0}, "d": 3, "e": {"f": 4, "source": "paper"}}
    assert unsourced("hardware", content) == ["a.b", "a.c", "d"]
    assert unsourced("hardware", {**content, "sources": {"a": "x"}, "assumed": {"d": "y"}}) == []
    assert unsourced("hardware", {**content, "sources": {"default": "x"}}) == []
    fits = {"kernel": {"x": {"y": 1}}, "z": 2, "fits": {"x.y": {"data": "a table"}}}
    assert unsourced("calibration", fits) == ["z"]
    assert unsourced("workload", {"batch": 64, "prompt": 1000}) == ["prompt"]
    assert unsourced("economics", {"utilization": 0.5}) == []


def test_there_are_files():
    assert {path.parent.name for path in FILES} >= {"hardware", "model"}
