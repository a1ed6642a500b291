"""Where things that only save time are kept between runs; deleting them costs nothing else."""

import hashlib
import os
import sys
import tempfile
from contextlib import suppress
from functools import cache
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


def kept_folder() -> Path | None:
    """Return where roofrack itself keeps what takes long to make, None if nothing is kept."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    return Path(folder) / "roofrack" if folder else None


@cache
def source(*folders: str) -> str:
    """Return a digest of the package's own modules and those in these folders of it."""
    package = Path(__file__).parent
    files = [*package.glob("*.py"), *(p for f in folders for p in (package / f).rglob("*.py"))]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def kept(kind: str, made_of: str) -> Path:
    """Return the file that something is kept in, by what it is made of, where anything is kept."""
    folder = kept_folder()
    assert folder is not None
    return folder / kind / hashlib.sha256(made_of.encode()).hexdigest()


def read(path: Path) -> bytes | None:
    """Return what a file holds, which is used thereby; None if it cannot be had."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    with suppress(OSError):
        os.utime(path)
    return content


def keep(path: Path, content: bytes, most: int | None = None) -> None:
    """Write a file whole or not at all, and remove those used least beyond so many, if it is told.

    A disk that is full or cannot be written to costs only time.
    """
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(name, path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
        if most is not None:
            used = sorted(path.parent.iterdir(), key=lambda one: one.stat().st_mtime)
            for old in used[:-most]:
                old.unlink(missing_ok=True)
