"""Arithmetic that runs unchanged on Python numbers and on traced arrays, with safe gradients.

A cost function meets 0/0, inf/inf and log 0 at legitimate corners (no experts, one chip, no
latency). Both branches of a `where` are differentiated, so a guard after the division still gives
a NaN gradient: the operand is replaced before, and the result chosen after ("double where").
"""

import sys
from typing import Any

Number = Any
"""A Python number, a NumPy array or a JAX array: whatever broadcasts."""


def _is_python(*values: Number) -> bool:
    return all(isinstance(value, bool | int | float) for value in values)


def _jnp() -> Any:
    # nouns are imported at every start of the command line; JAX only when arrays are about
    if "jax.numpy" not in sys.modules:
        import jax.numpy  # noqa: F401
    return sys.modules["jax.numpy"]


def choose(condition: Number, this: Number, other: Number) -> Number:
    """Return `this` where `condition` holds, else `other`; shapes broadcast."""
    if _is_python(condition):
        return this if condition else other
    return _jnp().where(condition, this, other)


def divide(a: Number, b: Number, otherwise: Number = 0.0) -> Number:
    """Return a / b, and `otherwise` where b is 0; the gradient there is 0, not NaN."""
    zero = b == 0
    return choose(zero, otherwise, a / choose(zero, 1.0, b))


def least(a: Number, b: Number) -> Number:
    """Return the smaller, element by element."""
    if _is_python(a, b):
        return min(a, b)
    return _jnp().minimum(a, b)


def most(a: Number, b: Number) -> Number:
    """Return the larger, element by element."""
    if _is_python(a, b):
        return max(a, b)
    return _jnp().maximum(a, b)
