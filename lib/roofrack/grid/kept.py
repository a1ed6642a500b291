"""Compiled functions kept between runs, so that they need not even be traced again.

JAX keeps what XLA made of a function, but has to trace and lower the function to know it again,
which for the cost model takes longer than a million points. Here it is known by what it is made of:
the package's source, the versions, the machine, and whatever the caller says it depends on.
"""

import os
import pickle
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import serialize_executable

from roofrack import caching

MOST = 200
"""Functions kept: those not used for longest go. Each is one to three megabytes."""
_BUILDING = threading.Lock()


def kept(made_of: str, build: Callable[[], Any]) -> Any:
    """Return a compiled function: the one kept under what it is made of, else that of `build`.

    `made_of` has to tell apart all functions that differ, given the same package and machine. Where
    nothing is kept (`caching.kept_folder`) it is always built.
    """
    if caching.kept_folder() is None:
        return build()
    path = caching.kept("compiled", f"{_setting()}\n{made_of}")
    found = _load(path)
    if found is None:
        with _BUILDING, _out_of_the_other_cache():
            found = build()
        with suppress(ValueError, TypeError):  # a backend that cannot be serialised
            caching.keep(path, pickle.dumps(serialize_executable.serialize(found)), MOST)
    return found


@contextmanager
def _out_of_the_other_cache() -> Iterator[None]:
    """Have JAX's own cache not keep what is compiled: what comes out of it cannot be kept again."""
    key = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, key)
    jax.config.update(key, 1e9)
    try:
        yield
    finally:
        jax.config.update(key, before)


def _load(path: Path) -> Any:
    """Return the function kept in a file; None if there is none or it is none any more."""
    content = caching.read(path)
    if content is None:
        return None
    try:
        return serialize_executable.deserialize_and_load(*pickle.loads(content))
    except Exception:  # cut off, of another version: whatever it is, building it again mends it
        return None


@cache
def _setting() -> str:
    """Return what all functions depend on: source, versions, machine, and JAX's settings."""
    device = jax.devices()[0]
    return "|".join(
        [
            caching.source("cost", "grid", "searching"),
            jax.__version__,
            jax.lib.__version__,
            np.__version__,
            platform.python_version(),
            f"{device.platform} {device.device_kind} {_processor()}",
            os.environ.get("XLA_FLAGS", ""),
            str(jax.config.jax_enable_x64),  # type: ignore[attr-defined]
        ]
    )


def _processor() -> str:
    """Return what instructions the processor has: code for others would not run."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.node()}"
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.node())
