"""Continuous batching, event by event, for many runs at once: one compiled loop.

All cells take steps together; in a step a cell does what the moment allows: a request arrives, a
prompt that is computed begins to decode, a sequence that has ended leaves, the next pass is put
together, and it runs. Passes in which nothing changes but the length of the cache are taken
together: their times are an arithmetic series, because the clock is linear in the mean context
between the nodes of its table. So the number of steps goes with the number of requests, not of
tokens. What happens is stated in docs/simulation.md, and held to a plain event loop by the tests.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from roofrack.simulation.passes import step
from roofrack.simulation.state import (
    BINS,
    EMPTY,
    NEVER,
    R_ADMITTED,
    R_COUNT,
    R_DONE,
    R_FIRST,
    Outcome,
    Rules,
    State,
    Streams,
    Tables,
)
from roofrack.simulation.steps import Setting, upcoming

Array = Any
KINDS = dict.fromkeys(
    ("stream", "clock", "slots", "budget", "each", "policy", "replicas", "routing", "least"),
    jnp.int32,
) | {"reserve": bool, "prefilled": bool}
WHOLE = ("prompt", "cached", "output", "passes", "replica")


def run(streams: Streams, rules: Rules, tables: Tables, *, slots: int, replicas: int) -> Outcome:
    """Run every lane to its end; `slots` and `replicas` are the most of any lane.

    All in double precision: an hour in milliseconds needs it. Whole numbers meet seconds all the
    time, so that the user's rules of promotion do not hold here.
    """
    loose = jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow")
    with jax.enable_x64(True), loose[0], loose[1]:
        whole = {n: jnp.asarray(getattr(streams, n), jnp.int32) for n in WHOLE}
        streams = streams._replace(arrival_s=jnp.asarray(streams.arrival_s, float), **whole)
        rules = Rules(
            **{n: jnp.asarray(v, KINDS.get(n, float)) for n, v in rules._asdict().items()}
        )
        return _run(streams, rules, tables, slots=slots, replicas=replicas)


@partial(jax.jit, static_argnames=("slots", "replicas"))
def _run(streams: Streams, rules: Rules, tables: Tables, *, slots: int, replicas: int) -> Outcome:
    lanes = rules.stream.shape[0]
    lane = jnp.tile(jnp.arange(lanes), replicas)
    row = jnp.repeat(jnp.arange(replicas), lanes)
    cell = Rules(*(jnp.tile(rule, replicas) for rule in rules))
    kinds = ("arrival_s", "prompt", "cached", "output", "passes")
    facts = jnp.stack([getattr(streams, kind).astype(float) for kind in kinds], axis=-1)
    facts = facts.reshape(-1, len(kinds))
    at = Setting(streams, facts, rules, cell, tables, lane, row)
    end = jax.lax.while_loop(
        lambda s: going(s),
        lambda s: step(at, s)._replace(steps=s.steps + 1),
        begin(at, slots),
    )
    by_lane = (-1, lanes)
    records = end.records.reshape(-1, lanes, 6)
    sums = end.sums.reshape(3, replicas, lanes).sum(1)
    done = records[..., R_DONE]
    last = jnp.where(jnp.isfinite(done), done, 0.0).max(0)
    on = jnp.isfinite(end.ready_s).reshape(by_lane)
    return Outcome(
        first_s=records[..., R_FIRST],
        done_s=done,
        admitted_s=records[..., R_ADMITTED],
        preemptions=records[..., R_COUNT].astype(jnp.int32),
        replica=end.replica.reshape(by_lane),
        busy_s=end.busy_s.reshape(by_lane),
        paid_s=end.paid_s.reshape(by_lane) + jnp.where(on, last, 0.0),
        by_time=end.by_time.reshape(BINS, lanes, 3),
        prompt_tokens=sums[0],
        decoded=sums[1],
        passes=sums[2],
        steps=end.steps,
    )


def going(state: State) -> Array:
    """Tell whether any cell has, or any lane will have, something to do."""
    return jnp.isfinite(state.arrives_s).any() | (state.running + state.waiting > 0).any()


def begin(at: Setting, slots: int) -> State:
    """Return the state in which no request has come."""
    requests, lanes, cells = at.streams.prompt.shape[0], at.lanes, at.lane.shape[0]
    whole = jnp.zeros(cells, jnp.int32)
    real, no = jnp.zeros(cells), jnp.zeros(cells, bool)
    empty = jnp.asarray(EMPTY)
    of = at.rules.stream
    later = jnp.full((requests, lanes), jnp.inf)
    zero = jnp.zeros((requests, lanes))
    rules = at.cell
    on = jnp.where(rules.scale_at > 0, rules.least, rules.replicas)
    kinds = [later, later, later, zero, at.streams.prompt[:, of], at.streams.passes[:, of]]
    return upcoming(
        at,
        State(
            ends=jnp.full(slots * cells, NEVER, jnp.int32),
            rows=jnp.broadcast_to(empty, (slots * cells, len(EMPTY))),
            free=jnp.repeat(jnp.arange(slots, dtype=jnp.int32), cells),
            fresh=jnp.zeros(slots * cells, jnp.int32),
            records=jnp.stack([kind.astype(float).reshape(-1) for kind in kinds], axis=1),
            behind=jnp.zeros(requests * lanes, jnp.int32),
            t=real,
            n=whole,
            head=whole,
            head_s=real,
            tail=whole,
            waiting=whole,
            running=whole,
            admitted=whole,
            decoding=whole,
            base=real,
            rate=real,
            held_most=real,
            next_end=whole + NEVER,
            leaver=whole,
            leaver_row=jnp.broadcast_to(empty, (cells, len(EMPTY))),
            victim=no,
            freshly=whole,
            starter=whole,
            starter_row=jnp.broadcast_to(empty, (cells, len(EMPTY))),
            partial=whole - 1,
            remaining=whole,
            before=whole,
            taken=no,
            new=whole,
            work=real,
            opened=no,
            displaced=no,
            gone=whole,
            front=whole,
            arrived=jnp.zeros(lanes, jnp.int32),
            accepted=jnp.zeros(lanes, jnp.int32),
            arrives_s=jnp.zeros(lanes),
            arrives_most=jnp.zeros(lanes),
            replica=jnp.full(requests * lanes, -1, jnp.int32),
            ready_s=jnp.where(at.row < on, 0.0, jnp.inf),
            changed_s=jnp.zeros(lanes),
            busy_s=real,
            paid_s=real,
            by_time=jnp.zeros((BINS * lanes, 3)),
            sums=jnp.zeros((3, cells), jnp.int64),
            steps=jnp.zeros((), jnp.int64),
        ),
    )
