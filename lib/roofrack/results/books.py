"""What a sweep's folder says about itself, and how files come to be there whole or not at all.

Shards are written by any number of processes, on any number of machines that see the folder; none
of them locks anything. Instead each shard of a job has one name and one content: two processes that
write the same job write the same bytes, and whoever comes last replaces a file by its equal. So
there is no lock to be left behind by a worker that was killed, and none to go wrong on a network
file system. A job is finished when its `run.json` is there, which lists its shards.

Nothing here needs Polars or JAX: the sweeper reads it before any job starts.
"""

import errno
import hashlib
import json
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from roofrack.errors import InputError

ROWS = 2**17
"""Rows of a shard: some 10 MB, and 0.3 s of work that a kill can cost."""

SHARD = "points-{:05d}.parquet"
SHARDS = "points-*.parquet"
PARTS = "*.part"
RUN = "run.json"
SWEEP = "jobs.json"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def versions() -> dict[str, str]:
    """Return the versions that results depend on."""
    return {
        name: metadata.version(name)
        for name in ("roofrack", "jax", "numpy", "polars", "hydra-core")
    }


def digest(what: Any) -> str:
    """Return a short hash of something that JSON can hold."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file whole or not at all, also if the machine stops; InputError if the disk is full.

    The file has its bytes on disk before it has its name. If another process removes the part, it
    does so because the file is there (`sweep_up`).
    """
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno in _FULL:
            raise InputError(
                f"{path.parent}: no space left to write {path.name} ({os.strerror(error.errno)});"
                " free some, then resume the sweep"
            ) from error
        raise
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if not path.exists():
        raise InputError(f"{path}: vanished while it was written; resume the sweep")


def sync(folder: Path) -> None:
    """Have the names in a folder on disk, where the platform can do that."""
    with suppress(OSError):  # Windows opens no folders; some network file systems sync none
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep_up(job: Path) -> None:
    """Remove the parts that killed processes left in the folder of a job that is finished."""
    for part in job.glob(PARTS):
        part.unlink(missing_ok=True)


@dataclass(frozen=True)
class JobBook:
    """What `run.json` says of a finished job."""

    about: str  # the digest of the provenance that its shards carry
    schema: str  # the digest of its columns and their types
    schema_version: str
    choices: dict[str, Any]  # group -> file
    points: int
    shards: dict[str, int]  # file -> bytes
    seconds: float  # of the process that finished it
    started: str
    python: str

    @property
    def size(self) -> int:
        """Bytes of all shards."""
        return sum(self.shards.values())

    def write(self, job: Path) -> None:
        """Finish the job: its shards first, then the file that lists them."""
        sync(job)
        write_whole(job / RUN, (json.dumps(asdict(self), indent=1) + "\n").encode())
        sync(job)


def read_job(job: Path) -> JobBook | None:
    """Return what a finished job says of itself; None for one that is not finished."""
    try:
        return JobBook(**json.loads((job / RUN).read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (TypeError, ValueError) as error:
        raise InputError(f"{job / RUN}: not what a sweep writes; delete it and resume") from error


def damage(job: Path, book: JobBook) -> str | None:
    """Return what is wrong with the shards of a finished job, judged by their sizes."""
    for name, size in book.shards.items():
        path = job / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            has = "is missing" if found is None else f"has {found:,} of {size:,} bytes"
            return f"{name} {has}"
    return None


def finished(job: Path) -> bool:
    """Tell whether a job is done and its shards are all there."""
    book = read_job(job)
    return book is not None and damage(job, book) is None


@dataclass(frozen=True)
class SweepBook:
    """What `jobs.json` says of a sweep: how many jobs, and the words that ask for them again."""

    jobs: int
    asked: str  # the digest of the overrides of all jobs
    overrides: list[str]
    hydra: list[str]
    config_dir: str | None
    versions: dict[str, str]

    def begin(self, folder: Path) -> None:
        """Claim a folder for this sweep; InputError if another one has it."""
        taken = any(folder.glob(f"*/{SHARDS}"))
        try:
            if not taken:
                with open(folder / SWEEP, "x") as file:  # of two at once, one
                    file.write(json.dumps(asdict(self), indent=1) + "\n")
        except FileExistsError:  # this one may have been stopped before its first result
            taken = read_sweep(folder) != self
        if taken:
            raise InputError(
                f"hydra.sweep.dir={folder}: holds the results of another sweep; name a new folder,"
                f" or go on with that one: roofrack sweep resume={folder}"
            )

    def resume(self, folder: Path) -> None:
        """Check that a folder holds the beginning of this very sweep."""
        begun = read_sweep(folder)
        if begun is None:
            raise InputError(f"resume={folder}: no sweep began there")
        if begun.asked != self.asked:
            raise InputError(
                f"resume={folder}: {begun.jobs} jobs began there, of other overrides or files:"
                f" {' '.join(begun.overrides)}; resume={folder} alone repeats them"
            )
        for name, now in self.versions.items():
            if begun.versions.get(name) != now:
                raise InputError(
                    f"resume={folder}: began with {name} {begun.versions.get(name)}, this is {now};"
                    " rows of both would not agree: install that one, or run the sweep anew"
                )


def read_sweep(folder: Path) -> SweepBook | None:
    """Return what began in a folder; None if nothing did."""
    try:
        return SweepBook(**json.loads((folder / SWEEP).read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder / SWEEP}: not what a sweep writes") from error


def unfinished(folder: Path, numbers: Sequence[int]) -> list[int]:
    """Return those of the jobs with these numbers that are still to be done."""
    return [number for number in numbers if not finished(folder / str(number))]
