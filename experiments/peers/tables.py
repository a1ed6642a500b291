"""The dated tables that come with the page: `make bench` and `roofrack validate` made them."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import yaml

HOME = Path(__file__).parent
OURS, IDEAL = "roofrack", "roofrack, ideal"
TWICE = ("aiconfigurator", "epoch")
"""Tools that answer in several ways: the way is named beside them."""
FOUND = ("yes", "partly", "not found")
"""What features.csv holds: a judgement of November 2026; `not found` is not `proved absent`."""


@cache
def read(name: str) -> pl.DataFrame:
    """Return one of the tables."""
    return pl.read_csv(HOME / f"{name}.csv", infer_schema_length=None)


def day(table: pl.DataFrame) -> str:
    """Return the day that a table was made."""
    return str(table["date"][0])


@cache
def tools() -> Mapping[str, Mapping[str, Any]]:
    """Return what tools.yaml says, by the name of the tool in words."""
    found: Mapping[str, Mapping[str, Any]] = yaml.safe_load((HOME / "tools.yaml").read_text())
    return found


def name_of(key: str) -> str:
    """Return the name of a tool in words."""
    base, _, more = key.partition("_")
    by_key = {str(told.get("key", name)): name for name, told in tools().items()}
    return by_key.get(key) or f"{by_key[base]}, {MODES[more]}"


MODES = {"sol": "its speed of light"}


@cache
def answers() -> pl.DataFrame:
    """Return the answers of the tools, `label` being tool and way in words; refusals too."""
    table = read("answers")
    words = [
        name_of(row["tool"]) + (f", {row['what']}" if row["tool"] in TWICE else "")
        for row in table.iter_rows(named=True)
    ]
    return table.with_columns(pl.Series("label", words, dtype=pl.String))


@cache
def rates() -> pl.DataFrame:
    """Return the measured rates, `label` being tool and call in words; no skipped ones.

    Without the rows of NumPy on roofrack's own formulas, which is no other tool.
    """
    table = read("rates").filter(pl.col("ratio").is_not_null() & (pl.col("peer") != "numpy"))
    words = [f"{name_of(row['peer'])}: {row['what']}" for row in table.iter_rows(named=True)]
    return table.with_columns(pl.Series("label", words, dtype=pl.String))
