"""What a reader can move on a page."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Control:
    """What a reader moves while reading: a slider over computed values, or a choice of names.

    `key` (letters, digits, underscores) names it in the page's address, and with `ctl_` before it
    the parameter of charts that follow it (`live.py`); `values` are all it can take, `start` the
    one it begins with; `unit` is that of the numbers. A choice may stand on a column of the charts:
    a click on a mark then chooses what the mark has there.
    """

    key: str
    label: str
    values: tuple[float, ...] | tuple[str, ...]
    start: float | str
    unit: str = ""
    column: str = ""
