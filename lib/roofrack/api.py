"""The Python contract, and what `sweep` and `report` do once configurations are composed."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl

from roofrack import config
from roofrack.conversion import to_study
from roofrack.grid import compiled, points, stream
from roofrack.nouns import Scenario
from roofrack.results import store
from roofrack.results.frame import frame


def scenario(*overrides: str, config_dir: str | Path | None = None) -> Scenario:
    """Return the scenario that the overrides compose; a list makes its leaf an axis.

    Axis i of the lists varies along dimension i of the results. Raises InputError for bad input.

    >>> s = scenario("hardware=h100_sxm", "model=llama3_1_70b", "batch=[1,64]")
    >>> [round(float(t) * 1e3, 1) for t in estimate(s)["step_s"]]
    [10.1, 11.7]
    """
    return to_study(config.compose(overrides, config_dir)).grid()


def estimate(s: Scenario) -> dict[str, jax.Array]:
    """Return every result column of a scenario, by name; compiled once per pattern of axes.

    Pure: jit, vmap and grad go through it. Columns that the phase does not have are NaN; where
    `why_invalid` is not 0 the plan cannot run. Precision is JAX's: double with `jax_enable_x64`.
    Units and meanings of the columns: `roofrack.results.schema.COLUMNS`.
    """
    return compiled(jax.tree.map(_as_float, s))


def _as_float(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
        return leaf
    dtype = np.float64 if jax.config.jax_enable_x64 else np.float32  # type: ignore[attr-defined]
    return np.asarray(leaf, dtype)


def sweep(*overrides: str, config_dir: str | Path | None = None) -> pl.LazyFrame:
    """Return the rows of a sweep: groups and values crossed as on the command line.

    Nothing is written.

    >>> sweep("hardware=h100_sxm,b200", "batch=1,8,64").collect().shape[0]
    6
    """
    tables = []
    for job in config.jobs(overrides, config_dir):
        container = config.compose(job, config_dir)
        study = to_study(container)
        study.check_size()
        tables += [frame(study, block) for block in stream(study, double=_double(container))]
    return pl.concat([table.lazy() for table in tables], how="diagonal_relaxed")


def _double(container: Mapping[str, Any]) -> bool:
    return container["precision"] == "float64"


def run_job(container: Mapping[str, Any], overrides: Sequence[str], directory: Path) -> None:
    """Evaluate one job of a sweep into its folder, showing progress on stderr."""
    from tqdm import tqdm

    study = to_study(container)
    name = f"{study.labels['hardware']} {study.labels['model']}"
    # a bar only where somebody looks at it; logs get one line per job
    with tqdm(total=points(study), desc=name, unit=" points", unit_scale=True, disable=None) as bar:
        store.write_job(
            study, container, overrides, directory, double=_double(container), progress=bar.update
        )
    print(f"{name}: {points(study):,} points", file=sys.stderr)


def report(sweep_dir: Path, export: tuple[str, ...] = ()) -> Path:
    """Write the report of stored results beside them, and its charts and tables as `export`."""
    from roofrack.experiments import page_of
    from roofrack.report import export as exporting
    from roofrack.report.page import render

    page = page_of(sweep_dir)
    path = sweep_dir / "report.html"
    store.write_text(path, render(page))
    if export:
        exporting.export(page, sweep_dir / "export", export)
    return path
