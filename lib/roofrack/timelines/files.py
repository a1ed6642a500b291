"""Where a trace is written: whole or not at all, and never over a file that is not one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roofrack.errors import InputError
from roofrack.results.store import write_text

MADE_BY = {"made_by": "roofrack timeline"}
"""What every trace begins with."""
_HEAD = json.dumps({"roofrack": MADE_BY}, separators=(",", ":"))[:-1].encode()


def check(path: Path) -> None:
    """Raise InputError where a trace cannot be written, or would replace something else."""
    if path.suffix != ".json":
        raise InputError(f"{path}: the file to write comes first, and its name ends in .json")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise InputError(f"{path}: no such folder: {path.parent}; make it first")
    if path.exists() and not _ours(path):
        raise InputError(
            f"{path}: is there, and is not a trace that `roofrack timeline` wrote; "
            "remove it or give another name"
        )


def _ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_HEAD)) == _HEAD
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def write(path: Path, trace: Mapping[str, Any]) -> None:
    """Write a trace; raise InputError as `check` does, or if the system refuses."""
    check(path)
    text = json.dumps({"roofrack": MADE_BY, **trace}, separators=(",", ":"), allow_nan=False)
    try:
        write_text(path, text + "\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
