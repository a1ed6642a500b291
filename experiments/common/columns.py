"""Columns of the result schema that pages speak of by name, and units as pages write them."""

from collections.abc import Mapping

from roofrack.results.schema import COLUMNS

COST, SPEED = "usd_per_mtok", "tokens_per_s_per_user"
DEGREES = ("tp", "dp", "ep", "pp", "cp")
"""Degrees of a plan to serve with."""


def written(units: Mapping[str, str]) -> dict[str, str]:
    """Return units of columns as pages write them: USD/Mtok for USD/Mtoken."""
    return {name: unit.replace("Mtoken", "Mtok") for name, unit in units.items()}


COLUMN_UNITS = written({name: column.unit for name, column in COLUMNS.items()})
"""The unit of every column of the schema."""
