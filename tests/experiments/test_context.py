"""What does context cost: golden knees, sheets, sentences that follow the rows."""

import pytest
from questions import Asked, figures_named, with_config

from roofrack.errors import InputError
from roofrack.experiments import context
from roofrack.experiments.common.columns import COST
from roofrack.experiments.common.studies import Studies
from roofrack.experiments.context import sheets
from roofrack.experiments.context.findings import findings
from roofrack.experiments.context.measures import crossing, kv_bytes_for, lecture_kv_bytes, line
from roofrack.experiments.context.rows import Facts, facts, settings
from roofrack.report.page import Page
from roofrack.report.render import render
from roofrack.results.run import Run

SMALL = (
    "experiment=context",
    "model=deepseek_v3,llama3_1_70b",
    "context=4096,8192,65536,200000",
    "batch=1,16,256",
    "parallelism.tp=1,8",
    "parallelism.dp=1,8",
)


def gathered(run: Run) -> Facts:
    made = facts(run, Studies(run))
    assert isinstance(made, Facts)
    return made


@pytest.fixture(scope="module")
def found(asked: Asked) -> Facts:
    return gathered(asked())


def told(run: Run) -> dict[str, str]:
    return {f.basis: f.text for f in findings(gathered(run))}


def test_the_lectures_bytes_of_cache_are_golden(found: Facts) -> None:
    assert lecture_kv_bytes(found.settings) == pytest.approx(1666.7, abs=0.1)


def test_the_bytes_for_a_knee_put_it_there(found: Facts) -> None:
    row = found.best.row(0, named=True)
    bytes_ = kv_bytes_for(row, 2 * row["context_knee_tokens"])
    assert bytes_ == pytest.approx(row["kv_bytes_per_token"] / 2)


def test_the_surcharge_of_the_sheets_is_on_output_alone() -> None:
    rows = {r["model"]: r for r in sheets.tiers().iter_rows(named=True)}
    assert rows["Gemini 3.1 Pro"]["output_rise"] == 1.5
    assert rows["Gemini 3.1 Pro"]["input_rise"] == 2.0
    assert sheets.sheets()["source"].str.contains("https://").all()
    assert sheets.sheets()["date"].str.contains(r"^20\d\d-\d\d-\d\d$").all()


def test_the_best_row_is_the_cheapest(found: Facts) -> None:
    for pair in found.pairs:
        own = found.of(found.steps, pair)
        for row in found.of(found.best, pair).iter_rows(named=True):
            same = own.filter(own["context"] == row["context"])
            assert same.is_empty() or row[COST] <= same[COST].min()


def test_a_crossing_lies_where_the_ratio_is_reached(found: Facts) -> None:
    rows = found.of(found.best, found.shown)
    at = crossing(rows, "context", COST, 1.5, 4096.0)
    assert at is not None and 4096 < at < 200000
    assert crossing(rows, "context", COST, 1e9, 4096.0) is None


def test_context_adds_reads_and_arithmetic(found: Facts) -> None:
    for pair in found.pairs:
        of = line(found, pair)
        assert of is not None and of.kv_s > 0 and of.compute_s > 0
    latent, grouped = (line(found, p) for p in found.pairs)
    assert latent and grouped
    assert latent.kv_s < grouped.kv_s * latent.batch / grouped.batch * 8


def test_the_page_is_whole(page: Page) -> None:
    figures_named(page)
    assert {f.verdict for f in page.findings} >= {"agrees", "contradicts", "neutral"}
    assert page.provenance.command.startswith("roofrack sweep")
    assert render(page)


def test_a_dearer_machine_changes_the_costs_and_not_the_knees(asked: Asked) -> None:
    before, after = told(asked()), told(asked("hardware.usd_per_chip_hour=20"))
    knees = "context_knee_tokens; roofrack.cost.money.context_knee"
    cost = "cheapest row of each pair and context: usd_per_mtok"
    assert before[knees] == after[knees]
    assert before[cost] != after[cost]


def test_a_machine_of_little_arithmetic_is_bound_by_it(asked: Asked) -> None:
    basis = "t_compute_s and t_kv_s of one plan and batch over context"
    one = ("model=deepseek_v3", "calibration=ideal")
    assert "for no model" in told(asked(*one))[basis]
    slow = told(asked(*one, "hardware.flops_per_s.bf16=1e14"))[basis]
    assert "cache reads for DeepSeek-V3" in slow


def test_one_value_of_each_axis_still_makes_a_page(asked: Asked) -> None:
    run = asked("model=llama3_1_70b", "context=8192", "batch=16", "parallelism.dp=1")
    made = context.page(run)
    assert render(made) and made.findings


def test_where_nothing_fits_the_page_says_so(asked: Asked) -> None:
    run = asked("hardware=l4", "model=deepseek_v3", "parallelism.dp=1", "workload.dtype.math=fp8")
    made = context.page(run)
    assert made.answer.startswith("Nothing of this run can serve")
    assert "DeepSeek-V3 (" in made.findings[0].text
    assert render(made)


def test_hostile_names_change_nothing(asked: Asked) -> None:
    run = asked("model=llama3_1_70b", "context=4096,8192", "batch=16", "parallelism.dp=1")
    name = "</script>\"'<b>"
    html = render(context.page(with_config(run, "model", name=name)))
    assert "<b>" not in html and name not in html


def test_settings_are_checked(asked: Asked) -> None:
    with pytest.raises(InputError, match=r"experiment\.surcharge=0\.5"):
        settings(with_config(asked(), "experiment", surcharge=0.5))
