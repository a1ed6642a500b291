"""How long a simulation takes, beside the plain event loop of the tests.

python tests/bench_simulate.py [TRACE]: a trace of requests (docs/traces.md says where to get
Azure's conversation trace); without one as many requests are drawn with the lengths of the sample.
Ratios are of times taken in this run, one after the other.
"""

import argparse
import resource
import time

import numpy as np
from simulation.event_loop import run as plain
from simulation.lane import Request
from simulation.lane import Rules as PlainRules

from roofrack import caching, config
from roofrack.conversion import to_study
from roofrack.simulation.asked import asked
from roofrack.simulation.deployments import deployments
from roofrack.simulation.played import Maker, simulate

DRAWN = ["traffic=poisson", "traffic.lengths=azure_2023_conv", "traffic.requests=19366"]
PLANS = ("h100_sxm", "h200", "b200", "a100_80gb")
SPEEDS = np.linspace(0.25, 4.0, 16)
RATE = 5.53
"""Requests per second of Azure's conversation trace."""


def question(trace: str | None, hardware: str, speeds) -> list[str]:
    """Return the words of a question: one machine, so many loads."""
    words = ["workload=chat", "model=llama3_1_70b", "batch=256", f"hardware={hardware}"]
    rates = ",".join(f"{RATE * speed:.4f}" for speed in speeds)
    return [*words, f"workload.arrivals_per_s={rates}", *([f"traffic={trace}"] if trace else DRAWN)]


def jobs(trace: str | None, machines, speeds):
    """Return deployments and what is asked of them."""
    found = []
    for machine in machines:
        of = asked(question(trace, machine, speeds))
        study = to_study(config.compose(of.overrides))
        found += deployments(study, of.engine)
    return found, of


def main() -> None:
    """Print times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", nargs="?")
    parser.add_argument("--events", type=int, default=19366, help="requests of the event loop")
    given = parser.parse_args()
    caching.keep_compiled()
    one, many = jobs(given.trace, PLANS[:1], [1.0]), jobs(given.trace, PLANS, SPEEDS)
    for name, (found, of) in {"one run": one, "64 runs": many}.items():
        for turn in ("with compilation", "again", "again"):
            start = time.perf_counter()
            played = simulate(found, of)
            seconds = time.perf_counter() - start
            print(f"{name} of {len(played[0].requests):,} requests, {turn}: {seconds:.2f} s")
        if name == "one run":
            alone = played[0]
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")

    lane = Maker(one[1]).job(one[0][0], RATE, 0).entering
    count = min(given.events, len(alone.requests))
    columns = zip(*(column[:count].tolist() for column in lane.stream[:5]), strict=True)
    requests = [
        Request(arrival * lane.stretch, prompt, output, cached, passes)
        for arrival, prompt, cached, output, passes in columns
    ]
    rules = PlainRules(slots=lane.slots, blocks=lane.blocks, budget=lane.budget)
    start = time.perf_counter()
    found = plain(requests, rules, lane.clock)
    events = time.perf_counter() - start
    same = np.nanmax(np.abs(np.array(found.done_s) - alone.done_s[:count]))
    each = seconds / len(played) * count / len(alone.requests)
    print(f"event loop, {count:,} requests: {events:.1f} s; ends differ by {same:.1e} s at most")
    print(f"event loop over one of 64 runs: {events / each:,.0f}")


if __name__ == "__main__":
    main()
