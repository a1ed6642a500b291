"""The text and the page of a simulation: their numbers come from its rows, whatever is missing."""

import dataclasses
import json
import re

import polars as pl
import pytest
from report.simulations import row, simulated

from roofrack.report import runtime
from roofrack.report import simulation_words as words
from roofrack.report.page import Page, figures_of
from roofrack.report.render import render
from roofrack.report.simulation import page
from roofrack.report.simulation_loads import chosen, comparison, curves
from roofrack.report.simulation_runs import series
from roofrack.report.simulation_text import text
from roofrack.report.specs import to_spec

LIMITS = ("limits.ttft_s=1", "limits.tpot_s=0.1")
OVERLOADED = {
    "ttft_mean_s": 30.0, "queue_s": 29.0, "ttft_p95_s": 60.0, "requests_per_s": 5.0,
    "closed_ttft_p50_s": None, "closed_ttft_p95_s": None, "closed_tpot_p50_s": None,
    "closed_tpot_p95_s": None, "closed_off": None, "trust": "simulation",
}  # fmt: skip


def said(made: Page) -> str:
    return "\n".join([made.answer, *(one.text for one in made.findings)])


def test_payoff_is_that_of_the_rows() -> None:
    (curve,) = curves(simulated([row(1.0), row(4.0)]))
    told = words.payoff(curve)
    assert "From 1 to 4 requests/s" in told
    assert "$24.00 to $6.00 (4x less)" in told
    assert "TTFT p95 goes from 200 ms to 800 ms (4x as much)" in told
    assert "8 sequences share a batch at first, 32 at last" in told
    assert words.pays_off(curve) is True
    (other,) = curves(simulated([row(1.0), row(4.0, usd_per_mtok_at_load=48.0)]))
    assert "$24.00 to $48.00 (2x as much)" in words.payoff(other)
    assert words.pays_off(other) is False
    assert page(simulated([row(1.0), row(4.0)]), ()).findings[0].verdict == "agrees"


def test_idle_share_is_of_the_capacity_that_is_known() -> None:
    (curve,) = curves(simulated([row(2.0), row(4.0)]))
    assert "75 % of the bill is for capacity that nobody uses, $9.00 of $12.00" in words.idle(curve)
    assert words.capacity(curve) == "capacity 8 requests/s, by the closed forms"
    # a run that is overloaded says more than the closed forms
    (driven,) = curves(simulated([row(2.0), row(10.0, **OVERLOADED)]))
    assert (driven.capacity_per_s, driven.measured) == (5.0, True)
    assert "At 2 requests/s 60 % of the bill" in words.idle(driven)
    (unknown,) = curves(simulated([row(2.0, capacity_per_s=None)]))
    assert words.idle(unknown) == words.capacity(unknown) == ""


def test_queue_takes_over_where_it_is_most_of_the_wait() -> None:
    (calm,) = curves(simulated([row(1.0), row(4.0, queue_s=0.16)]))
    assert "at most 40 % on average, at 4 requests/s" in words.queue(calm)
    (full,) = curves(simulated([row(1.0), row(4.0), row(10.0, **OVERLOADED)]))
    assert "Between 4 and 10 requests/s the queue takes over" in words.queue(full)
    assert "from 800 ms to 60 s" in words.queue(full)
    assert [p["arrivals_per_s"] for p in full.steady] == [1.0, 4.0]
    (late,) = curves(simulated([row(10.0, **OVERLOADED)]))
    assert "every load tried is too much" in words.queue(late)
    assert words.payoff(late) == words.idle(late) == ""


def test_highest_load_and_what_breaks_it() -> None:
    found = simulated([row(1.0), row(3.0, goodput=0.9)], LIMITS)
    (curve,) = curves(found)
    told = words.highest(found, curve)
    assert "95 % of requests within TTFT 1 s and TPOT 100 ms up to 2 requests/s" in told
    assert "estimated between runs at 1 and 3 requests/s" in told
    more = words.one_more(found, curve)
    assert more.startswith("One request/s more, and about 90 % keep the limits")
    assert "TTFT breaks, 10 % of requests miss it (0 % miss TPOT)" in more
    slow = simulated([row(1.0), row(3.0, goodput=0.0, tpot_p50_s=0.2)], LIMITS)
    assert "TPOT breaks, 100 % of requests miss it" in words.one_more(slow, curves(slow)[0])
    close = simulated([row(1.0), row(1.5, goodput=0.9)], LIMITS)
    assert "beyond the loads tried: at 1.5" in words.one_more(close, curves(close)[0])
    full = simulated([row(1.0), row(3.0, goodput=0.6, rejected=400)], LIMITS)
    assert "40 % of requests do not fit" in words.one_more(full, curves(full)[0])


def test_highest_load_at_the_ends_of_what_was_tried() -> None:
    kept = simulated([row(1.0), row(3.0)], LIMITS)
    told = words.highest(kept, curves(kept)[0])
    assert "up to 3 requests/s" in told
    assert "it may bear more" in told
    assert words.one_more(kept, curves(kept)[0]) == ""
    never = simulated([row(1.0, goodput=0.2)], LIMITS)
    told = words.highest(never, curves(never)[0])
    assert "at no load tried: at the lowest, 1 requests/s, 20 % keep" in told
    # a limit that a growing queue does not break is no promise for a longer run
    queued = simulated([row(1.0), row(10.0, **OVERLOADED)], ("limits.tpot_s=9",))
    assert "from 10 requests/s on the queue takes over" in words.highest(queued, curves(queued)[0])


def test_several_deployments_are_ranked_by_cost_under_the_limits() -> None:
    rows = [
        {"hardware": name} | row(rate, usd_per_mtok_at_load=cost / rate)
        for name, cost in (("dear", 40.0), ("cheap", 20.0))
        for rate in (1.0, 4.0)
    ]
    found = simulated(rows, LIMITS)
    of = curves(found)
    assert [c.name for c in of] == ["dear", "cheap"]
    best = chosen(of)
    assert best is not None
    assert best.name == "cheap"
    told = words.cheapest(found, of)
    assert "cheap: $5.00 per million generated tokens at 4 requests/s" in told
    assert "next dear, $10.00 (+100 %)" in told
    assert told in said(page(found, ()))
    printed = text(found)
    assert printed.index("Highest load with") < printed.index(told)
    assert re.search(r"\n  cheap +8 +4 .*\n  dear +8 +4 ", printed)
    without = simulated(rows)
    assert words.cheapest(without, curves(without)) == ""
    none = simulated([one | {"goodput": 0.0} for one in rows], LIMITS)
    assert "None of 2 deployments" in words.cheapest(none, curves(none))


def test_preemption_and_rejection_are_told_where_there_are_any() -> None:
    fine = simulated([row(1.0)])
    assert words.preempted(curves(fine)) == words.rejected(curves(fine)) == ""
    assert "preemptions" not in text(fine)
    full = simulated([row(1.0), row(2.0, preemptions=50, recomputed_tokens=500.0, rejected=7)])
    assert "at 2 requests/s (llama on h100) 50 preemptions of 1,000" in words.preempted(
        curves(full)
    )
    assert "5 % more prompt tokens" in words.preempted(curves(full))
    assert "7 of 1,000 requests are longer" in words.rejected(curves(full))
    assert "preemptions  rejected" in text(full)


def test_closed_forms_are_compared_number_by_number() -> None:
    of = curves(simulated([row(1.0, closed_tpot_p95_s=0.03), row(10.0, **OVERLOADED)]))
    told = comparison(of)
    assert (told.compared, told.close, told.without, told.few) == (4, 3, 1, 0)
    assert "3 of 4" in words.compared(told)
    assert "TPOT p95 at 1 requests/s, 30 ms against 20 ms simulated" in words.compared(told)
    assert "no answer at 1 load" in words.compared(told)
    few = curves(simulated([row(1.0, closed_tpot_p95_s=0.03, trust="closed forms")]))
    assert "at 1 load of few drawn requests the closed forms" in words.compared(comparison(few))


def test_seeds_are_averaged_and_their_counts_added() -> None:
    rows = [
        row(1.0, usd_per_mtok_at_load=c, seed=i, preemptions=2) for i, c in enumerate((2.0, 4.0))
    ]
    (curve,) = curves(simulated(rows))
    (point,) = curve.points
    assert (point["usd_per_mtok_at_load"], point["preemptions"], point["runs"]) == (3.0, 4, 2)
    assert "means over 2 seeds" in text(simulated(rows))
    assert "slowest 1 of 100 counted requests: it is uncertain" in words.behind((curve,))


NO_FORMS = {name: None for name in row(1.0) if name.startswith("closed_")} | {
    "utilization": None, "capacity_per_s": None, "slots_at_load": None, "trust": "simulation",
}  # fmt: skip
NOTHING = {name: None for name in row(1.0) if re.match("(ttft|tpot|e2e|queue)_", name)} | {
    "usd_per_mtok_at_load": None, "batch_at_load": None, "rejected": 1000, "goodput": 0.0,
}  # fmt: skip
CASES = {
    "one run": ([row(1.0)], ()),
    "one run with limits": ([row(1.0)], LIMITS),
    "no closed forms": ([row(1.0, **NO_FORMS), row(4.0, **NO_FORMS)], LIMITS),
    "one token each": ([row(r, tpot_mean_s=None, tpot_p50_s=None, tpot_p95_s=None, tpot_p99_s=None)
                        for r in (1.0, 4.0)], LIMITS),
    "all rejected": ([row(1.0, **NOTHING)], LIMITS),
    "some loads rejected": ([row(1.0), row(4.0, **NOTHING)], LIMITS),
    "many deployments": ([{"tp": float(i)} | row(r) for i in range(12) for r in (1.0, 4.0)], ()),
    "deployments at one load": ([{"tp": float(i)} | row(1.0) for i in range(3)], LIMITS),
    "many loads": ([row(1.0 + i) for i in range(30)], LIMITS),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_page_and_text_cope_with(case: str) -> None:
    rows, limits = CASES[case]
    found = simulated(rows, limits)
    printed, made = text(found), page(found, ("workload=chat", *limits))
    assert "Loads" in printed
    for gone in ("None", "nan", "inf "):
        assert gone not in printed + said(made)
    shown = render(made)
    assert len(shown) - len(runtime.bundle()) < 5e5
    for figure in figures_of(made):
        if figure.chart is not None:
            spec = to_spec(figure.chart)
            assert all(len(data) <= 8 * 2 * 200 for data in spec["datasets"].values())
    keys = {figure.key for figure in figures_of(made)}
    assert all(one.figure in keys for one in made.findings if one.figure)
    several = len({one["arrivals_per_s"] for one in rows if one["ttft_p95_s"]}) > 1
    assert ("cost" in keys) == several
    assert ("goodput" in keys) == (several and bool(limits))


def test_answer_depends_on_what_is_asked() -> None:
    rows = [row(1.0), row(4.0)]
    free, bound = (page(simulated(rows, limits), ()) for limits in ((), LIMITS))
    assert free.answer.startswith("From 1 to 4 requests/s a million generated tokens")
    assert "up to 4 requests/s, at $6.00" in bound.answer
    assert "TTFT 1 s" in bound.question
    nobody = page(simulated([row(1.0, **NOTHING)]), ())
    assert nobody.answer.startswith("No request was served. 1,000 of 1,000 requests are longer")


def test_last_stretch_that_stands_for_more_is_not_drawn() -> None:
    short = simulated([row(1.0)])
    assert series(short, 0).height == 10
    rows = short.rows.with_columns(duration_s=pl.lit(2000.0))
    assert series(dataclasses.replace(short, rows=rows), 0).height == 9


def test_stretch_that_holds_more_time_than_it_is_long_is_a_mean_over_it() -> None:
    found = simulated([row(1.0)])
    booked = found.series.with_columns(busy=pl.lit(2.0))
    played = series(dataclasses.replace(found, series=booked), 0)
    assert played["running"].to_list() == [i / 2.0 for i in range(10)]
    assert played["busy"].to_list() == [1.0] * 10


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", "<img src=x onerror=a()>"])
def test_hostile_names_are_shown_not_run(name: str) -> None:
    rows = [{"hardware": n} | row(r) for n in (name, "other") for r in (1.0, 4.0)]
    made = render(page(simulated(rows, LIMITS, {"model": name}), (f"hardware={name}", "a b")))
    plain = made.replace(runtime.bundle(), "")
    assert name not in plain
    assert "<img" not in plain
    assert plain.count("<script") == plain.count("</script") == 4
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', made, re.DOTALL)
    assert found
    assert name in json.dumps(json.loads(found.group(1)), ensure_ascii=False)
    assert "roofrack simulate &#39;hardware=" in plain
    assert "&#39;a b&#39;" in plain
