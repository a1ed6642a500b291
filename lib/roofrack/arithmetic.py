"""Arithmetic that runs unchanged on Python numbers, NumPy arrays, dual numbers and JAX arrays.

The cost model is written once in these functions. On plain numbers it runs in NumPy, in double
precision and without compiling: one point costs milliseconds. On dual numbers it gives derivatives
besides. On JAX arrays it is traced, compiled and differentiated.

A cost function meets 0/0, inf/inf and log 0 at legitimate corners (no experts, one chip, no
latency). Both branches of a `where` are differentiated, so a guard after the division still gives
a NaN gradient: the operand is replaced before, and the result chosen after ("double where").
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import numpy as np

from roofrack import dual
from roofrack.dual import Dual

Number = Any
"""A Python number, a NumPy array, a Dual or a JAX array: whatever broadcasts."""


def namespace(*values: Number) -> Any:
    """Return the module for these values: roofrack.dual, jax.numpy (also if traced), or numpy."""
    if any(isinstance(value, Dual) for value in values):
        return dual
    jax = sys.modules.get("jax")  # who has JAX arrays has imported it
    if jax is not None and any(isinstance(value, jax.Array) for value in values):
        return jax.numpy
    return np


@contextmanager
def any_rank() -> Iterator[None]:
    """Let arrays of different ranks meet, whatever JAX is told: for axes of a function's own."""
    jax = sys.modules.get("jax")
    if jax is None:
        yield
        return
    with jax.numpy_rank_promotion("allow"):
        yield


def choose(condition: Number, this: Number, other: Number) -> Number:
    """Return `this` where `condition` holds, else `other`; shapes broadcast."""
    if isinstance(condition, bool | np.bool_):
        return this if condition else other
    return namespace(condition, this, other).where(condition, this, other)


def divide(a: Number, b: Number, otherwise: Number = 0.0) -> Number:
    """Return a / b, and `otherwise` where b is 0; the gradient there is 0, not NaN."""
    zero = b == 0
    return choose(zero, otherwise, a / choose(zero, 1.0, b))


def least(a: Number, b: Number) -> Number:
    """Return the smaller, element by element."""
    return namespace(a, b).minimum(a, b)


def most(a: Number, b: Number) -> Number:
    """Return the larger, element by element."""
    return namespace(a, b).maximum(a, b)


def floor(x: Number) -> Number:
    """Return the largest whole number not above x; the derivative is 0."""
    return namespace(x).floor(x)


def whole(x: Number) -> Number:
    """Return whether x is a whole number."""
    return x == namespace(x).round(x)


def log1p(x: Number) -> Number:
    """Return log(1 + x)."""
    return namespace(x).log1p(x)


def expm1(x: Number) -> Number:
    """Return exp(x) - 1."""
    return namespace(x).expm1(x)


def exp(x: Number) -> Number:
    """Return e to the power of x."""
    return namespace(x).exp(x)


def log(x: Number) -> Number:
    """Return the natural logarithm."""
    return namespace(x).log(x)


def total(x: Number) -> Number:
    """Return the sum along the first axis."""
    return namespace(x).sum(x, axis=0)


def constant(values: Any, like: Number) -> Number:
    """Return a host table as numbers of the kind and precision of `like`."""
    xp = namespace(like)
    if xp in (np, dual):
        return np.asarray(values, float)
    # a table in double would leak into single precision
    return xp.asarray(values, getattr(like, "dtype", None))


def running(x: Number) -> Number:
    """Return the sums along the first axis up to and including each entry."""
    return namespace(x).cumsum(x, axis=0)


def previous(x: Number) -> Number:
    """Return for each entry along the first axis the one before it; for the first, itself."""
    return namespace(x).concatenate((x[:1], x[:-1]))


def following(x: Number) -> Number:
    """Return for each entry along the first axis the one after it; for the last, itself."""
    return namespace(x).concatenate((x[1:], x[-1:]))


def highest(x: Number) -> Number:
    """Return the largest value along the first axis, which then has length 1."""
    return namespace(x).max(x, axis=0, keepdims=True)


def log2(x: Number) -> Number:
    """Return the logarithm to base 2."""
    return namespace(x).log2(x)


def root(x: Number) -> Number:
    """Return the square root; at 0 the derivative is 0, not infinite."""
    return choose(x > 0, choose(x > 0, x, 1.0) ** 0.5, 0.0)


def normal_share(x: Number) -> Number:
    """Return the share of a normal distribution below x deviations."""
    return _special(x).ndtr(x)


def normal_quantile(share: Number) -> Number:
    """Return how many deviations a share (between 0 and 1) of a normal distribution lies below."""
    return _special(share).ndtri(share)


def _special(x: Number) -> Any:
    xp = namespace(x)
    if xp is dual:
        return dual
    if xp is np:
        import scipy.special

        return scipy.special
    import jax

    return jax.scipy.special


_APART: ContextVar[bool] = ContextVar("apart", default=False)


@contextmanager
def apart() -> Iterator[None]:
    """Let `side_by_side` compute its items one by one, also where JAX traces.

    What is compiled grows; each item then depends on no more than its own numbers.
    """
    token = _APART.set(True)
    try:
        yield
    finally:
        _APART.reset(token)


def side_by_side(function: Callable[..., Any], items: list[Any]) -> list[Any]:
    """Return what a function of a tuple of numbers makes of each item: a tuple of numbers.

    Elementwise functions only. Where JAX traces, all items are stacked and computed at once: what
    is compiled is a fraction of the size.
    """
    given = [value for item in items for value in item]
    if len(items) < 2 or _APART.get() or namespace(*given) in (np, dual):
        return [function(*item) for item in items]
    import jax.numpy as jnp

    rank = max(np.ndim(value) for value in given)
    dtype = next(value.dtype for value in given if hasattr(value, "dtype"))
    stacked = []
    for leaf in zip(*items, strict=True):
        values = jnp.stack(jnp.broadcast_arrays(*(jnp.asarray(v, dtype) for v in leaf)))
        ones = (1,) * (rank + 1 - values.ndim)
        stacked.append(values.reshape(values.shape[:1] + ones + values.shape[1:]))
    found = function(*stacked)
    return [type(found)(*(value[i] for value in found)) for i in range(len(items))]


def infinite(x: Number) -> Number:
    """Return whether x is infinite."""
    return namespace(x).isinf(x)


def look_up(table: np.ndarray, index: Number) -> Number:
    """Return the entry of a small host table at `index` (a whole number held as a float)."""
    xp = namespace(index)
    index = xp.asarray(index)
    # in the precision of the index: a table kept by JAX in double would leak into single
    return xp.take(xp.asarray(table, index.dtype), index.astype("int32"), mode="clip")


def largest(values: tuple[Number, ...]) -> Number:
    """Return the position of the largest of several values, element by element; ties: the first."""
    xp = namespace(*values)
    return xp.argmax(xp.stack(xp.broadcast_arrays(*values)), axis=0)


def ceil(x: Number) -> Number:
    """Return the smallest whole number not below x. The derivative is 1, that of the surrogate x.

    The exact value has steps; "a little more batch" still has a price. What is above a whole number
    by rounding alone (8.000001) is that number, in single precision as in double.
    """
    if isinstance(x, Dual):
        return dual.ceil_as(x, _ceil(np, x.value))
    return _ceil(np, x) if namespace(x) is np else _straight_through_ceil()(x)


def _ceil(xp: Any, x: Number) -> Number:
    return xp.ceil(x - xp.minimum(1e-4, 1e-6 * x))


@cache
def _straight_through_ceil() -> Callable[[Any], Any]:
    import jax

    rounded = jax.custom_jvp(lambda x: _ceil(jax.numpy, x))
    rounded.defjvps(lambda tangent, answer, x: tangent)
    return rounded


def round_up(x: Number, quantize: Number) -> Number:
    """Return ceil(x) where `quantize` is set, else x; the derivative is 1 in both cases."""
    return choose(quantize > 0, ceil(x), x)


def padded(rows: Number, tile: Number, quantize: Number) -> Number:
    """Return `rows` in whole tiles where `quantize` is set: matrix units work in tiles."""
    return choose(quantize > 0, tile * round_up(rows / tile, quantize), rows)
