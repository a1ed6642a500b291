"""A finished sweep answers the questions by itself: what `roofrack.load` returns."""

import pytest

import roofrack
from roofrack import config, results
from roofrack.conversion import to_study
from roofrack.results import store
from roofrack.results.run import Run

COST = "usd_per_mtok"
JOBS = (
    ["hardware=h100_sxm", "batch=[1,64,256]", "parallelism.tp=[8,3]", "pp=1"],
    ["hardware=b200", "batch=[1,64,256]", "parallelism=tp8", "pp=[1,2]"],
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("sweep")
    for number, overrides in enumerate(JOBS):
        asked = config.compose(["model=llama3_1_70b", "dtype=fp8", *overrides])
        store.write_job(to_study(asked), asked, overrides, folder / str(number))
    return roofrack.load(str(folder))


def test_a_run_knows_what_tells_its_points_apart(run: Run) -> None:
    assert run.inputs == ("hardware", "calibration", "batch", "parallelism.tp", "pp")
    degrees = run.plans["tp8"]
    assert (degrees["tp"], degrees["dp"], degrees["pp"]) == (8, 1, 1)  # as the job says that set it


def test_a_run_answers_as_its_rows_do(run: Run) -> None:
    limits = {"tpot_s": 0.05}
    known = {"inputs": run.inputs, "plans": run.plans}
    asked = run.best(by="hardware", within=limits)
    assert asked.equals(results.best(run.rows, "hardware", within=limits, **known))
    assert asked["cannot_run"].to_list() == [0, 3]  # of h100 with tp=3
    goals = (COST, "tokens_per_s_per_user")
    frontier = run.frontier(*goals, by="hardware")
    assert frontier.equals(results.frontier(run.rows, *goals, by="hardware", **known))
    assert frontier["batch"].unique().sort().to_list() == [1, 64, 256]
    marginal = run.marginal(("hardware", "batch"), COST, "median")
    assert marginal.equals(results.marginal(run.rows, ("hardware", "batch"), COST, "median"))
    assert marginal.height == 6


def test_a_run_holds_all_else(run: Run) -> None:
    steps = run.sensitivity("batch", "tpot_s")
    assert steps["points"].to_list() == [3, 3]  # h100, and b200 with one stage and with two
    assert steps.equals(results.sensitivity(run.rows, "batch", "tpot_s"))
    assert (steps["elasticity_median"] > 0).all()
    deeper = run.compare("pp", 2, 1, "mem_weights_bytes")
    assert deeper["points"].item() == 3
    assert deeper["ratio_max"].item() < 0.6
    # one tp and two stages on this side, neither swept on that one: nothing is held equal by that
    with pytest.raises(roofrack.errors.InputError, match="compare hardware=b200 with h100_sxm"):
        run.compare("hardware", "b200", "h100_sxm", COST)
