"""Published end-to-end facts: one row, one measured number and the scenario that reproduces it.

`published.csv` is kept by hand: facts read in public sources, each with the source it was read in.

Two conventions join a static batch (a prefill of all prompts, then decode passes until all outputs
are complete) to one scenario. In steady state `phase=serve` computes a decode pass and the share of
a prefill pass that keeps the batch full; with `prefill_batch` = `batch` that share is 1 / output.
A batch of `o` output tokens takes one prefill, which yields the first token, and o - 1 decode
passes, so with `workload.output` = o - 1

    latency = (o - 1) * tpot_s        throughput = tokens_per_s * o / (o - 1)

and the factor of each is the row's `scale`.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from roofrack.config import conf_dir
from roofrack.errors import InputError, nearest
from roofrack.results.schema import RESULTS
from roofrack.schema import GROUPS as SECTIONS
from roofrack.schema import defaults
from roofrack.validation.composed import CHOSEN, evaluated

PATH = Path(__file__).with_name("published.csv")
"""The table that ships."""

GROUPS = (
    "pope_2022",
    "deepseek_service",
    "deepseek_profile",
    "sglang_large_ep",
    "fastertransformer",
    "splitwise",
    "tensorrt_llm",
    "other",
)
"""Where a row comes from; errors are reported by it."""

HOW = ("read", "digitised", "derived")
"""How the measured number was obtained: printed as it is, read off a figure, or computed."""

CONFIDENCE = ("high", "medium")
"""high: printed, with all inputs; medium: an input is derived or assumed (`notes` say which)."""


class Field(NamedTuple):
    """One column of a table: its type and meaning."""

    dtype: type[pl.DataType]
    doc: str


FIELDS = {
    "id": Field(pl.String, "name of the row, unique and lasting"),
    "group": Field(pl.String, "one of GROUPS"),
    "hardware": Field(pl.String, "machine, by its name in conf/hardware"),
    "model": Field(pl.String, "model, by its name in conf/model; `overrides` may reshape it"),
    "overrides": Field(pl.String, "of `roofrack point`, separated by spaces: the whole scenario"),
    "column": Field(pl.String, "the result compared, by its name in the result schema"),
    "scale": Field(pl.Float64, "the prediction is the column times this"),
    "measured": Field(pl.Float64, "what the source reports, in `unit`"),
    "unit": Field(pl.String, "of `measured`: as the result schema gives for `column`"),
    "source": Field(pl.String, "public: title and address, or repository@commit:path"),
    "how": Field(pl.String, "one of HOW"),
    "confidence": Field(pl.String, "one of CONFIDENCE"),
    "notes": Field(pl.String, "what was derived or assumed, and what the scenario cannot express"),
}
"""The columns of `published.csv`, in order."""


def load(path: str | Path = PATH) -> pl.DataFrame:
    """Return the published facts, one row each, with the columns of FIELDS; none is null.

    Raises InputError naming the row for a machine, model, key or column that roofrack does not
    have, another unit than the column's, a number that is not positive, no source, an id twice.
    """
    table = read(Path(path), FIELDS)
    for row in table.iter_rows(named=True):
        where = f"{Path(path).name}: row {row['id']}"
        one_of(where, "group", row["group"], GROUPS)
        check_origin(where, row)
        one_of(where, "model", row["model"], options("model"))
        one_of(where, "column", row["column"], tuple(RESULTS))
        for key in ("scale", "measured"):
            positive(where, key, row[key])
        unit = RESULTS[row["column"]].unit
        if row["unit"] != unit:
            raise InputError(f"{where}: unit={row['unit']}: {row['column']} is in {unit or 'no'}")
        check_overrides(where, row)
    return table


def command(row: Mapping[str, Any]) -> str:
    """Return the command that prints the scenario of a row."""
    return f"roofrack point {row['overrides']}"


def predict(table: pl.DataFrame, overrides: Sequence[str] = ()) -> pl.DataFrame:
    """Return the rows with what roofrack says of them, in double precision.

    Added: `predicted` (in `unit`, null where the plan cannot run), `why_invalid` (null where it
    can) and `fits` (whether it is within memory; a prediction is made either way). `overrides` are
    set in every row besides, `calibration=ideal` for example. Raises InputError naming a row that
    does not compose.
    """
    from roofrack.cost.layout import reasons

    found = evaluated(table, overrides)
    why = [reasons(int(code)) for code in found["why_invalid"]]
    predicted = [
        None if reason else float(found[name][row]) * scale
        for row, (reason, name, scale) in enumerate(
            zip(why, table["column"], table["scale"], strict=True)
        )
    ]
    return table.with_columns(
        pl.Series("predicted", predicted, dtype=pl.Float64),
        pl.Series("why_invalid", why, dtype=pl.String),
        pl.Series("fits", found["fits"] > 0, dtype=pl.Boolean),
    )


def read(path: Path, fields: Mapping[str, Field]) -> pl.DataFrame:
    """Read a table as its fields say; raise for other columns and what is no number."""
    try:
        table = pl.read_csv(path, infer_schema=False).fill_null("")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read as CSV: {str(error).splitlines()[0]}") from error
    if table.columns != list(fields):
        odd = next((c for c in table.columns if c not in fields), None)
        hint = f" unknown is {odd}.{nearest(odd, fields)}" if odd else ""
        raise InputError(f"{path.name}: columns have to be {','.join(fields)};{hint}")
    for name, field in fields.items():
        if field.dtype.is_numeric():
            wrong = table.filter(pl.col(name).cast(field.dtype, strict=False).is_null())
            if not wrong.is_empty():
                first = wrong.row(0, named=True)
                raise InputError(f"{path.name}: row {first['id']}: {name}={first[name]}: no number")
    twice = table.filter(pl.col("id").is_duplicated())
    if not twice.is_empty():
        raise InputError(f"{path.name}: row {twice['id'][0]}: the id is there twice")
    return table.cast({name: field.dtype for name, field in fields.items()})


def check_origin(where: str, row: Mapping[str, Any]) -> None:
    """Raise for a machine that there is not, and for a number without source or standing."""
    one_of(where, "hardware", row["hardware"], options("hardware"))
    one_of(where, "how", row["how"], HOW)
    one_of(where, "confidence", row["confidence"], CONFIDENCE)
    if not row["source"].strip():
        raise InputError(f"{where}: source is empty: give title and address")


def check_overrides(where: str, row: Mapping[str, Any]) -> None:
    """Check that the overrides set known keys once, and choose every group of CHOSEN."""
    found: dict[str, str] = {}
    for text in str(row["overrides"]).split():
        key, equals, value = text.partition("=")
        if not equals or not value or key in found:
            raise InputError(f"{where}: {text}: give each override once, as key=value")
        if key not in CHOSEN and key not in _keys():
            raise InputError(f"{where}: {key}: no such key.{nearest(key, (*CHOSEN, *_keys()))}")
        found[key] = value
    for group in CHOSEN:
        one_of(where, group, found.get(group, "(nothing)"), options(group))
    for group in ("hardware", "model"):
        if found[group] != row[group]:
            raise InputError(f"{where}: {group}={found[group]} in overrides, not {row[group]}")


def one_of(where: str, key: str, value: str, allowed: Sequence[str]) -> None:
    """Raise for a value that is not allowed."""
    if value not in allowed:
        shown = ", ".join(allowed) if len(allowed) < 12 else f"{len(allowed)} names"
        raise InputError(f"{where}: {key}={value}: allowed: {shown}.{nearest(value, allowed)}")


def positive(where: str, key: str, value: float) -> None:
    """Raise for a number that is not positive and finite."""
    if not (value > 0 and math.isfinite(value)):
        raise InputError(f"{where}: {key}={value:g}: give a positive number")


@lru_cache
def options(group: str) -> tuple[str, ...]:
    """Return the options of a group: its files in conf."""
    return tuple(sorted(file.stem for file in (conf_dir() / group).glob("*.yaml")))


@lru_cache
def _keys() -> frozenset[str]:
    """Return every leaf that overrides may set, by its path."""
    return frozenset(key for section in SECTIONS for key in _paths(defaults(section), section))


def _paths(tree: Mapping[str, Any], prefix: str) -> list[str]:
    found: list[str] = []
    for name, value in tree.items():
        path = f"{prefix}.{name}"
        found += _paths(value, path) if isinstance(value, Mapping) and value else [path]
    return found
