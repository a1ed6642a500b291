"""The best of a space is what a loop over every point of it finds; limits, ties and refusals."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.cases import study

from roofrack import cli, cost
from roofrack.errors import InfeasibleError, InputError
from roofrack.leaves import plain, put
from roofrack.planning import LEAVES, plans
from roofrack.planning.candidates import with_plans
from roofrack.report.search_text import plan_words, text
from roofrack.results.directions import LESS
from roofrack.searching import Choice, asked, pairs
from roofrack.searching import found as finding
from roofrack.searching import search as search_all
from roofrack.searching.candidates import (
    MARGIN,
    Frontier,
    Limits,
    Nearest,
    frontier,
    show,
    unbeaten,
    usable,
)
from roofrack.searching.points import exactly, placed
from roofrack.searching.scan import Pass, scan
from roofrack.searching.space import LARGEST, LEVELS, PER_OCTAVE, plan_leaves, space


def of(hardware, model, *words, phase="decode"):
    """A study, and the question that the words ask."""
    at = study(hardware, model, phase=phase)
    question = asked(words)
    assert not [o for o in question.overrides if not o.startswith("batch=")]
    return at, question


def search(at, question):
    """The answer for one study."""
    return search_all([Choice(at)], question)


def with_batches(at, *batches):
    """The study with an axis of batch sizes."""
    from dataclasses import replace

    from roofrack.axes import Axis

    axis = Axis("batch", "workload.batch", batches, np.array(batches, float))
    return replace(at, axes=(*at.axes, axis))


def looped(at, question, batches):
    """Every point of a space by a plain loop: (goal, row) of those that keep the limits."""
    s = plain(at.bind({}))
    listed = plans(s, question.chips, within=question.within, up_to=True)
    s = with_plans(s, {})
    kept = []
    for i, batch in itertools.product(range(len(listed)), batches):
        leaves = {f"parallelism.{name}": float(listed[name][i]) for name in LEAVES}
        with np.errstate(all="ignore"):
            row = cost.estimate(put(s, leaves | {"workload.batch": float(batch)}))
        row = {name: float(value) for name, value in row.items()}
        holds = all(
            row[n] <= limit if n in LESS else row[n] >= limit
            for n, limit in question.limits.items()
        )
        if row["why_invalid"] == 0 and row["fits"] and holds:
            kept.append((row[question.goal], i, batch))
    return kept


def in_numpy(cases, over):
    """All points of some cases by a pass, in NumPy: nothing is compiled."""
    for number, case in cases.items():
        found = over.plans(case)
        step, plan = np.divmod(np.arange(len(over.grid) * len(found)), len(found))
        values = {**plan_leaves(found.take(plan), over.part), **over.grid.values(step)}
        with np.errstate(all="ignore"):
            columns = over.function(put(case.scenario, values, LEVELS))
        single = {
            name: np.broadcast_to(np.asarray(columns[name], np.float32), plan.shape)
            for name in over.columns
        }
        everything = placed(number, plan, step, single)
        for part in np.array_split(np.arange(len(everything)), 3):
            yield everything.take(part)


@pytest.fixture
def in_double(monkeypatch):
    """Evaluate blocks in NumPy: what is decided from them is tested without compiling."""
    monkeypatch.setattr(finding, "scan", in_numpy)
    monkeypatch.setattr(pairs, "scan", in_numpy)


CASES = (
    ("h100_sxm", "llama3_1_8b", 4, 0.02),
    ("h200", "mixtral_8x7b", 4, 0.03),
    ("gb200_nvl72", "gpt_oss_120b", 4, 0.01),
)


@pytest.mark.parametrize(("hardware", "model", "chips", "limit"), CASES)
@pytest.mark.parametrize("goal", ["minimise=usd_per_mtok", "maximise=tokens_per_s_per_chip"])
@pytest.mark.usefixtures("in_double")
def test_the_best_is_that_of_a_plain_loop(hardware, model, chips, limit, goal):
    batches = (1, 7, 32, 200)
    at, question = of(hardware, model, f"chips={chips}", goal, f"limits.tpot_s={limit}", "top=3",
                      "batch=1,7")  # fmt: skip
    found = search(with_batches(at, *batches), question)
    kept = looped(at, question, batches)
    pick = max if question.more else min
    best = pick(value for value, *_ in kept)
    assert found.best[0][question.goal] == pytest.approx(best, rel=1e-12)
    assert found.kept == len(kept)
    by_plan: dict[int, float] = {}
    for value, plan, _ in kept:
        by_plan[plan] = pick(value, by_plan.get(plan, value))
    ranked = sorted(by_plan.values(), reverse=question.more)[:3]
    assert [row[question.goal] for row in found.best] == pytest.approx(ranked, rel=1e-9)


@settings(max_examples=15)
@given(data=st.data())
def test_any_small_space_gives_its_best(data):
    hardware, model, chips, _ = data.draw(st.sampled_from(CASES), label="case")
    batches = data.draw(st.lists(st.integers(1, 500), min_size=1, max_size=4, unique=True))
    limits = {
        "tpot_s": data.draw(st.floats(0.004, 0.1), label="tpot_s"),
        "tokens_per_s_per_user": data.draw(st.floats(5.0, 150.0), label="speed"),
    }
    goal = data.draw(st.sampled_from(["usd_per_mtok", "tpot_s", "joule_per_token"]))
    words = [f"limits.{name}={value}" for name, value in limits.items()]
    at, question = of(
        hardware, model, f"chips={data.draw(st.integers(1, chips))}", f"minimise={goal}", *words,
        f"parallelism.tp={data.draw(st.sampled_from(['auto', '1,2', '2']))}", "batch=1",
    )  # fmt: skip
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finding, "scan", in_numpy)
        try:
            kept = looped(at, question, batches)
            found = search(with_batches(at, *batches), question)
        except (InfeasibleError, InputError):
            assert not kept
            return
    assert found.best[0][goal] == pytest.approx(min(value for value, *_ in kept), rel=1e-12)


@pytest.mark.parametrize(
    ("hardware", "model", "phase", "chips"),
    [
        ("h200", "mixtral_8x7b", "decode", 8),
        pytest.param("gb200_nvl72", "deepseek_v3", "serve", 16, marks=pytest.mark.slow),
        pytest.param("h100_sxm", "llama3_1_70b", "prefill", 8, marks=pytest.mark.slow),
    ],
)
def test_single_precision_is_within_the_margin(hardware, model, phase, chips):
    at, question = of(hardware, model, f"chips={chips}", "batch=1", phase=phase)
    around = space([Choice(with_batches(at, 1, 9, 64, 300, 5000))], question)
    columns = ("usd_per_mtok", "step_s", "room", "why_invalid")
    blocks = list(scan(dict(enumerate(around.cases)), Pass(finding.whole, columns, around.grid)))
    assert sum(len(block) for block in blocks) == len(around.grid) * around.plans
    for block in blocks:
        exact = exactly(around, block)
        exact["room"] = exact["mem_capacity_bytes"] / exact["mem_total_bytes"]
        assert np.array_equal(block.columns["why_invalid"], exact["why_invalid"])
        runs = exact["why_invalid"] == 0
        for name in columns[:3]:
            error = np.abs(block.columns[name] / exact[name] - 1.0)[runs]
            assert error.max() < MARGIN / 20, name


@pytest.mark.usefixtures("in_double")
def test_ties_go_to_the_simpler_plan_and_reasons_are_counted():
    # without communication one chip and two of them side by side cost the same
    at, question = of("h100_sxm", "llama3_1_8b", "chips=2", "batch=1", "top=9")
    found = search(with_batches(at, 4, 8), question)
    assert found.best[0]["chips"] == 1
    at, question = of("h100_sxm", "llama3_1_70b", "chips=8", "batch=1", "limits.tpot_s=0.02")
    found = search(with_batches(at, 1, 64, 4096), question)
    assert found.points == found.plans * 3
    assert found.sides == 0
    assert found.excluded["memory is too small"] > 0
    assert found.excluded["tpot_s beyond 0.02"] > 0
    assert found.kept + sum(found.excluded.values()) == found.points
    assert found.relaxed["tpot_s"]["none"] <= found.relaxed["tpot_s"]["2"]
    assert found.relaxed["tpot_s"]["2"] <= found.relaxed["tpot_s"]["1.1"]
    assert found.relaxed["tpot_s"]["1.1"] <= found.best[0]["usd_per_mtok"]
    said = text(found)
    assert plan_words(found.best[0]) in said
    assert "Left out: " in said
    assert "Frontier of speed and cost" in said


@pytest.mark.usefixtures("in_double")
def test_what_cannot_be_met_says_what_stands_in_the_way():
    at, question = of("h100_sxm", "llama3_1_70b", "chips=8", "batch=1", "limits.tpot_s=1e-6")
    with pytest.raises(InfeasibleError, match=r"none of \d+ points.*tpot_s beyond 1e-06.*without"):
        search(with_batches(at, 1, 64), question)
    at, question = of("h100_sxm", "llama3_1_405b", "chips=1", "batch=1")
    with pytest.raises(InfeasibleError, match="memory is too small"):
        search(with_batches(at, 1), question)


numbers = st.floats(0.1, 10.0)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=40), st.sampled_from([0, 0.05]))
def test_the_frontier_is_what_nothing_beats(pairs, margin):
    x, y = (np.array(column) for column in zip(*pairs, strict=True))
    rows = set(frontier(x, y, margin).tolist())
    beaten = {
        i
        for i in range(len(x))
        if any((x[j] <= x[i]) & (y[j] <= y[i]) & ((x[j] < x[i]) | (y[j] < y[i]))
               for j in range(len(x)))
    }  # fmt: skip
    if margin:
        assert rows >= set(range(len(x))) - beaten
    else:
        points = {(x[i], y[i]) for i in range(len(x)) if i not in beaten}
        assert {(x[i], y[i]) for i in rows} == points
        assert len(rows) == len(points)


@settings(max_examples=50)
@given(data=st.data())
def test_what_rounding_leaves_open_is_kept(data):
    """Whatever single precision makes of the goals, the exact best is among what is kept."""
    count, plan_count, top = 60, 6, data.draw(st.integers(1, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    exact = rng.choice(np.exp(rng.normal(0, 1e-3, 8)), count)  # many that are nearly equal
    rounded = exact * (1.0 + rng.uniform(-1, 1, count) * MARGIN / 20)
    plan = rng.integers(0, plan_count, count)
    columns = {"goal": rounded, "room": np.ones(count), "why_invalid": np.zeros(count)}
    nearest = Nearest("goal", 1.0, Limits({}), top)
    everything = placed(0, plan, np.arange(count), columns)
    for part in np.array_split(np.arange(count), 4):
        show(everything.take(part), (nearest,))
    kept = nearest.found()
    best_of = sorted((exact[plan == p].min(), p) for p in set(plan.tolist()))[:top]
    for value, _ in best_of:
        assert value in exact[kept.place["step"]]


def test_a_frontier_that_grows_is_that_of_all_points():
    rng = np.random.default_rng(1)
    columns = {"x": rng.random(300), "y": rng.random(300), "room": rng.integers(0, 2, 300) * 1.0,
               "why_invalid": np.zeros(300)}  # fmt: skip
    points = placed(0, np.arange(300), np.zeros(300, int), columns)
    edge = Frontier("x", "y")
    for part in np.array_split(np.arange(300), 7):
        show(points.take(part), (edge,))
    fit = np.flatnonzero(usable(columns))
    exact = fit[frontier(columns["x"][fit], columns["y"][fit])]
    assert set(exact) <= set(edge.points.place["plan"])
    assert len(edge.points) < 60


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["limits.tpot_s=0.03"], "chips is missing"),
        (["chips=0"], "chips=0: allowed is a whole number from 1"),
        (["chips=-3"], "chips=-3: allowed is a whole number"),
        (["chips=8.5"], "chips=8.5: allowed is a whole number"),
        (["chips=1000000"], "from 1 to 100,000"),
        (["chips=8", "top=0"], "top=0: allowed"),
        (["chips=8", "limits.tpot=1"], "limits.tpot: allowed.*Did you mean 'tpot_s'"),
        (["chips=8", "limits.tpot_s=nan"], "limits.tpot_s=nan: allowed is a number above 0"),
        (["chips=8", "limits.tpot_s=-1"], "limits.tpot_s=-1: allowed is a number above 0"),
        (["chips=8", "limits.tpot_s=fast"], "limits.tpot_s=fast: allowed is a number above 0"),
        (["chips=8", "minimise=usd"], "minimise.usd: allowed.*usd_per_mtok"),
        (["chips=8", "minimise=mfu"], "say maximise=mfu"),
        (["chips=8", "maximise=tpot_s"], "say minimise=tpot_s"),
        (["chips=8", "minimise=tpot_s", "maximise=mfu"], "give one goal"),
        (["chips=8", "launch=vlm"], "launch=vlm: allowed: vllm.*Did you mean 'vllm'"),
        (["chips=8", "workload.serving=apart"], "workload.serving=apart: allowed: aggregated"),
        (["chips=8", "wat"], "wat: expected key=value"),
    ],
)
def test_bad_questions_are_refused_in_a_line(words, says):
    with pytest.raises(InputError, match=says) as caught:
        asked(words)
    assert "\n" not in str(caught.value)


def test_words_become_a_question():
    question = asked(["chips=72", "limits.tpot_s=3e-2", "parallelism.tp=1,2", "batch=auto",
                      "parallelism.placement=auto", "hardware=h200", "maximise=mfu"])  # fmt: skip
    assert (question.goal, question.more, question.limits) == ("mfu", True, {"tpot_s": 0.03})
    assert question.within == {"tp": [1, 2], "placement": "all"}
    assert question.overrides == ("hardware=h200",)
    assert question.auto_batch
    assert not asked(["chips=1", "batch=3"]).auto_batch
    assert asked(["chips=1", "workload.serving=auto"]).serving[0] == "aggregated"
    assert asked(["chips=1", "prefill.parallelism.tp=1,2"]).within_prefill == {"tp": [1, 2]}
    at, _ = of("h200", "llama3_1_8b", "chips=1")
    sizes = space([Choice(at)], asked(["chips=1"])).grid.axes[-1].values
    assert (sizes[0], sizes[-1]) == (1.0, LARGEST)
    assert np.max(sizes[1:] / sizes[:-1]) <= 2.0
    assert len(sizes) > PER_OCTAVE * 12


@pytest.mark.slow
def test_machines_of_any_fabric_share_a_function():
    """Compiled once for all of them: what differs is given at run time."""
    question = asked(["chips=2", "batch=1"])
    choices = [
        Choice(with_batches(study(name, "llama3_1_8b"), 1, 64), {"hardware": name})
        for name in ("h100_sxm", "gb200_nvl72", "tpu_v5p")
    ]
    around = space(choices, question)
    columns = ("usd_per_mtok", "step_s", "room", "why_invalid")
    for block in scan(dict(enumerate(around.cases)), Pass(finding.whole, columns, around.grid)):
        exact = exactly(around, block)
        for name in columns[:2]:
            np.testing.assert_allclose(block.columns[name], exact[name], rtol=MARGIN / 20)


def test_the_command_answers(capsys):
    words = ["search", "hardware=h200", "model=llama3_1_8b", "chips=2", "batch=16,64"]
    assert cli.main([*words, "limits.tpot_s=0.02", "launch=vllm,trtllm"]) == 0
    said = capsys.readouterr().out
    assert "vllm serve meta-llama/" in said
    assert "trtllm-serve meta-llama/" in said
    assert said.startswith("14 points, each evaluated: 7 plans of up to 2 chips in all")
    assert cli.main([*words, "parallelism.tp=3"]) != 0
    assert "no degrees that are allowed multiply to it" in capsys.readouterr().err
    assert cli.main(["search", "--help"]) == 0
    assert "limits.COLUMN=X" in capsys.readouterr().out


@settings(max_examples=60)
@given(data=st.data())
def test_what_is_unbeaten_in_its_group(data):
    count = data.draw(st.integers(1, 40))
    rows = st.lists(
        st.sampled_from([0.5, 0.7, 1.0, 1.01, 2.0, 30.0]), min_size=count, max_size=count
    )
    x, y = np.array(data.draw(rows)), np.array(data.draw(rows))
    groups = np.array(data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)))
    kept = set(unbeaten(x, y, groups, 0.02).tolist())
    for i in range(count):
        beaten = (groups == groups[i]) & (x < x[i] * 0.98) & (y < y[i] * 0.98)
        assert (i in kept) == (not beaten.any())


@pytest.mark.usefixtures("in_double")
def test_machines_compete_in_one_search():
    question = asked(["chips=2", "batch=1"])
    choices = [
        Choice(with_batches(study(name, "llama3_1_8b"), 1, 8, 64), {"hardware": name})
        for name in ("h100_sxm", "gb200_nvl72", "mi300x")
    ]
    together = search_all(choices, question)
    alone = {c.shown["hardware"]: search_all([c], question) for c in choices}
    best = min(alone, key=lambda name: alone[name].best[0]["usd_per_mtok"])
    assert together.best[0]["hardware"] == best
    assert together.best[0]["usd_per_mtok"] == alone[best].best[0]["usd_per_mtok"]
    assert together.points == sum(one.points for one in alone.values())
    assert together.axes[0] == "hardware"
