"""The least replicas that keep a promise: doubled until one does, then bisected, all rounds run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from roofrack.simulation.deployments import Deployment
from roofrack.simulation.planning.runs import Case, Player, Run, replicated

Tries = Sequence[tuple[int, int]]


def least_counts(
    keeps: Callable[[Tries], Sequence[bool]], guesses: Sequence[int], most: Sequence[int]
) -> list[int | None]:
    """Return for each item the least count from 1 to `most` that keeps; None where none does.

    `keeps` is asked about all items of a round at once: (item, count). A guess that keeps is
    halved until one fails, one that fails is doubled; then bisected. So the count below the one
    returned was tried and fails. Of several such counts (more is not always better) it is one.
    """
    failed = [0] * len(guesses)
    kept: list[int | None] = [None] * len(guesses)
    while True:
        tries = []
        for i, (low, high) in enumerate(zip(failed, kept, strict=True)):
            if high is None and low < most[i]:
                first = low == 0
                tries.append((i, min(most[i], max(1, guesses[i]) if first else 2 * low)))
            elif high is not None and high - low > 1:
                tries.append((i, max(1, high // 2) if low == 0 else (low + high) // 2))
        if not tries:
            return kept
        for (i, count), good in zip(tries, keeps(tries), strict=True):
            if good:
                kept[i] = count
            else:
                failed[i] = count


@dataclass(frozen=True)
class Fleet:
    """The least replicas for a rate: `run` with them, `below` with one fewer; None: there is none.

    `most` replicas were allowed; `best` is the run with as many where they do not suffice.
    """

    deployment: Deployment
    rate: float
    run: Run | None
    below: Run | None
    most: int
    best: Run | None = None

    @property
    def replicas(self) -> int | None:
        """How many replicas are needed."""
        return None if self.run is None else self.run.case.deployment.replicas


def least_fleets(
    player: Player, cases: Sequence[tuple[Deployment, float]], max_chips: int
) -> list[Fleet]:
    """Return the least replicas of each deployment at each rate that keep the limits asked for."""
    limits = player.asked.limits
    ran: dict[tuple[int, int], Run] = {}

    def keeps(tries: Tries) -> list[bool]:
        runs = player.play(
            [Case(replicated(cases[i][0], count), cases[i][1], limits) for i, count in tries]
        )
        ran.update(zip(tries, runs, strict=True))
        return [run.kept for run in runs]

    most = [int(max_chips // (d.row["chips"] / d.replicas) + 1e-9) for d, _ in cases]
    guesses = [_power(rate / player.capacity(d)) for d, rate in cases]
    found = []
    for i, count in enumerate(least_counts(keeps, guesses, most)):
        deployment, rate = cases[i]
        found.append(
            Fleet(
                deployment,
                rate,
                ran[i, count] if count else None,
                ran[i, count - 1] if count and count > 1 else None,
                most[i],
                None if count else ran.get((i, most[i])),
            )
        )
    return found


def _power(value: float) -> int:
    """Return the power of two at or below a value, at least 1: few sizes are to be compiled."""
    return 1 << max(int(value).bit_length() - 1, 0)
