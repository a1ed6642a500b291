"""The result schema, tables of results in it (Polars frames, Parquet files), and what they tell.

The questions that rows answer, whether `roofrack.sweep` made them or `roofrack.load` read them:
`best`, `frontier`, `marginal`, `sensitivity`, `compare`, and `units` of their answers. Loaded on
first use: who needs names of columns only does not wait for Polars.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roofrack.results.aggregate import best, frontier, marginal, units
    from roofrack.results.effects import compare, sensitivity

__all__ = ["best", "compare", "frontier", "marginal", "sensitivity", "units"]

_EFFECTS = ("compare", "sensitivity")


def __getattr__(name: str) -> Any:
    """Import the questions when they are first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'roofrack.results' has no attribute '{name}'")
    from roofrack.results import aggregate, effects

    return getattr(effects if name in _EFFECTS else aggregate, name)
