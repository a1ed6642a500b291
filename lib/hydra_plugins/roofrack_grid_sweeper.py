"""`hydra/sweeper=grid`: a sweep over values becomes a list inside one job, groups stay jobs.

Hydra needs 0.3 s a job; 10^5 points are one job here. The launcher is whichever is configured.
Hydra imports this module at every start, so it imports nothing heavy.
"""

import io
import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from roofrack import config
from roofrack.config import SweepLoader
from roofrack.errors import InputError
from roofrack.results import books

_OF_ONE_RUN = ("hydra.sweep.dir=", "hydra.sweeper.resume=", "hydra.mode=")
_LAUNCHING = ("joblib", "submitit", "ray")


@dataclass
class GridSweeperConf:
    """What can be set under `hydra.sweeper`: as for Hydra's basic sweeper, and `resume`."""

    _target_: str = "hydra_plugins.roofrack_grid_sweeper.GridSweeper"
    max_batch_size: int | None = None
    params: dict[str, Any] | None = None
    resume: bool = False  # go on with the sweep in hydra.sweep.dir


ConfigStore.instance().store("grid", GridSweeperConf, group="hydra/sweeper", provider="roofrack")
config.register()


class GridSweeper(BasicSweeper):
    """Hydra's basic sweeper over what is left to sweep once the axes are lists."""

    def __init__(
        self,
        max_batch_size: int | None = None,
        params: dict[str, str] | None = None,
        resume: bool = False,
    ) -> None:
        """Take the settings under `hydra.sweeper`."""
        super().__init__(max_batch_size, params)
        self.resume = resume

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take Hydra's context, and a launcher that composes fast and reports one failure."""
        overrides = _plain(config.hydra.overrides.hydra)
        loader = SweepLoader(hydra_context.config_loader, overrides)
        super().setup(
            hydra_context=replace(hydra_context, config_loader=loader),
            task_function=task_function,
            config=config,
        )
        self.launcher = _Reporting(  # type: ignore[assignment]
            self.launcher,
            lambda job: [*loader.calibrated(job), self._place()],
            self._left if self.resume else None,
        )

    def _place(self) -> str:
        """Return where jobs write, as workers in other folders understand it."""
        assert self.config is not None
        folder = os.path.abspath(self.config.hydra.sweep.dir)
        return f"hydra.sweep.dir={QuotedString(folder, Quote.single).with_quotes()}"

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs that the study and the command line ask for."""
        assert self.config is not None and self.hydra_context is not None
        hydra = _plain(self.config.hydra.overrides.hydra)
        loader = self.hydra_context.config_loader
        options = config.options_of(loader, hydra)
        # not self.params, where `${geom:1,65536,17}` is a list already: it is recorded as it stands
        params = _plain(self.config.hydra.sweeper)["params"] or {}
        asked = config.lift(config.with_study(params, arguments), options)
        self.params = {}  # they are among the arguments now
        jobs = config.cross(config.parse(asked))
        folder = Path(self.config.hydra.sweep.dir)
        book = books.SweepBook(
            jobs=len(jobs),
            asked=books.digest(jobs),
            overrides=list(arguments),
            hydra=[text for text in hydra if not text.startswith(_OF_ONE_RUN)],
            config_dir=config.command_line_dir(loader),
            versions=books.versions(),
        )
        if self.resume:
            book.resume(folder)
        else:
            _make(folder, hydra)
            book.begin(folder)
        return super().sweep(asked)

    def _left(self, numbers: Sequence[int]) -> Sequence[int]:
        """Return the jobs that are not finished, where their folders have their numbers."""
        assert self.config is not None
        if _plain(self.config.hydra.sweep)["subdir"] != "${hydra.job.num}":
            return numbers  # each finds out for itself
        return books.unfinished(Path(self.config.hydra.sweep.dir), numbers)

    @staticmethod
    def split_arguments(
        overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Cross what is still a sweep, in batches of at most `max_batch_size` jobs."""
        return list(BasicSweeper.split_overrides_to_chunks(config.cross(overrides), max_batch_size))

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Do nothing: the command line has composed each choice, and it takes 0.1 s a job."""


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=False)


class _Reporting:
    """A launcher whose failed jobs raise their own error, without Hydra's lines about it.

    Each job is launched with what `complete` makes of its overrides; only those that `left` returns
    are launched at all, into the folders of their numbers.
    """

    def __init__(
        self,
        launcher: Any,
        complete: Callable[[Sequence[str]], list[str]],
        left: Callable[[Sequence[int]], Sequence[int]] | None,
    ) -> None:
        self._launcher = launcher
        self._complete = complete
        self._left = left

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        numbers: Sequence[int] = range(initial_job_idx, initial_job_idx + len(job_overrides))
        jobs = [list(job) for job in job_overrides]
        if self._left is not None:
            left = self._left(numbers)
            if len(left) < len(jobs):
                jobs = [[*jobs[n - initial_job_idx], f"hydra.sweep.subdir='{n}'"] for n in left]
                numbers = left
        if not jobs:
            return []
        launched = [self._complete(job) for job in jobs]
        returns = self._launched(launched, initial_job_idx)
        for number, job in zip(numbers, returns, strict=True):
            if job.status == JobStatus.FAILED:
                try:
                    with redirect_stderr(io.StringIO()):
                        _ = job.return_value  # raises what the job raised
                except InputError as error:
                    which = f"job {number}: {' '.join(job.overrides or ())}"
                    raise InputError(f"{error} ({which})") from error
        return returns

    def _launched(self, jobs: Sequence[Sequence[str]], first: int) -> Sequence[JobReturn]:
        try:
            return self._launcher.launch(jobs, initial_job_idx=first)
        except Exception as error:
            package = type(error).__module__.partition(".")[0]
            if package not in _LAUNCHING:
                raise
            lines = str(error).strip().splitlines() or [""]
            said = " ... ".join(dict.fromkeys((lines[0], lines[-1])))  # a trace ends in its error
            raise InputError(
                f"{package}: {type(error).__name__}: {said} (what the jobs wrote is kept:"
                " go on with resume=FOLDER)"
            ) from error


def _make(folder: Path, overrides: Sequence[str]) -> None:
    """Make the sweep's folder; one that exists is used only if the user named it."""
    named = any(text.startswith("hydra.sweep.dir=") for text in overrides)
    try:
        folder.mkdir(parents=True, exist_ok=named)
    except FileExistsError:
        raise InputError(
            f"hydra.sweep.dir={folder}: exists already, another sweep began in the same second;"
            " run it again, or name a folder yourself"
        ) from None
