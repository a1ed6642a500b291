"""Small runs of questions: real rows, evaluated once per session."""

from collections.abc import Callable
from pathlib import Path

import pytest
from questions import SMALL, Sweep

from roofrack import api, config
from roofrack.results.run import Run, load


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Evaluate overrides as `roofrack sweep` does and return the folder; asked twice, run once."""
    done: dict[tuple[str, ...], Path] = {}

    def run(*overrides: str) -> Path:
        if overrides not in done:
            folder = tmp_path_factory.mktemp("sweep")
            for number, job in enumerate(config.jobs(overrides)):
                api.run_job(config.compose(job), job, folder / str(number))
            done[overrides] = folder
        return done[overrides]

    return run


@pytest.fixture(scope="session")
def small(sweep: Sweep) -> Run:
    """A small run of fast_mode: two machines, two models."""
    return load(sweep(*SMALL))


@pytest.fixture(scope="session")
def changed(sweep: Sweep) -> Callable[..., Run]:
    """The small run with overrides added; of a key given twice the later value counts."""

    def run(*overrides: str) -> Run:
        wanted = {text.split("=")[0]: text for text in (*SMALL, *overrides)}
        return load(sweep(*wanted.values()))

    return run
