"""From which traffic on machines cost less than paying for tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from roofrack.simulation.deployments import Deployment
from roofrack.simulation.planning.asked import Plan, Prices
from roofrack.simulation.planning.least import Fleet, least_fleets
from roofrack.simulation.planning.runs import Lengths, Player
from roofrack.units import HOUR, MILLION

STEPS = tuple(2.0**k for k in range(-4, 4))
"""Rates that are tried where none are told, over what one replica could do."""
TEETH = 8
"""Numbers of replicas whose own break-even is looked at: with each one more, cost jumps up."""
BEFORE = 0.99
"""Rate just before such a point, over it."""


@dataclass(frozen=True)
class Point:
    """One rate: the least machines for it, and what both cost an hour.

    `asked`: a rate of the curve; the others are those where so many replicas just break even.
    """

    rate: float
    asked: bool
    fleet: Fleet
    own_usd_per_hour: float | None
    api_usd_per_hour: float
    utilization: float | None


@dataclass(frozen=True)
class BreakEven:
    """Where machines begin to cost less. `why` one of NEVER, ALWAYS, FROM, NOT_STEADILY.

    `first` below which they never do, `rate` from which they always do, of the rates tried; between
    the two it depends on how full the last replica is.
    """

    why: str
    first: float | None = None
    rate: float | None = None
    under: int = -1


NEVER, ALWAYS, FROM, NOT_STEADILY = "never", "always", "from", "not steadily"


@dataclass(frozen=True)
class Owned:
    """The curve of one deployment, and its crossing; `utilization` at it."""

    deployment: Deployment
    points: tuple[Point, ...]
    crossing: BreakEven
    utilization: float | None
    per_request_usd: float


def owned(player: Player, deployments: Sequence[Deployment], plan: Plan) -> list[Owned]:
    """Return the curve of each deployment over the rates asked for, or over some of its own."""
    assert plan.prices is not None
    told = plan.run.rates or (player.rates(deployments[0]) if player.maker.trace else ())
    curves = []
    for d in deployments:
        usd = request_usd(player.lengths(d), plan.prices)
        rates = told or tuple(step * player.capacity(d) for step in STEPS)
        one_usd = d.row["usd_per_hour"] / d.replicas
        asked = dict.fromkeys(rates, True)
        curves.append((d, usd, sorted({**teeth(rates, one_usd / HOUR / usd), **asked}.items())))
    cases = [(d, rate) for d, _, rates in curves for rate, _ in rates]
    fleets = iter(least_fleets(player, cases, plan.max_chips))
    return [
        _owned(
            d, tuple(_point(next(fleets), usd, player.capacity(d), of) for _, of in rates), usd
        )
        for d, usd, rates in curves
    ]  # fmt: skip


def teeth(rates: Sequence[float], one: float) -> dict[float, bool]:
    """Return the rates where 1, 2, ... replicas break even, and one just before each.

    `one` replica does at that rate. Cost rises in steps: machines pay at rates between two of these
    if, and only if, one replica fewer than breaks even at the next one still serves that.
    """
    found = [n * one * x for n in range(1, TEETH + 1) for x in (BEFORE, 1.0 + 1e-9)]
    return {rate: False for rate in found if min(rates) <= rate <= max(rates)}


def request_usd(lengths: Lengths, prices: Prices) -> float:
    """Return what an API charges for the mean request."""
    fresh = lengths.prompt - lengths.cached
    paid = fresh * prices.input + lengths.cached * prices.cached + lengths.output * prices.output
    return paid / MILLION


def _point(fleet: Fleet, usd: float, capacity: float, asked: bool) -> Point:
    replicas = fleet.replicas
    return Point(
        rate=fleet.rate,
        asked=asked,
        fleet=fleet,
        own_usd_per_hour=None if fleet.run is None else fleet.run["usd_per_hour"],
        api_usd_per_hour=fleet.rate * usd * HOUR,
        utilization=None if replicas is None else fleet.rate / (replicas * capacity),
    )


def _owned(deployment: Deployment, points: tuple[Point, ...], usd: float) -> Owned:
    served = [p for p in points if p.own_usd_per_hour is not None]
    crossing = break_even(
        [p.rate for p in served],
        [p.own_usd_per_hour or 0.0 for p in served],
        [p.api_usd_per_hour for p in served],
    )
    busy = None
    if crossing.rate is not None:
        low, high = served[crossing.under], served[crossing.under + 1]
        part = log(crossing.rate / low.rate) / log(high.rate / low.rate)
        busy = (low.utilization or 0.0) * (1.0 - part) + (high.utilization or 0.0) * part
        if low.fleet.replicas == high.fleet.replicas:  # exact: the same machines, another rate
            busy = (low.utilization or 0.0) * crossing.rate / low.rate
    return Owned(deployment, points, crossing, busy, usd)


def break_even(rates: Sequence[float], own: Sequence[float], api: Sequence[float]) -> BreakEven:
    """Return where `own` crosses `api`, both USD per hour at increasing rates.

    Between two rates their ratio is taken to be a power of the rate: exact where the machines are
    the same at both.
    """
    ratio = [mine / theirs for mine, theirs in zip(own, api, strict=True)]
    dearer = [i for i, value in enumerate(ratio) if value > 1.0]
    if len(dearer) == len(ratio):
        return BreakEven(NEVER)
    if not dearer:
        return BreakEven(ALWAYS)

    def between(i: int) -> float:
        part = log(ratio[i]) / (log(ratio[i]) - log(ratio[i + 1]))
        return float(rates[i] * (rates[i + 1] / rates[i]) ** part)

    cheaper = next(i for i, value in enumerate(ratio) if value <= 1.0)
    first = between(cheaper - 1) if cheaper else None
    last = dearer[-1]
    if last == len(ratio) - 1:
        return BreakEven(NOT_STEADILY, first)
    return BreakEven(FROM, first, between(last), last)
