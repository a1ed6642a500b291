"""What a cell may do at a boundary: gate, blocks and who would make room."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roofrack.simulation.state import (
    BASE,
    CHUNKED,
    NEVER,
    ORDER,
    R_GOAL,
    RATE,
    TARGET,
    State,
)
from roofrack.simulation.steps import Known, Setting, blocks_of, gate_s, get

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
