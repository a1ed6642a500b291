"""Racks: whole racks only, sentences that follow the rows, machines and models of other kinds."""

from collections.abc import Callable
from functools import cache

import polars as pl
import pytest
from questions import Asked, Sweep, figures_named

from roofrack.errors import InputError
from roofrack.experiments import racks
from roofrack.experiments.common.columns import COST, SPEED
from roofrack.experiments.racks.findings import findings
from roofrack.experiments.racks.found import Found
from roofrack.experiments.racks.rows import copies, frontier, spread
from roofrack.report.page import Finding, Page
from roofrack.report.render import render
from roofrack.results.run import load

SMALL = (
    "experiment=racks",
    "hardware=gb200_nvl72",
    "model=deepseek_v3",
    "hardware.fabric.scale_up.chips=[8,72]",
    "parallelism.dp=[8,64,72]",
    "parallelism.tp=[1]",
    "parallelism.redundant_experts=[0,32]",
    "batch=[64,512,2048]",
    "experiment.racks=4",
)
Gathered = Callable[..., Found]


@pytest.fixture(scope="module")
def gathered(asked: Asked) -> Gathered:
    return cache(lambda *overrides: racks.gather(asked(*overrides))[0])


def by_figure(found: Found, figure: str) -> list[Finding]:
    return [f for f in findings(found) if f.figure == figure]


def test_experts_divide_with_second_copies() -> None:
    assert [copies(256, n) for n in (8, 64, 72, 144, 216, 504)] == [0, 0, 32, 32, 176, 248]
    assert copies(256, 576) is None  # each would need more than one second copy
    assert copies(0, 72) == 0
    for experts in (64, 128, 160, 256, 384):
        for domain in (8, 72, 144, 576):
            chips = spread(experts, domain)
            more = copies(experts, chips)
            assert more is not None and (experts + more) % chips == 0


def test_only_whole_racks_or_parts_of_one(gathered: Gathered) -> None:
    table = gathered().facts.table
    inside = table["chips"] <= table["domain"]
    assert (inside | (table["chips"] % table["domain"] == 0)).all()
    assert table["domain"].n_unique() == 2


def test_the_frontier_has_no_beaten_row(gathered: Gathered) -> None:
    table = gathered().facts.table
    kept = frontier(table)
    for row in kept.iter_rows(named=True):
        same = table.filter(pl.col("domain") == row["domain"])
        better = (pl.col(COST) < row[COST]) & (pl.col(SPEED) > row[SPEED])
        assert same.filter(better).is_empty()


def test_half_of_the_traffic_leaves_with_a_second_rack(gathered: Gathered) -> None:
    crossing = gathered().crossing
    assert crossing is not None
    for row in crossing.home.iter_rows(named=True):
        assert row["scale_out_fraction"] == pytest.approx(1 - 1 / row["racks"], abs=1e-6)
    (finding,) = (f for f in by_figure(gathered(), "leaving") if "probability" in f.text)
    assert finding.verdict == "agrees" and "50 % over 2 racks" in finding.text


def test_the_blackboard_has_the_lectures_all_to_all(gathered: Gathered) -> None:
    board = ("hardware=blackboard", "model=blackboard", "calibration=ideal", "overlap=ideal",
             "parallelism.dp=[64,72]")  # fmt: skip
    found = gathered(*board)
    assert found.crossing is not None
    one, two = found.crossing.row(1), found.crossing.row(2)
    assert one is not None and two is not None
    # half the bytes, 8 times slower; in one rack 1/72 stays on its chip; the busiest chip counts
    slower = two["t_scale_out_s"] / one["t_scale_up_s"]
    even = slower * one["expert_skew"] / two["expert_skew"]
    assert even == pytest.approx(4.0 * 72 / 71, rel=1e-3)
    assert by_figure(found, "levels")[0].verdict == "agrees"


def test_faster_links_between_racks_change_the_sentences(gathered: Gathered) -> None:
    slow = by_figure(gathered(), "levels")[0]
    quick = gathered("hardware.fabric.scale_out.bytes_per_s=1.125e11")
    assert slow.verdict == "contradicts" and by_figure(quick, "levels")[0].verdict == "agrees"
    before, after = (by_figure(f, "cost")[0].text for f in (gathered(), quick))
    assert before != after
    first, second = gathered().crossing, quick.crossing
    assert first and second and (a := first.row(2)) and (b := second.row(2))
    assert b[COST] < a[COST]


def test_the_bandwidth_found_does_what_is_said(gathered: Gathered) -> None:
    found = gathered()
    two = next(e for e in found.equals if e.racks == 2)
    assert two.bytes_per_s is not None and two.endless < found.facts.near < two.now
    there = gathered(f"hardware.fabric.scale_out.bytes_per_s={two.bytes_per_s:.6e}")
    assert there.crossing and (row := there.crossing.row(2)) and (one := there.crossing.row(1))
    assert row[COST] / one[COST] == pytest.approx(found.facts.near, rel=1e-3)


def test_what_fits_is_full_and_no_more(gathered: Gathered, sweep: Sweep) -> None:
    found = gathered()
    row = found.room.filter(pl.col("domain") == 72, pl.col("context") == 8192).row(0, named=True)
    fits = []
    for more in (0, 72):
        words = [w for w in SMALL if not w.startswith(("hardware.", "batch", "parallelism"))]
        run = load(sweep(*words, "hardware.fabric.scale_up.chips=[72]", "parallelism.dp=[72]",
                         "parallelism.tp=[1]", "parallelism.redundant_experts=[32]",
                         f"batch=[{row['sequences'] + more:.0f}]"))  # fmt: skip
        fits += run.rows.select("fits").collect()["fits"].to_list()
    assert fits == [True, False]


def test_the_page_renders_and_every_finding_has_its_figure(page: Page) -> None:
    figures_named(page)
    assert 5 <= len(page.findings) <= 11
    assert render(page).startswith("<!")


def test_a_dense_model_has_nothing_to_exchange(asked: Asked) -> None:
    page = racks.page(asked("model=llama3_1_70b", "parallelism.tp=[8]", "parallelism.dp=[1,8]"))
    assert any("has no experts" in f.text for f in page.findings)
    assert not page.datasets and render(page)


def test_a_machine_without_facts_about_its_rack_says_nothing_of_it(gathered: Gathered) -> None:
    found = gathered("hardware=mi300x", "model=gpt_oss_120b",
                     "hardware.fabric.scale_up.chips=[8]")  # fmt: skip
    assert not [f for f in by_figure(found, "systems")]
    assert [f for f in by_figure(gathered(), "systems") if "120 kW" in f.text]


def test_hostile_names_stay_text(asked: Asked) -> None:
    name = "hardware.name='</script><b>x\"'"
    page = racks.page(asked(name))
    assert "</script><b>" not in render(page)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.d_ff_expert=1e9", "no plan of this run serves"),
        ("hardware=b200,gb200_nvl72", "several jobs"),
        ("context=[1024,8192]", "context is swept"),
        ("experiment.near=0.5", "experiment.near"),
    ],
)
def test_what_cannot_be_answered_is_said(override: str, message: str, asked: Asked) -> None:
    with pytest.raises(InputError, match=message):
        racks.page(asked(override))
