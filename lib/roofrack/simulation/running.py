"""What a cell runs: the pass put together, or decode passes until something changes."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from roofrack.simulation.clock import pass_s
from roofrack.simulation.moment import Moment
from roofrack.simulation.state import BINS, NEVER, State
from roofrack.simulation.steps import TINY, Setting, get, put

Array = Any


class Pass(NamedTuple):
    """The pass of each cell [C]: whether it `runs`, with whom, how many times and for how long."""

    runs: Array
    decodes: Array
    times: Array
    seconds: Array


def passes(at: Setting, state: State, moment: Moment, now: Array, admits: Array) -> Pass:
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


def run(at: Setting, state: State, found: Pass) -> State:
    """Run the pass that has been put together, or as many like it as nothing comes between."""
    ran = found.runs & found.decodes
    k = jnp.where(ran, found.times, 0)
    tokens = state.base + state.rate * (state.n + jnp.maximum(k - 1, 0) / 2.0)
    spent = jnp.where(found.runs, found.seconds, 0.0)
    integrals = [jnp.ones_like(spent), state.running, tokens]
    part = jnp.clip((state.t / at.cell.bin_s).astype(jnp.int32), 0, BINS - 1)
    part = jnp.where(found.runs, part * at.lanes + at.lane, NEVER)
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
        sums=state.sums + jnp.stack([jnp.where(reset, one, 0) for one in counted]),
    )


def look_up(at: Setting, state: State) -> State:
    """Read whom the next step settles."""
    everywhere = jnp.ones_like(state.victim)
    starter = get(state.fresh, at.slot(everywhere, jnp.maximum(state.freshly - 1, 0)))
    return state._replace(
        starter=starter,
        starter_row=get(state.rows, at.slot(everywhere, starter)),
        leaver_row=get(state.rows, at.slot(everywhere, state.leaver)),
    )
