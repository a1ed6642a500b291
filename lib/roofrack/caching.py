"""Where things that only save time are kept between runs; deleting them costs nothing else."""

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder for cached files: $ROOFRACK_CACHE_DIR, or the platform's own place."""
    given = os.environ.get("ROOFRACK_CACHE_DIR")
    if given:
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "roofrack"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "roofrack"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "roofrack"


def keep_compiled() -> None:
    """Have JAX keep what it compiles; call before JAX is imported. The user's own settings win."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_folder() / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
