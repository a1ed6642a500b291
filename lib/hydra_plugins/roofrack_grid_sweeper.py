"""`hydra/sweeper=grid`: a sweep over values becomes a list inside one job, groups stay jobs.

Hydra needs 0.3 s a job; 10^5 points are one job here. The launcher is whichever is configured.
Hydra imports this module at every start, so it imports nothing heavy.
"""

import io
import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from roofrack import config
from roofrack.errors import InputError


@dataclass
class GridSweeperConf:
    """What can be set under `hydra.sweeper`; the same as for Hydra's basic sweeper."""

    _target_: str = "hydra_plugins.roofrack_grid_sweeper.GridSweeper"
    max_batch_size: int | None = None
    params: dict[str, Any] | None = None


ConfigStore.instance().store("grid", GridSweeperConf, group="hydra/sweeper", provider="roofrack")
config.register()


class GridSweeper(BasicSweeper):
    """Hydra's basic sweeper over what is left to sweep once the axes are lists."""

    def setup(self, **kwargs: Any) -> None:
        """Take Hydra's context, and a launcher that reports the first failure and nothing else."""
        super().setup(**kwargs)
        assert self.launcher is not None
        assert self.hydra_context is not None and self.config is not None
        overrides = _plain(self.config.hydra.overrides.hydra)
        loader = self.hydra_context.config_loader
        self.launcher = _Reporting(  # type: ignore[assignment]
            self.launcher, lambda job: config.calibrated(job, loader, _searching(overrides))
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs that the study and the command line ask for."""
        assert self.config is not None and self.hydra_context is not None
        overrides = _plain(self.config.hydra.overrides.hydra)
        options = config.options_of(self.hydra_context.config_loader, overrides)
        # not self.params, where `${geom:1,65536,17}` is a list already: it is recorded as it stands
        params = _plain(self.config.hydra.sweeper)["params"] or {}
        arguments = config.lift(config.with_study(params, arguments), options)
        self.params = {}  # they are among the arguments now
        folder = Path(self.config.hydra.sweep.dir)
        _claim(folder, overrides)
        # so that results of a sweep that was killed are not taken for all of them
        jobs = len(config.cross(config.parse(arguments)))
        (folder / "jobs.json").write_text(json.dumps({"jobs": jobs}) + "\n")
        return super().sweep(arguments)

    @staticmethod
    def split_arguments(
        overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Cross what is still a sweep, in batches of at most `max_batch_size` jobs."""
        return list(BasicSweeper.split_overrides_to_chunks(config.cross(overrides), max_batch_size))

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Do nothing: the command line has composed each choice, and it takes 0.1 s a job."""


def _searching(overrides: Sequence[str]) -> tuple[str, ...]:
    return tuple(text for text in overrides if text.startswith("hydra.searchpath="))


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=False)


class _Reporting:
    """A launcher whose failed jobs raise their own error, without Hydra's lines about it.

    Each job is launched with what `complete` makes of its overrides.
    """

    def __init__(self, launcher: Any, complete: Callable[[Sequence[str]], list[str]]) -> None:
        self._launcher = launcher
        self._complete = complete

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        job_overrides = [self._complete(job) for job in job_overrides]
        returns = self._launcher.launch(job_overrides, initial_job_idx=initial_job_idx)
        for number, job in enumerate(returns, initial_job_idx):
            if job.status == JobStatus.FAILED:
                try:
                    with redirect_stderr(io.StringIO()):
                        _ = job.return_value  # raises what the job raised
                except InputError as error:
                    which = f"job {number}: {' '.join(job.overrides or ())}"
                    raise InputError(f"{error} ({which})") from error
        return returns


def _claim(folder: Path, overrides: Sequence[str]) -> None:
    """Make the sweep's folder; one that exists is used only if the user named it."""
    named = any(text.startswith("hydra.sweep.dir=") for text in overrides)
    if any(folder.glob("*/points-*.parquet")):
        raise InputError(
            f"hydra.sweep.dir={folder}: holds the results of another sweep; name a new folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=named)
    except FileExistsError:
        raise InputError(
            f"hydra.sweep.dir={folder}: exists already, another sweep began in the same second;"
            " run it again, or name a folder yourself"
        ) from None
