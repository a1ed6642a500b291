"""Plans for training: all that can run and no others, and the best of them by a plain loop."""

import itertools

import numpy as np
import pytest
from model.cases import study
from search.test_search import in_numpy

from roofrack import cli, cost
from roofrack.cost import schedules
from roofrack.errors import InputError
from roofrack.leaves import plain, put
from roofrack.planning import LEAVES, plans
from roofrack.searching import Choice, asked, search
from roofrack.searching import found as finding
from roofrack.tables import RECOMPUTE, SCHEDULES

FREE = ("tp", "pp", "dp", "cp", "ep", "sequence_parallel", "microbatches", "schedule",
        "virtual_stages")  # fmt: skip


def trained(hardware="h100_sxm", model="llama3_1_8b", batch=12.0, **leaves):
    """A study that trains."""
    at = study(hardware, model, phase="train")
    given = {"workload.global_batch": batch, "workload.sequence": 2048.0, **leaves}
    return at.__class__(**{**vars(at), "leaves": {**at.leaves, **given}})


def every_plan(s, chips):
    """Every combination of leaves whose degrees multiply to the chips, each once, that can run."""
    numbers = [float(n) for n in range(1, chips + 1)]
    parts = [float(n) for n in range(1, 17)]
    rows = np.array(
        [
            (*degrees, ep, split, m, schedule, v)
            for degrees in itertools.product(numbers, repeat=4)
            if np.prod(degrees) == chips
            for ep in (numbers if s.model.experts > 0 else [1.0])
            for split in ((0.0, 1.0) if degrees[0] > 1 else (0.0,))
            for m in [float(n) for n in range(1, 13)]
            for schedule in (range(len(SCHEDULES)) if degrees[1] > 1 else (0,))
            for v in (parts[1:] if schedule == schedules.INDEX["interleaved"] else parts[:1])
        ],
        float,
    )
    columns = {f"parallelism.{name}": rows[:, i] for i, name in enumerate(FREE)}
    with np.errstate(all="ignore"):
        mask = np.broadcast_to(cost.estimate(put(s, columns))["why_invalid"], len(rows))
    return {tuple(row) for row in rows[mask == 0]}


@pytest.mark.parametrize(
    ("hardware", "model", "chips"),
    [("h100_sxm", "llama3_1_8b", 6), ("h100_sxm", "llama3_1_8b", 8), ("h200", "mixtral_8x7b", 4)],
)
def test_plans_are_all_that_can_run_and_no_others(hardware, model, chips):
    s = plain(trained(hardware, model).bind({}))
    found = plans(s, chips, within={"dedup": False})
    listed = list(zip(*(found[name] for name in FREE), strict=True))
    assert len(set(listed)) == len(listed)
    assert set(listed) == every_plan(s, chips)


def test_a_plan_may_be_restricted():
    s = plain(trained().bind({}))
    found = plans(s, 8, within={"schedule": ["interleaved"], "virtual_stages": [2, 3], "pp": 2,
                                "microbatches": [4, 6, 5]})  # fmt: skip
    assert set(found["virtual_stages"]) == {2.0}  # 16 layers on each of two stages
    assert set(found["microbatches"]) <= {4.0, 6.0}
    assert set(plans(s, 8, within={"zero": "all", "recompute": "all"})["zero"]) == {0, 1, 2, 3}
    assert not len(plans(s, 8, within={"pp": 1, "dp": 8, "microbatches": 5}))


def test_a_batch_that_ranks_cannot_share_leaves_fewer_ranks():
    s = plain(trained(batch=6.0).bind({}))
    assert set(plans(s, 8)["dp"]) == {1.0, 2.0}


@pytest.mark.parametrize(
    ("model", "limit"), [("llama3_1_8b", {}), ("llama3_1_8b", {"mem_total_bytes": 60e9}),
                         ("gpt_oss_20b", {"mem_total_bytes": 90e9})]
)  # fmt: skip
def test_the_best_is_that_of_a_plain_loop(monkeypatch, model, limit):
    monkeypatch.setattr(finding, "scan", in_numpy)
    at = trained("h200", model)
    words = [f"limits.{name}={value}" for name, value in limit.items()]
    question = asked(["chips=8", "minimise=step_s", "parallelism.cp=1", *words])
    found = search([Choice(at)], question)
    s = plain(at.bind({}))
    again = ["none", "full", "alternate"]  # selective is none where the core is fused
    listed = plans(s, 8, within={"cp": 1, "zero": "all", "recompute": again})
    values = {f"parallelism.{name}": listed[name] for name in LEAVES}
    with np.errstate(all="ignore"):
        columns = cost.estimate(put(s, values))
    kept = (columns["why_invalid"] == 0) & columns["fits"]
    for name, value in limit.items():
        kept &= columns[name] <= value
    steps = np.broadcast_to(columns["step_s"], kept.shape)
    assert found.best[0]["step_s"] == pytest.approx(steps[kept].min(), rel=1e-12)
    assert found.kept == kept.sum()
    assert found.points == len(listed)
    assert found.axes == ("zero", "recompute")
    assert found.best[0]["recompute"] in RECOMPUTE


def test_what_a_training_cannot_be_asked():
    with pytest.raises(InputError, match="launch=vllm: serves models"):
        search([Choice(trained())], asked(["chips=8", "launch=vllm"]))
    with pytest.raises(InputError, match="no degrees that are allowed"):
        search([Choice(trained())], asked(["chips=8", "parallelism.tp=3"]))


@pytest.mark.slow
def test_the_command_finds_a_plan(capsys):
    words = ["search", "hardware=h100_sxm", "model=llama3_1_8b", "workload=train", "chips=4",
             "workload.global_batch=8", "workload.sequence=2048", "parallelism.recompute=none,full",
             "parallelism.zero=1", "top=2"]  # fmt: skip
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "microbatches=" in said
    assert "bubble_fraction" in said
    assert "plans of 4 chips" in said
