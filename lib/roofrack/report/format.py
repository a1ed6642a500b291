"""Numbers as people write them: 1.3 ms, 14.2 GB, $0.21, 5.1x. Pure text, no heavy imports.

A unit is written as in the result schema: `s`, `B` or `byte`, `B/s`, `FLOP/s`, `W`, `J/token`,
`USD`, `USD/h`, `USD/Mtok`, `token/s`, `1` or empty for a bare number. What has no value (None, NaN)
is written as NOTHING.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

NOTHING = "–"
"""Stands where a number would, when there is none."""

_PREFIXES = {
    -12: "p",
    -9: "n",
    -6: "µ",
    -3: "m",
    0: "",
    3: "k",
    6: "M",
    9: "G",
    12: "T",
    15: "P",
    18: "E",
}
_SYMBOLS = {"byte": "B", "bytes": "B"}
# Smallest and largest power of ten that a prefix of this unit may stand for.
_PREFIXED = {
    "s": (-12, 0),
    "B": (0, 18),
    "FLOP": (0, 18),
    "W": (-3, 12),
    "J": (-12, 12),
    "Hz": (0, 12),
}
_WORDS = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))
_LARGEST_PLAIN = 1e15
_SMALLEST_PLAIN = 1e-4


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _rounded(value: float, digits: int) -> float:
    """Round to `digits` significant digits, but never drop a digit left of the point."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, max(0, digits - 1 - math.floor(math.log10(abs(value)))))


def number(value: float | None, digits: int = 3, keep_zeros: bool = False) -> str:
    """Write a bare number with `digits` significant digits and thousands separators.

    Digits left of the point are all kept (1,024 stays 1,024). Trailing zeros after the point go,
    unless `keep_zeros`. Very large and very small numbers are written as 1.2e-5.
    """
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    value = _rounded(float(value), digits)
    size = abs(value)
    if size and not _SMALLEST_PLAIN <= size < _LARGEST_PLAIN:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{_trimmed(mantissa, keep_zeros)}e{int(exponent)}"
    decimals = max(0, digits - 1 - (math.floor(math.log10(size)) if size else 0))
    return _trimmed(f"{value:,.{decimals}f}", keep_zeros)


def _trimmed(text: str, keep_zeros: bool) -> str:
    return text if keep_zeros or "." not in text else text.rstrip("0").rstrip(".")


def split_unit(unit: str) -> tuple[str, str]:
    """Split a unit into what takes a prefix and the rest: `byte/s` -> (`B`, `/s`)."""
    head, slash, rest = ("" if unit == "1" else unit).partition("/")
    return _SYMBOLS.get(head, head), slash + rest


def _power(value: float, head: str, digits: int) -> int:
    """Choose the power of ten whose prefix leaves 1 to 999 before the point, for a unit `head`."""
    low, high = _PREFIXED.get(head, (0, 0))
    size = abs(_rounded(value, digits))
    if size < 1e-300 or not math.isfinite(size):  # below, no power of ten is left to divide by
        return 0
    # Round in the scaled unit too, so that 999.96 us is 1 ms and not 1,000 us.
    power = 3 * math.floor(math.log10(size) / 3 + 1e-12)
    if power < 18 and abs(_rounded(size / 10.0**power, digits)) >= 1000:
        power += 3
    return min(max(power, low), high)


def quantity(value: float | None, unit: str = "", digits: int = 3) -> str:
    """Write a number with its unit and a fitting SI prefix: 1.3 ms, 14.2 GB, 3.35 TB/s, $2.10/h.

    Bare numbers and units that take no prefix are written out (1,024 sequences), from a million on
    with the word (671 billion).
    """
    if value is None or _missing(value):
        return NOTHING
    head, rest = split_unit(unit)
    if head == "USD":
        return usd(value) + rest
    if head in _PREFIXED:
        power = _power(value, head, digits)
        return f"{number(value / 10.0**power, digits)} {_PREFIXES[power]}{head}{rest}"
    return f"{_in_words(value, digits)} {head}{rest}".rstrip()


def _in_words(value: float, digits: int) -> str:
    for size, word in _WORDS:
        if size <= abs(value) < _LARGEST_PLAIN:
            return f"{number(value / size, digits)} {word}"
    return number(value, digits)


def usd(value: float | None) -> str:
    """Write an amount of US dollars: at least cents, below ten cents two significant digits."""
    if value is None or _missing(value):
        return NOTHING
    sign, size = ("-" if value < 0 else ""), abs(value)
    if size >= 1e6:
        return f"{sign}${_in_words(size, 3)}"
    if size >= 1000:
        return f"{sign}${size:,.0f}"
    if size and size < _SMALLEST_PLAIN:
        return f"{sign}${number(size, 2)}"
    decimals = 2 if size == 0 else max(2, 1 - math.floor(math.log10(size)))
    return f"{sign}${size:,.{decimals}f}"


def times(value: float | None, digits: int = 2) -> str:
    """Write a ratio: 5.1x, 1,024x."""
    text = number(value, digits)
    return text if text == NOTHING else text + "x"


def percent(fraction: float | None, digits: int = 2) -> str:
    """Write a fraction as per cent: 0.357 is 36 %."""
    text = number(None if fraction is None else 100.0 * fraction, digits)
    return text if text == NOTHING else text + " %"


class Column(NamedTuple):
    """One column of numbers as text: the unit of all its cells (may be empty) and the cells."""

    unit: str
    cells: list[str]


def column(values: Sequence[float | None], unit: str = "", digits: int = 4) -> Column:
    """Write a column of numbers in ONE prefixed unit, so that its cells can be compared by eye."""
    finite = sorted(abs(v) for v in values if v is not None and math.isfinite(v) and v != 0)
    head, rest = split_unit(unit)
    power = _power(finite[len(finite) // 2], head, digits) if finite else 0
    scaled = [None if v is None else v / 10.0**power for v in values]
    # Counts keep no zeros after the point; measured numbers keep them, so that digits line up.
    whole = all(v is None or not math.isfinite(v) or v == round(v) for v in scaled)
    return Column(_PREFIXES[power] + head + rest, [number(v, digits, not whole) for v in scaled])


def table(title: str, headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return lines of words in columns under a title; the first column is set left."""
    grid = [list(headings), *(list(line) for line in lines)]
    widths = [max(len(line[i]) for line in grid) for i in range(len(headings))]
    rows = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in grid
    ]
    return "\n".join([title, *(f"  {row}" for row in rows)])


def listed(items: Sequence[str]) -> str:
    """Return items as a list in a sentence: `a, b and c`; nothing for none."""
    *first, last = items or [""]
    return f"{', '.join(first)} and {last}" if first else last
