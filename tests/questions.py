"""What the tests of questions share: a small run with other overrides, and what any page has."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from roofrack.report.page import Page, figures_of
from roofrack.report.specs import to_spec
from roofrack.results.run import Run, load

Sweep = Callable[..., Path]
"""Evaluates overrides as `roofrack sweep` does; returns the folder."""
Asked = Callable[..., Run]
"""Evaluates a small run with overrides added."""
SMALL = (
    "experiment=fast_mode",
    "hardware=b200,gb200_nvl72",
    "model=llama3_1_70b,deepseek_v3",
    "batch=1,8,64,512,4096,8192",
    "parallelism.tp=1,8",
    "parallelism.dp=1,8,64",
    "workload.dtype.math=fp8",
)
"""The question fast_mode, small."""


def asking(sweep: Sweep, small: Sequence[str]) -> Asked:
    """Return what evaluates a run with overrides added; of a key given twice the later counts."""

    def run(*overrides: str) -> Run:
        return load(sweep(*{text.split("=")[0]: text for text in (*small, *overrides)}.values()))

    return run


def with_config(run: Run, section: str, **values: Any) -> Run:
    """Return a run whose first job says that it was composed otherwise; it has no other job."""
    job = run.jobs[0]
    changed = {**job.config, section: {**job.config[section], **values}}
    return replace(run, jobs=(replace(job, about={**job.about, "config": changed}),))


def with_axis(run: Run, axis: str) -> Run:
    """Return a run whose first job says that it swept one axis more; it has no other job."""
    job = run.jobs[0]
    about = {**job.about, "axes": [*run.axes, axis]}
    return replace(run, jobs=(replace(job, about=about),))


def figures_named(page: Page) -> set[str]:
    """Return the keys of a page's figures; every finding that names one names one of them."""
    keys = {figure.key for figure in figures_of(page)}
    named = {finding.figure for finding in page.findings} - {""}
    assert named <= keys, named - keys
    return keys


def check_charts(page: Page) -> None:
    """Check that charts embed few rows, datasets too, and say what they show."""
    for figure in figures_of(page):
        if figure.chart is not None:
            rows = to_spec(figure.chart).get("datasets", {})
            assert sum(len(some) for some in rows.values()) <= 5000, figure.key
            assert len(figure.description) > 40 and figure.caption, figure.key
    assert all(table.height <= 8000 for table in page.datasets.values())
