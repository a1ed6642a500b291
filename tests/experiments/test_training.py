"""What does a training run take: the plan search, the law of loss, and any run has a page."""

import numpy as np
import polars as pl
import pytest
from questions import Asked, check_charts, figures_named, with_axis, with_config

from roofrack.errors import InputError
from roofrack.experiments import training
from roofrack.experiments.common.columns import COST
from roofrack.experiments.training.facts import PARTS, Facts, facts
from roofrack.experiments.training.life import Law, law, optimum
from roofrack.report.page import Page, figures_of
from roofrack.report.render import render

SMALL = (
    "experiment=training",
    "parallelism.tp=[1,8]",
    "parallelism.pp=[1,16]",
    "parallelism.dp=[64,2048]",
    "parallelism.ep=[8,64]",
    "parallelism.cp=[1,2]",
    "parallelism.zero=[1,3]",
    "parallelism.recompute=[none,full]",
)
LAW = Law(482.01, 0.3478, 2085.43, 0.3658)


@pytest.fixture(scope="module")
def found(asked: Asked) -> Facts:
    run = asked()
    made = facts(run, run.jobs[0])
    assert made is not None
    return made


def texts(page: Page) -> dict[str, str]:
    return {f.figure: f.text for f in page.findings}


def test_the_best_plan_is_the_cheapest_that_fits(found: Facts) -> None:
    assert found.chips == 2048.0
    rows = found.all.filter("valid", "fits", pl.col("chips") == 2048)
    assert found.best[COST] == rows[COST].min()
    assert found.sizes["chips"].is_unique().all()


def test_parts_sum_to_the_step(found: Facts) -> None:
    total = found.good.select(pl.sum_horizontal(pl.col(p).fill_null(0.0) for p in PARTS))
    ratio = total.to_series() / found.good["step_s"]
    assert ratio.min() == pytest.approx(1.0, abs=1e-4)  # type: ignore[arg-type]
    assert ratio.max() == pytest.approx(1.0, abs=1e-4)  # type: ignore[arg-type]


def test_the_law_gives_chinchilla_its_twenty_tokens(asked: Asked) -> None:
    """Hoffmann et al. 2022 trained 70e9 parameters on 1.4e12 tokens, as best for their compute."""
    assert law(asked()) == LAW
    made = optimum(LAW, 70e9, 1.4e12, 1.0, 1.0, np.array([0.0]))
    assert made["overtraining"].item() == pytest.approx(1.0, rel=0.15)
    params, tokens = made["params"].item(), made["tokens"].item()
    # at the optimum the two terms fall at equal rates along a line of equal compute
    fast = LAW.alpha * LAW.a * params**-LAW.alpha
    slow = LAW.beta * LAW.b * tokens**-LAW.beta
    assert fast / slow == pytest.approx(1.0, rel=0.02)
    assert LAW.loss(params, tokens) == pytest.approx(LAW.loss(70e9, 1.4e12), rel=1e-9)


def test_serving_shrinks_the_model_as_the_law_says() -> None:
    """dC = 0 along equal loss: serving over training is the ratio of the slopes, less one."""
    made = optimum(LAW, 37e9, 14.8e12, 6.0, 2.0 / 0.3, np.geomspace(1e12, 1e15, 7))
    assert made["params"].is_sorted(descending=True) and made["overtraining"].is_sorted()
    for row in made.iter_rows(named=True):
        fast = LAW.alpha * LAW.a * row["params"] ** -LAW.alpha
        slow = LAW.beta * LAW.b * row["tokens"] ** -LAW.beta
        split = row["usd_serve"] / row["usd_train"]
        assert split == pytest.approx(fast / slow - 1.0, rel=0.05)


def test_parameters_too_few_for_a_loss_need_endless_tokens() -> None:
    loss = LAW.loss(1e9, 1e10)
    least = LAW.least_params(loss)
    few, enough = LAW.tokens(np.array([0.9 * least, 1e9]), loss)
    assert few == np.inf and enough == pytest.approx(1e10)


def test_every_finding_points_to_a_figure_of_the_page(page: Page) -> None:
    figures_named(page)
    assert 5 <= len(page.findings) <= 9
    jobs = {job.name for job in page.provenance.jobs}
    assert jobs == {"0", "serving", "other global batches", "what each number is worth"}


def test_charts_stay_small_and_described(page: Page) -> None:
    check_charts(page)
    assert all(f.chart is not None and f.table.height for f in figures_of(page))
    controls = {c.key for section in page.sections for c in section.controls}
    assert controls == {"global_batch", "price"}


def test_a_dearer_chip_changes_the_money_and_not_the_break_even(asked: Asked, page: Page) -> None:
    dear = texts(training.page(asked("hardware.usd_per_chip_hour=5.9")))
    before = texts(page)
    assert dear["plans"] != before["plans"]
    assert dear["served"].split(" tokens,")[0] == before["served"].split(" tokens,")[0]


def test_another_machine_changes_the_sentences(asked: Asked, page: Page) -> None:
    after = texts(training.page(asked("hardware=gb200_nvl72")))
    assert all(after[key] != text for key, text in texts(page).items() if key in after)


def test_without_tokens_nothing_is_said_about_days(asked: Asked) -> None:
    page = training.page(asked("workload.tokens=0"))
    assert "days" not in page.answer and "per million tokens" in page.answer
    assert not {"served", "optimum", "split", "sizes"} & {f.key for f in figures_of(page)}
    assert render(page)


def test_one_plan_is_enough_for_a_page(asked: Asked) -> None:
    page = training.page(
        asked(
            "parallelism.tp=1",
            "parallelism.pp=16",
            "parallelism.dp=64",
            "parallelism.ep=8",
            "parallelism.cp=2",
            "parallelism.zero=1",
            "parallelism.recompute=full",
        )
    )
    assert "depths" not in texts(page)
    assert "PP 16, DP 64, CP 2, EP 8, ZeRO 1" in page.answer
    assert render(page)


def test_what_does_not_fit_is_said(asked: Asked) -> None:
    few = ("parallelism.dp=64", "parallelism.tp=1", "parallelism.zero=1", "parallelism.ep=8")
    both = training.page(asked("hardware=l4,h100_sxm", *few))
    assert "No plan tried trains DeepSeek-V3 on NVIDIA L4" in both.findings[-1].text
    none = training.page(asked("hardware=l4", *few))
    assert none.answer.startswith("No plan of this run can be trained")
    assert "the least memory of a chip" in none.answer and render(none)


def test_hostile_names_are_text(asked: Asked) -> None:
    name = "</script>\"'<b>"
    assert name not in render(training.page(with_config(asked(), "model", name=name)))


@pytest.mark.parametrize("key", ["chips", "law_beta", "served_tokens", "rule_efficiency"])
def test_settings_are_checked(key: str, asked: Asked) -> None:
    with pytest.raises(InputError, match=key):
        training.page(with_config(asked(), "experiment", **{key: "many"}))


def test_other_questions_are_refused(asked: Asked) -> None:
    run = asked()
    with pytest.raises(InputError, match="phase=decode"):
        training.page(with_config(run, "workload", phase="decode"))
    with pytest.raises(InputError, match=r"workload\.sequence is swept"):
        training.page(with_axis(run, "workload.sequence"))
