"""The rows that overrides ask for, computed and kept in memory: nothing is written."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from roofrack import config
from roofrack.conversion import to_study
from roofrack.grid import stream
from roofrack.results.frame import frame


def rows_of(overrides: Sequence[str], config_dir: str | Path | None = None) -> pl.LazyFrame:
    """Return the rows of a sweep: groups and values crossed as on the command line.

    Axes that a job does not have are null. Raises InputError.
    """
    jobs = config.jobs(overrides, config_dir)
    tables = [rows_of_job(config.compose(job, config_dir)) for job in jobs]
    return pl.concat([table.lazy() for table in tables], how="diagonal_relaxed")


def rows_of_job(container: Mapping[str, Any]) -> pl.DataFrame:
    """Return the rows of one job, as composed. Raises InputError."""
    study = to_study(container)
    study.check_size()
    return pl.concat([frame(study, block) for block in stream(study, double=is_double(container))])


def is_double(container: Mapping[str, Any]) -> bool:
    """Tell whether a configuration asks for double precision."""
    return container["precision"] == "float64"
