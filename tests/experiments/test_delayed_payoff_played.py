"""What does waiting pay: a real trace and plans, played request by request."""

import math

import polars as pl
import pytest
from delayed_payoffs import SMALL, found
from questions import Asked, Sweep, asking, check_charts, figures_named, with_config

from roofrack.errors import InputError
from roofrack.experiments import delayed_payoff
from roofrack.experiments.common.studies import Studies
from roofrack.experiments.delayed_payoff import own_figures
from roofrack.experiments.delayed_payoff.changing import changes
from roofrack.experiments.delayed_payoff.found import Found
from roofrack.experiments.delayed_payoff.planned import planned
from roofrack.experiments.delayed_payoff.traced import Traced, departures, traced
from roofrack.report.render import render
from roofrack.results.run import Run
from roofrack.simulation import command
from roofrack.traffic import read


@pytest.fixture(scope="module")
def asked(sweep: Sweep) -> Asked:
    """The small run with overrides added."""
    return asking(sweep, SMALL)


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"trace_requests": 1.5}, "experiment.trace_requests=1.5"),
        ({"trace_requests": 1}, "experiment.trace_requests=1"),
        ({"trace_requests": 50, "trace": "nothing_here"}, "no trace of this name"),
        ({"trace_requests": 50, "trace": ["a"]}, "experiment.trace="),
        ({"plan_requests": 7}, "experiment.plan_requests=7"),
        ({"plan_requests": 200, "plan_copies": 0.5}, "experiment.plan_copies=0.5"),
        ({"plan_requests": 200, "plan_copies": 0}, "experiment.plan_copies=0"),
    ],
)
def test_wrong_settings_of_simulations_are_one_line(
    asked: Asked, settings_: dict[str, object], words: str
) -> None:
    run = with_config(asked(), "experiment", **settings_)
    with pytest.raises(InputError, match=words) as told_:
        delayed_payoff.page(run)
    assert "\n" not in str(told_.value)


def test_waits_and_gaps_of_a_few_requests() -> None:
    requests = pl.DataFrame(
        {
            "lane": 0, "arrival_s": [0.0, 1.0, 2.0], "admitted_s": [0.0, 1.5, 2.1],
            "tpot_s": [0.2, 0.4, 0.6], "done_s": [3.0, 4.0, None],
        }
    )  # fmt: skip
    rows = pl.DataFrame({"lane": [0], "busy_share": [0.5], "duration_s": [10.0], "passes": [50]})
    row = departures(requests, rows).row(0, named=True)
    assert row["wait_mean_s"] == pytest.approx(0.25)
    assert row["wait_most_s"] == pytest.approx(0.5)
    assert row["gap_p50_s"] == pytest.approx(0.3)
    assert row["within"] == 0.5  # 0 <= 0.2, 0.5 > 0.4; the last did not finish
    assert row["pass_s"] == pytest.approx(0.1)


@pytest.fixture(scope="module")
def whole(asked: Asked) -> tuple[Run, Found]:
    """A run with its trace and its plans, of few requests."""
    run = asked("experiment.trace_requests=150", "experiment.plan_requests=600")
    run = with_config(run, "experiment", plan_copies=1)
    made, studies = found(run), Studies(run)
    return run, Found(
        made, traced(run, studies, made), planned(run, studies, made), changes(studies, made)
    )


@pytest.mark.slow
def test_a_trace_is_played_at_its_own_rate(whole: tuple[Run, Found]) -> None:
    played = whole[1].traced
    assert isinstance(played, Traced)
    own = read("azure_2023_conv").first(150).rate
    assert played.own_rate == pytest.approx(own)
    assert played.own["arrivals_per_s"] == pytest.approx(own, rel=1e-4)
    assert played.busy["arrivals_per_s"] == pytest.approx(whole[1].facts.most, rel=1e-4)
    for row in played.rows.iter_rows(named=True):
        assert row["wait_p50_s"] <= row["wait_p95_s"] <= row["wait_p99_s"] <= row["wait_most_s"]
        assert row["wait_p50_s"] < row["ttft_p50_s"]
        assert row["gap_p5_s"] <= row["gap_p50_s"] <= row["gap_p95_s"]
    rates = played.rows["arrivals_per_s"].to_list()
    assert played.rows["usd_per_mtok_at_load"].to_list() == sorted(
        played.rows["usd_per_mtok_at_load"], reverse=True
    )
    assert rates == sorted(rates)
    came = played.over_time.filter(pl.col("lane") == 0)
    width = played.over_time["trace_s"].unique().sort().diff().min()
    assert came["came_per_s"].sum() * width == pytest.approx(150, abs=1)  # type: ignore[operator]


@pytest.mark.slow
def test_the_trace_is_what_simulate_says(whole: tuple[Run, Found]) -> None:
    """The golden row: the same words asked of the simulator directly."""
    run, made = whole
    assert made.traced is not None
    limits = "limits.ttft_s=1", "limits.tpot_s=0.05"
    alone = command.answer(
        (*made.facts.same, *limits, "traffic=azure_2023_conv", "traffic.requests=150"),
        run.config_dir,
    )
    for column in ("ttft_p95_s", "tpot_p95_s", "usd_per_mtok_at_load"):
        assert made.traced.own[column] == pytest.approx(alone.rows[column][0], rel=1e-3)


@pytest.mark.slow
def test_plans_agree_with_the_closed_form_where_one_copy_serves(whole: tuple[Run, Found]) -> None:
    made = whole[1]
    assert made.plans is not None
    now, one = made.changes[0], made.plans.owned
    if now.pays:
        assert one.crossing.first == pytest.approx(
            one.points[0].own_usd_per_hour / 3600 / one.per_request_usd, rel=0.02
        )
    assert set(made.plans.points["copies"].drop_nulls()) <= {1}
    zero = made.plans.waits.filter(pl.col("wait_s") == 0)
    assert zero["saved"].to_list() == [0.0] * zero.height
    assert all(math.isfinite(x) for x in made.plans.waits["saved"])
    assert own_figures.holding(made) is not None


@pytest.mark.slow
def test_the_whole_page(whole: tuple[Run, Found]) -> None:
    made = delayed_payoff.page(whole[0])
    keys = figures_named(made)
    check_charts(made)
    assert {"gaps", "aboard", "on_trace", "caps", "holding", "own", "changes"} <= keys
    assert any("azure_2023_conv" in f.text for f in made.findings)
    assert any("plan own" in f.text for f in made.findings)
    assert any("plan wait" in job.name for job in made.provenance.jobs)
    assert render(made)
