"""Calibration files: where they come from, and writing them whole or not at all."""

import datetime
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from roofrack import config
from roofrack.errors import InputError
from roofrack.fitting.document import document
from roofrack.results.store import write_text

GROUP = "calibration"


def save(path: Path, tree: Mapping[str, Any], command: str, data: Sequence[str]) -> Path:
    """Write a calibration with a comment on top: command, date, and what it was fitted to.

    Raises InputError if the folder cannot be written; a file that was there stays as it was.
    """
    lines = ["Fitted by", f"  {command}", f"on {datetime.date.today()}", *data]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, document(tree, "\n".join(lines)))
    except OSError as error:
        with suppress(OSError):
            path.with_suffix(".part").unlink()
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    return path


def fits_of(name: str, config_dir: str | Path | None) -> dict[str, Any]:
    """Return what a calibration's file says of its fits: composing leaves that out."""
    folders = [Path(config_dir)] if config_dir is not None else []
    for folder in (*folders, config.conf_dir()):
        file = folder / GROUP / f"{name}.yaml"
        if file.is_file():
            return dict((yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("fits") or {})
    return {}


def check_name(name: str) -> str:
    """Return the name of a new calibration; InputError if an override could not choose it."""
    if not re.fullmatch(r"[\w-]+", name, re.ASCII):
        raise InputError(
            f"name={name}: letters, digits, _ and - only, for calibration=NAME has to choose it"
        )
    if (config.conf_dir() / GROUP / f"{name}.yaml").is_file():
        raise InputError(f"name={name}: comes with roofrack; give yours another name")
    return name


def name_of(files: Sequence[Path]) -> str:
    """Return the name that a calibration has after its first file, in characters that are safe."""
    return re.sub(r"[^\w-]", "_", files[0].stem, flags=re.ASCII)
