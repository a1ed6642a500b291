"""What each stage of a pipeline takes, one by one: the cost model itself times three of them.

Layers are laid out as `cost.training.stages` says, here for every chunk of every stage.
"""

from typing import NamedTuple

import numpy as np

from roofrack.arithmetic import round_up
from roofrack.cost import schedules
from roofrack.cost.collectives import Transfer
from roofrack.cost.site import Site
from roofrack.cost.training.optimizer import update_s
from roofrack.cost.training.pace import Setting, load, paced
from roofrack.cost.training.ranks import Held, exposed_s, held, updates
from roofrack.cost.training.readings import DUALPIPE, Reading, read
from roofrack.cost.training.stages import FIRST_DENSE, Stage, stages
from roofrack.cost.training.step import Step
from roofrack.cost.training.times import Counted
from roofrack.schedules import Times


class Chunk(NamedTuple):
    """Some layers that follow each other: what they are, and a micro-batch on them."""

    stage: Stage
    takes: Reading


class Timed(NamedTuple):
    """Chunks of each stage: [stage][chunk], as `schedules.Schedule` numbers them.

    `parts` in how many parts the layers of a stage are cut. Under DualPipe a stage has two whole
    ones, of its own number and of the one as far from the other end.
    """

    chunks: tuple[tuple[Chunk, ...], ...]
    parts: int

    @property
    def forward_s(self) -> np.ndarray:
        """Seconds of a forward, as of whole stages, [stages, chunks]."""
        return self._all("forward")

    @property
    def backward_s(self) -> np.ndarray:
        """Seconds of a backward, as of whole stages, [stages, chunks]."""
        return self._all("backward")

    def _all(self, name: str) -> np.ndarray:
        return self.parts * np.array(
            [[float(getattr(one.takes, name)) for one in stage] for stage in self.chunks]
        )

    def times(self, of: Setting, hop_s: float) -> Times:
        """Return the seconds of a micro-batch for the simulation.

        Where exchanges of experts hide behind another micro-batch (`overlap_ep`), DualPipe pairs
        passes; in other schedules what the closed form says that the steady state wins is spread
        evenly over the step.
        """
        f, b, w, pair = map(self._all, ("forward", "backward", "weights", "pair"))
        won = f + b - pair
        if _paired(of.at):
            # a forward of one chunk goes with a backward of the other
            fb = f + b[:, ::-1] - (won + won[:, ::-1]) / 2.0
            return Times(f, b, w, fb, hop_s)
        plan, pp = of.at.s.plan, of.at.plan.pp
        whole = schedules.pipeline_s(plan.schedule, pp, of.m, plan.virtual_stages, f, b, w, f + b)
        left = 1.0 - max(float(of.m) - float(pp), 0.0) * won / whole
        return Times(f * left, b * left, w * left, 0.0, hop_s)


def timed(of: Setting) -> Timed:
    """Return the chunks of every stage, and the seconds of a micro-batch on them."""
    at = of.at
    pp, v = round(float(at.plan.pp)), round(float(at.s.plan.virtual_stages))
    found = [Chunk(one, _takes(of, one.has)) for one in _laid(at, pp, v)]
    if _paired(at):
        chunks = tuple((found[i], found[pp - 1 - i]) for i in range(pp))
        return Timed(chunks, 1)
    return Timed(tuple(tuple(found[i::pp]) for i in range(pp)), v)


def _paired(at: Site) -> bool:
    return bool(at.s.plan.schedule == DUALPIPE and at.plan.pp > 1)


def _takes(of: Setting, has: Counted) -> Reading:
    one = load(of.of, of.ex.sent, has)
    return read(of.at, of.at.s.overlap, one.stage, one.body, one.has.every, of.full_layers)


def _laid(at: Site, pp: int, v: int) -> list[Stage]:
    """Return all chunks in the order of the layers; the number is that of the stage.

    Where there are not enough layers for all stages to be full, the last has one less, then the
    first, then those before the last. Dense layers come first if they are few, as in
    `cost.training.stages`; what predicts further tokens (MTP) is on the last stage.
    """
    m, counts, whole = at.s.model, at.counts, stages(at, 0.0).whole
    each = _layers(at, pp)
    dense_layers, before = float(counts.dense_layers), 0.0
    first = 0 < dense_layers <= FIRST_DENSE * float(m.layers)
    found = []
    for j in range(pp * v):
        n = each[j % pp] / v
        dense = min(max(dense_layers - before, 0.0), n) if first else n * dense_layers / m.layers
        before += n
        ends = 1.0 if j == 0 else 0.0
        found.append(Stage(float(j % pp), Counted(n, dense, n - dense, 0.0), ends))
    further = Counted(
        whole.every - m.layers, whole.dense - counts.dense_layers, whole.experts - m.moe_layers,
        whole.head,
    )  # fmt: skip
    last = Counted(*(a + b for a, b in zip(found[-1].has, further, strict=True)))
    # one stage has both ends; tied, a single matrix
    ends = found[-1].ends + 1.0 - (m.tied_embeddings if pp == 1 else 0.0)
    return [*found[:-1], Stage(float(pp - 1), last, ends)]


def _layers(at: Site, pp: int) -> list[float]:
    full = float(round_up(at.s.model.layers / pp, at.s.calibration.quantize))
    lacking = round(full * pp - float(at.s.model.layers))
    short = [pp - 1, 0, *range(pp - 2, 0, -1)][:lacking]
    return [full - (i in short) for i in range(pp)]


class Tail(NamedTuple):
    """Seconds that a stage takes after its passes."""

    gradients: float
    update: float
    weights: float


def tail(of: Setting, stage: tuple[Chunk, ...], found: Step) -> Tail:
    """Return what a stage waits for other ranks in the whole step, and how long its update takes.

    The readings are those of `cost.training.step.ends`, for its own parameters. What travels once a
    step hides behind its own passes; what travels in every micro-batch (ZeRO-2, 3) behind those of
    the slowest stage, for which it waits anyway.
    """
    at, zero = of.at, of.at.s.plan.zero
    has: Held = held(at, stage[0].stage)
    for chunk in stage[1:]:
        has = has.plus(held(at, chunk.stage), 1.0)
    moved = updates(at, of.ranks, has, of.m)
    sums = _all(moved.gradients) * moved.reductions
    gathers = _all(moved.weights) * (moved.forward + moved.backward)
    if at.s.overlap == "ideal":
        waits = max(sums + gathers - found.passes.total, 0.0)
        sums, gathers = min(sums, waits), waits - min(sums, waits)
    elif at.s.overlap != "none":
        ways = 2.0 if _paired(at) else 1.0
        legs = zip(*(chunk.takes for chunk in stage), strict=True)
        own, pace = Reading(*(sum(leg) / ways for leg in legs)), paced(of, at.s.overlap).slowest
        sums = exposed_s(at, moved, own if zero < 2 else pace, of.full_layers).gradients
        gathers = exposed_s(at, moved, own if zero < 3 else pace, of.full_layers).weights
    return Tail(float(sums), float(update_s(at, of.ranks, has)), float(gathers))


def _all(moved: Transfer) -> float:
    return float(sum(moved.seconds))
