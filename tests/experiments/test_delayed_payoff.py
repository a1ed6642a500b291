"""What does waiting pay: closed forms over the load, sentences that follow the rows."""

from dataclasses import replace

import polars as pl
import pytest
from delayed_payoffs import SMALL, found
from questions import Asked, Sweep, asking, check_charts, figures_named, with_config

from roofrack.errors import InputError
from roofrack.experiments import delayed_payoff
from roofrack.experiments.common.studies import Studies
from roofrack.experiments.delayed_payoff.changing import changes
from roofrack.experiments.delayed_payoff.findings import findings
from roofrack.experiments.delayed_payoff.found import Found
from roofrack.experiments.delayed_payoff.measures import at, highest, points, scaled
from roofrack.experiments.delayed_payoff.rows import AT_LOAD, RATE, settings
from roofrack.report.page import Page
from roofrack.report.render import render
from roofrack.results.run import Run


@pytest.fixture(scope="module")
def asked(sweep: Sweep) -> Asked:
    """The small run with overrides added."""
    return asking(sweep, SMALL)


def gathered(run: Run) -> Found:
    told = found(run)
    return Found(told, None, None, changes(Studies(run), told))


def told(run: Run) -> dict[str, str]:
    return {f.basis: f.text for f in findings(gathered(run))}


OWN = "usd_per_hour; highest rate within the promise; roofrack plan own"
TRAIN = "train_s, train_wait_s, train_worst_s, hbm_drain_s"
COST = "usd_per_mtok_at_load over arrivals_per_s"
CHANGE = "the own plan evaluated again, one thing changed"


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
    assert made.full["ttft_p95_s"] <= made.settings.ttft_limit_s
    assert made.full["utilization"] < 1
    least = made.curve["tpot_p95_s"].min() * 1.01
    strict = found(asked(f"experiment.tpot_limit_s={least:.6f}"))
    assert strict.full[RATE] < made.full[RATE]


def test_the_break_even_is_the_bill_over_the_price_of_a_request(asked: Asked) -> None:
    made = found(asked())
    assert made.request_usd == pytest.approx((1155 * 0.27 + 211 * 1.10) / 1e6)
    assert made.even == pytest.approx(made.full["usd_per_hour"] / 3600 / made.request_usd)
    assert "breaks even at" in told(asked("experiment.price_output=100"))[OWN]
    assert (
        "never break even"
        in told(asked("experiment.price_output=0.01", "experiment.price_input=0.1"))[OWN]
    )


def test_the_lengths_of_the_run_are_those_that_are_priced(asked: Asked) -> None:
    made = found(asked("workload.output=422"))
    assert made.request_usd == pytest.approx((1155 * 0.27 + 422 * 1.10) / 1e6)
    assert "workload.output=422" in made.same


def test_a_dearer_machine_costs_more_and_waits_as_long(asked: Asked) -> None:
    before, after = told(asked()), told(asked("hardware.usd_per_chip_hour=20"))
    assert before[TRAIN] == after[TRAIN]
    assert before[COST] != after[COST] and before[OWN] != after[OWN]
    assert before[CHANGE] != after[CHANGE]


def test_another_machine_has_other_sentences(asked: Asked) -> None:
    """Every sentence with a number of the scenario moves with the machine."""
    before, after = told(asked()), told(asked("hardware=b200", "calibration=auto"))
    assert {b for b in set(before) & set(after) if before[b] == after[b]} == set()


def test_the_lectures_train_is_compared_with_this_ones(asked: Asked) -> None:
    run = asked()
    own = found(run).full["train_s"]
    near, far = (
        {f.basis: f for f in findings(gathered(asked(f"experiment.train_s={value}")))}
        for value in (f"{own:.4f}", "5")
    )
    assert (near[TRAIN].verdict, far[TRAIN].verdict) == ("agrees", "contradicts")
    assert "less than a full memory" in far[TRAIN].text


def test_error_bars_are_told_where_there_are_some(asked: Asked) -> None:
    made = found(asked())
    assert 0.05 < made.error < 0.5
    assert "±" in told(asked())[TRAIN] and "error bar" in told(asked())[OWN]
    bare = asked("calibration=ideal")
    assert found(bare).error == 0
    assert "±" not in " ".join(told(bare).values())


LINE = pl.DataFrame({RATE: [1.0, 2.0, 4.0, 8.0], "t": [1.0, 2.0, 4.0, 8.0], "utilization": 0.5})


def test_a_curve_between_its_rates() -> None:
    line = points(LINE, "t")
    assert at(line, 3.0) == pytest.approx(3.0)  # a power of the rate
    assert at(line, 0.1) == 1.0
    assert at(line, 9.0) is None
    assert at([], 1.0) is None
    assert points(LINE.with_columns(utilization=1.0), "t") == []


def test_slower_passes_are_the_same_queue_on_a_slower_clock() -> None:
    """An M/M/1 queue takes 1 / (1 / s - rate) with a service of s: exactly s times t(s rate)."""
    rates = [0.01 * k for k in range(1, 99)]
    rows = pl.DataFrame({RATE: rates, "t": [1 / (1 - r) for r in rates], "utilization": rates})
    line = points(rows, "t")
    for scale in (0.8, 1.0, 1.2):
        for r in (0.1, 0.5, 0.75):
            exact = 1.0 / (1.0 / scale - r)
            assert scaled(line, r, scale) == pytest.approx(exact, rel=1e-3)
        most = highest(rows, {"t": 5.0}, scale)
        assert most == pytest.approx(1.0 / scale - 1.0 / 5.0, rel=1e-3)


def test_no_rate_keeps_a_limit_below_the_least_time() -> None:
    assert highest(LINE, {"t": 0.5}) is None
    assert highest(LINE, {"t": 0.5, "utilization": 1.0}) is None
    assert highest(LINE, {"t": 100.0}) == 8.0
    assert highest(LINE, {"t": 3.0}) == pytest.approx(3.0)


def test_what_changes_the_answer_is_evaluated_again(asked: Asked) -> None:
    made = {one.words: one for one in gathered(asked()).changes}
    now = made[""]
    assert made["an API at half the price"].even == pytest.approx(2 * now.even)
    assert made["an API at half the price"].most == now.most
    assert now.low is not None and now.most is not None and now.high is not None
    assert now.low < now.most <= now.high
    long = next(one for words, one in made.items() if words.startswith("answers of"))
    assert long.even < now.even and (long.most or 0) < now.most
    wide = made["twice the memory bandwidth"]
    assert wide.even == pytest.approx(now.even) and (wide.most or 0) > now.most
    low = next(one for words, one in made.items() if "lowest price" in words)
    assert low.even == pytest.approx(now.even * 3.30 / 6.69)
    assert made["chips bought, not rented"].even < now.even


def test_chips_without_a_price_of_purchase_are_not_bought(asked: Asked) -> None:
    made = gathered(asked("hardware.capex_usd=0")).changes
    assert not any("bought" in one.words for one in made)


def test_a_study_of_longer_answers_is_the_run_with_longer_answers(asked: Asked) -> None:
    """The curve of the changed case is what the changed run has at its own rates."""
    curve = found(asked()).curves["answers of 422 tokens"]
    direct = found(asked("workload.output=422", "batch=1024"))
    row = direct.curve.filter(pl.col(RATE) == 20).row(0, named=True)
    assert at(points(curve, "tpot_p95_s"), 20.0) == pytest.approx(row["tpot_p95_s"], rel=0.02)


def test_the_page_is_whole(page: Page) -> None:
    keys = figures_named(page)
    check_charts(page)
    assert "changes" in keys and "gaps" not in keys
    assert "What would change the answer" in [section.heading for section in page.sections]
    assert "api-docs.deepseek.com" in " ".join(page.limits)
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


def test_a_promise_that_nothing_keeps_is_said(asked: Asked) -> None:
    made = delayed_payoff.page(asked("experiment.ttft_limit_s=1e-5"))
    text = " ".join(f.text for f in made.findings)
    assert "no load keeps the promise" in text
    assert "It never costs less" in made.answer
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


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tpot_limit_s", 0),
        ("train_s", "soon"),
        ("price_input", -1),
        ("price_of", 5),
        ("price_source", ""),
    ],
)
def test_a_wrong_setting_is_one_line(asked: Asked, key: str, value: object) -> None:
    with pytest.raises(InputError, match=f"experiment.{key}=") as told_:
        settings(with_config(asked(), "experiment", **{key: value}))
    assert "\n" not in str(told_.value)
