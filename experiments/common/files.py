"""Machines and models that a page compares beside those of its run: each file read once.

A sweep over two groups of files makes a job of each pair, and a job costs a quarter of a second
whatever it computes. Here the numbers of a file take the places of a job's own, so that one array
evaluation (`stacks`) answers a machine for all models.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from roofrack import config
from roofrack.conversion import Study, to_study
from roofrack.errors import InputError
from roofrack.results.run import JobRun, Run
from roofrack.schema import FALLBACK

Leaves = Mapping[str, float]
"""Numbers by path."""
PRICES = {
    "low": "usd_per_chip_hour_low",
    "typical": "usd_per_chip_hour",
    "high": "usd_per_chip_hour_high",
}
"""The three dated prices of a machine's file, by what `economics.price` calls them."""


class Choice(NamedTuple):
    """A machine or a model: its short name, its full name, and what it was composed to."""

    key: str
    name: str
    config: Mapping[str, Any]
    leaves: Leaves


@dataclass(frozen=True)
class Choices:
    """Machines and models by short name, in the order given."""

    machines: Mapping[str, Choice]
    models: Mapping[str, Choice]
    studies: Mapping[str, Study]
    """The job's study on each machine."""

    @property
    def configs(self) -> tuple[Mapping[str, Any], ...]:
        """What each machine, and each model, was composed to."""
        return tuple(c.config for c in (*self.machines.values(), *self.models.values()))


def several(run: Run, key: str, default: Sequence[Any] = ()) -> list[Any]:
    """Return a setting of the question that may hold several values.

    A list in its file; on the command line, where a list makes jobs, words in one text:
    `experiment.machines='h100_sxm b200'`.
    """
    given = run.experiment.get(key, list(default))
    if isinstance(given, str):
        return [word for word in re.split(r"[\s,\[\]]+", given) if word]
    return given if isinstance(given, list) else [] if given is None else [given]


def asked_names(run: Run, key: str, group: str) -> list[str]:
    """Return files of a group that the question's settings name, those of the run's jobs first.

    Raises InputError if they are no names.
    """
    words = several(run, key)
    if not all(isinstance(word, str) for word in words):
        raise InputError(
            f"experiment.{key}={run.experiment[key]}: allowed are names of files of conf/{group}"
        )
    own = [job.config["choices"][group] for job in run.jobs]
    return list(dict.fromkeys([*own, *words]))


def choices(run: Run, job: JobRun, machines: Sequence[str], models: Sequence[str]) -> Choices:
    """Take each machine and each model once. Raises InputError for a name that does not exist.

    The job's own machine and model keep the numbers the reader gave them. All machines have their
    own calibration, unless the job has one that is not its machine's.
    """
    chosen, mine = job.config["choices"], job.config
    found_machines: dict[str, Choice] = {}
    found_models: dict[str, Choice] = {}
    studies: dict[str, Study] = {}
    for key in machines:
        moved = mine if key == chosen["hardware"] else _on(run, job, key)
        studies[key] = to_study(moved)
        found_machines[key] = _choice(key, "hardware", moved, studies[key])
    for key in models:
        if key == chosen["model"]:
            changed = mine
        else:
            files = {**chosen, "model": key}
            changed = {**mine, "model": _file(run, "model", key), "choices": files}
        found_models[key] = _choice(key, "model", changed, to_study(changed))
    return Choices(found_machines, found_models, studies)


def _on(run: Run, job: JobRun, machine: str) -> dict[str, Any]:
    """Return a job's configuration moved to another machine, and to that one's calibration."""
    own, tree = job.config["choices"], _file(run, "hardware", machine)
    named = job.config["hardware"].get("calibrated_as") or FALLBACK
    is_chosen = own["calibration"] != named
    losses = own["calibration"] if is_chosen else tree.get("calibrated_as") or FALLBACK
    return {
        **job.config,
        "hardware": tree,
        "calibration": _file(run, "calibration", losses),
        "choices": {**own, "hardware": machine, "calibration": losses},
    }


def _file(run: Run, group: str, name: str) -> Mapping[str, Any]:
    """Return what a file of a group says, with the numbers given by hand if the run has it.

    Read here, because composing takes 0.4 s for each new file; what only Hydra can put together (a
    file that builds on others, writes elsewhere or has interpolations) is left to it.
    """
    given = {j.config["choices"][group]: j.config[group] for j in run.jobs}
    if name in given:
        return given[name]
    folders = [Path(run.config_dir)] if run.config_dir else []
    for folder in (*folders, config.conf_dir()):
        path = folder / group / f"{name}.yaml"
        if _PLAIN_NAME.fullmatch(name) and path.is_file():
            text = path.read_text(encoding="utf-8")
            if not _NOT_PLAIN.search(text) and isinstance(tree := yaml.safe_load(text), dict):
                return tree
    return config.compose([f"{group}={name}"], run.config_dir)[group]


_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")
# a number such as 1e9, without point and sign, is text to YAML and a number to Hydra
_NOT_PLAIN = re.compile(r"@package|^\W*defaults\W*:|\$\{|[:\s]\d+[eE]\d", re.MULTILINE)


def _choice(key: str, group: str, composed: Mapping[str, Any], study: Study) -> Choice:
    leaves = {p: v for p, v in study.leaves.items() if p.startswith(f"{group}.")}
    if axes := [a.path for a in study.axes if a.path.startswith(f"{group}.")]:
        raise InputError(f"{axes[0]} is swept; this page compares files: give it one value")
    return Choice(key, str(composed[group].get("name") or key), composed, leaves)


def full_names(choices: Mapping[str, Choice]) -> dict[str, str]:
    """Return the name in words of each choice; the short ones where two are alike."""
    found = {key: choice.name for key, choice in choices.items()}
    return found if len(set(found.values())) == len(found) else {key: key for key in found}


def over_typical(hardware: Mapping[str, Any], price: str) -> float:
    """Return one of a machine's dated prices over the typical one; 1 where it is not told."""
    typical, other = hardware[PRICES["typical"]], hardware.get(PRICES[price])
    return float(other) / float(typical) if other and typical else 1.0


def numbers(run: Run, key: str, default: Sequence[float] = ()) -> list[float]:
    """Return numbers of the question's settings (`several`), each once and ascending.

    Raises InputError for none, and for what is no number from 0 up.
    """
    try:
        values = {float(value) for value in several(run, key, default)}
    except (TypeError, ValueError):
        values = set()
    if not values or not all(0 <= value < 1e12 for value in values):
        raise InputError(
            f"experiment.{key}={run.experiment.get(key)}: allowed are numbers from 0 up"
        )
    return sorted(values)
