"""Closed forms of queues against theory, where theory is exact, and against each other."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofrack.cost import quantiles, queues, waits
from roofrack.cost.queues import Demand, Passes
from roofrack.dual import Dual


def passes(slots: float, fixed: float, each: float) -> Passes:
    n = queues.nodes(np.float64(slots), 0)
    return Passes(fixed + each * n, np.float64(slots))


def erlang_c(servers: int, offered: float) -> float:
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = offered * blocked / (k + offered * blocked)
    load = offered / servers
    return blocked / (1.0 - load * (1.0 - blocked))


def in_flight(law: queues.States, slots: float) -> float:
    return float(np.sum(law.n * law.share) + law.full * slots)


@pytest.mark.parametrize(
    ("servers", "load"), [(1, 0.7), (4, 0.8), (50, 0.9), (200, 0.9), (4096, 0.95)]
)
def test_passes_as_long_for_any_batch_are_a_queue_of_many_servers(
    servers: int, load: float
) -> None:
    """M/M/c: exponential lengths; the probability of waiting and the mean queue."""
    demand = Demand(load * servers / 10.0, 10.0, 0.0, 1.0, 0.0, 1.0)
    law = queues.states(demand, passes(servers, 1.0, 0.0))
    waiting = erlang_c(servers, load * servers)
    assert law.full == pytest.approx(waiting, rel=1e-3)
    assert law.queued == pytest.approx(waiting * load / (1.0 - load), rel=2e-3)
    assert in_flight(law, servers) == pytest.approx(load * servers, rel=1e-4)


@pytest.mark.parametrize("load", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("cv", [0.0, 1.0, 2.0])
def test_one_slot_waits_as_pollaczek_and_khinchine_have_it(load: float, cv: float) -> None:
    """M/G/1; M/D/1 for cv = 0 and M/M/1 for cv = 1."""
    service = 12.0
    demand = Demand(load / service, 10.0, 0.0, 1.0, 0.0, cv)
    law = queues.states(demand, passes(1.0, 1.2, 0.0))
    exact = load / (1.0 - load) * (1.0 + cv * cv) / 2.0 * service
    assert law.queued / demand.per_s == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("load", [0.3, 0.7, 0.9, 0.99])
@pytest.mark.parametrize("cv", [0.0, 1.0])
def test_passes_in_proportion_to_the_batch_are_processor_sharing(load: float, cv: float) -> None:
    """M/G/1-PS: load / (1 - load) in flight, whatever the distribution of lengths."""
    demand = Demand(load, 10.0, 0.0, 1.0, 0.0, cv)
    law = queues.states(demand, passes(100_000.0, 0.0, 0.1))
    assert in_flight(law, 1e5) == pytest.approx(load / (1.0 - load), rel=0.01)


@settings(max_examples=40, deadline=None)
@given(
    slots=st.integers(1, 3000),
    fixed=st.floats(1e-3, 0.1),
    each=st.floats(0.0, 1e-3),
    prompt_s=st.floats(0.0, 0.05),
    load=st.floats(0.01, 0.97),
)
def test_shares_are_of_one_and_what_comes_leaves(
    slots: float, fixed: float, each: float, prompt_s: float, load: float
) -> None:
    """Probabilities sum to 1; with Poisson arrivals alone as many leave as come (Little)."""
    given_passes = passes(slots, fixed, each)
    alone = Demand(1.0, 100.0, 0.0, 1.0, 0.0, 1.0)
    demand = alone._replace(per_s=load * queues.capacity(alone, given_passes))
    law = queues.states(demand, given_passes)
    assert np.sum(law.share) + law.full == pytest.approx(1.0, rel=1e-9)
    rate = np.sum(law.n * law.share / law.pass_s) + law.full * slots / law.full_s
    assert rate / demand.passes == pytest.approx(demand.per_s, rel=0.03)
    stopped = demand._replace(prompt_s=prompt_s)
    more = stopped._replace(per_s=load * queues.capacity(stopped, given_passes))
    higher = more._replace(per_s=more.per_s * 1.02)
    less, worse = (in_flight(queues.states(d, given_passes), slots) for d in (more, higher))
    assert worse >= less * (1.0 - 1e-3)


def _mean(demand: Demand, given_passes: Passes) -> object:
    law = queues.states(demand, given_passes)
    return queues.total(law.n * law.share) + law.full * given_passes.slots


def test_derivatives_are_those_of_finite_differences() -> None:
    slots, base = 64.0, 4.0
    seeded = Demand(Dual(np.float64(base), np.ones(1)), 200.0, 0.03, 1.0, 0.0, 0.5)
    found = _mean(seeded, passes(slots, 0.01, 1e-4))
    ends = [
        _mean(seeded._replace(per_s=np.float64(base + s)), passes(slots, 0.01, 1e-4))
        for s in (-1e-4, 1e-4)
    ]
    slope = (ends[1] - ends[0]) / 2e-4
    np.testing.assert_allclose(np.ravel(found.tangent), slope, rtol=1e-4)


@pytest.mark.slow
def test_numpy_jax_and_single_precision_agree() -> None:
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    demand = Demand(np.float64(4.0), 200.0, 0.03, 1.0, 0.7, 0.5)
    exact = queues.states(demand, passes(256.0, 0.01, 1e-4))
    single = jnp.float32(256.0)
    nodes = queues.nodes(single, 0)
    seconds = Passes(0.01 + 1e-4 * nodes, single)
    with jax.numpy_rank_promotion("allow"):
        found = queues.states(demand._replace(per_s=jnp.float32(4.0)), seconds)
    assert found.share.dtype == jnp.float32
    np.testing.assert_allclose(found.share, exact.share, rtol=2e-2, atol=1e-5)
    np.testing.assert_allclose(in_flight(found, 256.0), in_flight(exact, 256.0), rtol=1e-4)


def test_a_wait_of_one_kind_has_the_quantiles_of_its_distribution() -> None:
    """Half of a pass at the median; and an exponential tail of mean 1 for full slots."""
    zero, one = np.float64(0.0), np.float64(1.0)
    prompt = waits.Prompt(one, zero, zero, zero, one, zero, zero)
    passing = waits.Waits(zero, one, zero, zero, one, one, one, one, zero)
    assert waits.ttft_quantiles(passing, prompt, 0)["p50"] == pytest.approx(1.5, rel=1e-2)
    full = passing._replace(passing=zero, full=one, pass_s=np.float64(1e-3))
    found = waits.ttft_quantiles(full, prompt, 0)
    for name, share in quantiles.QUANTILES.items():
        assert found[name] == pytest.approx(1.0 - math.log(1.0 - share), rel=0.02)
