"""How a cell puts the next pass together, and runs it: paragraphs 3 to 6 of docs/simulation.md."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roofrack.simulation.clock import pass_s
from roofrack.simulation.state import (
    BASE,
    BINS,
    CHUNKED,
    DECODE_FIRST,
    NEVER,
    ORDER,
    R_ADMITTED,
    R_COUNT,
    R_FIRST,
    R_GOAL,
    R_LEFT,
    RATE,
    TARGET,
    State,
)
from roofrack.simulation.steps import (
    TINY,
    Known,
    Setting,
    arrive,
    blocks_of,
    gate_s,
    get,
    put,
    settle,
)

Array = Any


class Moment(NamedTuple):
    """Where each cell is [C].

    `active`: it may put its next pass together. The `head` of the queue, its `record` [C, 6] and
    the one `behind` it; `arrives_s` next arrival of its lane, `opens_s` its gate. `beside`: prompts
    share passes with decoding sequences. `tight`: blocks have to be counted; then there is `room`
    for the head or not, the cache is `short` of blocks for the next decode pass, when `victim`, a
    slot, makes room, or else it has enough for so many `passes`.
    """

    active: Array
    head: Known
    record: Array
    behind: Array
    arrives_s: Array
    opens_s: Array
    beside: Array
    tight: Array
    room: Array
    short: Array
    victim: Array
    passes: Array

    @property
    def goal(self) -> Array:
        """Prompt tokens of the head, or those to compute again, what is cached included."""
        return blocks_of(self.record[:, R_GOAL], 1).astype(jnp.int32)

    @property
    def cached(self) -> Array:
        """Tokens of it that are in a cache."""
        return self.head.cached.astype(jnp.int32)


class Pass(NamedTuple):
    """The pass of each cell [C]: whether it `runs`, with whom, how many times and for how long."""

    runs: Array
    decodes: Array
    times: Array
    seconds: Array


def step(at: Setting, state: State) -> State:
    """Take one step with every cell: what has come, what has ended, and the next pass."""
    at_boundary = ~state.victim
    state = settle(at, state)
    settled = ((state.freshly == 0) | (state.new > 0)) & (state.n < state.next_end)
    state = arrive(at, state, settled & at_boundary)
    moment = look(at, state, settled)
    state = state._replace(head_s=moment.head.arrival_s)
    displaced = moment.active & moment.beside & moment.short
    state = _continue(at, state, moment.active & ~displaced)
    admits = _admissible(at, state, moment) & ~displaced
    stuck = moment.active & ~moment.beside & ~admits & (state.new == 0)
    displaced = displaced | (stuck & moment.short)
    state = _admit(at, state, moment, admits)
    # whoever may follow is looked at in the next step
    further = admits & (state.waiting > 0) & (state.running < at.cell.slots)
    state = _wait(state, moment)
    found = _passes(at, state, moment, moment.active & ~displaced & ~further, admits)
    state = _displace(state, moment, displaced)
    return _look_up(at, _run(at, state, found))


def look(at: Setting, state: State, settled: Array) -> Moment:
    """Find out what each cell may do."""
    arrives = jnp.tile(state.arrives_s, at.replicas)
    active = settled & (state.t < arrives) & (state.running + state.waiting > 0)
    beside = (at.cell.policy == CHUNKED) | at.cell.prefilled
    head = at.known(state.head, at.cell.stream)
    where = at.request(state.waiting > 0, state.head)
    record = get(state.records, where)
    tight = state.held_most + head.most_blocks(at.cell.block) > at.cell.blocks
    counts = tight & ~at.cell.reserve & active
    # as after its first decode pass, or it would be preempted at once
    need = blocks_of(blocks_of(record[:, R_GOAL], 1) + head.rate, at.cell.block)
    most = jnp.where(counts, state.next_end - state.n, NEVER)

    def counted(_: None) -> tuple[Array, Array, Array, Array]:
        now = held_blocks(at, state, 1)
        order = state.rows[:, ORDER].reshape(at.size(state), -1)
        victim = jnp.argmax(order, axis=0).astype(jnp.int32)
        enough = _until_short(at, state, now, most)
        return now + need <= at.cell.blocks, now > at.cell.blocks, victim, enough

    def uncounted(_: None) -> tuple[Array, Array, Array, Array]:
        return counts, counts, state.leaver, most

    room, short, victim, passes = jax.lax.cond(counts.any(), counted, uncounted, None)
    return Moment(
        active=active,
        head=head,
        record=record,
        behind=get(state.behind, where),
        arrives_s=arrives,
        opens_s=gate_s(at, state._replace(head_s=head.arrival_s)),
        beside=beside,
        tight=counts,
        room=jnp.where(counts, room, ~tight),
        short=counts & short & (state.running > 1) & (state.decoding > 0),
        victim=victim,
        passes=jnp.where(counts, passes, NEVER),
    )


def held_blocks(at: Setting, state: State, passes: Array) -> Array:
    """Return the blocks that each cell's sequences hold after so many decode passes from now.

    Those whose prompt is being computed hold what they need for their first one.
    """
    size = at.size(state)
    decoding = state.ends.reshape(size, -1) != NEVER
    rows = state.rows.reshape(*decoding.shape, -1)
    tokens = rows[..., BASE] + rows[..., RATE] * (state.n + passes)
    target = blocks_of(rows[..., TARGET], 1)
    waiting = jnp.where(target > 0, target + rows[..., RATE], 0.0)
    return blocks_of(jnp.where(decoding, tokens, waiting), at.cell.block).sum(0)


def _until_short(at: Setting, state: State, now: Array, most: Array) -> Array:
    """Return how many decode passes the cache has room for; at most `most`, at least one."""
    most = jnp.where(most == NEVER, 1, most)
    then = held_blocks(at, state, most)
    share = (at.cell.blocks - now) / jnp.maximum(then - now, 1.0)
    fewer = jnp.clip(jnp.floor(1.0 + (most - 1) * share), 1, most).astype(jnp.int32)
    fewer = jnp.where(held_blocks(at, state, fewer) <= at.cell.blocks, fewer, 1)
    return jnp.where(then <= at.cell.blocks, most, fewer)


def _wait(state: State, moment: Moment) -> State:
    """Let a cell with nothing to run wait for its gate, if that is before the next arrival."""
    waits = moment.active & (state.running == 0) & (moment.opens_s > state.t)
    waits = waits & (moment.opens_s < moment.arrives_s)
    return state._replace(t=jnp.where(waits, moment.opens_s, state.t))


def _left(at: Setting, state: State) -> Array:
    """Return prompt tokens that a chunked pass has room for still."""
    return jnp.maximum(at.cell.budget - state.decoding, 0) - state.new


def _continue(at: Setting, state: State, now: Array) -> State:
    """Give the prompt that is partly computed its next chunk."""
    now = now & (state.partial >= 0) & ~state.taken
    chunk = jnp.where(now, jnp.minimum(_left(at, state), state.remaining), 0)
    whole = now & (chunk == state.remaining)
    state = _completes(at, state, whole, state.partial)
    return state._replace(
        partial=jnp.where(whole, -1, state.partial),
        remaining=state.remaining - chunk,
        taken=state.taken | now,
        new=state.new + chunk,
        work=state.work + chunk * (state.before + chunk / 2.0),
        before=state.before + chunk,
    )


def _completes(at: Setting, state: State, now: Array, slot: Array) -> State:
    """Note that the pass being put together completes a prompt."""
    return state._replace(
        fresh=put(state.fresh, at.slot(now, state.freshly), slot), freshly=state.freshly + now
    )


def _admissible(at: Setting, state: State, moment: Moment) -> Array:
    """Tell which cells take the head of their queue into this pass."""
    open_ = moment.active & (state.waiting > 0) & (moment.opens_s <= state.t) & ~state.displaced
    open_ = open_ & (state.running < at.cell.slots) & moment.room
    tokens = moment.goal - moment.cached
    whole = (state.new == 0) | (state.new + tokens <= at.cell.budget)
    whole = whole & ((at.cell.policy != DECODE_FIRST) | (state.decoding == 0))
    fits = jnp.where(at.cell.policy == CHUNKED, _left(at, state) > 0, whole)
    return open_ & (fits | at.cell.prefilled)


def _admit(at: Setting, state: State, moment: Moment, now: Array) -> State:
    """Take the head of the queue into the pass: its prompt, a chunk of it, or the sequence."""
    goal, cached, rate = moment.goal, moment.cached, moment.head.rate
    decodes = now & at.cell.prefilled
    tokens = jnp.where(decodes, 0, goal - cached)
    chunked = (at.cell.policy == CHUNKED) & ~decodes
    chunk = jnp.where(chunked, jnp.minimum(_left(at, state), tokens), tokens)
    top = at.size(state) - state.running - 1
    slot = jnp.where(now, get(state.free, at.slot(now, top)), 0)
    holds, left = moment.record[:, R_GOAL], moment.record[:, R_LEFT]
    base = holds - rate * state.n
    ends = jnp.where(decodes, state.n + left, NEVER)
    row = [
        state.head,
        base,
        rate,
        jnp.where(decodes, 0.0, holds),
        state.admitted,
        jnp.where(decodes, state.n + left, left),
        jnp.minimum(moment.record[:, R_ADMITTED], state.t),
        moment.record[:, R_FIRST],
        moment.record[:, R_COUNT],
    ]
    where = at.slot(now, slot)
    part = now & (chunk < tokens)
    state = _completes(at, state, now & ~part & ~decodes, slot)
    sooner = decodes & (ends < state.next_end)
    return state._replace(
        ends=put(state.ends, where, ends),
        rows=put(state.rows, where, jnp.stack([one.astype(float) for one in row], axis=1)),
        head=jnp.where(now, moment.behind, state.head),
        waiting=state.waiting - now,
        running=state.running + now,
        admitted=state.admitted + now,
        front=state.front - (now & (state.front > 0)),
        opened=state.opened | now,
        held_most=state.held_most + jnp.where(now, moment.head.most_blocks(at.cell.block), 0.0),
        decoding=state.decoding + decodes,
        base=state.base + jnp.where(decodes, base, 0.0),
        rate=state.rate + jnp.where(decodes, rate, 0.0),
        next_end=jnp.where(sooner, ends, state.next_end).astype(jnp.int32),
        leaver=jnp.where(sooner, slot, state.leaver),
        partial=jnp.where(part, slot, state.partial),
        remaining=jnp.where(part, tokens - chunk, state.remaining),
        before=jnp.where(part, cached + chunk, state.before),
        taken=state.taken | part,
        new=state.new + jnp.where(now, chunk, 0),
        work=state.work + jnp.where(now, chunk * (cached + chunk / 2.0), 0.0),
    )


def _displace(state: State, moment: Moment, now: Array) -> State:
    """Preempt the sequence admitted last; it leaves when the next step settles."""
    was_partial = now & (moment.victim == state.partial)
    return state._replace(
        victim=now,
        leaver=jnp.where(now, moment.victim, state.leaver),
        displaced=state.displaced | now,
        partial=jnp.where(was_partial, -1, state.partial),
        remaining=jnp.where(was_partial, 0, state.remaining),
    )


def _passes(at: Setting, state: State, moment: Moment, now: Array, admits: Array) -> Pass:
    """Return what runs: one pass with prompts, or decode passes until something changes."""
    decodes = (state.decoding > 0) & (moment.beside | (state.new == 0))
    runs = now & (decodes | (state.new > 0))
    batch = jnp.where(decodes, state.decoding, 0)
    sequences = jnp.maximum(batch, 1)
    context = jnp.where(decodes, (state.base + state.rate * state.n) / sequences, 0.0)
    attended = state.work / jnp.maximum(state.new, 1)
    one = pass_s(at.tables, at.cell.clock, batch, context, state.new, attended)

    gains = state.rate / sequences  # of the mean context, in a pass
    inside = jnp.floor((one.until - context) / jnp.maximum(gains, 1e-12) + TINY) + 1.0
    inside = jnp.where(gains > 0, jnp.clip(inside, 1, NEVER - 1), NEVER - 1).astype(jnp.int32)
    most = jnp.minimum(jnp.minimum(state.next_end - state.n, inside), moment.passes)
    # one at a time where the next may have a prompt, or counts more sequences than have been
    alone = (state.new == 0) & ~(state.displaced & (state.waiting > 0)) & ~(moment.tight & admits)
    most = jnp.where(alone, most, 1)
    waits = (state.waiting > 0) & (moment.opens_s > state.t)
    change_s = jnp.minimum(moment.arrives_s, jnp.where(waits, moment.opens_s, jnp.inf))
    more = one.per_token * gains
    times = _until(one.seconds, more, change_s - state.t, most)
    return Pass(runs, decodes, times, _series(one.seconds, more, times))


def _series(first: Array, more: Array, times: Array) -> Array:
    """Return the seconds of so many passes, each so much longer than the one before."""
    return times * first + more * (times * (times - 1.0) / 2.0)


def _until(first: Array, more: Array, seconds: Array, most: Array) -> Array:
    """Return after how many passes a time is reached; at most `most`, at least one."""
    ahead = jnp.minimum(seconds, _series(first, more, most))
    b = first - more / 2.0
    root = jnp.sqrt(jnp.maximum(b * b + 2.0 * more * ahead, 0.0))
    guess = jnp.ceil(2.0 * ahead / jnp.maximum(b + root, 1e-30))
    guess = jnp.clip(guess, 1, most)
    # rounding may be off by one either way
    less = jnp.maximum(guess - 1, 1)
    guess = jnp.where(_series(first, more, less) >= seconds, less, guess)
    guess = jnp.where(_series(first, more, guess) < seconds, guess + 1, guess)
    return jnp.clip(guess, 1, most).astype(jnp.int32)


def _run(at: Setting, state: State, found: Pass) -> State:
    """Run the pass that has been put together, or as many like it as nothing comes between."""
    ran = found.runs & found.decodes
    k = jnp.where(ran, found.times, 0)
    tokens = state.base + state.rate * (state.n + jnp.maximum(k - 1, 0) / 2.0)
    spent = jnp.where(found.runs, found.seconds, 0.0)
    integrals = [jnp.ones_like(spent), state.running, state.waiting, tokens]
    part = jnp.clip((state.t / at.cell.bin_s).astype(jnp.int32), 0, BINS - 1)
    part = jnp.where(found.runs, part * at.lanes + at.lane, NEVER)
    batch = jnp.where(ran, state.decoding, 0)
    batch = jnp.where(found.runs, batch * at.lanes + at.lane, NEVER)
    counted = [state.new, k * state.decoding, jnp.maximum(k, 1)]
    reset = found.runs
    return state._replace(
        t=state.t + spent,
        n=state.n + k,
        new=jnp.where(reset, 0, state.new),
        work=jnp.where(reset, 0.0, state.work),
        taken=state.taken & ~reset,
        opened=state.opened & ~reset,
        displaced=state.displaced & ~reset,
        gone=jnp.where(reset, 0, state.gone),
        busy_s=state.busy_s + spent,
        # what is off, and drains
        paid_s=state.paid_s + jnp.where(jnp.isfinite(state.ready_s), 0.0, spent),
        by_time=put(
            state.by_time, part, jnp.stack([one * spent for one in integrals], axis=1), "add"
        ),
        by_batch=put(state.by_batch, batch, spent, "add"),
        sums=state.sums + jnp.stack([jnp.where(reset, one, 0) for one in counted]),
    )


def _look_up(at: Setting, state: State) -> State:
    """Read whom the next step settles."""
    everywhere = jnp.ones_like(state.victim)
    starter = get(state.fresh, at.slot(everywhere, jnp.maximum(state.freshly - 1, 0)))
    return state._replace(
        starter=starter,
        starter_row=get(state.rows, at.slot(everywhere, starter)),
        leaver_row=get(state.rows, at.slot(everywhere, state.leaver)),
    )
