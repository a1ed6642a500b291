"""A sweep that was stopped goes on where it stopped, and gives what it would have given."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e.processes import start

from roofrack import sweeps
from roofrack.errors import InputError
from roofrack.results import books, store

SMALL = ("hardware=h100_sxm,b200", "model=llama3_1_8b,llama3_1_70b", "batch=1,8,64")
LARGE = (  # four jobs of three shards
    "hardware=h100_sxm,b200", "model=llama3_1_8b,llama3_1_70b",
    "batch=range(1,1001)", "context=${linear:1024,131072,300}",
)  # fmt: skip


def run(folder: Path, *words: str) -> tuple[int, str, str]:
    process = start(folder, *words)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def shards(sweep: Path) -> dict[str, bytes]:
    found = sorted(sweep.glob(f"*/{store.SHARDS}"))
    return {str(path.relative_to(sweep)): path.read_bytes() for path in found}


pytestmark = pytest.mark.slow
"""Each starts processes of its own."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume") / "here"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def small(here: Path) -> Path:
    status, _, err = run(here, *SMALL, "hydra.sweep.dir=small")
    assert status == 0, err
    assert "12 points in 4 jobs" in err.splitlines()[-1] and err.endswith(" in small\n")
    return here / "small"


@pytest.fixture
def stopped(small: Path, tmp_path: Path) -> Path:
    """A sweep of which jobs 1 and 2 are to be done."""
    copy = tmp_path / "here" / "left"
    shutil.copytree(small, copy)
    shutil.rmtree(copy / "1")
    (copy / "2" / books.RUN).unlink()
    (copy / "report.html").unlink()
    return copy


def test_one_option_goes_on_with_what_is_left(stopped: Path, small: Path) -> None:
    kept = (stopped / "0" / books.RUN).stat().st_mtime_ns
    status, out, err = run(stopped.parent, "resume=left")
    assert (status, out) == (0, "left/report.html\n"), err
    assert "12 points (9 of them from before) in 4 jobs" in err
    assert "Launching 2 jobs" in err
    assert shards(stopped) == shards(small)
    assert (stopped / "report.html").read_bytes() == (small / "report.html").read_bytes()
    assert (stopped / "0" / books.RUN).stat().st_mtime_ns == kept
    assert (stopped / "1" / ".hydra" / "overrides.yaml").is_file()


def test_the_same_command_with_the_option_does_too(stopped: Path, small: Path) -> None:
    status, _, err = run(stopped.parent, *SMALL, "resume=left", "hydra.job.name=other")
    assert status == 0, err
    assert shards(stopped) == shards(small)
    status, _, err = run(stopped.parent, "resume=left")  # nothing is left
    assert status == 0, err
    assert "Launching" not in err
    assert "12 points (12 of them from before) in 4 jobs" in err


def test_another_command_is_refused(stopped: Path) -> None:
    for words in (("hardware=h100_sxm", "batch=1,8,64"), (*SMALL[:2], "batch=1,8,65")):
        status, out, err = run(stopped.parent, *words, "resume=left")
        assert (status, out) == (2, "")
        assert "4 jobs began there, of other overrides or files: hardware=h100_sxm,b200" in err
        assert err.count("\n") == 1
    status, _, err = run(stopped.parent, *SMALL, "hydra.sweep.dir=left")
    assert status == 2
    assert "holds the results of another sweep" in err and "resume=left" in err


def test_rows_of_two_versions_are_not_mixed(stopped: Path) -> None:
    book = json.loads((stopped / books.SWEEP).read_text())
    book["versions"]["polars"] = "0.1"
    (stopped / books.SWEEP).write_text(json.dumps(book))
    status, _, err = run(stopped.parent, "resume=left")
    assert status == 2
    assert "resume=left: began with polars 0.1, this is " in err


def test_where_nothing_began_nothing_goes_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sweep began there"):
        sweeps.resumed(_flags(f"resume={tmp_path}"))


def _flags(*words: str) -> object:
    from roofrack import arguments

    return arguments.parse(list(words))


def test_a_sweep_before_its_first_result_may_be_begun_again(tmp_path: Path) -> None:
    book = books.SweepBook(3, "abc", ["batch=1"], [], None, {})
    book.begin(tmp_path)
    book.begin(tmp_path)
    with pytest.raises(InputError, match="another sweep"):
        books.SweepBook(3, "other", ["batch=2"], [], None, {}).begin(tmp_path)


def test_a_bar_shows_how_far_it_is(small: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with sweeps.watched(4, 3, None, lambda: small):
        time.sleep(0.1)
    shown = capsys.readouterr().err
    assert "4/4 jobs: 100%" in shown
    assert "12.0/12.0" in shown and "points/s" in shown
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    with sweeps.watched(4, 3, None, lambda: small):
        pass
    assert capsys.readouterr().err.startswith("12 points in 4 jobs, ")


def test_progress_counts_whole_shards_of_jobs_under_way(tmp_path: Path) -> None:
    (tmp_path / "3").mkdir()
    progress = sweeps.Progress(tmp_path, 2000, 300_000)
    assert progress.points() == 0
    for number in range(2):
        (tmp_path / "3" / store.SHARD.format(number)).touch()
    assert progress.points() == 2 * books.ROWS
    assert sweeps.Progress(tmp_path, 2000, None).points() == books.ROWS  # the last may be short
    (tmp_path / "3" / store.SHARD.format(2)).touch()
    assert progress.points() == 300_000


def test_an_optimiser_is_told_the_best_of_what_fits(small: Path) -> None:
    rows = store.scan(small / "3").filter("valid", "fits").collect()
    least = float(rows["usd_per_mtok"].min())  # type: ignore[arg-type]
    most = float(rows["tokens_per_s"].max())  # type: ignore[arg-type]
    assert sweeps.objective(small / "3", None, "minimize") == least
    assert sweeps.objective(small / "3", ["tokens_per_s"], "maximize") == most
    with pytest.raises(InputError, match="one point a job; this one has 3"):
        sweeps.objective(small / "3", ["tpot_s", "ttft_s"], ["minimize", "minimize"])
    with pytest.raises(InputError, match=r"columns=tpot: no such column\. Did you mean 'tpot_s'"):
        sweeps.objective(small / "3", "tpot", "minimize")
    with pytest.raises(InputError, match="as many are needed"):
        sweeps.objective(small / "3", ["tpot_s"], ["minimize", "maximize"])


def test_what_only_an_optimiser_understands_is_left_to_it() -> None:
    words = ("hardware=b200", "batch=interval(1,9)", "parallelism.tp=choice(1,2)")
    assert sweeps.checkable(_flags(*words, "hydra/sweeper=optuna")) == (["hardware=b200"], None)
    assert sweeps.checkable(_flags(*words, "hydra/sweeper=basic"))[0] == [
        *words, "hydra/sweeper=basic",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_sweep_killed_anywhere_goes_on_to_the_same_rows(here: Path) -> None:
    begun = time.monotonic()
    status, _, err = run(here, *LARGE, "hydra.sweep.dir=whole")
    assert status == 0, err
    took = time.monotonic() - begun
    chance = random.Random(5)
    expected, kills = shards(here / "whole"), 0
    assert len(expected) == 12
    words: tuple[str, ...] = (*LARGE, "hydra.sweep.dir=killed")
    for _ in range(6):
        process = start(here, *words)
        _wait_for((here / "killed" / books.SWEEP).is_file, process)
        time.sleep(chance.uniform(0.0, 0.5) * took)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        found = shards(here / "killed")
        assert all(expected[name] == data for name, data in found.items())
        if any(books.read_job(here / "killed" / job) is None for job in "0123"):
            with pytest.raises(InputError):
                store.scan(here / "killed")
        words = ("resume=killed",)
    assert kills >= 1
    status, _, err = run(here, "resume=killed")
    assert status == 0, err
    assert shards(here / "killed") == expected
    assert store.scan(here / "killed").collect().equals(store.scan(here / "whole").collect())
    assert not list((here / "killed").glob("*/*.part"))


def _wait_for(there: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    while not there() and process.poll() is None:
        time.sleep(0.01)


@pytest.mark.slow
def test_two_that_resume_at_once_double_nothing(here: Path, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    assert run(tmp_path / "here", *LARGE, "hydra.sweep.dir=one")[0] == 0
    expected = shards(tmp_path / "here" / "one")
    for job in "123":
        shutil.rmtree(tmp_path / "here" / "one" / job)
    both = [start(tmp_path / "here", "resume=one") for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert shards(tmp_path / "here" / "one") == expected
    assert store.scan(tmp_path / "here" / "one").collect().height == 4 * 300_000


@pytest.mark.slow
def test_a_limit_on_files_is_a_full_disk(small: Path, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    size = min(path.stat().st_size for path in small.glob(f"*/{store.SHARDS}")) - 1000

    limited = (
        "import resource, sys; from roofrack.cli import main;"
        f" resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "sweep", *SMALL, "hydra.sweep.dir=full"],
        cwd=tmp_path / "here",
        env=os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"},  # its files are large too
        capture_output=True,
        text=True,
        timeout=300,
    )
    status, out, err = done.returncode, done.stdout, done.stderr
    last = err.splitlines()[-1]
    assert (status, out) == (2, "")
    assert last.startswith("roofrack: ") and "no space left to write points-00000.parquet" in last
    assert "full/0" in last
    assert not list((tmp_path / "here" / "full").glob("*/points-*"))
    status, _, err = run(tmp_path / "here", "resume=full")
    assert status == 0, err
    assert shards(tmp_path / "here" / "full") == shards(small)
