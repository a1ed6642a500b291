"""Disaggregated serving searched pool by pool is what a loop over all pairs of settings finds."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.cases import AFD, AGGREGATED, DISAGGREGATED, study
from search.test_search import in_numpy

from roofrack import cli, cost
from roofrack.axes import Axis
from roofrack.errors import InfeasibleError, InputError
from roofrack.leaves import put
from roofrack.planning import LEAVES
from roofrack.results.directions import LESS
from roofrack.searching import Choice, asked, found, pairs, search
from roofrack.searching.candidates import frontier
from roofrack.searching.space import LEVELS, plan_leaves, space

CASES = (
    ("h100_sxm", "llama3_1_8b", 5),
    ("h200", "mixtral_8x7b", 4),
    ("gb200_nvl72", "gpt_oss_20b", 3),
)


def served(hardware, model, serving=DISAGGREGATED, prompts=(1,), batches=(16,), **leaves):
    """A study that serves, with pools, and axes of batches on either."""
    at = study(hardware, model, phase="serve")
    given = {"workload.serving": serving, "workload.prompt": 2000.0, "workload.output": 300.0}
    inner = at.levels["hardware"][0]
    leaves = {name.replace("inner", inner): value for name, value in leaves.items()}
    axes = tuple(
        Axis(path, path, values, np.array(values, float))
        for path, values in (("workload.prefill_batch", prompts), ("workload.batch", batches))
    )
    return replace(at, axes=axes, leaves={**at.leaves, **given, **leaves})


def every_pair(around):
    """Every pair of settings in every number of instances that the chips allow, evaluated."""
    case = around.cases[0]
    first, main = case.prefill, case.plans
    settings = len(around.main), len(main), len(around.first), len(first)
    b, d, a, p = (axis.ravel() for axis in np.indices(settings))
    size = main.chips * (2.0 if case.serving == "afd" else 1.0)
    rows = []
    for x, y in itertools.product(range(1, around.chips), repeat=2):
        able = np.flatnonzero(x * first.chips[p] + y * size[d] <= around.chips)
        rows += [(b[i], d[i], a[i], p[i], x, y) for i in able]
    b, d, a, p, x, y = np.array(rows).T
    values = around.main.values(b) | around.first.values(a) | plan_leaves(main.take(d))
    values |= plan_leaves(first.take(p), "prefill.")
    values |= {"workload.prefill_instances": x / y, "parallelism.replicas": y.astype(float)}
    with np.errstate(all="ignore"):
        columns = cost.estimate(put(case.scenario, values, LEVELS))
    return {name: np.broadcast_to(np.asarray(v, float), x.shape) for name, v in columns.items()}


def kept(columns, limits):
    """Which pairs can run, fit, and keep the limits."""
    found = (columns["why_invalid"] == 0) & (columns["fits"] > 0)
    for name, limit in limits.items():
        found &= columns[name] <= limit if name in LESS else columns[name] >= limit
    return found


@pytest.mark.slow
@settings(max_examples=30)
@given(data=st.data())
def test_any_small_space_of_pairs_gives_its_best(data):
    draw = data.draw
    hardware, model, chips = draw(st.sampled_from(CASES))
    batches = tuple(
        draw(st.lists(st.sampled_from([1, 4, 16, 64]), min_size=1, max_size=2, unique=True))
    )
    prompts = tuple(draw(st.sampled_from([(1,), (1, 4)])))
    goal = draw(st.sampled_from(["usd_per_mtok", "tpot_s", "ttft_s", "tokens_per_s_per_chip"]))
    limits = {
        "ttft_s": draw(st.sampled_from([0.1, 1.0, 10.0])),
        "tpot_s": draw(st.sampled_from([0.01, 1.0, 2.0])),
    }
    way = "minimise" if goal in LESS else "maximise"
    words = [f"limits.{n}={v}" for n, v in limits.items()]
    words = [*words, f"chips={chips}", f"{way}={goal}", "top=3",
             "batch=1", "parallelism.pp=1", "prefill.parallelism.cp=1"]  # fmt: skip
    if draw(st.booleans()):  # else a plan twice as wide does for two instances
        words += ["parallelism.dp=1", "prefill.parallelism.dp=1"]
    question = asked(words)
    leaves = {
        "workload.prompt": draw(st.sampled_from([300.0, 2000.0, 7000.0])),
        "workload.output": float(draw(st.integers(1, 900))),
    }
    if draw(st.booleans()):
        leaves["hardware.fabric.inner.bytes_per_s"] = 3e9  # caches are long on their way
    at = served(hardware, model, draw(st.sampled_from([DISAGGREGATED, DISAGGREGATED, AFD])),
                prompts, batches, **leaves)  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(found, "scan", in_numpy)
        patch.setattr(pairs, "scan", in_numpy)
        patch.setattr(pairs, "TOGETHER", draw(st.sampled_from([1, 5, 1024])))
        around = space([Choice(at)], question)
        columns = every_pair(around)
        able = kept(columns, limits)
        try:
            answer = search([Choice(at)], question)
        except InfeasibleError:
            assert not able.any()
            return
    pick = np.min if goal in LESS else np.max
    assert answer.best[0][goal] == pytest.approx(pick(columns[goal][able]), rel=1e-9)
    worst = answer.best[0][goal]
    for row in answer.best:
        assert (
            (row[goal] >= worst * (1 - 1e-9)) if goal in LESS else (row[goal] <= worst * (1 + 1e-9))
        )
        worst = row[goal]
    for label, value in answer.relaxed["ttft_s"].items():
        wider = {"tpot_s": limits["tpot_s"]}
        wider |= {} if label == "none" else {"ttft_s": limits["ttft_s"] * float(label)}
        assert value == pytest.approx(pick(columns[goal][kept(columns, wider)]), rel=1e-9)
    runs = kept(columns, {})
    x, y = columns["tpot_s"][runs], columns["usd_per_mtok"][runs]
    told = [(row["tpot_s"], row["usd_per_mtok"]) for row in answer.frontier]
    for i in frontier(x, y):  # equal ones may be told once
        assert any(a <= x[i] * (1 + 1e-9) and b <= y[i] * (1 + 1e-9) for a, b in told)
    for a, b in told:
        assert not np.any((x < a * (1 - 1e-9)) & (y < b * (1 - 1e-9)))


@pytest.fixture
def in_double(monkeypatch):
    """Evaluate blocks in NumPy."""
    monkeypatch.setattr(found, "scan", in_numpy)
    monkeypatch.setattr(pairs, "scan", in_numpy)


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize("slow", [{}, {"hardware.fabric.inner.bytes_per_s": 3e9}])
def test_instances_are_in_the_best_ratio(slow):
    one = [
        f"{pool}parallelism.{d}=1" for pool in ("", "prefill.") for d in ("tp", "dp", "pp", "cp")
    ]
    question = asked(["chips=6", "batch=1", *one])
    ratios = set()
    for output in range(40, 200, 10):
        leaves = {"workload.output": float(output), **slow}
        at = served("h100_sxm", "llama3_1_8b", batches=(16,), **leaves)
        columns = every_pair(space([Choice(at)], question))
        best = search([Choice(at)], question).best[0]
        least = columns["usd_per_mtok"][kept(columns, {})].min()
        assert best["usd_per_mtok"] == pytest.approx(least, rel=1e-9)
        ratios.add(best["instances"])
    assert len(ratios) > 3


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize(("hardware", "model", "chips"), CASES)
def test_the_first_few_plans_are_those_of_all_pairs(hardware, model, chips):
    question = asked([f"chips={chips}", "top=4", "batch=1", "limits.tpot_s=0.02"])
    at = served(hardware, model, batches=(4, 64))
    around = space([Choice(at)], question)
    columns = every_pair(around)
    able = kept(columns, question.limits)
    answer = search([Choice(at)], question)
    values = np.unique(np.round(columns["usd_per_mtok"][able] / answer.best[0]["usd_per_mtok"], 9))
    told = np.array([row["usd_per_mtok"] for row in answer.best]) / answer.best[0]["usd_per_mtok"]
    assert set(np.round(told, 9)) <= set(values[: len(answer.best)])
    plans = {(row["plan"], row["first"]) for row in answer.best}
    assert len(plans) == len(answer.best) == 4


@pytest.mark.usefixtures("in_double")
def test_modes_compete_and_are_told_apart():
    words = ["chips=4", "batch=1", "limits.tpot_s=0.02", "limits.ttft_s=1"]
    modes = {"aggregated": AGGREGATED, "disaggregated": DISAGGREGATED}
    choices = [
        Choice(served("h100_sxm", "llama3_1_8b", mode, batches=(8, 64)), {"serving": name})
        for name, mode in modes.items()
    ]
    both = search(choices, asked(words))
    each = [search([choice], asked(words)) for choice in choices]
    assert both.best[0]["usd_per_mtok"] == min(one.best[0]["usd_per_mtok"] for one in each)
    assert both.sides == each[1].sides
    assert both.behind >= each[1].behind  # the other mode's plans leave fewer pairs that matter
    assert each[0].points + both.sides <= both.points <= sum(one.points for one in each)
    assert {row["serving"] for row in both.frontier} <= set(modes)
    pooled = each[1].best[0]
    assert pooled["instances"][0] * pooled["prefill"]["dp"] >= 1
    assert pooled["chips"] <= 4
    assert all(row[name] == row[name] for row in both.best for name in LEAVES)


@pytest.mark.usefixtures("in_double")
def test_what_pairs_cannot_be_compared_by_is_said():
    at = served("h100_sxm", "llama3_1_8b")
    with pytest.raises(InputError, match=r"joule_per_token: where prompts.*ttft_s, tpot_s"):
        search([Choice(at)], asked(["chips=4", "batch=1", "minimise=joule_per_token"]))
    with pytest.raises(InfeasibleError, match="none of"):
        search([Choice(at)], asked(["chips=4", "batch=1", "limits.tpot_s=1e-7"]))
    with pytest.raises(InputError, match="replicas: a search chooses the instances"):
        fixed = replace(at, leaves={**at.leaves, "parallelism.replicas": 2.0})
        search([Choice(fixed)], asked(["chips=4", "batch=1"]))


@pytest.mark.slow
def test_single_precision_gives_the_same_pairs():
    question = asked(["chips=4", "batch=1", "limits.tpot_s=0.02"])
    at = served("h100_sxm", "llama3_1_8b", prompts=(1, 2), batches=(4, 64, 256))
    compiled = search([Choice(at)], question)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "scan", in_numpy)
        plain = search([Choice(at)], question)
    assert [row["usd_per_mtok"] for row in compiled.best] == [r["usd_per_mtok"] for r in plain.best]
    assert compiled.sides == plain.sides
    assert len(compiled.frontier) == len(plain.frontier)


@pytest.mark.slow
def test_the_command_compares_modes(capsys):
    words = ["search", "hardware=h200", "model=llama3_1_8b", "chips=2", "batch=16,64",
             "workload=chat",
             "workload.serving=aggregated,disaggregated", "limits.tpot_s=0.05"]  # fmt: skip
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "disaggregated" in said
    assert "prefill" in said
