"""One pass of whatever is there: sequences that decode, and prompt tokens beside them.

What a serving engine runs next, for a simulation of it and for closed forms; `serving` knows only
the passes of a steady state.
"""

from dataclasses import replace

from roofrack.arithmetic import Number, ceil, choose, divide, least, most
from roofrack.cost.forward import forward
from roofrack.cost.memory import activation_bytes, memory
from roofrack.cost.overlap import bounds
from roofrack.cost.passes import Places
from roofrack.cost.serving import draft_seconds
from roofrack.cost.shares import Pass
from roofrack.cost.site import Site


def decode_of(at: Site, batch: Number, context: Number) -> Pass:
    """Return the pass of `batch` sequences of the whole instance, with `context` tokens each."""
    # a sequence cannot be divided over micro-batches
    each = choose(batch > 0, most(batch / at.plan.pp, 1.0), 0.0)
    return Pass(True, each, 1.0 + at.s.workload.draft_tokens, context, 1.0)


def prompts_of(at: Site, new: Number, attended: Number) -> Pass:
    """Return the pass of `new` prompt tokens that attend to `attended` positions on average.

    A chunk of n tokens after h others attends to h + n/2. Any chunks that come to the same number
    of pairs stand for those there are: one, or as many as are too short to attend to more, or one
    for each attention rank, over which prompt tokens are taken to be spread evenly.
    """
    # under pipelining prompts go in as many micro-batches as there are prompts
    waves = least(at.plan.pp, most(new / (2.0 * most(attended, 0.5)), 1.0))
    tokens = new / waves
    spread = least(at.plan.attention_ranks, tokens)
    # whole ones, since the busiest rank counts
    chunks = ceil(most(tokens / (2.0 * most(attended, 0.5)), spread))
    each = tokens / chunks
    return Pass(False, chunks, each, most(attended - each / 2.0, 0.0), each)


def pass_s(places: Places, passes: tuple[Pass, ...]) -> Number:
    """Return the seconds of a pass over these kinds of sequences, drafting included.

    Under pipelining, of all micro-batches, one in each stage.
    """
    at = places.main
    took = bounds(at, forward(at, passes, places.ffn, places.apart)).estimate
    decoding = [p for p in passes if p.decode]
    return took + (draft_seconds(at, decoding[0]) if decoding else 0.0)


def cache_tokens(places: Places, passes: tuple[Pass, ...], tokens: Number) -> Number:
    """Return how many tokens of sequences as long as `tokens` the caches of an instance hold.

    What weights, and the buffers of the largest of `passes`, leave of the memory of the fullest
    chip. A window or a recurrent state makes short sequences take more for each token. Each
    sequence counts a prefix that all share, as it does where a simulation adds up its blocks.
    """
    at = places.main
    alone = replace(at.s, workload=replace(at.s.workload, shared_prefix=0.0))
    at = at._replace(s=alone)
    one = decode_of(at, at.plan.attention_ranks * at.plan.pp, tokens)
    m = memory(at, (one,), tokens, places.apart)
    buffers: Number = 0.0
    for p in passes:
        buffers = most(buffers, activation_bytes(at.s, at.plan, at.share(p), p))
    room = most(m.capacity - m.weights - buffers, 0.0)
    return divide(room, m.kv) * at.plan.attention_ranks * at.plan.pp * tokens
