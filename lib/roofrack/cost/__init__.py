"""The cost model: pure functions of a Scenario, numbers or arrays in and out, no I/O.

It runs on plain numbers (NumPy, double precision) and on JAX arrays (traced, compiled,
differentiated) alike; `roofrack.cost.pytrees` is what makes scenarios pytrees for the latter.
"""

from roofrack.cost.columns import estimate

__all__ = ["estimate"]
