"""Likely reasons of large errors, by rule. A reason explains a row; it never leaves one out.

Rules are tried in order and the first that holds is given. They are few, physical and stated; each
looks at measured times and recorded settings. What none explains says so.
"""

import math
from typing import NamedTuple

import polars as pl

LARGE = 0.25
"""Size of ln(predicted / measured) from which on an error is explained."""

AGREES = 0.15
"""Size of ln(predicted / measured) below which a prediction agrees."""

FASTER = 1.3
"""How many times faster than predicted a whole curve has to be to look like drafted tokens."""

FEWEST = 3
"""Numbers of clients that a curve needs to be judged."""

CURVE = ("origin", "model_path", "precision", "backend", "version", "hardware", "mode")
"""What makes one engine on one machine; its curve is over the number of clients."""

SAME = (
    *("quantity", "mode", "model_path", "hardware", "backend", "precision"),
    *("chips", "prompt", "output", "concurrency"),
)
"""The setting of a run but for the version of the engine."""


class Rule(NamedTuple):
    """A likely reason: its name, what it says, and when it holds."""

    name: str
    says: str
    holds: pl.Expr


_ERROR = pl.col("log_ratio")

RULES = (
    Rule(
        "drafting",
        f"faster than predicted by {FASTER:g} or more at every number of clients ({FEWEST} at"
        " least) of that engine version on that machine: looks like speculative decoding, or"
        " prefix hits",
        pl.col("drafting"),
    ),
    Rule(
        "prefix hits",
        "the work implied by the measured time takes over half of the peak of the units: part of"
        " the prompts was not computed",
        (pl.col("flops_share") > 0.5) & (_ERROR > 0),
    ),
    Rule(
        "version",
        f"another version of the engine in the same setting is within {AGREES:.0%} of the"
        " prediction",
        pl.col("agreeing") > 0,
    ),
    Rule(
        "cache full",
        "faster than predicted, and the cache of all clients does not fit: fewer decode together",
        ~pl.col("fits") & (_ERROR > 0),
    ),
    Rule(
        "held back",
        "a first token over twice as late as predicted: the engine holds prompts back, or they wait"
        " in a way that the protocol does not have",
        (pl.col("quantity") == "ttft_s") & (_ERROR < -math.log(2.0)),
    ),
    Rule(
        "host",
        "slower than predicted with 4 clients or fewer: time of the host between kernels",
        (pl.col("concurrency") <= 4) & (_ERROR < 0),
    ),
    Rule(
        "many clients",
        "slower than predicted with over 256 clients: work of the host for each sequence, waiting",
        (pl.col("concurrency") > 256) & (_ERROR < 0),
    ),
)
"""In the order in which they are tried."""

NONE = "no rule"


def with_drafting(lines: pl.DataFrame) -> pl.DataFrame:
    """Return TPOT lines of runs with `drafting`: their whole curve is faster than predicted.

    Each number of clients counts by its median. Versions that are not recorded are one version.
    """
    keys = [pl.col(c).fill_null("") for c in CURVE]
    each = pl.col("log_ratio").median().over(*keys, "concurrency").alias("at")
    lines = lines.with_columns(each)
    several = pl.col("concurrency").n_unique().over(keys) >= FEWEST
    faster = pl.col("at").min().over(keys) >= math.log(FASTER)
    return lines.with_columns(drafting=(several & faster).fill_null(False)).drop("at")


def with_reasons(lines: pl.DataFrame) -> pl.DataFrame:
    """Return lines of `runs.lines` with `drafting` and `reason`; null where the error is small."""
    tpot = lines.filter(pl.col("quantity") == "tpot_s", pl.col("log_ratio").is_not_null())
    flagged = with_drafting(tpot).filter("drafting")["id"]
    same = [pl.col(c).cast(pl.String).fill_null("") for c in SAME]
    good = pl.when(_ERROR.abs() <= AGREES).then(pl.col("version").fill_null(""))
    lines = lines.with_columns(
        drafting=pl.col("id").is_in(flagged.implode()),
        agreeing=good.drop_nulls().n_unique().over(same),
    )
    first = pl.coalesce(
        *(pl.when(rule.holds).then(pl.lit(rule.name)) for rule in RULES), pl.lit(NONE)
    )
    large = _ERROR.abs() >= LARGE
    return lines.with_columns(reason=pl.when(large).then(first)).drop("agreeing")


def worst(lines: pl.DataFrame, count: int = 40) -> pl.DataFrame:
    """Return the lines with the largest errors in the logarithm, worst first."""
    used = lines.filter(_ERROR.is_not_null())
    return used.sort(_ERROR.abs(), "id", descending=[True, False]).head(count)
