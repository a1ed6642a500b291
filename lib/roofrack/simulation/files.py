"""The tables that a simulation leaves: one row a run, a request, a part of time."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from roofrack.errors import InputError
from roofrack.results import store
from roofrack.simulation.command import Simulated

FRAMES = ("rows", "requests", "series", "most")
TOLD = "run.json"


def check(folder: Path) -> None:
    """Raise InputError where a simulation cannot write, or would overwrite something else."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"out={folder}: is there, and is no folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / TOLD).exists():
        raise InputError(
            f"out={folder}: holds files that are not of a simulation; give another folder"
        )


def write(found: Simulated, folder: Path, words: Sequence[str]) -> None:
    """Write the tables as Parquet, and what was asked; each file whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FRAMES:
        frame: pl.DataFrame = getattr(found, name)
        path = folder / f"{name}.parquet"
        if frame.is_empty():
            path.unlink(missing_ok=True)
            continue
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="zstd")
        store.write_bytes(path, buffer.getvalue())
    told = {"asked": list(words), "labels": found.labels, "versions": store.versions()}
    store.write_text(folder / TOLD, json.dumps(told, indent=2) + "\n")
