"""A finished sweep answers the questions by itself: what `roofrack.load` returns."""

from pathlib import Path

import pytest

import roofrack
from roofrack import config, results
from roofrack.conversion import to_study
from roofrack.results import store
from roofrack.results.run import Run

COST = "usd_per_mtok"
AXES = ["batch=[1,64,256]", "context=[1024,8192]", "pp=[1,2]"]
JOBS = (
    ["hardware=h100_sxm", "parallelism.tp=[8,3]", *AXES],
    ["hardware=b200", "parallelism=tp8", *AXES],
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("sweep")
    for number, overrides in enumerate(JOBS):
        asked = config.compose(["model=llama3_1_70b", "dtype=fp8", *overrides])
        store.write_job(to_study(asked), asked, overrides, folder / str(number))
    return roofrack.load(str(folder))


def test_a_run_knows_what_tells_its_points_apart(run: Run) -> None:
    known = ("hardware", "calibration", "batch", "context", "pp", "parallelism.tp")
    assert run.inputs == known
    degrees = run.plans["tp8"]
    assert (degrees["tp"], degrees["dp"]) == (8, 1)  # as the job says that did not sweep it
    assert "pp" not in degrees


def test_a_run_answers_as_its_rows_do(run: Run) -> None:
    limits = {"tpot_s": 0.05}
    known = {"inputs": run.inputs, "plans": run.plans}
    asked = run.best(by="hardware", within=limits)
    assert asked.equals(results.best(run.rows, "hardware", within=limits, **known))
    assert asked["cannot_run"].to_list() == [0, 12]  # of h100 with tp=3
    goals = (COST, "tokens_per_s_per_user")
    frontier = run.frontier(*goals, by="hardware")
    assert frontier.equals(results.frontier(run.rows, *goals, by="hardware", **known))
    assert frontier["batch"].unique().sort().to_list() == [1, 64, 256]
    assert frontier["pp"].unique().to_list() == [1]
    marginal = run.marginal(("hardware", "batch"), COST, "median")
    assert marginal.equals(results.marginal(run.rows, ("hardware", "batch"), COST, "median"))
    assert marginal.height == 6


def test_a_run_holds_all_else(run: Run) -> None:
    steps = run.sensitivity("batch", "tpot_s", fitting=False)
    assert steps["points"].to_list() == [8, 8]  # two machines, two contexts, one stage or two
    assert steps.equals(results.sensitivity(run.rows, "batch", "tpot_s", fitting=False))
    assert (steps["elasticity_median"] > 0).all()
    deeper = run.compare("pp", 2, 1, "mem_weights_bytes")
    assert deeper["ratio_max"].item() < 0.6
    machines = run.compare("hardware", "b200", "h100_sxm", "tpot_s", fitting=False)
    assert machines["points"].item() == 12
    assert machines["ratio_max"].item() < 1
    assert machines["along"].item() == (
        "calibration: b200_trtllm over h100_sxm_trtllm; parallelism.tp: not swept over 8"
    )


def test_the_questions_of_the_readme_have_answers(run: Run, repo: Path) -> None:
    text = (repo / "README.md").read_text(encoding="utf-8")
    code = text.split("## Asking a sweep")[1].split("```python\n")[1].split("```")[0]
    asked = [line for line in code.splitlines() if line.startswith("run.")]
    assert len(asked) == 5
    for line in asked:
        assert eval(line, {"run": run}).height > 0, line
