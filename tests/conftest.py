"""Settings of every test run: CPU only, JAX stricter than for users, reproducible hypothesis."""

import os
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"  # before anything imports JAX; subprocesses inherit it
# A silent promotion of dtype or rank hides a forgotten cast or axis: an error here, not for users.
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

# What one test has compiled another need not: processes of a run share what XLA made.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path(__file__).resolve().parent.parent / ".pytest_cache" / "xla"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

import hypothesis
import pytest

# No deadline: the first example of a property pays for a compilation.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent
