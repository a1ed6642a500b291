"""How a cell puts the next pass together: paragraphs 3 to 6 of docs/simulation.md."""

from typing import Any

import jax.numpy as jnp

from roofrack.simulation.moment import Moment, look
from roofrack.simulation.running import look_up, passes, run
from roofrack.simulation.state import (
    CHUNKED,
    DECODE_FIRST,
    NEVER,
    R_ADMITTED,
    R_COUNT,
    R_FIRST,
    R_GOAL,
    R_LEFT,
    State,
)
from roofrack.simulation.steps import Setting, arrive, get, put, settle

Array = Any


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
    found = passes(at, state, moment, moment.active & ~displaced & ~further, admits)
    state = _displace(state, moment, displaced)
    return look_up(at, run(at, state, found))


def _wait(state: State, moment: Moment) -> State:
    """Let a cell with nothing to run wait for its gate, if that is before the next arrival."""
    waits = moment.active & (state.running == 0) & (moment.opens_s > state.t)
    waits = waits & (moment.opens_s < moment.arrives_s)
    return state._replace(t=jnp.where(waits, moment.opens_s, state.t))


def _left(at: Setting, state: State) -> Array:
    """Return prompt tokens that a chunked pass has room for still."""
    return jnp.maximum(at.cell.budget - at.cell.each * state.decoding, 0) - state.new


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
