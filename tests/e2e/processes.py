"""Sweeps begun as a user begins them: in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path


def start(folder: Path, *words: str) -> "subprocess.Popen[str]":
    """Begin a sweep in a folder, with a cache beside it."""
    return subprocess.Popen(
        [sys.executable, "-m", "roofrack", "sweep", *words],
        cwd=folder,
        env=os.environ | {"ROOFRACK_CACHE_DIR": str(folder.parent / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
