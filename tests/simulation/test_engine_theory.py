"""The compiled loop against queueing theory, at sizes where sampling errors are small."""

import numpy as np
import pytest

from roofrack.simulation.clocks import BATCHES, CONTEXTS, Clock, batch_nodes
from roofrack.simulation.lanes import Lane, Stream, play

REQUESTS = 20_000


def linear(slots, each=0.0, prompt=0.0):
    """A clock: `each` second for each decoding sequence, `prompt` for each prompt token."""
    batch, new = batch_nodes(slots), np.array([0.0, 1e6])
    shape = (BATCHES, CONTEXTS, 2, 2)
    seconds = np.broadcast_to(
        each * batch[:, None, None, None] + prompt * new[None, None, :, None], shape
    )
    context, attended = np.linspace(0.0, 1e6, CONTEXTS), np.array([0.0, 1e6])
    return Clock(np.array(seconds), batch, context, new, attended)


def stream(arrival, prompt, output):
    zero = np.zeros_like(prompt)
    return Stream(arrival, prompt, zero, output, output - 1, zero)


def waits(load, service, seed):
    """Waits of single-server queues: one slot, prompts that take their time, one token."""
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1.0 / load, REQUESTS))
    tokens = np.maximum(1, np.round(1000.0 * service(rng, REQUESTS))).astype(np.int64)
    one = stream(arrival, tokens, np.ones_like(tokens))
    lane = Lane(
        one, linear(1, prompt=1e-3), slots=1, blocks=10**9, block=16, budget=10**6, policy=0
    )
    ran = play([lane])[0]
    return ran.admitted_s - arrival


@pytest.mark.slow
def test_wait_of_constant_and_exponential_service():
    for load in (0.3, 0.7):
        deterministic = np.mean([waits(load, lambda r, n: np.ones(n), s).mean() for s in (0, 1)])
        assert deterministic == pytest.approx(load / (2.0 * (1.0 - load)), rel=0.06)  # M/D/1
        exponential = np.mean(
            [waits(load, lambda r, n: r.exponential(size=n), s).mean() for s in (2, 3)]
        )
        assert exponential == pytest.approx(load / (1.0 - load), rel=0.1)  # M/M/1


@pytest.mark.parametrize(
    "kind", ["exponential", *(pytest.param(k, marks=pytest.mark.slow) for k in ("constant", "two"))]
)
def test_sojourn_of_shared_processors_does_not_ask_for_the_law_of_lengths(kind):
    """M/G/1-PS: a pass of n sequences takes n quanta, so that each gets 1/n of the machine."""
    rng, load, mean = np.random.default_rng(3), 0.6, 40.0
    draw = {
        "constant": lambda n: np.full(n, mean),
        "exponential": lambda n: rng.geometric(1.0 / mean, n),
        "two": lambda n: np.where(rng.random(n) < 0.9, mean / 2.0, mean * 5.5),
    }[kind]
    passes = draw(REQUESTS).astype(np.int64)
    arrival = np.cumsum(rng.exponential(mean / load, REQUESTS))
    one = stream(arrival, np.ones_like(passes), passes + 1)
    lane = Lane(
        one, linear(256, each=1.0), slots=256, blocks=10**9, block=16, budget=10**6, policy=0,
        prefilled=True,
    )  # fmt: skip
    ran = play([lane])[0]
    sojourn = (ran.done_s - arrival).mean()
    # besides sharing, a request waits for the pass under way: half a quantum for each in it
    assert sojourn == pytest.approx(mean / (1.0 - load), rel=0.06)
    number = ran.by_time[:, 1].sum() / ran.done_s.max()
    assert number == pytest.approx(load / (1.0 - load), rel=0.06)  # and Little's law
    assert ran.busy_s.sum() == passes.sum()  # work is conserved
