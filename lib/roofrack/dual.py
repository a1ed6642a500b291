"""Numbers that carry their derivatives: forward-mode automatic differentiation in NumPy.

Compiling the gradient of the cost model takes JAX half a minute, its evaluation operation by
operation some seconds; one pass over dual numbers gives the same derivatives in milliseconds. The
rules are those of `roofrack.arithmetic` under JAX, except at the kink of a maximum or minimum,
where a side can be chosen.
"""

from typing import Any

import numpy as np

SIDES = {"up": 1.0, "down": -1.0, "mean": 0.0}
"""Which derivative to take at a tie: to the right, to the left, or half of each (JAX's rule)."""


class Dual:
    """A value of any shape and its derivatives along several directions, in double precision.

    `tangent` broadcasts to (*value.shape, directions): the last axis, so that values of different
    rank still broadcast. `side` is +1, -1 or 0, the meaning of SIDES. Comparisons give plain truth
    values.
    """

    __slots__ = ("side", "tangent", "value")
    __array_ufunc__ = None  # so that array * Dual asks the Dual
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Any, tangent: Any, side: float = 0.0) -> None:
        """Hold `value` (any shape) with `tangent` (..., directions)."""
        self.value, self.tangent, self.side = value, tangent, side

    def __repr__(self) -> str:
        """Show value and derivatives."""
        return f"Dual({self.value!r}, {self.tangent!r})"

    def __bool__(self) -> bool:
        """Refuse: a Dual decides nothing, its comparisons do."""
        raise TypeError("a Dual is a number: compare it")

    def _map(self, value: Any, slope: Any) -> "Dual":
        return Dual(value, _stretch(slope) * self.tangent, self.side)

    def _spread(self) -> Any:
        """Return the derivatives with every axis of the value."""
        return np.broadcast_to(self.tangent, (*np.shape(self.value), np.shape(self.tangent)[-1]))

    def __getitem__(self, index: slice) -> "Dual":
        """Return a part along the first axis."""
        return Dual(self.value[index], self._spread()[index], self.side)

    def __neg__(self) -> "Dual":
        """Return -self."""
        return Dual(-self.value, -self.tangent, self.side)

    def __pos__(self) -> "Dual":
        """Return self."""
        return self

    def __add__(self, other: Any) -> "Dual":
        """Return self + other."""
        if isinstance(other, Dual):
            return Dual(self.value + other.value, self.tangent + other.tangent, self.side)
        return Dual(self.value + other, self.tangent, self.side)

    __radd__ = __add__

    def __sub__(self, other: Any) -> "Dual":
        """Return self - other."""
        if isinstance(other, Dual):
            return Dual(self.value - other.value, self.tangent - other.tangent, self.side)
        return Dual(self.value - other, self.tangent, self.side)

    def __rsub__(self, other: Any) -> "Dual":
        """Return other - self."""
        return Dual(other - self.value, -self.tangent, self.side)

    def __mul__(self, other: Any) -> "Dual":
        """Return self * other."""
        if isinstance(other, Dual):
            tangent = _stretch(other.value) * self.tangent + _stretch(self.value) * other.tangent
            return Dual(self.value * other.value, tangent, self.side)
        return self._map(self.value * other, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> "Dual":
        """Return self / other."""
        if isinstance(other, Dual):
            value = self.value / other.value
            tangent = (self.tangent - _stretch(value) * other.tangent) / _stretch(other.value)
            return Dual(value, tangent, self.side)
        return Dual(self.value / other, self.tangent / _stretch(other), self.side)

    def __rtruediv__(self, other: Any) -> "Dual":
        """Return other / self."""
        value = other / self.value
        return self._map(value, -value / self.value)

    def __pow__(self, other: Any) -> "Dual":
        """Return self ** other; the derivative for the exponent is 0 where self is 0."""
        power = other.value if isinstance(other, Dual) else other
        value = self.value**power
        slope = power * self.value ** np.where(np.equal(power, 0), 1.0, power - 1.0)
        result = self._map(value, slope)
        if isinstance(other, Dual):
            result.tangent = result.tangent + (other.__rpow__(self.value)).tangent
        return result

    def __rpow__(self, base: Any) -> "Dual":
        """Return base ** self."""
        value = base**self.value
        return self._map(value, np.log(np.where(np.equal(base, 0), 1.0, base)) * value)

    def __eq__(self, other: object) -> Any:
        """Compare values."""
        return self.value == value_of(other)

    def __ne__(self, other: object) -> Any:
        """Compare values."""
        return self.value != value_of(other)

    def __lt__(self, other: Any) -> Any:
        """Compare values."""
        return self.value < value_of(other)

    def __le__(self, other: Any) -> Any:
        """Compare values."""
        return self.value <= value_of(other)

    def __gt__(self, other: Any) -> Any:
        """Compare values."""
        return self.value > value_of(other)

    def __ge__(self, other: Any) -> Any:
        """Compare values."""
        return self.value >= value_of(other)


def _stretch(value: Any) -> Any:
    """Give a value a last axis of length 1, beside which directions broadcast."""
    return np.asarray(value)[..., None]


def value_of(x: Any) -> Any:
    """Return the value of a Dual; anything else as it is."""
    return x.value if isinstance(x, Dual) else x


def tangent_of(x: Any) -> Any:
    """Return the derivatives of a Dual; 0 of anything else."""
    return x.tangent if isinstance(x, Dual) else 0.0


def _side(*values: Any) -> float:
    return next(x.side for x in values if isinstance(x, Dual))


# ---- what roofrack.arithmetic asks of a namespace, as NumPy and jax.numpy have it


def where(condition: Any, this: Any, other: Any) -> Any:
    """Return `this` where `condition` holds, else `other`, with the derivatives of the choice."""
    condition, plain = value_of(condition), (value_of(this), value_of(other))
    chosen = np.where(condition, *plain)
    if not (isinstance(this, Dual) or isinstance(other, Dual)):
        return chosen
    tangent = np.where(_stretch(condition), tangent_of(this), tangent_of(other))
    return Dual(chosen, tangent, _side(this, other))


def maximum(a: Any, b: Any) -> Any:
    """Return the larger; at a tie the derivative of the side asked for."""
    return _extreme(a, b, np.maximum, 1.0)


def minimum(a: Any, b: Any) -> Any:
    """Return the smaller; at a tie the derivative of the side asked for."""
    return _extreme(a, b, np.minimum, -1.0)


def _extreme(a: Any, b: Any, pick: Any, sign: float) -> Any:
    x, y = value_of(a), value_of(b)
    value = pick(x, y)
    if not (isinstance(a, Dual) or isinstance(b, Dual)):
        return value
    side, da, db = _side(a, b), tangent_of(a), tangent_of(b)
    # a step to the right raises the maximum by the larger derivative; one to the left lowers it by
    # the smaller
    tied = 0.5 * (da + db) if side == 0 else pick(da, db) if side > 0 else -pick(-da, -db)
    first, second = _stretch(sign * x > sign * y), _stretch(x == y)
    return Dual(value, np.where(first, da, np.where(second, tied, db)), side)


def floor(x: Any) -> Any:
    """Return the whole number below, without derivative."""
    return np.floor(value_of(x))


def round(x: Any) -> Any:
    """Return the nearest whole number, without derivative."""
    return np.round(value_of(x))


def ceil_as(x: Dual, value: Any) -> Dual:
    """Return `value`, x rounded up, with the derivative of x: that of the surrogate."""
    return Dual(value, x.tangent, x.side)


def isinf(x: Any) -> Any:
    """Return whether the value is infinite."""
    return np.isinf(value_of(x))


def log1p(x: Dual) -> Dual:
    """Return log(1 + x)."""
    return x._map(np.log1p(x.value), 1.0 / (1.0 + x.value))


def expm1(x: Dual) -> Dual:
    """Return exp(x) - 1."""
    return x._map(np.expm1(x.value), np.exp(x.value))


def exp(x: Dual) -> Dual:
    """Return e to the power of x."""
    value = np.exp(x.value)
    return x._map(value, value)


def log(x: Dual) -> Dual:
    """Return the natural logarithm."""
    return x._map(np.log(x.value), 1.0 / x.value)


def sum(x: Dual, axis: int = 0) -> Dual:
    """Return the sum along an axis counted from the first."""
    return Dual(np.sum(x.value, axis=axis), np.sum(x._spread(), axis=axis), x.side)


def cumsum(x: Dual, axis: int = 0) -> Dual:
    """Return the sums up to each entry along an axis counted from the first."""
    return Dual(np.cumsum(x.value, axis=axis), np.cumsum(x._spread(), axis=axis), x.side)


def concatenate(values: Any) -> Any:
    """Put Duals one after the other along the first axis."""
    tangents = np.concatenate([x._spread() for x in values])
    return Dual(np.concatenate([x.value for x in values]), tangents, values[0].side)


def max(x: Any, axis: int = 0, keepdims: bool = False) -> Any:
    """Return the largest along an axis, without derivatives."""
    return np.max(value_of(x), axis=axis, keepdims=keepdims)


def log2(x: Dual) -> Dual:
    """Return the logarithm to base 2."""
    return x._map(np.log2(x.value), 1.0 / (x.value * np.log(2.0)))


def ndtr(x: Dual) -> Dual:
    """Return the share of a normal distribution below x, as scipy.special has it."""
    from scipy.special import ndtr as share

    return x._map(share(x.value), _normal_density(x.value))


def ndtri(x: Dual) -> Dual:
    """Return the inverse of `ndtr`."""
    from scipy.special import ndtri as quantile

    value = quantile(x.value)
    return x._map(value, 1.0 / _normal_density(value))


def _normal_density(x: Any) -> Any:
    return np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)


def argmax(values: Any, axis: int = 0) -> Any:
    """Return positions of the largest; a position has no derivative."""
    return np.argmax(values, axis=axis)


def stack(values: Any) -> Any:
    """Stack values, without derivatives."""
    return np.stack(values)


def broadcast_arrays(*values: Any) -> Any:
    """Broadcast values against each other, without derivatives."""
    return np.broadcast_arrays(*(value_of(x) for x in values))


def asarray(x: Any, dtype: Any = None) -> Any:
    """Return the value as an array, without derivatives: what is looked up by it has none."""
    return np.asarray(value_of(x), dtype)


take = np.take
