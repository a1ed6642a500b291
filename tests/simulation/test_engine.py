"""The compiled loop is the plain one, event for event."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.event_loop import run as plain
from simulation.lane import Request
from simulation.lane import Rules as PlainRules

from roofrack.simulation.clocks import BATCHES, CONTEXTS, Clock, batch_nodes, tables
from roofrack.simulation.engine import run
from roofrack.simulation.state import Rules, Streams

POLICIES = ("prefill_first", "decode_first", "chunked")
ROUTINGS = ("round_robin", "least_loaded", "assigned")
SLOTS, REPLICAS, REQUESTS = 4, 3, 14
NEVER = float("inf")


def clock(rng: np.random.Generator) -> Clock:
    """A clock with no structure but that more of anything takes longer."""
    batch = batch_nodes(SLOTS)
    context = np.concatenate(([0.0], rng.uniform(1.0, 16.0, CONTEXTS - 1).cumsum()))
    new, attended = np.array([0.0, 1.0, 4.0, 16.0, 48.0]), np.array([0.5, 8.0, 24.0, 64.0])
    shape = (BATCHES, CONTEXTS, len(new), len(attended))
    seconds = np.zeros(shape)
    for axis, size in enumerate(shape):
        steps = rng.uniform(0.0, 0.02, size).cumsum()
        seconds = seconds + steps.reshape([-1 if i == axis else 1 for i in range(4)])
    return Clock(seconds * rng.uniform(0.9, 1.1, shape), batch, context, new, attended)


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, REQUESTS))
    policy, routing = draw(st.sampled_from(POLICIES)), draw(st.sampled_from(ROUTINGS))
    replicas, slots = draw(st.integers(1, REPLICAS)), draw(st.integers(1, SLOTS))
    block = draw(st.sampled_from((1, 4, 16)))
    blocks = draw(st.integers(20, 160)) // block + 1
    longest = draw(st.sampled_from((4, 20, 60)))
    scales = replicas > 1 and routing != "assigned" and draw(st.booleans())
    scale_at = draw(st.sampled_from((1.0, 2.5))) if scales else 0.0
    prefilled = draw(st.booleans()) and draw(st.booleans())
    each = draw(st.sampled_from((0, 1, 1, 4)))
    gaps = draw(st.sampled_from((0.0, 0.05, 0.5, 5.0)))
    arrival = np.sort(rng.uniform(0.0, max(gaps * count, 1e-3), count))
    requests = []
    for time in arrival:
        prompt = int(rng.integers(1, longest + 1))
        output = int(rng.integers(2 if prefilled else 1, longest + 1))
        least = min(output - 1, 1)
        passes = int(rng.integers(least, output)) if draw(st.booleans()) else output - 1
        cached = int(rng.integers(0, prompt)) if draw(st.booleans()) else 0
        requests.append(Request(float(time), prompt, output, cached, passes))
    rules = PlainRules(
        slots=slots,
        blocks=blocks,
        block=block,
        budget=each * slots + draw(st.sampled_from((1, 3, 10, 40))),
        each=each,
        policy=policy,
        reserve=draw(st.booleans()) and draw(st.booleans()),
        wait_s=draw(st.sampled_from((0.0, 0.0, 0.1, 2.0))),
        replicas=replicas,
        routing=routing,
        assigned=tuple(int(x) for x in rng.integers(0, replicas, count)),
        prefilled=prefilled,
        scale_at=scale_at,
        least=draw(st.integers(1, replicas)),
        start_s=draw(st.sampled_from((0.0, 0.3, 3.0))),
        idle_s=draw(st.sampled_from((0.0, 0.5))),
    )
    return requests, rules, draw(st.integers(0, 9))


def fast(requests, rules, of):
    """Run the compiled loop, always of the same shape."""
    rows = REQUESTS

    def column(values, empty):
        return np.array([*values, *[empty] * (rows - len(requests))])[:, None]

    streams = Streams(
        arrival_s=column([r.arrival_s for r in requests], NEVER),
        prompt=column([r.prompt for r in requests], 1),
        cached=column([r.cached for r in requests], 0),
        output=column([r.output for r in requests], 1),
        passes=column([r.passes for r in requests], 0),
        replica=column(rules.assigned, 0),
    )
    one = Rules(
        stream=[0],
        stretch=[1.0],
        clock=[0],
        slots=[rules.slots],
        blocks=[rules.blocks],
        block=[rules.block],
        budget=[rules.budget],
        each=[rules.each],
        policy=[POLICIES.index(rules.policy)],
        reserve=[rules.reserve],
        wait_s=[rules.wait_s],
        replicas=[rules.replicas],
        routing=[ROUTINGS.index(rules.routing)],
        prefilled=[rules.prefilled],
        bin_s=[1.0],
        scale_at=[rules.scale_at],
        least=[rules.least],
        start_s=[rules.start_s],
        idle_s=[rules.idle_s],
    )
    one = Rules(*(np.array(value) for value in one))
    found = run(streams, one, tables([of], SLOTS), slots=SLOTS, replicas=REPLICAS)
    return type(found)(*(np.asarray(value) for value in found))


def seen(values, there):
    return [float(v) if t else math.nan for v, t in zip(values, there, strict=True)]


@settings(deadline=None, max_examples=300)
@given(cases())
def test_every_event_is_that_of_the_plain_loop(case):
    requests, rules, seed = case
    of = clock(np.random.default_rng(seed))
    slow = plain(requests, rules, of)
    quick = fast(requests, rules, of)
    count = len(requests)
    there = [not gone for gone in slow.rejected]
    assert list(quick.replica[:count, 0]) == slow.replica
    assert list(quick.preemptions[:count, 0]) == slow.preemptions
    for name in ("admitted_s", "first_s", "done_s"):
        if name == "first_s" and rules.prefilled:
            continue
        ours = seen(getattr(quick, name)[:count, 0], there)
        assert ours == pytest.approx(getattr(slow, name), rel=1e-9, abs=1e-9, nan_ok=True), name
    assert quick.busy_s[: rules.replicas, 0] == pytest.approx(slow.busy_s, rel=1e-9, abs=1e-9)
    assert quick.paid_s[: rules.replicas, 0] == pytest.approx(slow.paid_s, rel=1e-9, abs=1e-9)
    assert quick.prompt_tokens[0] == sum(slow.prompt_tokens)
    assert quick.passes[0] == sum(slow.passes)
    assert quick.decoded[0] == sum(len(p.decoding) for log in slow.log for p in log)
    assert quick.by_time[:, 0, 0].sum() == pytest.approx(sum(slow.busy_s), rel=1e-9, abs=1e-9)
