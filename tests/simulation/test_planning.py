"""Plans found by simulation: least machines, break-even, tiers, what waiting saves."""

import re
from dataclasses import replace
from math import inf
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofrack import api
from roofrack.errors import InputError
from roofrack.report.plan_text import text
from roofrack.simulation import command
from roofrack.simulation.asked import Limits
from roofrack.simulation.planning import asked, loads, owning, tiers
from roofrack.simulation.planning.asked import Prices, plan_asked
from roofrack.simulation.planning.least import least_counts
from roofrack.simulation.planning.loads import edge, highest
from roofrack.simulation.planning.owning import break_even, request_usd, teeth
from roofrack.simulation.planning.runs import Case, Lengths, Run, replicated

SMALL = [
    "hardware=h100_sxm",
    "model=llama3_1_8b",
    "workload=chat",
    "parallelism=single",
    "workload.batch=4",
    "workload.prompt=512",
    "workload.output=32",
    "workload.prompt_cv=0",
    "workload.output_cv=0",
    "traffic.requests=300",
]
LIMITS = ["limits.ttft_s=0.3", "limits.tpot_s=0.03"]


def run(rate=1.0, limits=None, replicas=1, **values):
    columns = dict.fromkeys(("ttft_middle_s", "ttft_end_s"), None) | {"goodput": 1.0} | values
    case = Case(SimpleNamespace(replicas=replicas), rate, limits or Limits(1.0, inf, 0.95))
    return Run(case, columns, {})


# the least count


@given(st.lists(st.tuples(st.integers(0, 70), st.integers(1, 100), st.integers(1, 64)), min_size=1))
def test_the_least_count_is_that_of_trying_all(items):
    thresholds, guesses, most = zip(*items, strict=True)
    rounds = []

    def keeps(tries):
        rounds.append(tries)
        assert len({i for i, _ in tries}) == len(tries)
        assert all(1 <= count <= most[i] for i, count in tries)
        return [count >= thresholds[i] for i, count in tries]

    found = least_counts(keeps, guesses, most)
    for of, last, one in zip(thresholds, most, found, strict=True):
        assert one == next((n for n in range(1, last + 1) if n >= of), None)
    assert len(rounds) <= 14  # all items of a round at once: halved or doubled, then bisected


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 50))
def test_of_any_answer_the_count_below_was_tried_and_fails(good, guess):
    asked_of = set()

    def keeps(tries):
        asked_of.update(count for _, count in tries)
        return [good[count - 1] for _, count in tries]

    (found,) = least_counts(keeps, [guess], [len(good)])
    if found is None:
        assert len(good) in asked_of and not good[-1]
    else:
        assert good[found - 1]
        assert found == 1 or (found - 1 in asked_of and not good[found - 2])


def test_none_is_allowed_none_is_tried():
    assert least_counts(lambda tries: pytest.fail("tried"), [4], [0]) == [None]


@pytest.mark.slow
def test_the_least_machines_are_those_of_simulating_all():
    words = [*SMALL, *LIMITS, "workload.arrivals_per_s=5,20"]
    kept = {}
    for replicas in (1, 2):
        rows = command.answer([*words, f"parallelism.replicas={replicas}"]).rows
        for row in rows.iter_rows(named=True):
            kept[row["arrivals_per_s"], replicas] = row
    planned = api.plan(["chips", *words])
    assert [(one.rate, one.replicas) for one in planned.answer] == [(5.0, 1), (20.0, 2)]
    for one in planned.answer:
        least = next(n for n in (1, 2) if kept[one.rate, n]["goodput"] >= 0.95)
        assert one.replicas == least
        row = kept[one.rate, least]
        for name in ("chips", "usd_per_hour", "ttft_p95_s", "usd_per_mtok_at_load"):
            assert one.run[name] == pytest.approx(row[name])
    below = planned.answer[1].below
    assert not below.kept and below["goodput"] == pytest.approx(kept[20.0, 1]["goodput"])
    assert re.search(r"^  20 +2 +2 +\$5.90", text(planned), re.MULTILINE)
    few = api.plan(["chips", *words, "max_chips=1"])
    assert few.answer[1].replicas is None and not few.answer[1].best.kept
    assert re.search(r"^  20 +none +> 1 ", text(few), re.MULTILINE)
    assert "At 20 requests/s nothing keeps the limits" in text(few)


def test_replicas_take_chips_and_money_with_them():
    of = command.all_deployments(
        plan_asked(["wait", *SMALL, "workload.arrivals_per_s=1"]).run, None
    )
    three, own = replicated(of[0][0], 3), dict(of[0][0].row)
    assert three.replicas == 3
    assert (three.row["chips"], three.row["usd_per_hour"]) == (3.0, 3.0 * own["usd_per_hour"])
    assert three.scenario is of[0][0].scenario  # and so its clock
    whole = command.all_deployments(
        plan_asked(["wait", *SMALL, "parallelism.replicas=3", "workload.arrivals_per_s=1"]).run,
        None,
    )
    assert whole[0][0].row["usd_per_hour"] == pytest.approx(three.row["usd_per_hour"])
    assert replicated(whole[0][0], 1).row["chips"] == 1.0


def test_a_queue_that_grows_breaks_the_promise():
    assert run().kept
    assert not run(goodput=0.94).kept
    assert not run(ttft_middle_s=0.3, ttft_end_s=0.6).kept
    assert run(ttft_middle_s=0.3, ttft_end_s=0.4).kept  # less than by half
    assert run(ttft_middle_s=0.02, ttft_end_s=0.08).kept  # little of what is promised


# the highest load


class Service:
    """Keeps the limits up to some rate, but for those in `but`."""

    def __init__(self, most, capacity=100.0, but=()):
        self.most, self.per_s, self.but, self.calls = most, capacity, but, 0

    def capacity(self, of):
        return self.per_s

    def play(self, cases):
        self.calls += 1
        good = [c.rate <= self.most and c.rate not in self.but for c in cases]
        return [
            Run(case, run(goodput=float(one)).values, {})
            for case, one in zip(cases, good, strict=True)
        ]


@pytest.mark.parametrize("most", [0.5, 3.5, 47.0, 109.0, 500.0])
def test_the_highest_load_is_found_between_two_rates(most):
    service = Service(most)
    (found,) = highest(service, [(SimpleNamespace(replicas=1), Limits())])
    assert found.rate <= most < found.fails.case.rate
    assert found.fails.case.rate / found.rate < 1.1
    assert service.calls <= 8


def test_no_load_keeps_and_every_load_keeps():
    of = SimpleNamespace(replicas=2)
    (none,) = highest(Service(0.0), [(of, Limits())])
    assert (none.run, none.rate) == (None, None) and none.fails is not None
    (every,) = highest(Service(inf), [(of, Limits())])
    assert every.fails is None and every.rate > 2 * 100.0


def test_a_load_that_fails_below_one_that_keeps_counts():
    fails = loads.FIRST[2] * 100.0
    (found,) = highest(Service(80.0, but={fails}), [(SimpleNamespace(replicas=1), Limits())])
    assert found.rate < fails <= found.fails.case.rate
    assert edge({1.0: True, 2.0: False, 3.0: True}) == (1.0, 2.0)


# owning


def test_the_mean_request_at_the_prices_of_an_api():
    lengths = Lengths(prompt=1000.0, cached=400.0, output=200.0, held=0.0)
    # 600 x $0.5 + 400 x $0.1 + 200 x $1.5, per million
    assert request_usd(lengths, Prices(0.5, 1.5, 0.1)) == pytest.approx(640e-6)


def test_the_crossing_by_hand():
    # machines for $10 an hour, an API that takes $2 an hour for each request per second
    rates = [1.0, 4.0, 8.0]
    found = break_even(rates, [10.0] * 3, [2.0 * r for r in rates])
    assert (found.why, found.under) == (owning.FROM, 1)
    assert found.rate == pytest.approx(5.0) and found.first == pytest.approx(5.0)


def test_machines_that_jump_have_two_crossings():
    rates = [4.0, 6.0, 7.0, 12.0]
    found = break_even(rates, [10.0, 10.0, 20.0, 20.0], [2.0 * r for r in rates])
    assert found.first == pytest.approx(5.0)
    assert found.rate == pytest.approx(10.0)  # where two of them cost what the API does
    assert found.under == 2


@pytest.mark.parametrize(
    ("own", "why", "first"),
    [
        ([30.0, 30.0], owning.NEVER, None),
        ([1.0, 2.0], owning.ALWAYS, None),
        ([2.0, 9.0], owning.NOT_STEADILY, None),
    ],
)
def test_machines_that_never_or_always_pay(own, why, first):
    found = break_even([1.0, 2.0], own, [4.0, 8.0])
    assert (found.why, found.first, found.rate) == (why, first, None)
    assert break_even([], [], []).why == owning.NEVER


def test_every_number_of_replicas_is_looked_at_where_it_breaks_even():
    found = sorted(teeth([8.0, 35.0], 10.0))
    assert found == pytest.approx([9.9, 10.0, 19.8, 20.0, 29.7, 30.0])


@pytest.mark.slow
def test_one_machine_pays_from_where_its_hour_is_paid():
    words = [*SMALL, *LIMITS, "price.input=1", "price.output=4"]
    planned = api.plan(["own", *words, "workload.arrivals_per_s=0.4,3", "max_chips=1"])
    (one,) = planned.answer
    usd = (512 * 1.0 + 32 * 4.0) / 1e6
    hour = one.deployment.row["usd_per_hour"]
    assert one.per_request_usd == pytest.approx(usd)
    assert one.crossing.rate == pytest.approx(hour / 3600 / usd, rel=1e-6)
    at = one.points[0]
    assert one.utilization / one.crossing.rate == pytest.approx(at.utilization / at.rate)
    assert f"pay from {one.crossing.rate:.2f} requests/s on" in text(planned)
    dear = replace(planned, answer=[replace(one, crossing=break_even([1.0], [2.0], [1.0]))])
    assert "never pay" in text(dear)


# tiers


def test_promises_that_nobody_told_are_marked():
    told = ["tiers.fast.tpot_s=0.01", "tiers.slow.ttft_s=9"]
    plan = plan_asked(["tiers", *SMALL[:4], "limits.ttft_s=0.5", *told])
    found = tiers.promises(plan, 0.02)
    assert found["fast"] == (Limits(0.5, 0.01, 0.95), ())
    assert found["normal"][0] == Limits(0.5, 0.02 * tiers.MULTIPLES["normal"], 0.95)
    assert len(found["normal"][1]) == 1
    assert found["slow"][0].ttft_s == 9.0 and len(found["slow"][1]) == 1
    assert tiers.caps(256) == [1, 4, 16, 64] and tiers.caps(1) == [1]


@pytest.mark.slow
def test_fewer_users_in_a_batch_are_served_faster_and_dearer(monkeypatch):
    for name, few in {"FIRST": (0.25, 1.1), "BETWEEN": 1, "ROUNDS": 1}.items():
        monkeypatch.setattr(loads, name, few)
    told = ["tiers.fast.batch=1", "tiers.normal.batch=4", "tiers.slow.batch=4"]
    told += ["tiers.slow.wait_s=0.1", "tiers.slow.tpot_s=0.05"]
    words = [word for word in SMALL if "batch" not in word]
    planned = api.plan(["tiers", *words, "limits.ttft_s=0.5", *told])
    runs = {tier.name: tier.run for tier in planned.answer.tiers}
    fast, normal = runs["fast"], runs["normal"]
    assert fast["batch_at_load"] == pytest.approx(1.0)
    assert 1.5 < normal["batch_at_load"] <= 4.0
    assert fast["tpot_mean_s"] < normal["tpot_mean_s"]
    assert fast["usd_per_mtok_at_load"] > normal["usd_per_mtok_at_load"]
    said = text(planned)
    price = fast["usd_per_mtok_at_load"] / normal["usd_per_mtok_at_load"]
    speed = normal["tpot_mean_s"] / fast["tpot_mean_s"]
    line = re.search(r"fast against normal: .* = (\S+)x the users", said)
    assert float(line[1]) == pytest.approx(price * speed, rel=0.06)  # two digits
    assert "slow tpot_s" not in said and "fast tpot_s = 1.5 x alone" in said


# waiting


def test_who_waits_has_the_first_token_later():
    words = [*SMALL, "workload.arrivals_per_s=5", "workload.wait_s=0.3"]
    planned = api.plan(["wait", *words])
    zero, later = planned.answer
    assert (zero.wait_s, zero.saved, later.wait_s) == (0.0, 0.0, 0.3)
    assert zero.highest is None  # no limits
    # the first of a group waits all of it, the others less
    assert 0.1 < later.run["ttft_p50_s"] - zero.run["ttft_p50_s"] < 0.35
    assert later.run["batch_at_load"] > zero.run["batch_at_load"]
    assert later.saved == pytest.approx(
        1.0
        - later.run["busy_share"]
        * later.run["duration_s"]
        / (zero.run["busy_share"] * zero.run["duration_s"])
    )
    assert 0.02 < later.saved < later.most < 1.0
    assert later.released == pytest.approx(zero.run["busy_share"] * later.saved, rel=0.02)
    assert f"saves {later.saved:.0%}".replace("%", " %") in text(planned)


# words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "plan: the first word is the question: chips, own, tiers, wait"),
        (["tier"], "Did you mean 'tiers'?"),
        (["chips", "limits.ttft_s=1"], "give workload.arrivals_per_s"),
        (["chips", "workload.arrivals_per_s=1"], "give limits.ttft_s"),
        (["chips", "workload.arrivals_per_s=auto", "limits.ttft_s=1"], "takes rates"),
        (["chips", "parallelism.replicas=2"], "`plan chips` finds it"),
        (["chips", "max_chips=2.5", "workload.arrivals_per_s=1", "limits.ttft_s=1"], "whole"),
        (["chips", "max_chips=none"], "max_chips=none: allowed is a number above 0"),
        (["chips", "price.input=1"], "`plan chips` knows max_chips"),
        (["own", "limits.ttft_s=1", "price.input=1"], "give price.output"),
        (["own", "price.inptu=1"], "Did you mean 'price.input'?"),
        (["own", "price.input=-1"], "price.input=-1: allowed is a number above 0"),
        (["tiers", "tiers.fats.tpot_s=1"], "Did you mean 'tiers.fast.tpot_s'?"),
        (["tiers", "workload.arrivals_per_s=1"], "`plan tiers` finds it"),
        (["tiers", "tiers.slow.batch=0.5", "limits.ttft_s=1"], "tiers.slow.batch=0.5"),
        (["wait", "workload.wait_s=-1"], "allowed is a number of at least 0"),
        (["wait", "max_chips=3"], "`plan wait` has no such key"),
        (["wait", "engine.scale_at=2", "workload.arrivals_per_s=1"], "do not come and go"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_line(words, said):
    with pytest.raises(InputError) as error:
        plan_asked(words)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_question_is_read():
    words = ["own", "limits.ttft_s=1", "price.input=0.5", "price.output=1.5", "model=x"]
    plan = plan_asked(words)
    assert plan.prices == Prices(0.5, 1.5, 0.5)
    assert plan.run.overrides[-1] == "model=x" and plan.max_chips == asked.MAX_CHIPS
    assert not any("price" in word for word in plan.run.overrides)
    assert plan_asked([*words, "price.cached=0.1"]).prices.cached == 0.1
    wait = plan_asked(["wait", "workload.arrivals_per_s=1", "workload.wait_s=[1,0.1]"])
    assert wait.waits == (0.0, 0.1, 1.0)


def test_only_one_fleet_has_tiers():
    with pytest.raises(InputError, match="2 deployments"):
        api.plan(["tiers", *SMALL[1:4], "hardware=h100_sxm,h200", "limits.ttft_s=1"])
