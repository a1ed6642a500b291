"""How requests come to a cell and leave it: paragraphs 1, 2 and 6 of docs/simulation.md.

Every function does its part for all cells at once; `now` says which of them it concerns. An index
that is out of bounds is not written.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from roofrack.simulation.state import (
    ADMITTED,
    ASSIGNED,
    BASE,
    COUNT,
    EMPTY,
    FIRST,
    LEAST_LOADED,
    LEFT,
    NEVER,
    OF,
    RATE,
    TARGET,
    Rules,
    State,
    Streams,
    Tables,
)

Array = Any
TINY = 1e-9
"""What rounding may add to a whole number."""


def get(values: Array, where: Array) -> Array:
    """Return rows of an array; which one is not told where `where` is out of bounds."""
    return values.at[where].get(mode="clip", wrap_negative_indices=False)


def put(values: Array, where: Array, new: Array, how: str = "set") -> Array:
    """Write rows into an array (or `how`: add), but for those out of its bounds."""
    write = getattr(values.at[where], how)
    return write(new.astype(values.dtype), mode="drop", wrap_negative_indices=False)


class Setting(NamedTuple):
    """What stays the same: requests, the rules of each lane and (`cell`) of each cell, clocks.

    `facts` [N * U, 5] of each request: arrival, prompt, cached, output, passes; `lane` of each cell
    and `row` its replica [C].
    """

    streams: Streams
    facts: Array
    rules: Rules
    cell: Rules
    tables: Tables
    lane: Array
    row: Array

    @property
    def cells(self) -> Array:
        """Numbers of the cells [C]."""
        return jnp.arange(self.lane.shape[0], dtype=jnp.int32)

    @property
    def lanes(self) -> int:
        """Number of lanes."""
        return int(self.rules.stream.shape[0])

    @property
    def replicas(self) -> int:
        """Replicas of each lane, those included that it does not have."""
        return int(self.lane.shape[0]) // self.lanes

    def size(self, state: State) -> int:
        """Return the number of slots of a cell."""
        return int(state.free.shape[0]) // int(self.lane.shape[0])

    def slot(self, now: Array, slot: Array) -> Array:
        """Return where a slot of each cell is in arrays of all of them."""
        return jnp.where(now, slot * self.lane.shape[0] + self.cells, NEVER)

    def request(self, now: Array, of: Array) -> Array:
        """Return where a request of each cell is in arrays of all of them."""
        return jnp.where(now, of * self.lanes + self.lane, NEVER)

    def known(self, of: Array, stream: Array) -> "Known":
        """Return what is known of requests of streams."""
        return Known(*get(self.facts, of * self.streams.prompt.shape[1] + stream).T)


class Known(NamedTuple):
    """Requests, one for each cell or lane, as `Streams` has them."""

    arrival_s: Array
    prompt: Array
    cached: Array
    output: Array
    passes: Array

    @property
    def rate(self) -> Array:
        """Tokens gained in a decode pass."""
        return jnp.where(self.passes > 0, (self.output - 1) / jnp.maximum(self.passes, 1), 0.0)

    def most_blocks(self, block: Array) -> Array:
        """Return the blocks that it comes to."""
        return blocks_of(self.prompt + self.output, block)


def blocks_of(tokens: Array, block: Array) -> Array:
    """Return the blocks that tokens take."""
    return jnp.ceil((tokens - TINY) / block)


def settle(at: Setting, state: State) -> State:
    """Let one prompt that is computed begin to decode, and one sequence go that ended.

    Or that is preempted: it goes to the front of the queue, and its cache is lost.
    """
    # what the pass being put together completes is not settled yet
    begins = (state.freshly > 0) & (state.new == 0)
    leaves = state.victim | (state.n >= state.next_end)
    return look_ahead(at, _leave(at, _begin(at, state, begins), leaves))


def _begin(at: Setting, state: State, now: Array) -> State:
    """Begin to decode; a sequence with no passes left ends with those there have been."""
    row = state.starter_row
    rate = row[:, RATE]
    base = row[:, TARGET] - rate * state.n
    fields = [row[:, i] for i in range(len(EMPTY))]
    fields[BASE], fields[TARGET] = base, 0.0 * base
    fields[FIRST] = jnp.minimum(row[:, FIRST], state.t)
    fields[LEFT] = ends = state.n + row[:, LEFT]
    decoding = jnp.stack(fields, axis=1)
    where = at.slot(now, state.starter)
    return state._replace(
        ends=put(state.ends, where, ends),
        rows=put(state.rows, where, decoding),
        freshly=state.freshly - now,
        decoding=state.decoding + now,
        base=state.base + jnp.where(now, base, 0.0),
        rate=state.rate + jnp.where(now, rate, 0.0),
    )


def _leave(at: Setting, state: State, now: Array) -> State:
    """Take a sequence out of its slot and out of the sums."""
    row, victim = state.leaver_row, now & state.victim
    of = jnp.where(now, row[:, OF].astype(jnp.int32), 0)
    decodes = now & (row[:, TARGET] == 0)
    held = jnp.where(decodes, row[:, BASE] + row[:, RATE] * state.n, row[:, TARGET])
    left = jnp.where(decodes, row[:, LEFT] - state.n, row[:, LEFT])
    record = [
        row[:, ADMITTED],
        row[:, FIRST],
        jnp.where(victim, jnp.inf, state.t),
        row[:, COUNT] + victim,
        held,
        left,
    ]
    alone = state.decoding - decodes == 0  # nothing is left of what rounding added
    top = at.size(state) - state.running  # slots not in use
    where, request = at.slot(now, state.leaver), at.request(now, of)
    known = at.known(of, at.cell.stream)
    return state._replace(
        ends=put(state.ends, where, jnp.full_like(of, NEVER)),
        rows=put(state.rows, where, jnp.broadcast_to(jnp.asarray(EMPTY), row.shape)),
        free=put(state.free, at.slot(now, top), state.leaver),
        records=put(state.records, request, jnp.stack(record, axis=1)),
        behind=put(state.behind, at.request(victim, of), state.head),
        running=state.running - now,
        decoding=state.decoding - decodes,
        base=jnp.where(alone, 0.0, state.base - jnp.where(decodes, row[:, BASE], 0.0)),
        rate=jnp.where(alone, 0.0, state.rate - jnp.where(decodes, row[:, RATE], 0.0)),
        held_most=state.held_most - jnp.where(now, known.most_blocks(at.cell.block), 0.0),
        tail=jnp.where(victim & (state.waiting == 0), of, state.tail),
        head=jnp.where(victim, of, state.head),
        waiting=state.waiting + victim,
        front=state.front + victim,
        gone=state.gone + (now & ~victim),
        victim=jnp.zeros_like(victim),
    )


def look_ahead(at: Setting, state: State) -> State:
    """Find the sequence of each cell that ends next."""
    size = at.size(state)
    numbers = jnp.arange(size, dtype=jnp.int64)[:, None]
    ends = state.ends.reshape(size, -1).astype(jnp.int64)
    first = (ends * size + numbers).min(0)
    return state._replace(
        next_end=(first // size).astype(jnp.int32), leaver=(first % size).astype(jnp.int32)
    )


def gate_s(at: Setting, state: State) -> Array:
    """Return when the queue of each cell opens; -inf where it is open, inf where it is empty."""
    opens = state.head_s * at.cell.stretch + at.cell.wait_s
    full = state.running + state.waiting >= at.cell.slots
    is_open = (at.cell.wait_s <= 0) | full | state.opened | (state.front > 0)
    return jnp.where(state.waiting > 0, jnp.where(is_open, -jnp.inf, opens), jnp.inf)


def arrive(at: Setting, state: State, settled: Array) -> State:
    """Put the next request of each lane whose replicas have all come to its time into a queue.

    A pass that has ended leaves its cell at a boundary; what it has ended is `settled` first.
    """
    here = jnp.tile(state.arrives_s, at.replicas)
    # `head_s` holds: of a cell without sequences nobody was admitted in the step before
    idle = (state.running == 0) & (gate_s(at, state) >= here)
    ready = settled & ((state.t >= here) | idle)
    now = ready.reshape(at.replicas, at.lanes).all(0) & jnp.isfinite(state.arrives_s)
    queued = now & (state.arrives_most <= at.rules.blocks)
    which = state.arrived
    state = scale(at, state, queued)
    chosen = _replica(at, state, which)
    mine = jnp.tile(queued, at.replicas) & (at.row == jnp.tile(chosen, at.replicas))
    request, empty = jnp.tile(which, at.replicas), state.waiting == 0
    into = jnp.where(queued, which * at.lanes + jnp.arange(at.lanes, dtype=jnp.int32), NEVER)
    return upcoming(
        at,
        state._replace(
            behind=put(state.behind, at.request(mine & ~empty, state.tail), request),
            head=jnp.where(mine & empty, request, state.head),
            tail=jnp.where(mine, request, state.tail),
            waiting=state.waiting + mine,
            t=jnp.where(mine, jnp.maximum(state.t, here), state.t),
            arrived=state.arrived + now,
            accepted=state.accepted + queued,
            replica=put(state.replica, into, chosen),
        ),
    )


def upcoming(at: Setting, state: State) -> State:
    """Look up the request of each lane that arrives next."""
    there = at.streams.prompt.shape[0]
    known = at.known(jnp.minimum(state.arrived, there - 1), at.rules.stream)
    time = jnp.where(state.arrived < there, known.arrival_s * at.rules.stretch, jnp.inf)
    return state._replace(arrives_s=time, arrives_most=known.most_blocks(at.rules.block))


def scale(at: Setting, state: State, now: Array) -> State:
    """Start as many replicas as the requests of a lane ask for, or stop one that they do not."""
    if at.replicas == 1:
        return state
    here = state.arrives_s
    outstanding = load(at, state).sum(0) + 1
    rules = at.rules
    wanted = jnp.ceil(outstanding / jnp.maximum(rules.scale_at, 1e-9) - TINY)
    wanted = jnp.minimum(jnp.maximum(wanted, rules.least), rules.replicas)
    on = jnp.isfinite(state.ready_s).reshape(at.replicas, at.lanes).sum(0)
    scales = now & (rules.scale_at > 0)
    more = scales & (wanted > on)
    fewer = scales & (wanted < on) & (here >= state.changed_s + rules.idle_s)

    def each(values: Array) -> Array:
        return jnp.tile(values, at.replicas)

    starts = each(more) & (at.row >= each(on)) & (at.row < each(wanted))
    stops = each(fewer) & (at.row == each(on) - 1)
    time = jnp.where(jnp.isfinite(each(here)), each(here), 0.0)
    ready = jnp.where(starts, time + at.cell.start_s, state.ready_s)
    paid = jnp.where(stops, time, 0.0) - jnp.where(starts, time, 0.0)
    return state._replace(
        ready_s=jnp.where(stops, jnp.inf, ready),
        paid_s=state.paid_s + paid,
        changed_s=jnp.where(more | fewer, here, state.changed_s),
    )


def load(at: Setting, state: State) -> Array:
    """Return the requests in each replica [R, L] when the next one of its lane arrives."""
    # what ends with a pass that is under way has not ended yet
    gone = jnp.where(state.t > jnp.tile(state.arrives_s, at.replicas), state.gone, 0)
    return (state.waiting + state.running + gone).reshape(at.replicas, at.lanes)


def _replica(at: Setting, state: State, which: Array) -> Array:
    """Return the replica that the next request of each lane goes to."""
    if at.replicas == 1:
        return jnp.zeros_like(which)
    # those that are ready are the first ones
    ready = state.ready_s <= jnp.tile(state.arrives_s, at.replicas)
    ready = ready.reshape(at.replicas, at.lanes)
    fewest = jnp.argmin(jnp.where(ready, load(at, state), NEVER), axis=0).astype(jnp.int32)
    turn = state.accepted % jnp.maximum(ready.sum(0, dtype=jnp.int32), 1)
    given = at.streams.replica.at[which, at.rules.stream].get(mode="clip")
    routing = at.rules.routing
    return jnp.where(routing == LEAST_LOADED, fewest, jnp.where(routing == ASSIGNED, given, turn))
