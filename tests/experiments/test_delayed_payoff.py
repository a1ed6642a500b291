"""What does waiting pay: closed forms over the load, sentences that follow the rows."""

from collections.abc import Callable
from dataclasses import replace

import polars as pl
import pytest

from roofrack.experiments import delayed_payoff
from roofrack.experiments.common.studies import Studies
from roofrack.experiments.delayed_payoff.findings import findings
from roofrack.experiments.delayed_payoff.rows import AT_LOAD, RATE, Facts, facts
from roofrack.report.page import Page, figures_of
from roofrack.report.render import render
from roofrack.results.run import Run, load

SMALL = (
    "experiment=delayed_payoff",
    "experiment.trace_requests=0",
    "batch=64,1024",
    "parallelism.dp=8",
    "workload.arrivals_per_s=0.5,5,20,40",
)
Asked = Callable[..., Run]


@pytest.fixture(scope="module")
def asked(sweep: Callable[..., object]) -> Asked:
    """The small run with overrides added; of a key given twice the later value counts."""

    def run(*overrides: str) -> Run:
        wanted = {text.split("=")[0]: text for text in (*SMALL, *overrides)}
        return load(sweep(*wanted.values()))  # type: ignore[arg-type]

    return run


def found(run: Run) -> Facts:
    made = facts(run, Studies(run))
    assert isinstance(made, Facts)
    return made


def told(run: Run) -> dict[str, str]:
    return {f.figure + f.basis: f.text for f in findings(found(run))}


@pytest.fixture(scope="module")
def page(asked: Asked) -> Page:
    return delayed_payoff.page(asked())


def test_the_bill_is_the_same_at_every_load(asked: Asked) -> None:
    rows = found(asked()).curve
    bills = rows.select(bill=pl.col(AT_LOAD) * pl.col(RATE))["bill"]
    assert rows.height >= 2
    assert bills.max() == pytest.approx(bills.min(), rel=1e-4)


def test_the_own_plan_keeps_the_promise_where_one_does(asked: Asked) -> None:
    made = found(asked())
    assert made.full["tpot_p95_s"] <= made.settings.tpot_limit_s
    assert made.full["utilization"] < 1
    least = made.curve["tpot_p95_s"].min() * 1.01
    strict = found(asked(f"experiment.tpot_limit_s={least:.6f}"))
    assert strict.full[RATE] < made.full[RATE]


def test_the_break_even_is_the_bill_over_the_price_of_a_request(asked: Asked) -> None:
    made = found(asked())
    assert made.request_usd == pytest.approx((1155 * 0.27 + 211 * 1.10) / 1e6)
    key = "ownusd_per_hour and capacity_per_s; prices of the settings"
    assert "break even at" in told(asked("experiment.price_output=100"))[key]
    assert "never break even" in told(asked("experiment.price_output=0.01"))[key]


def test_a_dearer_machine_costs_more_and_waits_as_long(asked: Asked) -> None:
    before, after = told(asked()), told(asked("hardware.usd_per_chip_hour=20"))
    waits = "waitstrain_s, train_wait_s, train_worst_s, hbm_drain_s"
    cost = "costusd_per_mtok_at_load over arrivals_per_s"
    assert before[waits] == after[waits]
    assert before[cost] != after[cost]


def test_the_lectures_train_is_compared_with_this_ones(asked: Asked) -> None:
    run = asked()
    own = found(run).full["train_s"]
    near = {f.basis: f for f in findings(found(asked(f"experiment.train_s={own:.4f}")))}
    far = {f.basis: f for f in findings(found(asked("experiment.train_s=5")))}
    basis = "train_s, train_wait_s, train_worst_s, hbm_drain_s"
    assert (near[basis].verdict, far[basis].verdict) == ("agrees", "contradicts")


def test_the_page_is_whole(page: Page) -> None:
    keys = {figure.key for figure in figures_of(page)}
    assert {f.figure for f in page.findings} - {""} <= keys
    assert render(page)


def test_one_value_of_each_axis_still_makes_a_page(asked: Asked) -> None:
    run = asked("workload.arrivals_per_s=5", "batch=64")
    assert render(delayed_payoff.page(run))


def test_a_dense_model_is_served_too(asked: Asked) -> None:
    run = asked("hardware=h100_sxm", "model=llama3_1_8b", "parallelism.dp=1", "parallelism.ep=1")
    assert "Llama" in delayed_payoff.page(run).answer


def test_more_than_any_plan_serves_is_said(asked: Asked) -> None:
    made = delayed_payoff.page(asked("workload.arrivals_per_s=1e6,2e6"))
    assert "more requests arrive" in made.findings[0].text
    assert render(made)


def test_where_nothing_fits_the_page_says_so(asked: Asked) -> None:
    made = delayed_payoff.page(asked("hardware=l4", "parallelism.dp=1"))
    assert made.answer.startswith("Nothing of this run can serve")


def test_hostile_names_change_nothing(asked: Asked) -> None:
    run = asked()
    config = dict(run.jobs[0].config)
    name = "</script>\"'<b>"
    about = {**run.jobs[0].about, "config": config | {"model": config["model"] | {"name": name}}}
    html = render(delayed_payoff.page(replace(run, jobs=(replace(run.jobs[0], about=about),))))
    assert "<b>" not in html and name not in html


@pytest.mark.slow
def test_a_real_trace_checks_the_closed_forms(asked: Asked) -> None:
    made = delayed_payoff.page(asked("experiment.trace_requests=60"))
    assert any("azure_2023_conv" in f.text for f in made.findings)
    assert "played" in {figure.key for figure in figures_of(made)}
