"""What a simulation is made of, and everything that changes while it runs.

A run is a lane: a stream of requests, rules, and a clock. Each lane has one or more replicas; a
replica of a lane is a cell. Arrays have the lanes or cells last, so that all of them take a step
together in vector instructions.
"""

from typing import Any, NamedTuple

import numpy as np

Array = Any

PREFILL_FIRST, DECODE_FIRST, CHUNKED = range(3)
"""Policies: prompts in passes of their own as they come, or only when nothing decodes, or in chunks
beside the decoding sequences."""

ROUND_ROBIN, LEAST_LOADED, ASSIGNED = range(3)
"""How arrivals are divided over replicas."""

NEVER = np.iinfo(np.int32).max
BINS = 240
"""Parts of a run's time for which batch and cache are kept."""


class Streams(NamedTuple):
    """Requests of U streams, [N, U] each, in order of arrival; those beyond the last never arrive.

    `arrival_s` seconds (infinite where there is no request), `prompt` and `output` tokens, `cached`
    of the prompt found in a cache, `passes` decode passes after the first token, `replica` of the
    request where it is assigned.
    """

    arrival_s: Array
    prompt: Array
    cached: Array
    output: Array
    passes: Array
    replica: Array


class Rules(NamedTuple):
    """What each lane does, [L] each. Semantics: docs/simulation.md.

    `stream` of the requests and `stretch` that multiplies their times; `clock` the table of
    seconds; `slots` sequences, `blocks` of the cache and `block` tokens in each; `budget` tokens of
    a pass, of which a decoding sequence takes `each` beside prompts; `policy`; `reserve` the whole
    output on admission; `wait_s` longest wait for others; `replicas`; `routing`; `prefilled`:
    prompts were computed elsewhere; `bin_s` width of the parts of time that are recorded.
    """

    stream: Array
    stretch: Array
    clock: Array
    slots: Array
    blocks: Array
    block: Array
    budget: Array
    each: Array
    policy: Array
    reserve: Array
    wait_s: Array
    replicas: Array
    routing: Array
    prefilled: Array
    bin_s: Array
    scale_at: Array
    least: Array
    start_s: Array
    idle_s: Array


class Tables(NamedTuple):
    """Seconds of a pass by clock, [K, batch, context, new, attended], linear between nodes.

    `batch` nodes by number of sequences: `below` and `share` [slots + 1] give the node under it and
    how far it is to the next. `context`, `new` and `attended` [K, .] are nodes in tokens; the first
    of `new` is 0: a pass that only decodes.
    """

    seconds: Array
    below: Array
    share: Array
    context: Array
    new: Array
    attended: Array


class Outcome(NamedTuple):
    """What came of each request [N, L] and of each lane.

    Seconds of first token, end and first admission (infinite where there was none), `preemptions`,
    `replica` (-1 rejected). `busy_s` [R, L], and `paid_s`: seconds that a replica is on;
    `by_time` [BINS, L, 3]: integrals over each part of time, while passes are under way, of 1,
    sequences and cached tokens; `prompt_tokens` computed, `decoded` sequence-passes, `passes` [L];
    `steps` of the loop.
    """

    first_s: Array
    done_s: Array
    admitted_s: Array
    preemptions: Array
    replica: Array
    busy_s: Array
    paid_s: Array
    by_time: Array
    prompt_tokens: Array
    decoded: Array
    passes: Array
    steps: Array


OF, BASE, RATE, TARGET, ORDER, LEFT, ADMITTED, FIRST, COUNT = range(9)
"""What is kept of a sequence in a slot: the request it is of; the tokens it holds, if it decodes
BASE + RATE * (decode passes of its cell), else TARGET, which is 0 then; its place in the order of
admission, -1 where there is none; decode passes left when its prompt is computed, or else the pass
of its cell that it ends with; when it was admitted first, when its first token came, and how often
it was preempted."""
EMPTY = (0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0)

R_ADMITTED, R_FIRST, R_DONE, R_COUNT, R_GOAL, R_LEFT = range(6)
"""What is kept of a request: seconds of admission, first token and end; preemptions; prompt tokens,
or those to compute again, and decode passes, when it is admitted next."""


class State(NamedTuple):
    """Everything that changes. Cells [C], lanes [L]; C = R * L, lanes innermost.

    No array that is larger than that may be read before it is written in the same step, or it is
    copied: what a step settles is read at the end of the one before.
    """

    ends: Array  # [S * C] the decode pass of its cell that a sequence ends with, NEVER: decodes not
    rows: Array  # [S * C, 9]
    free: Array  # [S * C] slots not in use, a stack
    fresh: Array  # [S * C] slots whose prompt the pass under way completes, a stack
    records: Array  # [N * L, 6]
    behind: Array  # [N * L] the request behind it in its queue
    t: Array
    n: Array  # decode passes so far
    head: Array
    head_s: Array  # its arrival
    tail: Array
    waiting: Array
    running: Array
    admitted: Array  # so far
    decoding: Array
    base: Array  # sum over decoding sequences
    rate: Array
    held_most: Array  # blocks that those running may come to
    next_end: Array  # least of `ends`
    leaver: Array  # slot of that, or of who is preempted
    leaver_row: Array  # [C, 9]
    victim: Array  # whether it is preempted
    freshly: Array  # number in `fresh`
    starter: Array  # slot of the last of `fresh`
    starter_row: Array  # [C, 9]
    partial: Array  # slot with a prompt partly computed, -1 none
    remaining: Array  # its tokens to compute
    before: Array  # tokens of it that are there
    taken: Array  # whether the pass being put together has its chunk
    new: Array  # prompt tokens of the pass
    work: Array  # sum of tokens * positions attended to
    opened: Array  # the gate, at this boundary
    displaced: Array  # someone was preempted at this boundary
    gone: Array  # sequences that ended with the pass before this boundary
    front: Array  # requests at the head of the queue that were preempted
    arrived: Array  # [L] requests routed so far
    accepted: Array  # [L] of them, not rejected
    arrives_s: Array  # [L] when the next one comes; inf: none
    arrives_most: Array  # [L] blocks it comes to
    replica: Array  # [N * L]
    ready_s: Array  # when a replica may take requests; inf: it is off
    changed_s: Array  # [L] when replicas were started or stopped last
    busy_s: Array
    paid_s: Array
    by_time: Array  # [BINS * L, 3]
    sums: Array  # [3, C] prompt tokens, decoding sequences of passes, and passes
    steps: Array
