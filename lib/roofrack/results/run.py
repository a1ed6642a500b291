"""A finished sweep as a question's page reads it: its rows, and what the rows came from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from roofrack.results import store
from roofrack.schema import GROUPS


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
    """All jobs of a sweep. `rows` is lazy: filter and aggregate before collecting."""

    rows: pl.LazyFrame
    jobs: tuple[JobRun, ...]

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

    def notes(self, kind: str) -> tuple[tuple[str, str], ...]:
        """Return (what, text) of the `sources` or `assumed` notes of every file the jobs used."""
        found: dict[tuple[str, str], None] = {}
        for job in self.jobs:
            for group in GROUPS:
                part = job.config[group]
                name = job.config["choices"][group]
                for field, text in (part.get(kind) or {}).items():
                    what = f"{group} {name}" + ("" if field == "default" else f": {field}")
                    found[what, " ".join(str(text).split())] = None
        return tuple(found)


def load(folder: Path) -> Run:
    """Read a sweep's folder; raise InputError if it holds no finished results."""
    rows = store.scan(folder)  # checks every job
    return Run(rows, tuple(JobRun(job.name, store.about(job)) for job in store.jobs(folder)))
