"""Small runs of questions: real rows, evaluated once per session."""

from pathlib import Path

import pytest
from questions import SMALL, Asked, Sweep, asking

from roofrack import api, config
from roofrack.report.page import Page
from roofrack.report.question import page_of
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


@pytest.fixture(scope="module")
def asked(sweep: Sweep, request: pytest.FixtureRequest) -> Asked:
    """The run SMALL of the module of a test, with overrides added."""
    return asking(sweep, request.module.SMALL)


@pytest.fixture(scope="module")
def page(sweep: Sweep, request: pytest.FixtureRequest) -> Page:
    """The page of the run SMALL of the module of a test."""
    return page_of(sweep(*request.module.SMALL))


@pytest.fixture(scope="session")
def small(sweep: Sweep) -> Run:
    """A small run of fast_mode: two machines, two models."""
    return load(sweep(*SMALL))


@pytest.fixture(scope="session")
def changed(sweep: Sweep) -> Asked:
    """The small run of fast_mode with overrides added."""
    return asking(sweep, SMALL)
