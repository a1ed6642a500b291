"""What does speed cost: tiers as defined, sentences that follow the rows."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofrack.errors import InputError
from roofrack.experiments import fast_mode
from roofrack.experiments.speed.blackboard import blackboard
from roofrack.experiments.speed.findings import findings
from roofrack.experiments.speed.measures import gains, penalties, shares
from roofrack.experiments.speed.rows import COST, PAIR, SPEED, Facts, facts, pareto, settings
from roofrack.report.page import Finding, Page, figures_of
from roofrack.report.render import render
from roofrack.report.specs import to_spec
from roofrack.results.run import Run

Changed = Callable[..., Run]
ONE = ("hardware=b200", "model=llama3_1_70b", "parallelism.dp=1,2", "parallelism.tp=1,2,4,8")
"""One pair. Runs with axes as long as these share its compiled function."""


@pytest.fixture(scope="module")
def found(small: Run) -> Facts:
    return facts(small)


@pytest.fixture(scope="module")
def page(small: Run) -> Page:
    return fast_mode.page(small)


def told(run: Run) -> dict[str, Finding]:
    """Return the findings of a run by the figure they point to."""
    computed = facts(run)
    return {
        f.figure: f for f in findings(computed, blackboard(computed.context, computed.settings))
    }


def test_only_plans_that_can_serve_in_one_rack_are_compared(found: Facts) -> None:
    table = found.table
    assert table["valid"].all() and table["fits"].all()
    assert set(table["racks"]) == {1.0}
    copies = table.filter(pl.col("dp") > 1)
    assert set(copies["model"]) == {"deepseek_v3"}  # copies of a dense model share nothing
    assert set(copies["ep"]) == {"stage"}


def test_tiers_are_what_they_are_said_to_be(found: Facts) -> None:
    wishes = found.settings
    for pair in found.pairs:
        rows = found.of(found.table, pair)
        slow, normal, fast, end = (
            found.tier(pair, t) for t in ("slow", "normal", "fast", "fastest")
        )
        assert slow[COST] == rows[COST].min()
        near = rows.filter(pl.col(COST) <= wishes.normal_premium * slow[COST])
        assert normal[SPEED] == near[SPEED].max()
        dear = rows.filter(pl.col(COST) <= wishes.price_ratio * normal[COST])
        assert fast[SPEED] == dear[SPEED].max()
        assert end[SPEED] == rows[SPEED].max()


POINTS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=30)


@given(POINTS)
def test_the_frontier_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    table = pl.DataFrame(
        [
            {
                "hardware": "h",
                "model": "m",
                COST: float(c),
                SPEED: float(s),
                "chips": 1.0,
                "place": i,
            }
            for i, (c, s) in enumerate(points)
        ]
    )
    kept = pareto(table)
    by_hand = {
        (c, s)
        for c, s in points
        if not any(d <= c and t >= s and (d, t) != (c, s) for d, t in points)
    }
    assert list(zip(kept[COST], kept[SPEED], strict=True)) == sorted(by_hand)


def test_the_penalty_compares_the_smallest_batch_with_the_cheapest_row(found: Facts) -> None:
    table = penalties(found)
    for row in table.iter_rows(named=True):
        rows = found.of(found.table, (row["hardware"], row["model"]))
        one = rows.filter(pl.col("batch") == 1)
        assert row["searched"] == pytest.approx(one[COST].min() / rows[COST].min())
        assert row["same"] >= row["searched"]


def test_shares_sum_to_one(found: Facts) -> None:
    for row in found.tiers.iter_rows(named=True):
        assert sum(shares(row).values()) == pytest.approx(1.0, abs=1e-5)


def test_the_lectures_numbers_are_computed(found: Facts) -> None:
    board = blackboard(found.context, found.settings)
    assert board.critical_batch == pytest.approx(5440.5, abs=0.1)
    assert board.closed.batch_ratio == pytest.approx(15.0)
    assert board.closed.weight_share_slow == pytest.approx(0.357, abs=5e-4)
    assert board.closed.weight_share_fast == pytest.approx(0.893, abs=5e-4)


def test_every_finding_points_to_a_figure_of_the_page(page: Page) -> None:
    keys = {figure.key for figure in figures_of(page)}
    assert {f.figure for f in page.findings} - {""} <= keys
    assert {f.verdict for f in page.findings} == {"agrees", "contradicts", "neutral"}


def test_charts_stay_small_and_described(page: Page) -> None:
    for figure in figures_of(page):
        if figure.chart is None:
            continue
        spec = to_spec(figure.chart)
        assert sum(len(rows) for rows in spec["datasets"].values()) <= 5000
        assert len(figure.description) > 40 and figure.caption


def test_the_page_names_its_jobs_and_the_blackboards(page: Page) -> None:
    jobs = {job.name: job.overrides for job in page.provenance.jobs}
    assert set(jobs) == {"0", "1", "2", "3", "blackboard", "moves, slow", "moves, fastest"}
    assert "hardware=blackboard" in jobs["blackboard"]
    assert "hardware=b200,gb200_nvl72" in page.provenance.command


def test_the_same_run_makes_the_same_page(small: Run) -> None:
    assert render(fast_mode.page(small)) == render(fast_mode.page(small))


def test_a_dearer_machine_changes_the_costs_and_nothing_else(changed: Changed) -> None:
    before = told(changed(*ONE))
    after = told(changed(*ONE, "hardware.usd_per_chip_hour=11.76"))
    assert before["bought"] == after["bought"]  # ratios do not see the price
    assert before["tiers"].text != after["tiers"].text
    cost = re.compile(r"\$(\d+\.\d+), cost")
    cheap, dear = (float(cost.search(f["tiers"].text).group(1)) for f in (before, after))
    assert dear == pytest.approx(2 * cheap, abs=0.02)


def test_without_overheads_the_floor_is_the_weight_read(changed: Changed) -> None:
    assert told(changed(*ONE))["floor"].verdict == "contradicts"
    assert told(changed(*ONE, "calibration=ideal"))["floor"].verdict == "agrees"


def test_without_context_the_cheapest_token_is_bound_by_arithmetic(changed: Changed) -> None:
    held, bare = told(changed(*ONE)), told(changed(*ONE, "context=1", "calibration=ideal"))
    assert held["shares"].verdict == "contradicts"
    assert bare["shares"].verdict == "agrees"
    assert "1 of 1 pairs" in bare["shares"].text


def test_other_ratios_change_the_inverse(changed: Changed) -> None:
    text = told(changed(*ONE, "experiment.price_ratio=4", "experiment.speed_ratio=2"))[
        "inverse"
    ].text
    assert "a batch 8 times smaller" in text
    assert "4x the price at 2x the speed" in text


def test_a_slower_example_is_reached(changed: Changed) -> None:
    run = changed(*ONE, "experiment.speed_ratio=1.1")
    assert told(run)["bought"].verdict == "agrees"
    run = changed(*ONE, "experiment.speed_ratio=50")
    assert told(run)["bought"].verdict == "contradicts"


def test_a_pair_that_cannot_be_served_is_named(changed: Changed) -> None:
    full = fast_mode.page(
        changed(*ONE, "hardware=tpu_v5e,b200", "model=gpt3_175b", "workload.dtype.math=int8")
    )
    assert full.findings[-1].text.startswith("Not served by any plan tried: GPT-3 175B on Google")
    assert "of weights a chip" in full.findings[-1].text
    lame = changed(*ONE, "hardware=tpu_v5e,b200")  # fp8, for which a TPU v5e has no units
    assert "can run" in fast_mode.page(lame).findings[-1].text
    assert len(gains(facts(lame))) == 1


def test_one_pair_at_one_batch_still_makes_a_page(changed: Changed) -> None:
    run = changed(*ONE)
    page = fast_mode.page(replace(run, rows=run.rows.filter(pl.col("batch") == 64)))
    assert "no faster way" in page.findings[0].text or "buys" in page.findings[0].text
    run = replace(run, rows=run.rows.filter(pl.col("batch") == 64, pl.col("parallelism.tp") == 8))
    page = fast_mode.page(run)
    assert "no faster way" in page.findings[0].text
    assert render(page)


def doctored(run: Run, **about: Any) -> Run:
    """Return a run whose jobs say something else about themselves."""
    return replace(run, jobs=tuple(replace(j, about={**j.about, **about}) for j in run.jobs))


def with_config(run: Run, section: str, **values: Any) -> Run:
    config = dict(run.jobs[0].config)
    return doctored(run, config={**config, section: {**config[section], **values}})


BAD: dict[str, Callable[[Run], Run]] = {
    "batch is not an axis": lambda run: doctored(run, axes=["parallelism.tp"]),
    "context is swept too": lambda run: doctored(run, axes=["batch", "context"]),
    "leave phase=decode": lambda run: with_config(run, "workload", phase="prefill"),
    "two jobs for": lambda run: replace(run, jobs=run.jobs * 2),
    "price_ratio=0.5": lambda run: with_config(run, "experiment", price_ratio=0.5),
    "no plan of this run fits": lambda run: replace(run, rows=run.rows.filter(~pl.col("fits"))),
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_answered_is_said(message: str, changed: Changed) -> None:
    with pytest.raises(InputError, match=message):
        fast_mode.page(BAD[message](changed(*ONE)))


@pytest.mark.parametrize("value", [None, "six", True, 1, 0, float("nan"), float("inf")])
def test_ratios_are_checked(value: object, small: Run) -> None:
    with pytest.raises(InputError, match="penalty"):
        settings({**small.experiment, "penalty": value})


def test_pairs_keep_the_order_of_the_run(found: Facts) -> None:
    assert [p for p in found.pairs] == [
        (h, m) for m in ("llama3_1_70b", "deepseek_v3") for h in ("b200", "gb200_nvl72")
    ]
    assert list(found.frontier.select(PAIR).unique(maintain_order=True).iter_rows()) == found.pairs
