"""Other tools: the answers that ship are to the questions that are asked; sentences follow rows."""

import math
from dataclasses import replace

import polars as pl
import pytest
from questions import Asked, figures_named, with_config

from roofrack.errors import InputError
from roofrack.experiments import peers
from roofrack.experiments.peers import figures, tables
from roofrack.experiments.peers import rows as gathered
from roofrack.experiments.peers.findings import findings
from roofrack.experiments.peers.questions import CURVE, measured_questions, questions
from roofrack.experiments.peers.rows import MEASURED, Facts, errors, facts
from roofrack.experiments.peers.tables import FOUND, IDEAL, OURS
from roofrack.report.page import Finding, Page, figures_of
from roofrack.report.render import render
from roofrack.report.specs import to_spec
from roofrack.validation import published

SMALL = (
    "experiment=peers",
    "hardware=h100_sxm",
    "model=llama3_1_70b",
    "parallelism.tp=[4,8]",
    "workload.prompt=[467]",
    "workload.batch=[1,64]",
)


@pytest.fixture(scope="module")
def found(asked: Asked) -> Facts:
    return facts(asked())


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, found: Facts) -> None:
    """Take roofrack's answers as computed once: other runs of this file change the curve alone."""
    ours = found.said.filter(pl.col("label").is_in([OURS, IDEAL])).drop("ratio")
    monkeypatch.setattr(gathered, "_ours", lambda _: ours)


def told(found: Facts, figure: str) -> list[Finding]:
    return [f for f in findings(found) if f.figure == figure]


def test_every_shipped_answer_is_to_a_question_that_is_asked() -> None:
    table = tables.answers()
    known = {(key, point.name) for key, q in questions().items() for point in q.points}
    assert set(zip(table["question"], table["point"], strict=True)) == known
    given = table["answer"].is_not_null()
    assert (given == (table["refused"] == "").fill_null(True)).all()
    assert (table.filter(given)["answer"] > 0).all()


def test_measured_numbers_are_those_of_the_validation_tables() -> None:
    facts_there = {row["id"]: row for row in published.load().iter_rows(named=True)}
    for question in measured_questions():
        for point in question.points:
            assert point.measured and point.source
            if point.name in facts_there:
                row = facts_there[point.name]
                assert point.measured == row["measured"]
                assert (question.column, question.unit) == (row["column"], row["unit"])


def test_tools_are_told_whole_batches_and_the_settings_of_the_run() -> None:
    point = questions()["llama70b_serve"].points[1]
    assert "workload.batch=59.52" in point.overrides
    told = {"batch": 60, "prompt": 467, "output": 256, "tp": 4, "dtype": "bf16"}
    assert told.items() <= point.settings.items()


def test_roofracks_answers_are_what_validate_predicts(found: Facts) -> None:
    ids = [p.name for p in questions()["bloom_prefill"].points]
    for label, overrides in ((IDEAL, ("calibration=ideal",)), (OURS, ())):
        there = published.predict(published.load().filter(pl.col("id").is_in(ids)), overrides)
        here = found.said.filter(pl.col("label") == label, pl.col("point").is_in(ids))
        here = here.sort("point")["value"].to_list()
        assert here == pytest.approx(there.sort("id")["predicted"].to_list(), rel=1e-6)
    here = found.said.filter(pl.col("label") == OURS)
    assert (here["low"] < here["value"]).all() and (here["value"] < here["high"]).all()


def test_errors_compare_the_same_runs(found: Facts) -> None:
    table = {row["label"]: row for row in errors(found.said).iter_rows(named=True)}
    genz = found.said.filter(pl.col("label") == "GenZ")
    assert table["GenZ"]["runs"] == genz.height
    assert table["GenZ"]["mean"] == pytest.approx((genz["ratio"] - 1).abs().mean())
    own = found.said.filter(pl.col("label") == OURS, pl.col("point").is_in(genz["point"].implode()))
    assert table["GenZ"]["ours"] == pytest.approx((own["ratio"] - 1).abs().mean())
    assert table[OURS]["nearer"] == 0


def test_a_nearer_tool_is_named_and_only_then(found: Facts) -> None:
    text = told(found, "errors")[1].text
    nearer = errors(found.said).filter(pl.col("nearer") > 0)["label"].to_list()
    assert nearer and all(label in text for label in nearer)
    worse = found.said.with_columns(
        ratio=pl.when(pl.col("label") == OURS).then(1.0).otherwise(pl.col("ratio") * 0.1)
    )
    text = told(replace(found, said=worse), "errors")[1].text
    assert text.startswith("In none of")


def test_promises_count_a_rate_the_other_way_round(found: Facts) -> None:
    rate = found.said.filter(pl.col("question") == "deepseek_decode", pl.col("label") == OURS)
    ratio = rate["ratio"][0]
    whole = replace(found, said=found.said.filter(pl.col("question") == "deepseek_decode"))
    text = told(whole, "answers-deepseek_decode")[0].text
    assert f"{1 if ratio > 1 else 0} of 1 of roofrack" in text


def test_the_curve_has_tools_and_measured_runs_where_they_were_asked(found: Facts) -> None:
    labels = set(found.curve["label"])
    assert {OURS, MEASURED, "GenZ"} <= labels
    runs = found.curve.filter(pl.col("label") == MEASURED)
    assert set(runs["tp"]) == {4.0} and set(runs["prompt"]) == {467.0}
    answers = tables.answers().filter(pl.col("question") == CURVE, pl.col("label") == "GenZ")
    points = {p.name: p.settings for p in questions()[CURVE].points if p.settings["prompt"] == 467}
    given = answers.filter(pl.col("point").is_in(list(points)))["answer"].drop_nulls().sort()
    assert found.curve.filter(pl.col("label") == "GenZ")["value"].sort().equals(given)
    assert "GenZ" in told(found, "curve")[0].text


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    "change",
    ["hardware=b200", "workload.output=64", "hardware.hbm_bytes_per_s=2e12", "dtype=fp8"],
)
def test_another_scenario_has_no_answers_of_tools(asked: Asked, change: str) -> None:
    other = facts(asked(change))
    assert set(other.curve["label"]) == {OURS} and not other.shared
    assert told(other, "curve")[0].text.startswith("No other tool was asked about")


@pytest.mark.usefixtures("known")
def test_nothing_fits_and_one_value_of_each(asked: Asked) -> None:
    none = asked("model=deepseek_v3", "parallelism.tp=[1]", "workload.batch=[1]")
    page = peers.page(none)
    assert any("no plan of this run fits" in f.text for f in page.findings)
    assert "curve" not in {figure.key for figure in figures_of(page)}
    render(page)
    one = facts(asked("parallelism.tp=[4]", "workload.batch=[64]"))
    assert figures.controls(one) == ()
    to_spec(figures.curve(one).chart)


def test_a_calibration_of_the_reader_changes_roofracks_answers(asked: Asked, found: Facts) -> None:
    ideal = facts(asked("calibration=ideal"))
    assert IDEAL not in set(ideal.said["label"]) and ideal.calibration == "ideal"
    own, lossless = (f.said.filter(pl.col("label") == OURS) for f in (found, ideal))
    times = own["question"] != "deepseek_decode"
    assert (lossless.filter(times)["value"] < own.filter(times)["value"]).all()
    assert lossless["low"].is_null().all()  # nothing fitted, no error bar


def test_the_own_calibration_of_a_machine_is_not_taken_for_others(asked: Asked) -> None:
    assert gathered._calibration(asked("calibration=h100_sxm_trtllm")) == ""
    assert gathered._calibration(asked("calibration=ideal")) == "ideal"


@pytest.mark.usefixtures("known")
def test_a_chart_shows_only_chips_and_prompts_of_the_run(asked: Asked) -> None:
    curve = facts(asked("parallelism.tp=[8]")).curve
    assert set(curve["tp"]) == {8.0} and MEASURED not in set(curve["label"])


def test_it_is_a_question_about_serving(asked: Asked) -> None:
    with pytest.raises(InputError, match="phase=serve"):
        facts(with_config(asked(), "workload", phase="decode"))


@pytest.mark.usefixtures("known")
def test_hostile_names_change_nothing(asked: Asked) -> None:
    run = with_config(asked(), "model", name="</script>\"'<b>")
    html = render(peers.page(run))
    assert "</script>\"'<b>" not in html


def test_the_page_is_whole(page: Page) -> None:
    keys = figures_named(page)
    assert 5 <= len(page.findings) <= 9
    for figure in figures_of(page):
        assert len(figure.description) > 20 and figure.caption
        assert figure.chart is None or to_spec(figure.chart)
    assert len(render(page)) < 3e6
    assert {f"answers-{q.key}" for q in measured_questions()} <= keys


def test_judgements_are_of_three_words_and_tools_have_addresses() -> None:
    table = tables.read("features")
    names = table.columns[1:]
    assert set(names) == set(tables.tools())
    assert all(value in FOUND for name in names for value in table[name])
    assert table["feature"].n_unique() == table.height
    assert all(told["address"] and told["kind"] for told in tables.tools().values())


def test_rates_are_ratios_of_one_run() -> None:
    table = tables.rates()
    assert table["machine"].n_unique() == 1
    for row in table.iter_rows(named=True):
        expected = row["roofrack_per_s"] / row["evaluations_per_s"]
        assert math.isclose(row["ratio"], expected, rel_tol=0.02)
