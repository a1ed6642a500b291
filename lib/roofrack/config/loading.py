"""What Hydra's loader makes of a choice of groups, kept for as long as no YAML file changes."""

import json
import os
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.object_type import ObjectType
from hydra.types import RunMode
from omegaconf import OmegaConf

from roofrack import caching
from roofrack.config.overrides import Options, parse
from roofrack.errors import InputError

PRIMARY = "config"
MOST = 1000
"""Compositions kept between runs: those not used for longest go. Each is 50 kB."""


class Base(NamedTuple):
    """What a choice of groups gives before single values are set."""

    tree: dict[str, Any]  # interpolations not yet resolved
    choices: dict[str, Any]  # group -> the option chosen
    params: dict[str, Any]  # the sweep an experiment file declares


def conf_dir() -> Path:
    """Return the folder of the shipped configuration: inside the wheel, or of the checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parents[1] / "conf"):
        if (folder / f"{PRIMARY}.yaml").is_file():
            return folder
    raise InputError("conf/config.yaml is missing from this installation: reinstall roofrack")


@lru_cache(maxsize=512)
def load(overrides: tuple[str, ...], config_dir: str | None, stamp: object) -> Base:
    """Compose groups. `stamp` is there for the caches: it changes when a YAML file does."""
    if caching.kept_folder() is None:
        return _composed(overrides, config_dir)
    made_of = repr((overrides, config_dir, stamp, hydra.__version__, caching.source("config")))
    path = caching.kept("composed", made_of)
    try:
        return Base(*json.loads(caching.read(path) or b""))
    except (ValueError, TypeError):  # not there, or cut off: composed again
        found = _composed(overrides, config_dir)
    text = json.dumps(found)
    if Base(*json.loads(text)) == found:  # JSON has no tuples and no keys but text
        caching.keep(path, text.encode(), MOST)
    return found


def _composed(overrides: tuple[str, ...], config_dir: str | None) -> Base:
    try:
        config = loader_in(config_dir).load_configuration(
            PRIMARY, list(overrides), run_mode=RunMode.RUN, from_shell=False
        )
    except UnicodeDecodeError as error:
        raise InputError(f"{' '.join(overrides)}: its file is not UTF-8 text: {error}") from error
    own = config.hydra
    choices = {str(k): v for k, v in own.runtime.choices.items() if not str(k).startswith("hydra/")}
    sweeper = cast(dict[str, Any], OmegaConf.to_container(own.sweeper, resolve=False))
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    tree = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    without_records(tree)
    return Base(tree, choices, sweeper.get("params") or {})


def without_records(tree: dict[str, Any]) -> None:
    """Drop where fitted numbers are from: as nodes of a tree it would cost more than all others."""
    for part in (tree, tree.get("prefill") or {}, tree.get("ffn") or {}):
        if isinstance(part, dict):
            (part.get("calibration") or {}).pop("fits", None)


@lru_cache(maxsize=16)
def loader_in(config_dir: str | None) -> ConfigLoaderImpl:
    """Return the loader of the shipped files and those in a folder of the user's."""
    path = create_config_search_path(str(conf_dir()))
    if config_dir is not None:
        path.prepend("command-line", f"file://{config_dir}", SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(config_search_path=path)


def options_of(
    loader: ConfigLoader, hydra_overrides: Sequence[str] = (), stamp: object = None
) -> Options:
    """Return the function from a key to the options of the group of that name.

    What a group has is kept as long as `stamp` is the same: asking Hydra takes 35 ms a group.
    """
    return _options(loader, searching(hydra_overrides), stamp)


@lru_cache(maxsize=64)
def _options(loader: ConfigLoader, path: tuple[str, ...], stamp: object) -> Options:
    @cache
    def options(group: str) -> list[str]:
        if not path:  # several times faster
            return loader.get_group_options(group, ObjectType.CONFIG)
        return loader.get_group_options(group, ObjectType.CONFIG, PRIMARY, list(path))

    return options


def searching(hydra: Sequence[str]) -> tuple[str, ...]:
    """Return those of Hydra's own overrides that say where files are."""
    return tuple(text for text in hydra if text.startswith("hydra.searchpath"))


def folder_of(config_dir: str | Path | None) -> str | None:
    """Return a folder of the user's as Hydra writes it; InputError for one that cannot be used."""
    if config_dir is None:
        return None
    folder = Path(os.path.abspath(config_dir))
    if not folder.is_dir():
        raise InputError(f"--config-dir {config_dir}: no such folder")
    for file in folder.rglob("*.yaml"):
        if (conf_dir() / (name := file.relative_to(folder))).is_file():
            raise InputError(
                f"--config-dir {config_dir}: {name} comes with roofrack and would win; "
                "give yours another name"
            )
    return str(folder)


def stamp_of(config_dir: str | None, hydra: Sequence[str]) -> tuple[object, ...]:
    """Return what changes whenever a YAML file that Hydra might read changes."""
    folders = [conf_dir(), *([Path(config_dir)] if config_dir else [])]
    for override in parse([text for text in hydra if text.startswith("hydra.searchpath=")]):
        value = override.value()
        paths = value if isinstance(value, list) else []
        folders += [Path(str(p).removeprefix("file://")) for p in paths]
    files = (file for folder in folders for file in sorted(folder.rglob("*.yaml")))
    return tuple((str(f), (s := f.stat()).st_mtime_ns, s.st_size) for f in files)
