"""A finished sweep: its rows, what they came from, and the questions it answers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from roofrack.results import aggregate, books, effects, store
from roofrack.results.aggregate import Goal, Within
from roofrack.results.table import DEGREES, Names, Plans
from roofrack.schema import ALIASES, GROUPS, LABELS


@dataclass(frozen=True)
class JobRun:
    """One job: its name in the sweep, and the provenance its files carry (`store.about`)."""

    name: str
    about: Mapping[str, Any]

    @property
    def config(self) -> Mapping[str, Any]:
        """The composed configuration of the job."""
        return self.about["config"]

    @property
    def overrides(self) -> tuple[str, ...]:
        """The overrides that reproduce the job."""
        return tuple(self.about["overrides"])


@dataclass(frozen=True)
class Run:
    """All jobs of a sweep. `rows` is lazy: filter and aggregate before collecting.

    The questions (`best`, `frontier`, `marginal`, `sensitivity`, `compare`) are those of
    `roofrack.results`, which take filtered rows too.
    """

    rows: pl.LazyFrame
    jobs: tuple[JobRun, ...]
    config_dir: str | None = None  # where the sweep looked for files beside those that ship

    @property
    def experiment(self) -> Mapping[str, Any]:
        """The settings of the question asked (conf/experiment/NAME.yaml), empty if none was."""
        return self.jobs[0].config.get("experiment") or {}

    @property
    def axes(self) -> tuple[str, ...]:
        """Columns that were swept inside jobs, in order of first appearance."""
        return tuple(dict.fromkeys(axis for job in self.jobs for axis in job.about["axes"]))

    @property
    def units(self) -> Mapping[str, str]:
        """Unit of each result column."""
        return self.jobs[0].about["units"]

    @property
    def docs(self) -> Mapping[str, str]:
        """Meaning of each result column."""
        return self.jobs[0].about["docs"]

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of what computed the rows."""
        return self.jobs[0].about["versions"]

    @property
    def points(self) -> int:
        """Points of all jobs."""
        return sum(job.about["points"] for job in self.jobs)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns that tell the points apart: names that differ between jobs, then the axes."""
        told = [_labels(job.config) for job in self.jobs]
        differ = [name for name in told[0] if len({labels[name] for labels in told}) > 1]
        return (*differ, *self.axes)

    @property
    def plans(self) -> Plans:
        """Parallel degrees that were not swept, by the name of the plan."""
        found: dict[str, dict[str, float | str]] = {}
        for job in self.jobs:
            degrees = found.setdefault(job.config["choices"]["parallelism"], {})
            for degree in DEGREES:
                value = _degree(job.config, degree)
                if not isinstance(value, list):
                    degrees[degree] = value
        return found

    def best(
        self,
        by: Names = (),
        minimise: str = "usd_per_mtok",
        *,
        maximise: str | None = None,
        within: Within | None = None,
        fitting: bool = True,
    ) -> pl.DataFrame:
        """Return the best row of each group: `roofrack.results.best`."""
        return aggregate.best(
            self.rows,
            by,
            minimise,
            maximise=maximise,
            within=within,
            fitting=fitting,
            inputs=self.inputs,
            plans=self.plans,
        )

    def frontier(
        self, *goals: Goal, by: Names = (), within: Within | None = None, fitting: bool = True
    ) -> pl.DataFrame:
        """Return the Pareto-optimal rows of each group: `roofrack.results.frontier`."""
        return aggregate.frontier(
            self.rows,
            *goals,
            by=by,
            within=within,
            fitting=fitting,
            inputs=self.inputs,
            plans=self.plans,
        )

    def marginal(
        self,
        axis: Names,
        of: str,
        how: str | float = "min",
        *,
        within: Within | None = None,
        fitting: bool = True,
    ) -> pl.DataFrame:
        """Return `of` by the values of an axis, the others reduced: `roofrack.results.marginal`."""
        return aggregate.marginal(
            self.rows, axis, of, how, within=within, fitting=fitting, inputs=self.inputs
        )

    def sensitivity(
        self, axis: str, of: str, *, within: Within | None = None, fitting: bool = True
    ) -> pl.DataFrame:
        """Return how `of` changes along an axis: `roofrack.results.sensitivity`."""
        return effects.sensitivity(
            self.rows, axis, of, within=within, fitting=fitting, inputs=self.inputs
        )

    def compare(
        self,
        group: str,
        a: Any,
        b: Any,
        of: str,
        by: Names = (),
        *,
        within: Within | None = None,
        fitting: bool = True,
    ) -> pl.DataFrame:
        """Return `of` at `a` over `of` at `b`, all else equal: `roofrack.results.compare`."""
        return effects.compare(
            self.rows, group, a, b, of, by, within=within, fitting=fitting, inputs=self.inputs
        )

    def notes(
        self, kind: str, others: Iterable[Mapping[str, Any]] = ()
    ) -> tuple[tuple[str, str], ...]:
        """Return (what, text) of the `sources` or `assumed` notes of every file the jobs used.

        Then those of `others`, configurations that were composed beside the run.
        """
        found: dict[tuple[str, str], None] = {}
        for config in (*(job.config for job in self.jobs), *others):
            for group in GROUPS:
                name = config["choices"][group]
                for field, text in (config[group].get(kind) or {}).items():
                    what = f"{group} {name}" + ("" if field == "default" else f": {field}")
                    found[what, " ".join(str(text).split())] = None
        return tuple(found)


def _labels(config: Mapping[str, Any]) -> dict[str, str | None]:
    """Return what the columns of names hold in a job."""
    chosen = {name: config["choices"].get(name) for name in LABELS}
    return chosen | {"overlap": config["overlap"], "phase": config["workload"]["phase"]}


def _degree(config: Mapping[str, Any], degree: str) -> Any:
    """Return a degree of the plan as given: a number, a word, or a list where it was swept."""
    aliases = [alias for alias, path in ALIASES.items() if path == f"parallelism.{degree}"]
    given = [config[alias] for alias in aliases if config.get(alias) is not None]
    return given[0] if given else config["parallelism"][degree]


def load(folder: str | Path) -> Run:
    """Read a sweep's folder; raise InputError if it holds no finished results.

    The rows stay on disk until they are asked for.

    >>> load("outputs/none")
    Traceback (most recent call last):
    roofrack.errors.InputError: outputs/none: no such folder; give one that `roofrack sweep` wrote
    """
    folder = Path(folder)
    rows = store.scan(folder)  # checks every job
    begun = books.read_sweep(folder)
    return Run(
        rows,
        tuple(JobRun(job.name, store.about(job)) for job in store.jobs(folder)),
        begun.config_dir if begun else None,
    )
