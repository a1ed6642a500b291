"""`roofrack --help` answers at once: heavy packages are imported when something is computed."""

import subprocess
import sys

import pytest

HEAVY = ("jax", "polars", "altair", "vl_convert", "scipy")


@pytest.mark.parametrize(
    "module", ["roofrack", "roofrack.cli", "roofrack.config", "roofrack.schema"]
)
def test_import_stays_light(module: str):
    code = f"import sys, {module}; print(*(set(sys.modules) & set({HEAVY!r})))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
