"""Composing many choices of groups: each file once, then only put together.

Hydra needs 0.2 s for a choice of groups, nearly all of it to read YAML and to work out the defaults
list. A file that writes to its own package and nowhere else gives the same section of the tree
whatever else is chosen; so the sections of what Hydra composed are kept, and a choice all of whose
sections are known is put together of them. Everything else goes to Hydra: files that write
elsewhere (`@package _global_`), that choose files of other groups in their defaults list, or that
do not lie in a folder; a search path of the user's; a group chosen twice, deleted or added.
"""

import gc
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, flag_override

from roofrack import schema
from roofrack.config.loading import Base, conf_dir, load, searching
from roofrack.config.overrides import parsed

Choices = dict[str, Any]
"""Key of a group, with its package (`hardware@prefill.hardware`) -> the file chosen."""

_HEADER = re.compile(r"^\s*#\s*@package\s+(\S+)", re.MULTILINE)
_MOST = 1000
"""Sections kept as nodes: 20 kB each."""
_OWN = re.compile(r"[A-Za-z0-9_-]+")


class Assembler:
    """Composes groups, for one search path and one state of its files."""

    def __init__(self, compose: Callable[[tuple[str, ...]], Base], folders: Sequence[Path]) -> None:
        """Take what composes overrides in full, and the folders that files are looked for in."""
        self._compose = compose
        self._folders = folders
        self._plain: dict[tuple[str, Any], bool] = {}
        # all that follows depends on the overrides that choose no file (`rest`); what is chosen by
        # default, on which groups the overrides choose of
        self._first: dict[Any, Base] = {}
        self._sections: dict[Any, Any] = {}

    def base(self, overrides: tuple[str, ...]) -> Base:
        """Return what overrides that choose files give; a tree not to be changed."""
        chosen, rest = self._split(overrides)
        if chosen is None:
            return self._compose(overrides)
        asked = (rest, frozenset(chosen))
        first = self._first.get(asked)
        if first is not None:
            choices = first.choices | chosen
            made_of = {top: (rest, top, *named) for top, named in _by_section(choices).items()}
            if self._sections.keys() >= set(made_of.values()):
                tree = first.tree | {t: self._sections[named] for t, named in made_of.items()}
                return Base(tree, choices, first.params)
        base = self._compose(overrides)
        if all(self._is_plain(key, name) for key, name in base.choices.items() if _section(key)):
            self._first.setdefault(asked, base)
            for top, named in _by_section(base.choices).items():
                self._sections.setdefault((rest, top, *named), base.tree[top])
        return base

    def _split(self, overrides: tuple[str, ...]) -> tuple[Choices | None, tuple[str, ...]]:
        """Return the choices of plain files, and the other overrides; no choices if unsure."""
        if searching(overrides):
            return None, ()
        chosen: Choices = {}
        rest = []
        for override in map(parsed, overrides):
            key = override.get_key_element()
            if _chooses(override) and _section(key):
                if key in chosen or not self._is_plain(key, override.value()):
                    return None, ()
                chosen[key] = override.value()
            else:
                rest.append(override.input_line or "")
        return chosen, tuple(rest)

    def _is_plain(self, key: str, name: Any) -> bool:
        if (key, name) not in self._plain:
            try:
                self._plain[key, name] = name is None or self._writes_to_its_own(key, str(name))
            except (OSError, UnicodeDecodeError, yaml.YAMLError):
                return False  # Hydra meets it too, and its complaint names the file
        return self._plain[key, name]

    def _writes_to_its_own(self, key: str, name: str) -> bool:
        """Tell whether a file, and those of its group that it builds on, write to one section."""
        group, _, package = key.partition("@")
        found = [path for f in self._folders if (path := f / group / f"{name}.yaml").is_file()]
        if len(found) != 1:
            return False
        text = found[0].read_text(encoding="utf-8")
        header = _HEADER.search(text)
        if header is not None and (package or header[1].split(".")[0] != _section(key)):
            return False
        if not re.search(r"^\W*defaults\W*:", text, re.MULTILINE):
            return True
        others = (yaml.safe_load(text) or {}).get("defaults") or []
        return all(
            isinstance(other, str)
            and _OWN.fullmatch(other) is not None
            and (other == "_self_" or self._is_plain(key, other))
            for other in others
        )


def _chooses(override: Override) -> bool:
    return override.type == OverrideType.CHANGE and isinstance(override.value(), str)


def _section(key: str) -> str | None:
    """Return the key of the top level that a group writes to; None for one that may write all."""
    group, _, package = key.partition("@")
    if package:
        return package.split(".")[0]
    return "workload" if group == "dtype" else group if group in schema.GROUPS else None


def _by_section(choices: Choices) -> dict[str, list[tuple[str, Any]]]:
    """Return, for each section, the files it is made of."""
    found: dict[str, list[tuple[str, Any]]] = {}
    for key, name in sorted(choices.items(), key=lambda item: item[0]):
        section = _section(key)
        if section is not None:
            found.setdefault(section, []).append((key, name))
    return found


@lru_cache(maxsize=4)
def assembler(config_dir: str | None, stamp: object) -> Assembler:
    """Return what composes the shipped files and those in a folder of the user's.

    `stamp` changes when one of them does.
    """
    folders = [conf_dir(), *([Path(config_dir)] if config_dir else [])]
    return Assembler(lambda overrides: load(overrides, config_dir, stamp), folders)


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the collector away from thousands of nodes being made: it takes as long as they do."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


_pickled: dict[int, tuple[Any, bytes]] = {}


def nodes(tree: dict[str, Any]) -> DictConfig:
    """Return a tree as a configuration.

    To make nodes takes OmegaConf four times as long as to copy them, so each section is made once.
    """
    config = OmegaConf.create({})
    with uncollected(), flag_override(config, "no_deepcopy_set_nodes", True):
        for key, part in tree.items():
            config[key] = _copy(part) if isinstance(part, dict) and part else part
    return config


def _copy(section: dict[str, Any]) -> DictConfig:
    known = _pickled.get(id(section))
    if known is None or known[0] is not section:
        if len(_pickled) >= _MOST:
            _pickled.clear()
        known = _pickled[id(section)] = section, pickle.dumps(OmegaConf.create(section))
    return pickle.loads(known[1])
