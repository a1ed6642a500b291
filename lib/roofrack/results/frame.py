"""From evaluated blocks to Polars frames in the result schema."""

import numpy as np
import polars as pl

from roofrack.axes import Axis
from roofrack.conversion import Study
from roofrack.cost.layout import reasons
from roofrack.grid import Block
from roofrack.results.schema import COLUMNS, KEPT_WHEN_INVALID, PARTS, RESULTS


def frame(study: Study, block: Block) -> pl.DataFrame:
    """Return one block as a frame: inputs, swept axes, then the results.

    Columns that a phase does not have, and the results of a plan that cannot run, are null.
    """
    mask = block.columns["why_invalid"]
    valid = pl.Series("valid", mask == 0)
    labels = {**study.labels, "overlap": study.overlap, "phase": study.phase}
    table = pl.DataFrame(
        [pl.Series(k, [v]).new_from_index(0, len(block)) for k, v in labels.items()]
        + [_axis_column(axis, i) for axis, i in zip(study.axes, block.places, strict=True)]
    )
    results = [_result(name, block.columns) for name in COLUMNS if _is_result(name)]
    swept = set(table.columns)
    table = table.with_columns(*(s for s in results if s.name not in swept), valid, _why(mask))
    if not valid.all():
        blank = [n for n in RESULTS if n not in KEPT_WHEN_INVALID and n not in swept]
        table = table.with_columns(pl.when(valid).then(pl.col(n)).alias(n) for n in blank)
    order = [*labels, *(a.column for a in study.axes), *COLUMNS]
    return table.select(list(dict.fromkeys(order)))


def _is_result(name: str) -> bool:
    return name in (*RESULTS, "chips", "racks") and name not in ("valid", "why_invalid")


def _result(name: str, columns: dict[str, np.ndarray]) -> pl.Series:
    values = np.ascontiguousarray(columns[name])
    if name == "bound":
        return pl.Series(name, PARTS, dtype=pl.Enum(PARTS)).gather(values.astype(np.uint32))
    series = pl.Series(name, values)
    return series.fill_nan(None) if series.dtype.is_float() else series


def _why(mask: np.ndarray) -> pl.Series:
    distinct, where = np.unique(mask, return_inverse=True)
    words = pl.Series("why_invalid", [reasons(int(m)) for m in distinct], dtype=pl.String)
    return words.gather(where.astype(np.uint32))


def _axis_column(axis: Axis, index: np.ndarray) -> pl.Series:
    """Return the values of an axis as the user gave them: whole numbers stay whole."""
    shown = list(axis.shown)
    if any(isinstance(v, float) for v in shown) and not any(isinstance(v, str) for v in shown):
        shown = [float(v) for v in shown]
    elif any(isinstance(v, str) for v in shown):
        shown = [str(v) for v in shown]
    return pl.Series(axis.column, shown).gather(index.astype(np.uint32))
