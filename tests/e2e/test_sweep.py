"""From the command line to Parquet and back, as a user does it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

import roofrack


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "roofrack", *arguments],
        cwd=folder,
        env=os.environ | {"ROOFRACK_CACHE_DIR": str(folder.parent / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "here"
    folder.mkdir()
    done = run(
        folder, "sweep", "hardware=h100_sxm,b200", "batch=${geom:1,1024,11}", "parallelism.tp=4,8",
        "hydra.sweep.dir=outputs/mine",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "outputs/mine/report.html"
    return folder / "outputs" / "mine"


def test_a_sweep_leaves_jobs_and_a_report(swept: Path) -> None:
    assert sorted(p.name for p in swept.iterdir()) == [
        "0", "1", "jobs.json", "multirun.yaml", "report.html",
    ]  # fmt: skip
    rows = pl.read_parquet(swept / "0" / "points-00000.parquet")
    assert rows.height == 22
    assert rows["batch"].unique().sort().to_list() == [2**i for i in range(11)]
    assert rows["hardware"].unique().to_list() == ["h100_sxm"]


def test_recorded_overrides_reproduce_the_bytes(swept: Path, tmp_path: Path) -> None:
    recorded = yaml.safe_load((swept / "1" / ".hydra" / "overrides.yaml").read_text())
    assert "batch=${geom:1,1024,11}" in recorded  # in its short form
    done = run(tmp_path, "sweep", *recorded, "hydra.sweep.dir=again")
    assert done.returncode == 0, done.stderr
    shard = "points-00000.parquet"
    assert (tmp_path / "again" / "0" / shard).read_bytes() == (swept / "1" / shard).read_bytes()


def test_the_report_can_be_made_again(swept: Path) -> None:
    page = swept / "report.html"
    first = page.read_bytes()
    page.unlink()
    done = run(swept.parent.parent, "report", "outputs/mine")
    assert (done.returncode, done.stdout.strip()) == (0, "outputs/mine/report.html")
    assert page.read_bytes() == first
    assert str(swept.parent.parent).encode() not in first


def test_python_gives_the_same_rows(swept: Path) -> None:
    overrides = ("hardware=h100_sxm,b200", "batch=${geom:1,1024,11}", "parallelism.tp=4,8")
    rows = roofrack.sweep(*overrides).collect()
    stored = pl.concat(pl.read_parquet(swept / job / "points-00000.parquet") for job in "01")
    assert rows.equals(stored)


def test_what_a_killed_sweep_left_is_not_reported(swept: Path, tmp_path: Path) -> None:
    left = tmp_path / "left"
    shutil.copytree(swept, left)
    shutil.rmtree(left / "1")
    done = run(tmp_path, "report", "left")
    assert (done.returncode, done.stdout) == (2, "")
    assert "1 of 2 jobs have results: the sweep was interrupted" in done.stderr


def test_results_of_two_sweeps_are_not_mixed(swept: Path) -> None:
    folder = swept.parent.parent
    done = run(folder, "sweep", "batch=1,2", "hydra.sweep.dir=outputs/mine")
    assert done.returncode == 2
    assert "holds the results of another sweep" in done.stderr


@pytest.mark.slow
def test_groups_and_questions_stay_apart_on_the_page(tmp_path: Path) -> None:
    done = run(
        tmp_path, "sweep", "workload=chat,decode,prefill", "batch=1,8", "hydra.sweep.dir=out"
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    for name in ("chat", "decode", "prefill"):
        assert f"workload={name}" in page


def test_a_file_that_would_be_shadowed_is_named(tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "hardware"
    mine.mkdir(parents=True)
    (mine / "h100_sxm.yaml").write_text("power_w: 1\n")
    done = run(tmp_path, "point", "--config-dir", "mine", "hardware=h100_sxm")
    assert done.returncode == 2
    assert "h100_sxm.yaml comes with roofrack" in done.stderr


def test_more_points_than_can_be_kept_are_refused_at_once(tmp_path: Path) -> None:
    done = run(tmp_path, "sweep", "batch=range(1,100001)", "context=range(1,100001)")
    assert done.returncode == 2
    assert "at most 100,000,000" in done.stderr
    assert not list(tmp_path.iterdir())
