"""The event loop where the theory of queues has an answer, within the error of the sample."""

import random
from math import sqrt
from statistics import fmean, stdev

import pytest
from simulation.event_loop import Request, Rules, run

TICK = 1e-4  # seconds of one prompt token, or of one pass of one sequence
ONE = Rules(slots=1, blocks=10**7, budget=10**6)


def poisson(chance: random.Random, rate: float, count: int) -> list[float]:
    times, t = [], 0.0
    for _ in range(count):
        t += chance.expovariate(rate)
        times.append(t)
    return times


def error(values: list[float], batches: int = 20) -> float:
    """Standard error of the mean, from batches long enough to be nearly independent."""
    size = len(values) // batches
    means = [fmean(values[i * size : (i + 1) * size]) for i in range(batches)]
    return stdev(means) / sqrt(batches)


def prompts_alone(_decoding: int, _context: float, new: int, _attended: float) -> float:
    return new * TICK


@pytest.mark.parametrize("load", [0.3, 0.7])
@pytest.mark.parametrize(("service", "variance"), [("constant", 0.0), ("exponential", 1.0)])
def test_the_mean_wait_of_one_server(service: str, variance: float, load: float) -> None:
    """M/D/1 and M/M/1: Pollaczek-Khinchine, load / (1 - load) * (1 + variance) / 2 services."""
    chance = random.Random(f"{service} {load}")
    arrivals = poisson(chance, load, 20_000)  # a mean service is one second
    sizes = [1.0 if service == "constant" else chance.expovariate(1.0) for _ in arrivals]
    tokens = [round(size / TICK) or 1 for size in sizes]
    requests = [Request(a, n, 1) for a, n in zip(arrivals, tokens, strict=True)]
    found = run(requests, ONE, prompts_alone)
    waits = [a - r.arrival_s for a, r in zip(found.admitted_s, requests, strict=True)]
    for i, request in enumerate(requests[:-1]):  # Lindley's recursion, exact
        gap = requests[i + 1].arrival_s - request.arrival_s
        lindley = max(0.0, waits[i] + request.prompt * TICK - gap)
        assert waits[i + 1] == pytest.approx(lindley, abs=1e-6)
    expected = load / (1.0 - load) * (1.0 + variance) / 2.0
    assert abs(fmean(waits) - expected) < 4.0 * error(waits)
    assert error(waits) < 0.1 * expected
    assert found.busy_s[0] == pytest.approx(sum(tokens) * TICK)


def shared(decoding: int, _context: float, _new: int, _attended: float) -> float:
    return decoding / 32


@pytest.mark.parametrize("sizes", ["constant", "two", "geometric"])
def test_the_mean_sojourn_of_a_shared_processor(sizes: str) -> None:
    """M/G/1 with processor sharing: service / (1 - load), whatever the spread of the services."""
    load, chance = 0.5, random.Random(sizes)
    draw = {
        "constant": lambda: 32,
        "two": lambda: chance.choice([8, 56]),
        "geometric": lambda: 1 + int(chance.expovariate(1 / 31.5)),
    }[sizes]
    needed = [draw() for _ in range(3_000)]
    arrivals = poisson(chance, load, len(needed))
    requests = [Request(a, 1, n + 1) for a, n in zip(arrivals, needed, strict=True)]
    rules = Rules(slots=10**4, blocks=10**7, prefilled=True)
    found = run(requests, rules, shared)
    sojourns = [d - r.arrival_s for d, r in zip(found.done_s, requests, strict=True)]
    expected = fmean(needed) / 32 / (1.0 - load)
    assert abs(fmean(sojourns) - expected) < 4.0 * error(sojourns) + 2 / 32  # a pass is not nothing
    assert error(sojourns) < 0.06 * expected
    assert found.busy_s[0] == pytest.approx(sum(needed) / 32)
