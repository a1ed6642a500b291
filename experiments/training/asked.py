"""Studies beside the run: other global batches, and what each number of the machine is worth."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from roofrack import config
from roofrack.conversion import to_study
from roofrack.derivatives import slopes

from ..common.columns import COST
from ..common.overrides import axis
from ..common.studies import Studies
from .facts import DEGREES, LEAVES, Facts, cheapest, named, point_words, words_of

BATCH_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Times the global batch of the run."""
MOST_POINTS = 30_000
"""Points of the study of batches: more take a compiler longer than the study."""
SECTIONS = ("hardware", "calibration", "workload")
PROPORTIONAL = ("hardware.usd_per_chip_hour", "workload.tokens")
"""What cost follows in proportion, whatever the plan."""


def batches(found: Facts, studies: Studies) -> pl.DataFrame:
    """Return the cheapest plan for each number of chips and global batch.

    The degrees are those of the best plans of the run, as many as a study can cross.
    """
    sizes = [max(1, round(float(found.best["global_batch"]) * factor)) for factor in BATCH_FACTORS]
    axes = _candidates(found, MOST_POINTS // len(sizes))
    rows = studies.rows(
        "other global batches",
        *words_of(found.job),
        *(axis(LEAVES[degree], values) for degree, values in axes.items()),
        f"workload.global_batch={sorted(set(sizes))}",
        job=found.job,
    )
    degrees = {d: pl.col(LEAVES[d]) for d in DEGREES if d not in ("ep", "recompute")}
    rows = rows.with_columns(
        **degrees,
        ep=pl.col(LEAVES["ep"]).cast(pl.String),
        recompute=pl.col(LEAVES["recompute"]).cast(pl.String),
        global_batch=pl.col("workload.global_batch").cast(pl.Float64),
    ).filter("valid", "fits")
    return cheapest(named(rows), ["chips", "global_batch"])


def _candidates(found: Facts, most: int) -> dict[str, list[object]]:
    """Return values of each degree whose crossing has at most so many points.

    They hold those of the cheapest plans of every number of chips; with room left, of more.
    """
    first = pl.col(COST).rank("ordinal")
    ranked = found.good.with_columns(size=first.over("chips"), depth=first.over("chips", "pp"))
    for kept in (64, 16, 4, 1):
        near = ranked.filter((pl.col("size") <= kept) | (pl.col("depth") <= kept // 16))
        axes = {degree: _values(near, degree) for degree in DEGREES}
        if int(np.prod([len(values) for values in axes.values()])) <= most:
            break
    return axes


def _values(rows: pl.DataFrame, degree: str) -> list[object]:
    return sorted(set(rows[degree].to_list()), key=lambda value: (len(str(value)), str(value)))


def elasticities(found: Facts, studies: Studies) -> pl.DataFrame:
    """Return by how many per cent the cost of training moves with 1 % more of a number.

    Of the best plan, with `leaf` and `elasticity`, the largest first; what cost follows in
    proportion is left out.
    """
    words: Sequence[str] = point_words(found, found.best)
    study = to_study(config.compose(words, found.run.config_dir))
    studies.note("what each number is worth", words)
    each = slopes(study.grid(), COST, SECTIONS, "up", study.levels).slopes
    table = pl.DataFrame(
        {
            "leaf": [one.entry.path for one in each],
            "elasticity": [float(np.ravel(one.elasticity)[0]) for one in each],
        },
        schema={"leaf": pl.String, "elasticity": pl.Float64},
    )
    told = ~pl.col("leaf").is_in(PROPORTIONAL) & (pl.col("elasticity").abs() >= 0.005)
    return table.filter(told).sort(pl.col("elasticity").abs(), "leaf", descending=[True, False])
