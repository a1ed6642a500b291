"""Hydra's launchers, where they are installed: the same rows, whoever runs the jobs."""

import importlib.util
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.processes import start

from roofrack.results import books, store

pytestmark = pytest.mark.slow

SWEEP = ("hardware=h100_sxm,b200", "model=llama3_1_8b,llama3_1_70b", "batch=1,8,64")
LARGE = (*SWEEP[:2], "batch=range(1,1001)", "context=${linear:1024,131072,600}")


def needs(launcher: str) -> None:
    """Skip the test where `pip install 'roofrack[LAUNCHER]'` was not done."""
    if importlib.util.find_spec(f"hydra_plugins.hydra_{launcher}") is None:
        pytest.skip(
            f"{launcher} is not installed: pip install 'roofrack[{launcher.split('_')[0]}]'"
        )


def run(folder: Path, *words: str) -> str:
    process = start(folder, *words)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert out.endswith("report.html\n")
    return err


def shards(sweep: Path) -> dict[str, bytes]:
    found = sorted(sweep.glob(f"*/{store.SHARDS}"))
    return {str(path.relative_to(sweep)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("launchers") / "here"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def basic(here: Path) -> dict[str, bytes]:
    run(here, *SWEEP, "hydra.sweep.dir=basic")
    return shards(here / "basic")


def test_joblib(here: Path, basic: dict[str, bytes]) -> None:
    needs("joblib_launcher")
    err = run(
        here, *SWEEP, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=joblib"
    )
    assert "Joblib" in err and "12 points in 4 jobs" in err
    assert shards(here / "joblib") == basic


def test_submitit(here: Path, basic: dict[str, bytes]) -> None:
    needs("submitit_launcher")
    err = run(here, *SWEEP, "hydra/launcher=submitit_local", "hydra.sweep.dir=submitit")
    assert "Submitit" in err and "12 points in 4 jobs" in err
    assert shards(here / "submitit") == basic


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Two nodes of one processor each, on this machine."""
    needs("ray_launcher")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node | {"resources": {"node0": 1}})
    made.add_node(num_cpus=1, object_store_memory=80_000_000, resources={"node1": 1})
    made.wait_for_nodes()
    yield made.address
    made.shutdown()


@pytest.mark.filterwarnings("ignore")  # ray's own
def test_ray_on_two_nodes(here: Path, basic: dict[str, bytes], cluster: str) -> None:
    address = (
        f"hydra.launcher.ray.init.address='{cluster}'",
        "+hydra.launcher.ray.init.object_store_memory=null",
    )
    # half the jobs on each node: a job needs a resource that one node only has
    for number in range(2):
        err = run(
            here, f"hardware={('h100_sxm', 'b200')[number]}", *SWEEP[1:], "hydra/launcher=ray",
            *address, f"+hydra.launcher.ray.remote.resources.node{number}=0.1",
            f"hydra.sweep.dir=ray{number}",
        )  # fmt: skip
        assert "Connecting to existing Ray cluster" in err and "6 points in 2 jobs" in err
        for job in range(2):
            name = store.SHARD.format(0)
            assert (
                shards(here / f"ray{number}")[f"{job}/{name}"]
                == basic[f"{2 * number + job}/{name}"]
            )
    run(
        here, *SWEEP, "hydra/launcher=ray", *address,
        "+hydra.launcher.ray.remote.scheduling_strategy=SPREAD", "hydra.sweep.dir=ray",
    )  # fmt: skip
    assert shards(here / "ray") == basic


def test_a_job_that_cannot_run_is_told_by_every_launcher(here: Path) -> None:
    needs("joblib_launcher")
    process = start(
        here, "hardware=h100_sxm,b200", "workload.batch=-1,8", "hydra/launcher=joblib",
    )  # fmt: skip
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (2, "")
    assert "batch" in err.splitlines()[-1]


def test_a_killed_worker_loses_nothing(here: Path) -> None:
    needs("joblib_launcher")
    run(here, *LARGE, "hydra.sweep.dir=calm")
    process = start(
        here, *LARGE, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=hit"
    )
    while not shards(here / "hit") and process.poll() is None:
        time.sleep(0.02)
    for child in _workers(process.pid):
        os.kill(child, signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (2, "")
    assert err.splitlines()[-1].startswith("roofrack: joblib: TerminatedWorkerError")
    assert "resume=" in err.splitlines()[-1]
    assert any(books.read_job(here / "hit" / job) is None for job in "0123")
    run(here, "resume=hit")
    assert shards(here / "hit") == shards(here / "calm")


def _workers(parent: int) -> list[int]:
    """The worker processes of loky: children of a process that run Python's own spawning."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == parent and b"popen_loky_posix" in command:
            found.append(int(folder.name))
    return found
