"""A user's end-to-end measurements: a header of override keys and result columns, a row a run.

`hardware,model,parallelism.tp,batch,context,tpot_ms` and so on: every key that `roofrack point`
takes may be a column, and so may any result that is a time, a rate or a utilisation. Times also in
milliseconds: `tpot_ms` is `tpot_s`. An empty cell sets or measures nothing.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from roofrack.errors import InputError, nearest
from roofrack.results.schema import RESULTS
from roofrack.schema import ALIASES, CHOICES, PARTS, SECTIONS, defaults

REMARKS = ("id", "name", "source", "notes", "date", "engine", "version")
"""Columns that tell about a row and are not read."""

MEASURABLE = (
    *("tpot_s", "ttft_s", "step_s", "tokens_per_s", "tokens_per_s_per_chip"),
    *("tokens_per_s_per_user", "mfu", "hfu", "mbu"),
    *(name for name in RESULTS if name.startswith("block_")),
)
"""Results that can be measured."""


class Observed(NamedTuple):
    """One measured number: the row (from 0), the result column, and its value in SI units."""

    row: int
    column: str
    value: float


class Measurements(NamedTuple):
    """What a file says: overrides of each row by key, and what was measured of it."""

    name: str
    rows: tuple[dict[str, str], ...]
    observed: tuple[Observed, ...]

    def where(self, row: int) -> str:
        """Say which row it is, counted from 1 after the header."""
        return f"{self.name}, row {row + 1}"


def load(given: str | Path | pl.DataFrame, common: Sequence[str] = ()) -> Measurements:
    """Return the measurements of a CSV or Parquet file, or of a frame.

    `common` are overrides that hold for every row. Raises InputError naming row and column: unknown
    columns, what is no positive number, rows without a measurement, files without rows.
    """
    name, table = _table(given)
    shared = dict(_pair(text) for text in common)
    measured: dict[str, tuple[str, float]] = {}
    keys: list[str] = []
    for column in table.columns:
        if column in REMARKS:
            continue
        found = _measured(column)
        if found is None:
            _check_key(name, column)
            keys.append(column)
        else:
            measured[column] = found
    _refuse_twice(name, keys, shared, measured)
    if not measured:
        raise InputError(
            f"{name}: no column says what was measured; give tpot_ms or ttft_ms, or another of "
            f"{', '.join(MEASURABLE)}"
        )
    if not table.height:
        raise InputError(f"{name}: has a header and no rows")
    rows, observed = [], []
    for number, row in enumerate(table.iter_rows(named=True)):
        where = f"{name}, row {number + 1}"
        given_here = {key: _text(where, key, row[key]) for key in keys if row[key]}
        rows.append(shared | given_here)
        values = [
            Observed(number, result, scale * _number(where, column, row[column]))
            for column, (result, scale) in measured.items()
            if row[column]
        ]
        if not values:
            raise InputError(f"{where}: nothing measured; give {' or '.join(measured)}")
        observed += values
    return Measurements(name, tuple(rows), tuple(observed))


def _table(given: str | Path | pl.DataFrame) -> tuple[str, pl.DataFrame]:
    """Return a name for messages, and the table with every cell as stripped text."""
    if isinstance(given, pl.DataFrame):
        name, table = "frame", given
    else:
        path = Path(given)
        name = path.name
        if not path.is_file():
            raise InputError(f"{given}: no such file")
        try:
            if path.suffix == ".parquet":
                table = pl.read_parquet(path)
            else:
                table = pl.read_csv(path, infer_schema=False)
        except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
            reason = str(error).splitlines()[0] if str(error) else "empty"
            raise InputError(f"{given}: cannot be read: {reason}") from None
    table = table.rename(lambda column: column.strip().removeprefix("\ufeff"))
    nested = [c for c, t in table.schema.items() if t.is_nested()]
    if nested:
        raise InputError(f"{name}: column {nested[0]} holds {table.schema[nested[0]]}, not cells")
    return name, table.select(pl.all().cast(pl.String).str.strip_chars().fill_null(""))


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key or not value:
        raise InputError(f"{text}: not an override; write key=value")
    _check_key("the command line", key)
    return key, _text("the command line", key, value)


def _measured(column: str) -> tuple[str, float] | None:
    """Return the result that a column measures and what makes it SI; None if it is an input."""
    if column in MEASURABLE:
        return column, 1.0
    if column.endswith("_ms") and f"{column[:-3]}_s" in MEASURABLE:
        return f"{column[:-3]}_s", 1e-3
    return None


def _known() -> list[str]:
    """Return every key that a column may be, fabric levels left out: those have names of files."""
    groups = [group for group in CHOICES if group != "calibration"]
    pools = [
        f"{g}@{part}.{g}" for part, inner in PARTS.items() for g in inner if g != "calibration"
    ]
    leaves = [path for s in SECTIONS if s != "calibration" for path in _paths(defaults(s), s)]
    return [*groups, *pools, *leaves, *ALIASES, "overlap"]


def _paths(tree: Mapping[str, object], prefix: str) -> list[str]:
    found: list[str] = []
    for key, value in tree.items():
        path = f"{prefix}.{key}"
        found += _paths(value, path) if isinstance(value, Mapping) and value else [path]
    return found


def _check_key(name: str, column: str) -> None:
    """Raise InputError for a column that is neither a key nor a result."""
    if column.partition(".")[0].partition("@")[0] == "calibration":
        raise InputError(
            f"{name}: column {column}: the calibration is what is fitted; base=NAME chooses the "
            "one to start from"
        )
    known = _known()
    inner = next((column[len(p) + 1 :] for p in PARTS if column.startswith(f"{p}.")), column)
    if (
        column in known
        or inner in known
        or inner.startswith(("hardware.fabric.", "hardware.tiers"))
    ):
        return
    choices = [*known, *MEASURABLE, *(f"{m[:-2]}_ms" for m in MEASURABLE if m.endswith("_s"))]
    if column in RESULTS:
        raise InputError(
            f"{name}: column {column}: nothing a stopwatch shows; allowed: {', '.join(MEASURABLE)}"
        )
    raise InputError(
        f"{name}: column {column!r} is neither a key nor a result; columns that are not read: "
        f"{', '.join(REMARKS)}.{nearest(column, choices)}"
    )


def _refuse_twice(
    name: str, keys: list[str], shared: dict[str, str], measured: dict[str, tuple[str, float]]
) -> None:
    """Raise InputError for what is said twice: by an alias, in two units, or beside the file."""
    said: dict[str, str] = {}
    for key in (*shared, *keys):
        path = ALIASES.get(key, key)
        if path in said:
            raise InputError(f"{name}: {said[path]} and {key} both set {path}; give one")
        said[path] = key
    results: dict[str, str] = {}
    for column, (result, _) in measured.items():
        if result in results:
            raise InputError(f"{name}: {results[result]} and {column} both measure {result}")
        results[result] = column


def _text(where: str, key: str, value: str) -> str:
    if any(mark in value for mark in ",[]{}$") or " " in value:
        raise InputError(f"{where}: {key}={value!r}: one plain value in a cell")
    return value


def _number(where: str, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{where}: {column} is {text!r}, not a number") from None
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{where}: {column}={text}: measured is a number above 0")
    return value
