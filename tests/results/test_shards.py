"""A job that is stopped anywhere loses nothing, and two that write it at once double nothing."""

import errno
import os
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from roofrack import config
from roofrack.conversion import Study, to_study
from roofrack.errors import InputError
from roofrack.results import books, shards, store

OVERRIDES = ["batch=[1,8,64,4096]", "parallelism.tp=[8,3,2]"]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "ROWS", 5)  # three shards, the last one short


@pytest.fixture(scope="module")
def asked() -> dict[str, Any]:
    return config.compose(OVERRIDES)


@pytest.fixture(scope="module")
def study(asked: dict[str, Any]) -> Study:
    return to_study(asked)


@pytest.fixture
def write(asked: dict[str, Any], study: Study) -> Callable[[Path], int]:
    return lambda folder: store.write_job(study, asked, OVERRIDES, folder)


@pytest.fixture
def whole(write: Callable[[Path], int], tmp_path: Path) -> dict[str, bytes]:
    """The shards of a run that nothing stopped."""
    assert write(tmp_path / "whole") == 12
    return bytes_of(tmp_path / "whole")


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob(store.SHARDS))}


class KilledError(BaseException):
    """What `kill -9` does to a process, as far as files can tell: from here on nothing happens."""


class Killer:
    """Lets so many operations on files through; the next does half its work, the others nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.left = after
        for owner, name in ((os, "fsync"), (os, "replace"), (Path, "unlink")):
            monkeypatch.setattr(owner, name, self._guarded(getattr(owner, name)))
        monkeypatch.setattr(books, "open", self._open, raising=False)

    def strike(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KilledError

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **named: Any) -> Any:
            self.strike()
            return function(*arguments, **named)

        return guarded

    def _open(self, path: Path, mode: str) -> Any:
        self.strike()
        file = open(path, mode)
        write = file.write

        def half(data: bytes) -> None:
            if self.left == 0:
                write(bytes(data)[: len(data) // 2])
            self.strike()
            write(data)

        return _File(file, half)


class _File:
    def __init__(self, file: Any, write: Callable[[bytes], None]) -> None:
        self.file, self.write = file, write

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_a_job_killed_at_any_operation_goes_on_to_the_same_bytes(
    write: Callable[[Path], int], whole: dict[str, bytes], tmp_path: Path
) -> None:
    kills = 0
    while True:
        job = tmp_path / "sweep" / str(kills)
        with pytest.MonkeyPatch.context() as patch:
            Killer(patch, kills)
            try:
                write(job)
            except KilledError:
                kills += 1
            else:
                break
        found = bytes_of(job)
        assert all(whole[name] == data for name, data in found.items())  # whole or not at all
        if not books.finished(job) and found:
            with pytest.raises(InputError, match="the run was interrupted"):
                store.scan(job)
        assert write(job) == 12
        assert bytes_of(job) == whole
        assert not list(job.glob("*.part"))
        assert store.scan(job).collect().height == 12
    assert kills > 12  # three shards and the book: opened, written, synced, named


def test_a_job_killed_again_and_again_is_done_in_the_end(
    write: Callable[[Path], int], whole: dict[str, bytes], tmp_path: Path
) -> None:
    job, runs = tmp_path / "job", 0
    while not books.finished(job):
        runs += 1
        with pytest.MonkeyPatch.context() as patch, pytest.raises((KilledError, SystemExit)):
            Killer(patch, 5)  # a shard takes four
            write(job)
            raise SystemExit  # done
    assert runs >= 3
    assert bytes_of(job) == whole


def test_only_what_is_missing_is_evaluated(
    write: Callable[[Path], int],
    whole: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = tmp_path / "whole"
    (job / books.RUN).unlink()
    (job / store.SHARD.format(1)).unlink()
    evaluated = []
    grid = import_module("roofrack.grid.stream")  # the package has a function of this name
    answer = grid.at_once  # who answers a study of so few points
    monkeypatch.setattr(grid, "at_once", lambda *a, **k: [evaluated.append(1), answer(*a, **k)][1])
    assert write(job) == 12
    assert (len(evaluated), bytes_of(job)) == (1, whole)
    monkeypatch.setattr(grid, "at_once", None)
    assert write(job) == 12  # a finished job is not evaluated at all


def test_progress_counts_what_was_there(
    asked: dict[str, Any], study: Study, write: Callable[[Path], int], tmp_path: Path
) -> None:
    write(tmp_path)
    (tmp_path / books.RUN).unlink()
    (tmp_path / store.SHARD.format(2)).unlink()
    seen: list[int] = []
    store.write_job(study, asked, OVERRIDES, tmp_path, progress=seen.append)
    assert seen == [10, 2]


def _of_other_overrides(job: Path, study: Study, asked: dict[str, Any]) -> None:
    store.write_job(study, asked, ["batch=[1,8,64,4096]"], job)


def _of_other_versions(job: Path, study: Study, asked: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(books, "versions", lambda: {"roofrack": "0.0"})
        store.write_job(study, asked, OVERRIDES, job)


def _of_other_blocks(job: Path, study: Study, asked: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "ROWS", 100)
        store.write_job(study, asked, OVERRIDES, job)


def _cut_short(job: Path, study: Study, asked: dict[str, Any]) -> None:
    store.write_job(study, asked, OVERRIDES, job)
    shard = job / store.SHARD.format(1)
    shard.write_bytes(shard.read_bytes()[:-100])


def _with_fewer_rows(job: Path, study: Study, asked: dict[str, Any]) -> None:
    store.write_job(study, asked, OVERRIDES, job)
    shard = job / store.SHARD.format(1)
    table, about = pl.read_parquet(shard), pl.read_parquet_metadata(shard)
    kept = {k: v for k, v in about.items() if k.startswith("roofrack.")}
    table.head(2).write_parquet(shard, metadata=kept)


@pytest.mark.parametrize(
    "before",
    [_of_other_overrides, _of_other_versions, _of_other_blocks, _cut_short, _with_fewer_rows],
)
@pytest.mark.slow
@pytest.mark.parametrize("finished", [True, False])
def test_shards_that_are_not_of_this_run_are_replaced(
    before: Callable[..., None],
    finished: bool,
    asked: dict[str, Any],
    study: Study,
    write: Callable[[Path], int],
    whole: dict[str, bytes],
    tmp_path: Path,
) -> None:
    job = tmp_path / "job"
    before(job, study, asked)
    if not finished:
        (job / books.RUN).unlink()
    assert bytes_of(job) != whole
    assert write(job) == 12
    assert bytes_of(job) == whole


def test_two_that_write_one_job_write_it_once(
    write: Callable[[Path], int], whole: dict[str, bytes], tmp_path: Path
) -> None:
    for number in range(5):
        job, start = tmp_path / "jobs" / str(number), threading.Barrier(3)
        failed: list[BaseException] = []

        def run(job: Path = job, start: threading.Barrier = start) -> None:
            try:
                start.wait()
                write(job)
            except BaseException as error:
                failed.append(error)  # noqa: B023

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert bytes_of(job) == whole
        assert store.scan(job).collect().height == 12


class _Full:
    """A disk on which so many bytes fit."""

    def __init__(self, free: int, code: int) -> None:
        self.free, self.code = free, code

    def open(self, path: Path, mode: str) -> Any:
        file = open(path, mode)
        write = file.write

        def limited(data: bytes) -> None:
            fits = bytes(data)[: self.free]
            write(fits)
            self.free -= len(fits)
            if len(fits) < len(data):
                raise OSError(self.code, os.strerror(self.code))

        return _File(file, limited)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("shards_that_fit", [0, 1.5, 3])
def test_a_full_disk_is_one_line_and_leaves_whole_shards(
    code: int,
    shards_that_fit: float,
    write: Callable[[Path], int],
    whole: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = tmp_path / "job"
    room = int(shards_that_fit / 3 * sum(map(len, whole.values())))
    with monkeypatch.context() as patch:
        patch.setattr(books, "open", _Full(room, code).open, raising=False)
        with pytest.raises(InputError) as error:
            write(job)
    said = str(error.value)
    assert said.startswith(f"{job}: no space left to write ") and "\n" not in said
    assert os.strerror(code) in said
    assert not list(job.glob("*.part"))
    assert all(whole[name] == data for name, data in bytes_of(job).items())
    if bytes_of(job):
        with pytest.raises(InputError, match="interrupted"):
            store.scan(job)
    write(job)
    assert bytes_of(job) == whole


def test_other_troubles_of_a_disk_are_told_as_they_are(
    write: Callable[[Path], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "open", _Full(0, errno.EIO).open, raising=False)
    with pytest.raises(OSError, match="Input/output error"):
        write(tmp_path / "job")
    assert not list((tmp_path / "job").iterdir())
