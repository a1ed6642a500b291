"""What does a pipeline buy: memory, time and money follow the rows, and any run has a page."""

from dataclasses import replace

import polars as pl
import pytest
from questions import Asked, check_charts, figures_named, with_axis, with_config

from roofrack.errors import InputError
from roofrack.experiments import pipeline
from roofrack.experiments.common.columns import COST
from roofrack.experiments.common.studies import Studies
from roofrack.experiments.pipeline.asked import SCHEDULE_NAMES, need, outer_level
from roofrack.experiments.pipeline.facts import Facts, cheapest, facts, same_chips
from roofrack.report.page import Page, figures_of
from roofrack.report.render import render
from roofrack.report.specs import to_spec

SMALL = (
    "experiment=pipeline",
    "workload.batch=[128,2048,8192]",
    "parallelism.pp=[1,2,8]",
    "parallelism.tp=[1]",
    "parallelism.dp=[8,64]",
    "parallelism.ep=[stage]",
)


@pytest.fixture(scope="module")
def found(asked: Asked) -> Facts:
    run = asked()
    made = facts(run, run.jobs[0])
    assert made is not None
    return made


def text_of(page: Page, figure: str, nth: int = 0) -> str:
    return [f.text for f in page.findings if f.figure == figure][nth]


def test_the_home_layout_is_the_largest_stage_that_serves(found: Facts) -> None:
    assert (found.home["tp"], found.home["dp"], found.home["ep"]) == (1, 64, "stage")
    assert found.depths == (1, 2, 8) and found.deep == 8
    assert set(found.table["stage"]) == {8.0, 64.0}


def test_weights_shrink_and_the_cache_does_not(found: Facts, page: Page) -> None:
    assert found.ends is not None
    one, deep = found.ends
    assert 6.0 < one["mem_weights_bytes"] / deep["mem_weights_bytes"] <= 8.0
    assert deep["mem_kv_bytes"] / one["mem_kv_bytes"] == pytest.approx(64 / 61, rel=1e-3)
    fixed = found.at(8, "fixed")
    assert fixed is not None
    assert one["mem_kv_bytes"] / fixed["mem_kv_bytes"] == pytest.approx(8 * 61 / 64, rel=1e-3)
    verdicts = {f.figure: f.verdict for f in page.findings}
    assert verdicts["memory"] == "agrees"
    assert "27.3 GB to 4.27 GB" in text_of(page, "memory")


def test_best_rows_are_the_least(found: Facts) -> None:
    grown = found.table.filter("fits", reading="grow")
    for row in cheapest(found).iter_rows(named=True):
        assert row[COST] == grown.filter(pp=row["pp"])[COST].min()
    for row in same_chips(found).iter_rows(named=True):
        assert row["chips"] == 64.0 and row["batch"] == 2048.0
        assert row["stage"] * row["pp"] == 64.0


def test_one_rack_is_enough_up_to_a_size(found: Facts) -> None:
    made = need(found, Studies(found.run, found.job))
    assert made.grown == "experts"
    assert made.limit is not None and made.limit_alone is not None
    assert made.limit < made.limit_alone
    rows = made.rows.filter(batch=found.batch)
    fits = rows.filter(pl.col("pp") == 1)["params_total"].to_list()
    larger = rows.filter(pl.col("pp") > 1)["params_total"].to_list()
    assert max(fits) < made.limit < min(larger)
    assert rows.sort("params_total")["pp"].drop_nulls().is_sorted()


def test_every_finding_points_to_a_figure_of_the_page(page: Page) -> None:
    keys = figures_named(page)
    assert {f"gantt_{name}" for name in SCHEDULE_NAMES} <= keys
    assert 5 <= len(page.findings) <= 9
    jobs = {job.name for job in page.provenance.jobs}
    assert {"larger weights", "schedules in training", "one step of DualPipe"} <= jobs


def test_charts_stay_small_and_described(page: Page) -> None:
    check_charts(page)
    assert all(f.chart is not None and f.table.height for f in figures_of(page))
    live = [section for section in page.sections if section.controls]
    assert {c.key for section in live for c in section.controls} == {
        "batch", "context", "reading", "links", "price", "m",
    }  # fmt: skip


def test_gantt_charts_have_one_time_axis(page: Page) -> None:
    charts = [f for f in figures_of(page) if f.key.startswith("gantt_")]
    ends = {tuple(to_spec(f.chart)["encoding"]["x"]["scale"]["domain"]) for f in charts}
    assert len(ends) == 1
    assert max(f.table["end_s"].max() for f in charts) == ends.pop()[1]  # type: ignore[type-var]


def test_another_machine_changes_the_sentences(asked: Asked, page: Page) -> None:
    other = pipeline.page(asked("hardware=b300", "parallelism.dp=[8]", "workload.batch=[128]"))
    assert text_of(other, "memory") != text_of(page, "memory")
    assert "B300" in other.answer and "B300" not in page.answer


def test_without_losses_depth_costs_only_hops(asked: Asked) -> None:
    run = asked("hardware=blackboard", "model=blackboard", "calibration=ideal", "overlap=ideal")
    made = facts(run, run.jobs[0])
    assert made is not None and made.ends is not None
    one, deep = made.ends
    assert 1.0 < deep["tpot_s"] / one["tpot_s"] < 1.01
    (latency,) = [f for f in pipeline.page(run).findings if f.figure == "latency"]
    assert latency.verdict == "agrees" and "do not divide" not in latency.text


def test_one_depth_compares_nothing(asked: Asked) -> None:
    page = pipeline.page(asked("parallelism.pp=1", "workload.batch=2048"))
    assert "one depth alone" in page.answer
    assert not any("instead of 1" in f.text for f in page.findings)
    assert render(page)


def test_what_does_not_fit_is_said(asked: Asked) -> None:
    run = asked("hardware=l4", "dtype=bf16", "parallelism.dp=[8]", "parallelism.pp=[1,2]")
    page = pipeline.page(run)
    assert page.answer.startswith("DeepSeek-V3 on NVIDIA L4 cannot be served")
    assert page.findings[0].text.startswith("Not served")
    assert render(page)


def test_what_cannot_run_is_said(asked: Asked) -> None:
    page = pipeline.page(asked("hardware=a100_80gb"))
    assert "no units for dtype.math" in page.answer
    assert not page.sections and render(page)


def test_a_machine_of_one_level_has_no_links_to_move(asked: Asked) -> None:
    level = {"fabric": {"only": {"chips": 8, "bytes_per_s": 1e11}}}
    assert outer_level({"hardware": level}) is None
    assert outer_level(asked().jobs[0].config) == ("scale_out", 5e10)


def test_hostile_names_are_text(asked: Asked) -> None:
    name = "</script>\"'<b>"
    run = with_config(asked("parallelism.dp=[8]", "workload.batch=[128]"), "model", name=name)
    html = render(pipeline.page(run))
    assert name not in html


@pytest.mark.parametrize("value", [None, "six", 0, -1, True])
def test_settings_are_checked(value: object, asked: Asked) -> None:
    with pytest.raises(InputError, match="show_batch"):
        pipeline.page(with_config(asked(), "experiment", show_batch=value))


def test_other_questions_are_refused(asked: Asked) -> None:
    run = asked()
    with pytest.raises(InputError, match="phase=train"):
        pipeline.page(with_config(run, "workload", phase="train"))
    with pytest.raises(InputError, match="two jobs"):
        pipeline.page(replace(run, jobs=run.jobs * 2))
    with pytest.raises(InputError, match="context is swept"):
        pipeline.page(with_axis(run, "context"))
