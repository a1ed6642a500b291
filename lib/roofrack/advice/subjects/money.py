"""Terms of payment, and machines that wait: own or rent, replicas for a load, waiting to join."""

from collections.abc import Iterator

from roofrack.advice.case import Case, Change
from roofrack.advice.words import same
from roofrack.report.format import percent

BUSY = 0.8
"""Share of what replicas can do that a load should take: above it, queues grow long."""
WAITS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def propose(case: Case) -> Iterator[Change]:
    """Yield the other way to pay, and what a load needs of replicas and waits."""
    yield from _basis(case)
    if case.row["utilization"] is not None:
        yield from _load(case)


def _basis(case: Case) -> Iterator[Change]:
    if case.given("economics."):
        return  # terms of the user's own would be mixed with those of a file
    if case.now("economics.basis") == 0 and case.now("hardware.capex_usd") > 0:
        words, said = "economics=own", "bought and in use every hour of its life"
        yield Change("money", "own", {}, same(said), (words,), "terms of conf/economics/own.yaml")
    elif case.now("economics.basis") == 1 and case.now("hardware.usd_per_chip_hour") > 0:
        words, said = "economics=rent", "rented at the typical price, in use every hour"
        yield Change("money", "rent", {}, same(said), (words,), "terms of conf/economics/rent.yaml")


def _load(case: Case) -> Iterator[Change]:
    now, busy = case.now("parallelism.replicas"), float(case.row["utilization"])
    least = max(int(-(-now * busy // BUSY)), 1)
    sizes = range(least, int(now)) if busy < BUSY else range(least, least + 4)
    for n in list(sizes)[:64]:
        word = "fewer" if n < now else "more"
        said = f"{n} replicas are enough for the load" if n < now else f"{n} replicas bear the load"
        said += f" ({percent(busy)} of {now:g} now)"
        yield Change("load", f"replicas_{word}", {"parallelism.replicas": float(n)}, same(said))
    for wait in WAITS:
        if wait != case.now("workload.wait_s"):
            said = f"requests wait up to {wait:g} s for others to join" if wait else "no waiting"
            yield Change("load", "wait", {"workload.wait_s": wait}, same(said))
