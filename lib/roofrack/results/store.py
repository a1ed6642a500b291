"""Results on disk: Parquet shards that say what they are, readable without this package.

A job's folder holds `points-NNNNN.parquet` (same overrides and versions: same bytes) and, once it
is finished, `run.json` with its shards and what may differ from run to run (time, duration).
`shards` writes them; what is read here is finished, or refused.
"""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from roofrack.errors import InputError
from roofrack.results import books
from roofrack.results.books import SHARD, SHARDS, JobBook, versions
from roofrack.results.schema import VERSION
from roofrack.results.shards import PREFIX, config_hash, provenance, write_job

__all__ = [
    "SHARD",
    "SHARDS",
    "about",
    "check",
    "config_hash",
    "jobs",
    "provenance",
    "scan",
    "versions",
    "write_bytes",
    "write_job",
    "write_text",
]


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    books.write_whole(path, data)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    books.write_whole(path, text.encode())


def jobs(folder: Path) -> list[Path]:
    """Return the job folders of a sweep (or the folder itself), in the order of their numbers."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that `roofrack sweep` wrote")
    if any(folder.glob(SHARDS)):
        return [folder]
    found = [job for job in folder.iterdir() if job.is_dir() and any(job.glob(SHARDS))]
    begun = books.read_sweep(folder)
    if begun is not None and len(found) < begun.jobs:
        raise InputError(
            f"{folder}: {len(found)} of {begun.jobs} jobs have results: the sweep was interrupted;"
            f" go on with it: roofrack sweep resume={folder}"
        )
    if not found:
        raise InputError(f"{folder}: holds no {SHARDS}; give a folder that `roofrack sweep` wrote")
    return sorted(
        found,
        key=lambda job: (
            not job.name.isdigit(),
            int(job.name) if job.name.isdigit() else 0,
            job.name,
        ),
    )


def scan(folder: Path, choices: Mapping[str, str] | None = None) -> pl.LazyFrame:
    """Return the rows of all jobs of a sweep; axes that a job does not have are null.

    `choices` ({"hardware": "b200"}) names files of groups: jobs of others are not opened at all.
    """
    books_of = [(job, check(job)) for job in jobs(folder)]
    wanted = [
        (job, book)
        for job, book in books_of
        if all(book.choices.get(group) == name for group, name in (choices or {}).items())
    ]
    if not wanted:
        asked = " ".join(f"{group}={name}" for group, name in (choices or {}).items())
        raise InputError(f"{folder}: no job of {asked}")
    # Polars reads the schema of each scan, of each file of a scan only what a query needs
    alike = itertools.groupby(wanted, key=lambda pair: pair[1].schema)
    return pl.concat(
        [
            pl.scan_parquet([job / name for job, book in group for name in book.shards])
            for _, group in alike
        ],
        how="diagonal_relaxed",
    )


def about(job: Path) -> dict[str, Any]:
    """Return the provenance of a job, read from its first shard."""
    stored = pl.read_parquet_metadata(sorted(job.glob(SHARDS))[0])
    found: dict[str, Any] = {}
    for key, value in stored.items():
        if key.startswith(PREFIX):
            name = key.removeprefix(PREFIX)
            found[name] = value if name in ("schema_version", "config_hash") else json.loads(value)
    return found


def check(job: Path) -> JobBook:
    """Return what a finished job says of itself.

    Raises InputError for one that is not finished, is damaged, or is of another schema.
    """
    book = books.read_job(job)
    if book is None:
        raise InputError(
            f"{job}: {_left(job)} points: the run was interrupted; go on with it: roofrack sweep"
            f" resume={job.parent}"
        )
    if (wrong := books.damage(job, book)) is not None:
        raise InputError(f"{job}: its Parquet files cannot be read ({wrong})")
    if book.schema_version != VERSION:
        raise InputError(
            f"{job}: schema version {book.schema_version}, this roofrack reads {VERSION}"
        )
    return book


def _left(job: Path) -> str:
    """Return how many points an interrupted job has, of how many."""
    try:
        rows = pl.scan_parquet(sorted(job.glob(SHARDS))).select(pl.len()).collect().item()
        return f"{rows:,} of {about(job)['points']:,}"
    except (pl.exceptions.PolarsError, OSError, ValueError, KeyError):
        return "not all"
