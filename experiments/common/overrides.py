"""Overrides that a page writes: numbers exactly as they are, and lists that are axes."""

from collections.abc import Iterable
from typing import Any


def text(value: Any) -> str:
    """Return a value as an override gives it: short where that is exact, else to the last digit."""
    if not isinstance(value, float):
        return str(value)
    short = f"{value:.12g}"
    return short if float(short) == value else repr(value)


def axis(path: str, values: Iterable[Any]) -> str:
    """Return the override that makes an axis of a path: `batch=[1,8]`."""
    return f"{path}=[{','.join(map(text, values))}]"
