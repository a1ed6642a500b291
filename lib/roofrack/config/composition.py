"""From overrides to the composed, resolved, plain configuration, without touching Hydra's globals.

Composing one choice of groups takes Hydra about 0.1 s, nearly all of it reading YAML; setting
values in the result takes microseconds each. So what the groups alone give is kept, for as long as
no YAML file changes, and values are set in a copy.
"""

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override, OverrideType
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.basecontainer import BaseContainer
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, ConfigTypeError

from roofrack import schema
from roofrack.config import checks, complaints, resolvers
from roofrack.config.overrides import Options, cross, lift, parse, with_study
from roofrack.errors import InputError, nearest

PRIMARY = "config"
SCHEMA = "roofrack_schema"
VERSION_BASE = "1.3"

_lock = threading.RLock()


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


def register() -> None:
    """Give Hydra the tree of every key and OmegaConf the range resolvers; repeating is harmless."""
    resolvers.register()
    store = ConfigStore.instance()
    if f"{SCHEMA}.yaml" in store.repo:  # making its nodes anew takes as long as composing
        return
    tree: dict[str, Any] = {section: schema.defaults(section) for section in schema.SECTIONS}
    tree |= {part: dict.fromkeys(groups) for part, groups in schema.PARTS.items()}
    store.store(name=SCHEMA, node=tree, provider="roofrack")


def compose(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> dict[str, Any]:
    """Return the configuration as a plain dict, interpolations resolved; a list is an axis.

    Raises InputError for anything the user can get wrong, and for overrides that make more than
    one job (`jobs` splits those).
    """
    with _hydra():
        split = _jobs(overrides, config_dir, study=False)
        if len(split) > 1:
            raise InputError(f"{' '.join(overrides)}: makes {len(split)} configurations, not one")
        return _composed(split[0], config_dir)


def jobs(
    overrides: Sequence[str] = (), config_dir: str | Path | None = None, *, study: bool = True
) -> list[list[str]]:
    """Return the overrides of each job: groups crossed, sweeps over values folded into lists.

    With `study`, the sweep that an experiment file declares (`hydra.sweeper.params`) is included.
    """
    with _hydra():
        return _jobs(overrides, config_dir, study)


def covering(split: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Return a few of the jobs in which every override of all of them occurs at least once."""
    seen: set[str] = set()
    kept = []
    for job in split:
        if not seen.issuperset(job):
            seen.update(job)
            kept.append(job)
    return kept


def options_of(
    loader: ConfigLoader, hydra_overrides: Sequence[str] = (), stamp: object = None
) -> Options:
    """Return the function from a key to the options of the group of that name.

    What a group has is kept as long as `stamp` is the same: asking Hydra takes 35 ms a group.
    """
    path = tuple(text for text in hydra_overrides if text.startswith("hydra.searchpath"))
    return _options(loader, path, stamp)


@lru_cache(maxsize=64)
def _options(loader: ConfigLoader, path: tuple[str, ...], stamp: object) -> Options:
    @cache
    def options(group: str) -> list[str]:
        if not path:  # several times faster
            return loader.get_group_options(group, ObjectType.CONFIG)
        return loader.get_group_options(group, ObjectType.CONFIG, PRIMARY, list(path))

    return options


@contextmanager
def _hydra() -> Iterator[None]:
    """Use Hydra, leave the caller's Hydra and OmegaConf as they were, and complain in one line."""
    with _lock:
        base, known = version.VersionBase.instance().version_base, dict(BaseContainer._resolvers)
        version.setbase(VERSION_BASE)
        register()
        try:
            with warnings.catch_warnings():
                # for Hydra, a folder of hydra.searchpath that does not exist is only a warning
                warnings.filterwarnings("error", message="provider=.*is not available")
                yield
        except InputError:
            raise
        except Exception as error:
            raise complaints.explain(error) from error
        finally:
            version.VersionBase.instance().version_base = base
            BaseContainer._resolvers.clear()
            BaseContainer._resolvers.update(known)


def _jobs(overrides: Sequence[str], config_dir: str | Path | None, study: bool) -> list[list[str]]:
    parsed = parse(overrides)
    hydra = [o.input_line or "" for o in parsed if o.is_hydra_override()]
    task = [o.input_line or "" for o in parsed if not o.is_hydra_override()]
    options = options_of(_loader(_absolute(config_dir)), hydra, _stamp(config_dir, hydra))
    asks = [o for o in parsed if o.key_or_group == "experiment"]
    if any(o.is_sweep_override() or isinstance(o.value(), list) for o in asks):
        raise InputError(f"{asks[-1].input_line}: one question at a time")
    if study and (asks or hydra):
        structural = tuple(o.input_line or "" for o in (*asks, *parsed) if o.is_hydra_override())
        asked = tuple(o.input_line or "" for o in asks[-1:])
        params = _base(
            (*asked, *structural), _absolute(config_dir), _stamp(config_dir, hydra)
        ).params
        task = with_study(params, task)
    lifted = parse(lift(task, options))
    return [hydra + job for job in cross(lifted)]


def _composed(overrides: Sequence[str], config_dir: str | Path | None) -> dict[str, Any]:
    parsed = parse(overrides)
    hydra = [o.input_line or "" for o in parsed if o.is_hydra_override()]
    stamp = _stamp(config_dir, hydra)
    options = options_of(_loader(_absolute(config_dir)), hydra, stamp)
    plain = [_is_plain(override, options) for override in parsed]
    structural = tuple(o.input_line or "" for o, p in zip(parsed, plain, strict=True) if not p)
    base = _base(structural, _absolute(config_dir), stamp)
    config = OmegaConf.create(base.tree)
    OmegaConf.set_struct(config, True)
    for override in (o for o, p in zip(parsed, plain, strict=True) if p):
        _set(config, override)
    return resolved(config, base.choices)


def resolved(config: DictConfig, choices: dict[str, Any]) -> dict[str, Any]:
    """Return a composed configuration as a plain dict, every key known and every value given.

    `choices` says which file of each group it was made of.
    """
    tree = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    _without_records(tree)
    checks.check(tree, choices)
    tree["choices"] = {group: choices.get(group) for group in schema.CHOICES}
    for part, groups in schema.PARTS.items():
        for group in groups:
            tree["choices"][f"{part}_{group}"] = choices.get(f"{group}@{part}.{group}")
    return tree


def _without_records(tree: dict[str, Any]) -> None:
    """Drop where fitted numbers are from: as nodes of a tree it would cost more than all others."""
    for part in (tree, tree.get("prefill") or {}, tree.get("ffn") or {}):
        if isinstance(part, dict):
            (part.get("calibration") or {}).pop("fits", None)


def as_yaml(tree: dict[str, Any], key: str | None = None) -> str:
    """Write a composed configuration, or the part of it below a key, as YAML."""
    part: Any = {name: value for name, value in tree.items() if name != "choices"}
    for name in key.split(".") if key else ():
        if not isinstance(part, dict) or name not in part:
            raise InputError(
                f"--package {key}: no such key.{nearest(str(key), checks.keys_of(tree))}"
            )
        part = part[name]
    return yaml.safe_dump(part, sort_keys=False, allow_unicode=True)


def _is_plain(override: Override, options: Options) -> bool:
    """Tell whether an override only sets a value, so that what the groups give can be reused."""
    return (
        override.type == OverrideType.CHANGE
        and override.package is None
        and not override.is_hydra_override()
        and not options(override.key_or_group)
    )


def _set(config: DictConfig, override: Override) -> None:
    key = override.key_or_group
    try:
        OmegaConf.update(config, key, override.value(), merge=True)
    except (ConfigKeyError, ConfigAttributeError, ConfigTypeError) as error:
        known = [*checks.TOP, "dtype", *checks.keys_of(OmegaConf.to_container(config))]
        raise InputError(
            f"{override.input_line}: no such key; `roofrack point --cfg job` prints them all."
            f"{nearest(key, known)}"
        ) from error


@lru_cache(maxsize=256)
def _base(overrides: tuple[str, ...], config_dir: str | None, stamp: object) -> Base:
    """Compose groups. `stamp` is there for the cache: it changes when a YAML file does."""
    loader = _loader(config_dir)
    base = _loaded(overrides, loader)
    named = _calibrations(base)
    return _loaded((*overrides, *named), loader) if named else base


def calibrated(
    job: Sequence[str], loader: ConfigLoader, hydra_overrides: Sequence[str] = ()
) -> list[str]:
    """Return the overrides of a job and those that name its calibration, if it is `auto`.

    For jobs that Hydra itself composes; `compose` needs no help.
    """
    options = options_of(loader, hydra_overrides)
    groups = tuple(o.input_line or "" for o in parse(job) if not _is_plain(o, options))
    return [*job, *_calibrations(_loaded((*hydra_overrides, *groups), loader))]


def _calibrations(base: Base) -> list[str]:
    """Return the overrides that put a machine's own calibration in the place of `auto`.

    A pool on machines of its own has theirs, unless one is chosen for it.
    """
    if base.choices.get("calibration") != schema.AUTO:
        return []

    def of(machine: Any) -> str:
        return str((machine or {}).get("calibrated_as") or schema.FALLBACK)

    found = [f"calibration={of(base.tree['hardware'])}"]
    for part, groups in schema.PARTS.items():
        where = f"calibration@{part}.calibration"
        if "calibration" not in groups or base.choices.get(where) not in (None, schema.AUTO):
            continue
        if base.choices.get(f"hardware@{part}.hardware") is not None:
            found.append(f"{where}={of((base.tree.get(part) or {}).get('hardware'))}")
    return found


def _loaded(overrides: tuple[str, ...], loader: ConfigLoader) -> Base:
    try:
        config = loader.load_configuration(
            PRIMARY, list(overrides), run_mode=RunMode.RUN, from_shell=False
        )
    except UnicodeDecodeError as error:
        raise InputError(f"{' '.join(overrides)}: its file is not UTF-8 text: {error}") from error
    hydra = config.hydra
    choices = {
        str(k): v for k, v in hydra.runtime.choices.items() if not str(k).startswith("hydra/")
    }
    sweeper = cast(dict[str, Any], OmegaConf.to_container(hydra.sweeper, resolve=False))
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    tree = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    _without_records(tree)
    return Base(tree, choices, sweeper.get("params") or {})


@lru_cache(maxsize=16)
def _loader(config_dir: str | None) -> ConfigLoaderImpl:
    path = create_config_search_path(str(conf_dir()))
    if config_dir is not None:
        path.prepend("command-line", f"file://{config_dir}", SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(config_search_path=path)


def _absolute(config_dir: str | Path | None) -> str | None:
    if config_dir is None:
        return None
    folder = Path(config_dir).absolute()
    if not folder.is_dir():
        raise InputError(f"--config-dir {config_dir}: no such folder")
    for file in folder.rglob("*.yaml"):
        if (conf_dir() / (name := file.relative_to(folder))).is_file():
            raise InputError(
                f"--config-dir {config_dir}: {name} comes with roofrack and would win; "
                "give yours another name"
            )
    return str(folder)


def _stamp(config_dir: str | Path | None, hydra: Sequence[str]) -> tuple[object, ...]:
    """Return what changes whenever a YAML file that Hydra might read changes."""
    folders = [conf_dir(), *([Path(config_dir)] if config_dir else [])]
    for override in parse([text for text in hydra if text.startswith("hydra.searchpath=")]):
        value = override.value()
        paths = value if isinstance(value, list) else []
        folders += [Path(str(p).removeprefix("file://")) for p in paths]
    files = (file for folder in folders for file in sorted(folder.rglob("*.yaml")))
    return tuple((str(f), (s := f.stat()).st_mtime_ns, s.st_size) for f in files)
