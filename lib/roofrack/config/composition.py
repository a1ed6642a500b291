"""From overrides to the composed, resolved, plain configuration, without touching Hydra's globals.

Composing one choice of groups takes Hydra about 0.1 s, nearly all of it reading YAML; setting
values in the result takes microseconds each. So what the groups alone give is kept, for as long as
no YAML file changes, and values are set in a copy.
"""

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import yaml
from hydra import version
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.basecontainer import BaseContainer
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, ConfigTypeError

from roofrack import schema
from roofrack.config import assembling, checks, complaints, resolvers
from roofrack.config.loading import (
    Base,
    folder_of,
    load,
    loader_in,
    options_of,
    searching,
    stamp_of,
    without_records,
)
from roofrack.config.overrides import Options, cross, lift, parse, with_study
from roofrack.errors import InputError, nearest

SCHEMA = "roofrack_schema"
VERSION_BASE = "1.3"

_lock = threading.RLock()


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
    """Return a few of the jobs in which every override of all of them occurs at least once.

    First those that have nothing in common but what all have: of a product, its diagonal.
    """
    if not split:
        return []
    common: set[str] = set.intersection(*map(set, split))
    seen = set(common)
    kept = []
    for few in (True, False):
        for job in split:
            new = set(job) - seen
            if new and (not few or len(new) == len(set(job) - common)):
                seen |= new
                kept.append(job)
    return kept or [split[0]]


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
    folder = folder_of(config_dir)
    stamp = stamp_of(folder, hydra)
    asks = [o for o in parsed if o.key_or_group == "experiment"]
    if any(o.is_sweep_override() or isinstance(o.value(), list) for o in asks):
        raise InputError(f"{asks[-1].input_line}: one question at a time")
    if hydra or (study and asks):  # Hydra's own settings are checked here, and nowhere else
        asked = [o.input_line or "" for o in asks[-1:]]
        params = load((*asked, *hydra), folder, stamp).params
        task = with_study(params, task) if study else task
    lifted = parse(lift(task, options_of(loader_in(folder), hydra, stamp)))
    return [hydra + job for job in cross(lifted)]


def _composed(overrides: Sequence[str], config_dir: str | Path | None) -> dict[str, Any]:
    parsed = parse(overrides)
    hydra = [o.input_line or "" for o in parsed if o.is_hydra_override()]
    folder = folder_of(config_dir)
    stamp = stamp_of(folder, hydra)
    options = options_of(loader_in(folder), hydra, stamp)
    config, choices = composed(parsed, options, folder, stamp)
    return resolved(config, choices)


def composed(
    parsed: Sequence[Override], options: Options, folder: str | None, stamp: object
) -> tuple[DictConfig, dict[str, Any]]:
    """Return the configuration of a job with its interpolations, and the file of each group."""
    hydra = [o.input_line or "" for o in parsed if o.is_hydra_override()]
    base = _calibrated(_groups(parsed, hydra, options), folder, stamp)
    config = assembling.nodes(base.tree)
    OmegaConf.set_struct(config, True)
    for override in parsed:
        if _is_plain(override, options):
            _set(config, override)
    return config, base.choices


def resolved(config: DictConfig, choices: dict[str, Any]) -> dict[str, Any]:
    """Return a composed configuration as a plain dict, every key known and every value given.

    `choices` says which file of each group it was made of.
    """
    tree = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    without_records(tree)
    checks.check(tree, choices)
    tree["choices"] = {group: choices.get(group) for group in schema.CHOICES}
    for part, groups in schema.PARTS.items():
        for group in groups:
            tree["choices"][f"{part}_{group}"] = choices.get(f"{group}@{part}.{group}")
    return tree


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


def _groups(parsed: Sequence[Override], hydra: Sequence[str], options: Options) -> tuple[str, ...]:
    """Return the overrides that choose files; of Hydra's own only where to look for them."""
    chosen = [
        o.input_line or "" for o in parsed if not (o.is_hydra_override() or _is_plain(o, options))
    ]
    return (*searching(hydra), *chosen)


def _calibrated(overrides: tuple[str, ...], config_dir: str | None, stamp: object) -> Base:
    """Compose groups, with the calibration of each machine in the place of `auto`."""
    assembler = assembling.assembler(config_dir, stamp)
    base = assembler.base(overrides)
    named = _calibrations(base)
    return assembler.base((*overrides, *named)) if named else base


def calibrated(
    job: Sequence[str],
    loader: ConfigLoader,
    hydra_overrides: Sequence[str] = (),
    stamp: object = None,
) -> list[str]:
    """Return the overrides of a job and those that name its calibration, if it is `auto`.

    For jobs that Hydra itself composes, with a `loader` of its own; `compose` needs no help.
    `stamp` (`loading.stamp_of`) saves asking whether files changed.
    """
    folder = command_line_dir(loader)
    stamp = stamp or stamp_of(folder, hydra_overrides)
    groups = _groups(parse(job), hydra_overrides, options_of(loader, hydra_overrides, stamp))
    return [*job, *_calibrations(assembling.assembler(folder, stamp).base(groups))]


def command_line_dir(loader: ConfigLoader) -> str | None:
    """Return the folder that --config-dir named."""
    return {source.provider: source.path for source in loader.get_sources()}.get("command-line")


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
