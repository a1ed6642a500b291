"""Studies that a page computes beside its run: the same machine and model, asked something else.

A page has one sweep of its own, which its question's file declares. What that sweep cannot hold (a
second phase, another axis) is asked here, of the reader's own machine, model, prices and numbers,
and told on the page like the jobs of the run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from roofrack import config
from roofrack.report.page import Job
from roofrack.results.asked import rows_of_job
from roofrack.results.run import JobRun, Run
from roofrack.results.store import config_hash

SERVED = ("hardware", "model", "dtype", "economics", "calibration")
"""Groups that say what is served on what, and how it is paid: a study keeps them."""
_KEPT = ("hardware.", "model.", "economics.", "calibration.", "workload.dtype.", "cost.")
_PLAIN = ("overlap", "precision")


def base(job: JobRun) -> tuple[str, ...]:
    """Return the overrides that compose a job's machine, model, formats, prices and calibration.

    Neither its plan nor its traffic: a study says those itself. Numbers given by hand are kept,
    axes are not.
    """
    choices = job.config["choices"]
    groups = [f"{group}={choices[group]}" for group in SERVED if choices.get(group)]
    return (*groups, *(text for text in job.overrides if _is_kept(text)))


def _is_kept(override: str) -> bool:
    key, _, value = override.lstrip("+").partition("=")
    is_axis = value.startswith("[") or value.startswith("${")
    return not is_axis and (key.startswith(_KEPT) or key in _PLAIN)


def _of_another_machine(words: Sequence[str]) -> tuple[str, ...]:
    """Return the calibration of a study that names another machine: that machine's own.

    One that belongs to no machine would be as good there: a study that wants it says so.
    """
    return ("calibration=auto",) if any(w.startswith("hardware=") for w in words) else ()


class Studies:
    """Asks studies for a page and remembers what it asked (`jobs`, for its provenance)."""

    def __init__(self, run: Run, job: JobRun | None = None) -> None:
        """Take the run whose page it is; `job` is the one whose machine and model are asked."""
        self.run = run
        self.job = job or run.jobs[0]
        self.jobs: list[Job] = []

    def words(self, *words: str, job: JobRun | None = None) -> tuple[str, ...]:
        """Return the overrides of a study: the machine and model of a job, then `words`.

        Words are overrides as of `roofrack sweep` and come last, so they win.
        """
        return (*base(job or self.job), *_of_another_machine(words), *words)

    def rows(self, name: str, *words: str, job: JobRun | None = None) -> pl.DataFrame:
        """Return the rows of a sweep of `words`. Raises InputError."""
        asked = self.words(*words, job=job)
        jobs = [config.compose(one, self.run.config_dir) for one in self._jobs(asked)]
        self._keep(name, asked, jobs[0])
        return pl.concat([rows_of_job(one) for one in jobs], how="diagonal_relaxed")

    def config(self, *words: str, job: JobRun | None = None) -> Mapping[str, Any]:
        """Return the composed configuration of one point."""
        return config.compose(self.words(*words, job=job), self.run.config_dir)

    def note(self, name: str, words: Sequence[str]) -> None:
        """Remember a study that the page asked in its own way."""
        self._keep(name, words, config.compose(self._jobs(words)[0], self.run.config_dir))

    def _jobs(self, words: Sequence[str]) -> Sequence[Sequence[str]]:
        return config.jobs(words, self.run.config_dir)

    def _keep(self, name: str, words: Sequence[str], composed: Mapping[str, Any]) -> None:
        self.jobs.append(Job(name, tuple(words), config_hash(composed)))
