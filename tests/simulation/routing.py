"""Which replicas of a lane are on, and which of them an arrival goes to."""

from dataclasses import dataclass
from math import ceil, inf

from simulation.lane import Replica, Rules


@dataclass
class Fleet:
    """The replicas of a lane; those with numbers below `on` are on."""

    replicas: list[Replica]
    on: int
    ready_s: list[float]
    shifts: list[list[tuple[float, float]]]  # by replica: from its start until it is stopped
    changed_s: float = 0.0


def open_fleet(rules: Rules) -> Fleet:
    """Without autoscaling all are on, always."""
    on = rules.least if rules.scale_at else rules.replicas
    return Fleet(
        [Replica(number) for number in range(rules.replicas)],
        on,
        [0.0 if number < on else inf for number in range(rules.replicas)],
        [[(0.0, inf)] if number < on else [] for number in range(rules.replicas)],
    )


def load(replica: Replica, at_s: float) -> int:
    """Requests in a replica at a time; those that end with the pass under way are still there."""
    leaving = replica.leaving if replica.t > at_s else 0
    return len(replica.waiting) + len(replica.running) + leaving


def scale(fleet: Fleet, rules: Rules, at_s: float) -> None:
    """Start replicas for an arrival, or stop one."""
    outstanding = sum(load(replica, at_s) for replica in fleet.replicas) + 1
    # The cap first: a quotient past the range of floats has no ceiling.
    desired = max(rules.least, ceil(min(outstanding / rules.scale_at, rules.replicas)))
    if desired > fleet.on:
        for number in range(fleet.on, desired):
            fleet.ready_s[number] = at_s + rules.start_s
            fleet.shifts[number].append((at_s, inf))
        fleet.on, fleet.changed_s = desired, at_s
    elif desired < fleet.on and at_s >= fleet.changed_s + rules.idle_s:
        fleet.on, fleet.changed_s = fleet.on - 1, at_s
        started_s, _ = fleet.shifts[fleet.on].pop()
        fleet.shifts[fleet.on].append((started_s, at_s))


def route(fleet: Fleet, rules: Rules, index: int, accepted: int, at_s: float) -> Replica:
    """Choose for an arrival; every replica has gone through the passes that start before it."""
    if rules.routing == "assigned":
        return fleet.replicas[rules.assigned[index]]
    if rules.scale_at:
        scale(fleet, rules, at_s)
    ready = [r for r in fleet.replicas[: fleet.on] if fleet.ready_s[r.number] <= at_s]
    if rules.routing == "round_robin":
        return ready[accepted % len(ready)]
    return min(ready, key=lambda r: (load(r, at_s), r.number))


def paid_s(fleet: Fleet, end_s: float) -> list[float]:
    """Seconds paid of each replica; those that are on at the end are paid until `end_s`."""
    paid = []
    for replica, shifts in zip(fleet.replicas, fleet.shifts, strict=True):
        on_s = sum(min(stop_s, end_s) - start_s for start_s, stop_s in shifts)
        drained_s = sum(
            p.seconds
            for p in replica.log
            if not any(start_s <= p.start_s < stop_s for start_s, stop_s in shifts)
        )
        paid.append(on_s + drained_s)
    return paid
