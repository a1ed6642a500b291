"""What all sentences and charts about waiting are made of."""

from dataclasses import dataclass

from roofrack.report.format import number, percent

from .changing import Change
from .planned import Planned
from .rows import Facts
from .traced import Traced

NEAR = 1.5
"""Two numbers within this factor are called alike."""


@dataclass(frozen=True)
class Found:
    """The closed forms, the trace, the plans (or why there are none), and what would change it."""

    facts: Facts
    traced: Traced | None
    planned: Planned | str | None
    changes: tuple[Change, ...]

    @property
    def plans(self) -> Planned | None:
        """The plans, if there are any."""
        return self.planned if isinstance(self.planned, Planned) else None

    @property
    def played(self) -> Traced | None:
        """The trace, if it could be played."""
        return self.traced if self.traced and not self.traced.why_not else None


def rate(value: float) -> str:
    """Write a rate of requests."""
    return f"{number(value)} requests/s"


def bar(error: float) -> str:
    """Write the error bar of a time of passes, if there is one."""
    return f" (± {percent(error)})" if error else ""


def span(change: Change) -> str:
    """Write between which rates a machine keeps its promise, passes slower or faster."""
    if change.low is None or change.high is None or change.low == change.high:
        return ""
    return f" (error bar {number(change.low)} to {number(change.high)})"
