"""The cost model: pure functions of a Scenario, arrays in, arrays out, no I/O."""

from roofrack.cost import pytrees as _pytrees  # noqa: F401  (registers the nouns)
from roofrack.cost.estimate import estimate

__all__ = ["estimate"]
