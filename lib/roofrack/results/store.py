"""Results on disk: Parquet shards that say what they are, readable without this package.

A job's folder holds `points-NNNNN.parquet` (same overrides and versions: same bytes) and `run.json`
with what may differ from run to run (time, duration).
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import polars as pl

from roofrack.conversion import Study
from roofrack.errors import InputError
from roofrack.grid import points, stream
from roofrack.results.frame import frame
from roofrack.results.schema import COLUMNS, VERSION

SHARD = "points-{:05d}.parquet"
SHARDS = "points-*.parquet"
RUN = "run.json"
_NOT_HASHED = ("format",)


def versions() -> dict[str, str]:
    """Return the versions that results depend on."""
    return {
        name: metadata.version(name)
        for name in ("roofrack", "jax", "numpy", "polars", "hydra-core")
    }


def config_hash(config: Mapping[str, Any]) -> str:
    """Return a short hash of what a configuration asks, whatever way it was composed."""
    asked = {key: value for key, value in config.items() if key not in _NOT_HASHED}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def provenance(study: Study, config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, str]:
    """Return the metadata of a job's Parquet files: units, versions, overrides, configuration."""
    units = {name: column.unit for name, column in COLUMNS.items()}
    return {
        "roofrack.schema_version": VERSION,
        "roofrack.units": json.dumps(units),
        "roofrack.docs": json.dumps({name: column.doc for name, column in COLUMNS.items()}),
        "roofrack.axes": json.dumps([axis.column for axis in study.axes]),
        "roofrack.versions": json.dumps(versions()),
        "roofrack.overrides": json.dumps(list(overrides)),
        "roofrack.config_hash": config_hash(config),
        "roofrack.config": json.dumps(dict(config)),
        "roofrack.points": str(points(study)),
    }


def write_job(
    study: Study,
    config: Mapping[str, Any],
    overrides: Sequence[str],
    folder: Path,
    *,
    double: bool = False,
    progress: Callable[[int], object] = lambda done: None,
) -> int:
    """Evaluate a study into the shards of `folder`; return the number of points.

    A shard appears whole or not at all. `progress` is called with the points of each block.
    """
    started = time.time()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(SHARDS):
        old.unlink()
    about = provenance(study, config, overrides)
    written = 0
    for number, block in enumerate(stream(study, double=double)):
        table = frame(study, block)
        _write_whole(table, folder / SHARD.format(number), about)
        written += len(table)
        progress(len(table))
    run = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 3),
        "points": written,
        "python": platform.python_version(),
    }
    (folder / RUN).write_text(json.dumps(run, indent=1) + "\n")
    return written


def _write_whole(table: pl.DataFrame, path: Path, about: dict[str, str]) -> None:
    part = path.with_suffix(".part")
    table.write_parquet(part, metadata=about, statistics=True)
    os.replace(part, path)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def jobs(folder: Path) -> list[Path]:
    """Return the job folders of a sweep (or the folder itself), in the order of their numbers."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that `roofrack sweep` wrote")
    if any(folder.glob(SHARDS)):
        return [folder]
    found = [job for job in folder.iterdir() if job.is_dir() and any(job.glob(SHARDS))]
    if not found:
        raise InputError(f"{folder}: holds no {SHARDS}; give a folder that `roofrack sweep` wrote")
    _check_all_ran(folder, len(found))
    return sorted(
        found,
        key=lambda job: (
            not job.name.isdigit(),
            int(job.name) if job.name.isdigit() else 0,
            job.name,
        ),
    )


def _check_all_ran(folder: Path, found: int) -> None:
    """Raise InputError if the sweep that began in `folder` had more jobs than left results."""
    told = folder / "jobs.json"
    expected = json.loads(told.read_text())["jobs"] if told.is_file() else found
    if found < expected:
        raise InputError(
            f"{folder}: {found} of {expected} jobs have results: the sweep was interrupted; "
            "run it again"
        )


def scan(folder: Path) -> pl.LazyFrame:
    """Return the rows of all jobs of a sweep; axes that a job does not have are null."""
    return pl.concat([_scan_job(job) for job in jobs(folder)], how="diagonal_relaxed")


def _scan_job(job: Path) -> pl.LazyFrame:
    check(job)
    return pl.scan_parquet(sorted(job.glob(SHARDS)))


def about(job: Path) -> dict[str, Any]:
    """Return the provenance of a job, read from its first shard."""
    stored = pl.read_parquet_metadata(sorted(job.glob(SHARDS))[0])
    found: dict[str, Any] = {}
    for key, value in stored.items():
        if key.startswith("roofrack."):
            name = key.removeprefix("roofrack.")
            found[name] = value if name in ("schema_version", "config_hash") else json.loads(value)
    return found


def check(job: Path) -> None:
    """Raise InputError if a job's shards are unreadable, of another schema, or not all there."""
    shards = sorted(job.glob(SHARDS))
    try:
        told = about(job)
        rows = sum(pl.scan_parquet(s).select(pl.len()).collect().item() for s in shards)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise InputError(
            f"{job}: its Parquet files cannot be read ({_first_line(error)})"
        ) from error
    if told.get("schema_version") != VERSION:
        raise InputError(
            f"{job}: schema version {told.get('schema_version')}, this roofrack reads {VERSION}"
        )
    if rows != told["points"]:
        raise InputError(
            f"{job}: {rows} of {told['points']} points: the run was interrupted; run it again"
        )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
