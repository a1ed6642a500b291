"""80 % intervals of predictions, and the discrepancy that makes them as wide as they have to be.

The spread of a prediction has two parts: what the calibration says of each kernel class
(`k`, from the fits) and what no kernel explains (`step_rel_std`, d). With s^2 = k^2 + d^2 and
errors that are normal in the logarithm, 80 % of measurements lie within predicted exp(+-1.2816 s).
"""

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

COVERED = 0.8
Z80 = 1.2815515655446004
"""Standard deviations that hold 80 % of a normal distribution, both sides together."""

HALVES = ("learn", "test")


def with_intervals(rows: pl.DataFrame) -> pl.DataFrame:
    """Return `rows` (`predicted`, `measured`, `rel_std`) with `low`, `high` and `inside`.

    Null where the calibration gives no spread. `inside`: the measurement lies between both.
    """
    spread = (Z80 * pl.col("rel_std").fill_nan(None)).exp()
    low, high = pl.col("predicted") / spread, pl.col("predicted") * spread
    return rows.with_columns(low=low, high=high).with_columns(
        inside=pl.col("measured").is_between(pl.col("low"), pl.col("high"))
    )


def halves(rows: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """Return `learn` or `test` for each row, by a hash of what stands in `columns`.

    Rows that agree in all of them fall into the same half, whoever exported them and whenever.
    """
    keys = rows.select(
        pl.concat_str([pl.col(c).cast(pl.String).fill_null("") for c in columns], separator="|")
    ).to_series()
    digests = (hashlib.sha256(key.encode()).digest()[0] for key in keys)
    return pl.Series("half", [HALVES[first % 2] for first in digests], dtype=pl.String)


class Discrepancy(NamedTuple):
    """What was learnt: `step_rel_std`, the rows of both halves, and the shares that lie inside."""

    step_rel_std: float
    learnt_rows: int
    tested_rows: int
    covered_learnt: float
    covered_tested: float


def discrepancy(rows: pl.DataFrame) -> Discrepancy:
    """Return the least step_rel_std whose intervals hold 80 % of the rows of one half.

    `rows`: `log_ratio`, `kernel_std` (the spread by the kernels alone, may be null) and `half`.
    A row lies inside from d_i^2 = max(0, (ln ratio / 1.2816)^2 - k^2) on, so d is the 80th
    percentile of d_i. NaN where a half is empty.
    """
    used = rows.filter(pl.col("log_ratio").is_not_null())
    first, second = (used.filter(pl.col("half") == name) for name in HALVES)
    if first.is_empty() or second.is_empty():
        return Discrepancy(math.nan, first.height, second.height, math.nan, math.nan)
    found = float(np.quantile(_needed(first), COVERED, method="higher"))
    return Discrepancy(
        found,
        first.height,
        second.height,
        *(float(np.mean(_needed(part) <= found)) for part in (first, second)),
    )


def _needed(rows: pl.DataFrame) -> np.ndarray:
    """The step_rel_std from which on each row lies inside its interval."""
    kernels = rows["kernel_std"].fill_nan(0.0).fill_null(0.0).to_numpy()
    return np.sqrt(np.maximum((rows["log_ratio"].to_numpy() / Z80) ** 2 - kernels**2, 0.0))
