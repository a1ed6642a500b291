"""Clocks: the cost model's seconds for every pass that a simulation may meet, as tables."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from roofrack.cost.mixed import decode_of, pass_s, prompts_of
from roofrack.cost.passes import Places, places
from roofrack.cost.site import site
from roofrack.nouns import Scenario
from roofrack.simulation.state import Tables

Floats = npt.NDArray[np.float64]

EVERY = 16
"""Numbers of decoding sequences up to here are nodes, all of them."""
BATCHES, CONTEXTS, NEW, ATTENDED, STAGED = 44, 12, 40, 10, 20
"""Nodes of a table. The time is nearly linear in positions attended to, and in contexts but where a
window begins to cut them; in batches it bends, so these are closer. `STAGED` stands for `ATTENDED`
under pipeline parallelism."""
TILE, TILES = 128, 8
"""Rows that a matrix product fills with one more: new tokens step there, in the first few."""


class Reach(NamedTuple):
    """How far a clock has to reach.

    `slots` sequences, contexts and prompts up to `context` and `prompt` tokens, `budget` prompt
    tokens in a pass; `mixed`: prompt tokens may share a pass with decoding sequences.
    """

    slots: int
    context: float
    prompt: float
    budget: float
    mixed: bool


class Clock(NamedTuple):
    """One table, [batch, context, new, attended] in seconds, and its nodes."""

    seconds: Floats
    batch: Floats
    context: Floats
    new: Floats
    attended: Floats

    def __call__(self, batch: float, context: float, new: float, attended: float) -> float:
        """Return the seconds of one pass, linear between nodes; beyond the last as before it."""
        nodes = (self.batch, self.context, self.new, self.attended)
        found = self.seconds
        for values, value in zip(nodes, (batch, context, new, attended), strict=True):
            under = int(np.clip(np.searchsorted(values, value, "right") - 1, 0, len(values) - 2))
            share = (value - values[under]) / (values[under + 1] - values[under])
            found = found[under] * (1.0 - share) + found[under + 1] * share
        return float(found)


def clock(s: Scenario, reach: Reach, *, prefill: bool = False) -> Clock:
    """Return the clock of one scenario, all of whose leaves are numbers.

    With `prefill` of the pool that computes prompts. A pass of decoding sequences reads the mean of
    their contexts: exact for full attention, an estimate where a window cuts some of them.
    """
    at = places(site(s))
    if prefill:
        at = Places(at.prefill, at.prefill, None, 0.0, 0.0)
    batch, new = batch_nodes(reach.slots), new_nodes(reach.budget, float(at.main.plan.dp))
    context = context_nodes(reach.context, _bends(s))
    attended = attended_nodes(reach.prompt, float(at.main.plan.pp))
    seconds = np.zeros((BATCHES, CONTEXTS, NEW, len(attended)))
    b, c = np.ix_(batch[1:], context)
    n, a = np.ix_(new[1:], attended)
    with np.errstate(all="ignore"):  # what does not occur may divide by zero
        if not prefill:
            alone = pass_s(at, (decode_of(at.main, b, c),))
            seconds[1:, :, :, :] = alone[:, :, None, None]
        seconds[0, :, 1:, :] = pass_s(at, (prompts_of(at.main, n, a),))[None]
        if reach.mixed:
            b, c, n, a = np.ix_(batch[1:], context, new[1:], attended)
            both = (decode_of(at.main, b, c), prompts_of(at.main, n, a))
            seconds[1:, :, 1:, :] = pass_s(at, both)
    return Clock(seconds, batch, context, new, attended)


def batch_nodes(slots: int) -> Floats:
    """Return numbers of sequences from 0 to beyond `slots`."""
    least = np.arange(EVERY + 1.0)
    last = max(slots, EVERY) + 1.0
    return np.concatenate((least, np.geomspace(EVERY, last, BATCHES - EVERY)[1:]))


def context_nodes(most: float, bends: Sequence[float]) -> Floats:
    """Return contexts from 1 to `most`, those among them where a line bends, and even ones between.

    None is 0: who decodes holds something, and without it whole kernels would be left out.
    """
    most = max(most, 2.0)
    nodes = [1.0, *sorted({x for x in bends if 1.0 < x < most}), most]
    while len(nodes) < CONTEXTS:
        widest = int(np.argmax(np.diff(nodes)))
        nodes.insert(widest + 1, (nodes[widest] + nodes[widest + 1]) / 2.0)
    return np.array(nodes)


def _bends(s: Scenario) -> tuple[float, ...]:
    """Return the contexts from which some layers attend to no more."""
    m = s.model
    layers = ((m.window_layers, m.window), (m.sparse_layers, m.sparse_tokens))
    return tuple(float(end) for count, end in layers if count > 0)


def new_nodes(most: float, ranks: float) -> Floats:
    """Return numbers of new tokens from 0 to `most`, before and behind each of the first tiles.

    Tiles fill up on each of `ranks` that tokens are divided over.
    """
    steps = TILE * np.arange(1.0, TILES + 1.0)
    near = np.sort(np.concatenate(([16.0, 64.0], steps, steps + 1.0))) * ranks
    last = max(most, near[-1] + TILE * ranks)
    far = np.geomspace(near[-1], last, NEW - 1 - len(near))[1:]
    return np.concatenate(([0.0, 1.0], near, far))


def attended_nodes(most: float, stages: float) -> Floats:
    """Return positions that prompt tokens attend to on average, up to `most`.

    Pipeline stages work on several prompts at a time, and how many there are follows from it too:
    there the nodes are closer.
    """
    count = ATTENDED if stages == 1.0 else STAGED
    return np.concatenate(([0.5], np.geomspace(8.0, max(most, 16.0), count - 1)))


def tables(clocks: Sequence[Clock], slots: int) -> Tables:
    """Return clocks of the same nodes of batches as the arrays of the compiled loop."""
    batch = clocks[0].batch
    if any(not np.array_equal(one.batch, batch) for one in clocks):
        raise ValueError("clocks of one call have the same nodes of batches")
    numbers = np.arange(slots + 1)
    below = np.clip(np.searchsorted(batch, numbers, "right") - 1, 0, BATCHES - 2)
    share = (numbers - batch[below]) / (batch[below + 1] - batch[below])

    def stacked(name: str) -> Any:
        return np.stack([getattr(one, name) for one in clocks])

    return Tables(
        seconds=stacked("seconds"),
        below=below.astype(np.int32),
        share=share,
        context=stacked("context"),
        new=stacked("new"),
        attended=stacked("attended"),
    )
