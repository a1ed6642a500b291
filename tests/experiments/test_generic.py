"""The page of any sweep: what is best, what binds, what cannot run, and never too many points."""

from dataclasses import replace

import polars as pl
import pytest
from questions import Sweep

from roofrack.experiments import generic
from roofrack.experiments.common.pages import command, merged
from roofrack.experiments.generic.rows import MOST_POINTS, summary
from roofrack.report.format import listed
from roofrack.report.page import figures_of
from roofrack.report.question import page_of
from roofrack.report.render import render
from roofrack.report.specs import to_spec
from roofrack.results.run import load

LONG = ("batch=${range:1,4097}", "parallelism.tp=4,8")


@pytest.mark.slow
def test_long_axes_are_thinned_before_anything_is_drawn(sweep: Sweep) -> None:
    run = load(sweep(*LONG))
    found = summary(run)
    assert found.x == "batch"
    assert len(found.curve) <= MOST_POINTS
    rows = run.rows.filter(pl.col("valid"), pl.col("fits")).collect()
    assert found.curve["batch"].min() == rows["batch"].min()
    assert found.curve["batch"].max() == rows["batch"].max()
    assert found.best["usd_per_mtok"][0] == rows["usd_per_mtok"].min()
    assert found.quickest["tpot_s"][0] == rows["tpot_s"].min()
    for figure in figures_of(generic.page(run)):
        if figure.chart is not None:
            sizes = [len(rows) for rows in to_spec(figure.chart)["datasets"].values()]
            assert sum(sizes) <= 5000


def test_each_point_is_the_cheapest_over_the_other_axes(sweep: Sweep) -> None:
    run = load(sweep(*LONG))
    rows = run.rows.filter(pl.col("valid"), pl.col("fits"), pl.col("batch") <= 100)
    cheapest = rows.group_by("batch").agg(pl.col("usd_per_mtok").min()).sort("batch").collect()
    found = summary(replace(run, rows=rows))
    assert found.curve["usd_per_mtok"].to_list() == cheapest["usd_per_mtok"].to_list()


@pytest.mark.slow
def test_nothing_that_runs_is_an_answer_too(sweep: Sweep) -> None:
    page = page_of(sweep("hardware=tpu_v5e", "dtype=fp8", "batch=1,64"))
    assert page.answer.startswith("None of 2 points can be served")
    assert "100 % of the points cannot run: the chip has no units" in page.findings[-1].text
    assert render(page)


def test_what_does_not_fit_is_counted_and_never_rounded_to_all(sweep: Sweep) -> None:
    texts = [f.text for f in generic.page(load(sweep(*LONG))).findings]
    (text,) = [t for t in texts if "do not fit" in t]
    assert "100 %" not in text


def test_findings_follow_the_rows(sweep: Sweep) -> None:
    slow = page_of(sweep("hardware=a100_80gb", "batch=1,64"))
    quick = page_of(sweep("hardware=h100_sxm", "batch=1,64"))
    assert slow.findings[0].text != quick.findings[0].text
    assert "A100" in slow.findings[0].text and "H100" in quick.findings[0].text


@pytest.mark.parametrize(
    "overrides",
    [
        ("hardware=h100_sxm,a100_80gb",),
        ("model=llama2_13b,llama3_1_70b,mixtral_8x7b", "batch=1,64"),
        pytest.param(("workload.dtype.kv=bf16,fp8",), marks=pytest.mark.slow),
        pytest.param(("workload=prefill", "workload.prompt=1024,4096"), marks=pytest.mark.slow),
        pytest.param(("workload=chat", "batch=1,8"), marks=pytest.mark.slow),
    ],
)
def test_any_sweep_has_a_page(overrides: tuple[str, ...], sweep: Sweep) -> None:
    page = page_of(sweep(*overrides))
    assert page.findings and render(page)


def test_command_joins_jobs(sweep: Sweep) -> None:
    run = load(sweep("hardware=h100_sxm,a100_80gb", "batch=1,64"))
    assert command(run) == "roofrack sweep hardware=h100_sxm,a100_80gb 'batch=[1,64]'"
    assert merged([["a=1", "b=2"], ["a=3", "b=2"]]) == ["a=1,3", "b=2"]


def test_lists_read_as_sentences() -> None:
    some = [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])]
    assert some == ["", "a", "a and b", "a, b and c"]
