"""Words of the answers of plans: means with their spread, and what tells deployments apart."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from roofrack.report.format import NOTHING, quantity
from roofrack.simulation.deployments import Deployment
from roofrack.simulation.planning.runs import Run


def value(run: Run | None, name: str, write: Callable[[float], str]) -> str:
    """Return a mean of a run, and the deviation between seeds if there were several."""
    if run is None or run.values[name] is None:
        return NOTHING
    said = write(run[name])
    return f"{said} ±{write(run.spread[name])}" if name in run.spread else said


def seconds(amount: float) -> str:
    """Write a time."""
    return quantity(amount, "s")


def named(of: Deployment, shown: Sequence[str]) -> list[str]:
    """Return values of a deployment."""
    return [word(of.shown.get(name)) for name in shown]


def word(of: Any) -> str:
    """Return a value as a command line has it."""
    return f"{of:g}" if isinstance(of, float) else str(of)


def names_of(deployments: Sequence[Deployment]) -> list[str]:
    """Return what tells deployments apart, in order of appearance."""
    every: Mapping[str, None] = dict.fromkeys(name for one in deployments for name in one.shown)
    return [n for n in every if len({word(one.shown.get(n)) for one in deployments}) > 1]
