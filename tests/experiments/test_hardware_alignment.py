"""Which machine suits which model: the page follows the rows."""

from pathlib import Path

import pytest

from roofrack import config
from roofrack.api import run_job
from roofrack.errors import InputError
from roofrack.report.page import Page
from roofrack.report.question import page_of
from roofrack.report.render import render

SMALL = (
    "experiment=hardware_alignment",
    "batch=[1,64,1024]",
    "context=[8192]",
    "parallelism.tp=[1,8]",
    "parallelism.dp=[1,8]",
)


def made(folder: Path, *words: str) -> Page:
    """Return the page of a small run of the question."""
    for number, job in enumerate(config.jobs((*SMALL, *words))):
        run_job(config.compose(job), job, folder / str(number))
    return page_of(folder)


def told(page: Page) -> str:
    return " ".join([page.answer, *(finding.text for finding in page.findings)])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return made(tmp_path_factory.mktemp("alignment"))


def test_the_page_has_charts_findings_and_a_way_to_repeat_it(page: Page) -> None:
    assert len(page.findings) >= 5
    assert sum(f.chart is not None for section in page.sections for f in section.figures) >= 4
    assert "experiment=hardware_alignment" in page.provenance.command
    assert any(section.controls for section in page.sections)
    assert len(render(page)) > 1e5


def test_another_machine_says_something_else(page: Page, tmp_path: Path) -> None:
    other = told(made(tmp_path, "hardware=h100_sxm", "model=llama3_1_70b"))
    assert other != told(page)
    assert "H100" in other


def test_where_nothing_fits_it_says_so(tmp_path: Path) -> None:
    words = ("hardware=l4", "model=llama3_1_405b", "parallelism.tp=[1]", "parallelism.dp=[1]")
    try:
        text = told(made(tmp_path, *words))
    except InputError as error:
        text = str(error)
    assert any(word in text for word in ("fit", "serve", "memory"))
