"""A calibration of one's own measurements, from Python."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from roofrack.errors import InputError
from roofrack.fitting.files import GROUP, check_name, name_of, save
from roofrack.fitting.own import OwnFit, Value, fit_own
from roofrack.fitting.refit import refit
from roofrack.schema import AUTO

MISSED = ("data", "points", "mean_inside", "mean_held_out", "median_held_out")
"""What is told of the fit of a kernel."""


@dataclass(frozen=True)
class Calibrated:
    """A fitted calibration.

    `calibration` is the tree of the file; `factors` what was fitted to end-to-end runs (none where
    kernels were), each with its standard error; `errors` a row for each measurement, or for each
    kernel.
    """

    name: str
    calibration: dict[str, Any]
    factors: dict[str, Value]
    errors: pl.DataFrame
    own: OwnFit | None = field(default=None, repr=False)

    def write(self, folder: str | Path = ".", command: str = "roofrack.calibrate(...)") -> Path:
        """Write folder/calibration/NAME.yaml and return its path.

        `config_dir=folder` and `calibration=NAME` then choose it; a path that ends in .yaml is
        written as it is. Raises InputError if it cannot be written.
        """
        path = Path(folder)
        if path.suffix != ".yaml":
            path = path / GROUP / f"{check_name(self.name)}.yaml"
        points = f"{self.own.errors.height} measurements of {self.own.data}" if self.own else ""
        told = [f"to {points}, from calibration={self.own.base}"] if self.own else []
        return save(path, self.calibration, command, told)


def calibrate(
    given: str | Path | pl.DataFrame | Sequence[str | Path],
    *overrides: str,
    kind: str | Sequence[str] | None = None,
    name: str | None = None,
    base: str = AUTO,
    config_dir: str | Path | None = None,
) -> Calibrated:
    """Fit a calibration to measurements: of whole runs, or with `kind` of single kernels.

    `given` is a CSV or Parquet file or a Polars frame whose columns are keys of overrides and
    results (`tpot_ms`, `ttft_ms`, ...); `overrides` hold for all rows. With `kind` it is one or
    several files in the columns of `roofrack.fitting.columns.SCHEMA`, and `hardware=NAME` has to
    be among the overrides. `base` is the calibration to start from, `auto` that of the machine.
    Raises InputError naming file, row and column.

    Two runs say little: the factors stay near the calibration that they start from.

    >>> measured = {"parallelism.tp": 4.0, "batch": [16.0, 64.0], "tpot_ms": [24.0, 33.0]}
    >>> runs = pl.DataFrame({"hardware": "h100_sxm", "model": "llama3_1_70b"} | measured)
    >>> mine = calibrate(runs, "dtype=fp8", "context=700", name="mine")
    >>> bool(mine.errors["after"].abs().max() < mine.errors["before"].abs().max())
    True
    """
    if kind is None:
        if isinstance(given, Sequence) and not isinstance(given, str):
            raise InputError("give one file or frame of runs; several files only with kind=")
        own = fit_own(given, overrides, name=name, base=base, config_dir=config_dir)
        return Calibrated(own.name, own.calibration, own.factors, own.errors, own)
    if isinstance(given, pl.DataFrame):
        raise InputError("tables of kernels are read from files: give their paths")
    files = [given] if isinstance(given, str | Path) else list(given)
    keys = dict(text.partition("=")[::2] for text in overrides)
    if list(keys) != ["hardware"] or not keys["hardware"]:
        raise InputError("kind= needs hardware=NAME, the machine measured, and no other override")
    name = check_name(name or name_of([Path(file) for file in files]))
    kinds = [kind] if isinstance(kind, str) else list(kind)
    tree = refit(files, kinds, keys["hardware"], name=name, base=base, config_dir=config_dir)
    own_files = {Path(file).name for file in files}
    errors = pl.DataFrame(
        [
            {"kernel": kernel} | {n: fit[n] for n in MISSED}
            for kernel, fit in tree["fits"].items()
            if fit["data"].split(", ")[0] in own_files
        ]
    )
    return Calibrated(name, tree, {}, errors)
