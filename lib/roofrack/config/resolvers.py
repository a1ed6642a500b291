"""Short forms of long axes: `${range:lo,stop,step}`, `${linear:lo,hi,n}`, `${geom:lo,hi,n}`.

They expand when a configuration is resolved, so that a record keeps the short form. Whole numbers
in give whole numbers out wherever every value is one; decimals are exact (0.1, 0.2, 0.3), because
the arithmetic is done on fractions.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from omegaconf import OmegaConf

from roofrack.errors import InputError

MOST = 10_000_000
"""Longest axis that is expanded."""

FORMS = "${range:lo,stop,step}, ${linear:lo,hi,n} or ${geom:lo,hi,n}"
"""The three forms as a message names them."""


def register() -> None:
    """Make the resolvers known to OmegaConf; doing it twice changes nothing."""
    for name, resolver in RESOLVERS.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def arange(*given: float) -> list[Any]:
    """Return lo, lo + step, ... below `stop` (above it for a negative step), as `range()` does."""
    text = _written("range", given)
    if not 1 <= len(given) <= 3:
        raise InputError(f"{text}: takes stop, or lo,stop, or lo,stop,step")
    lo, stop, step = (0, *given, 1) if len(given) == 1 else (*given, 1)[:3]
    start, end, stride = (_fraction(text, value) for value in (lo, stop, step))
    if stride == 0:
        raise InputError(f"{text}: the step may not be 0")
    count = _count(text, max(math.ceil((end - start) / stride), 0))
    return _plain([start + stride * i for i in range(count)], (lo, step))


def linear(*given: float) -> list[Any]:
    """Return `n` evenly spaced values from `lo` to `hi`, both included; `given` is lo, hi, n."""
    text = _written("linear", given)
    first, last, count = _ends(text, given)
    step = (last - first) / max(count - 1, 1)
    return _plain([first + step * i for i in range(count)], given)


def geom(*given: float) -> list[Any]:
    """Return `n` values from `lo` to `hi`, each the same multiple of the last; see `linear`."""
    text = _written("geom", given)
    first, last, count = _ends(text, given)
    if first <= 0 or last <= 0:
        raise InputError(f"{text}: both ends must be above 0")
    steps = max(count - 1, 1)
    ratio = _root(last / first, steps)
    if ratio is None:
        growth = float(last / first)
        inner = [float(first) * growth ** (i / steps) for i in range(1, count - 1)]
        return [float(first), *inner, float(last)][:count]
    values = [first]
    for _ in range(count - 1):
        values.append(values[-1] * ratio)
    return _plain(values, given)


def _ends(text: str, given: tuple[Any, ...]) -> tuple[Fraction, Fraction, int]:
    if len(given) != 3:
        raise InputError(f"{text}: takes lo,hi,n")
    return _fraction(text, given[0]), _fraction(text, given[1]), _count(text, given[2])


def either(value: Any, instead: Any) -> Any:
    """Return `value`, or `instead` where there is none (the name of a sweep without a question)."""
    return instead if value is None else value


RESOLVERS: dict[str, Callable[..., Any]] = {
    "range": arange,
    "linear": linear,
    "geom": geom,
    "roofrack.or": either,
}


def _root(value: Fraction, degree: int) -> Fraction | None:
    """Return the rational root of `value`, or None where it has none."""
    parts = []
    for whole in (value.numerator, value.denominator):
        root = round(math.exp(math.log(whole) / degree))
        if root**degree != whole:
            return None
        parts.append(root)
    return Fraction(*parts)


def _fraction(text: str, value: Any) -> Fraction:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise InputError(f"{text}: {value!r} is not a finite number")
    return Fraction(str(value))  # through the text: 0.1 means one tenth, not its nearest binary


def _count(text: str, count: Any) -> int:
    if type(count) is not int or not 1 <= count <= MOST:
        raise InputError(f"{text}: {count} values; an axis has a whole number from 1 to {MOST}")
    return count


def _plain(values: list[Fraction], given: tuple[Any, ...]) -> list[Any]:
    if all(type(x) is int for x in given) and all(v.denominator == 1 for v in values):
        return [int(v) for v in values]
    return [float(v) for v in values]


def _written(name: str, given: tuple[Any, ...]) -> str:
    return f"${{{name}:{','.join(map(str, given))}}}"
