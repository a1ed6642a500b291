"""Which layers each pipeline stage has. MODEL sections 6 and 7.

Stages have as many layers each, rounded up. Where that is more than there are, the last stage,
which has the head, has one less, and if that does not do the first one too. A stage between them
stands for all others.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, least, most, round_up
from roofrack.cost.site import Site
from roofrack.cost.training.times import Counted

FIRST_DENSE = 0.1
"""Share of dense layers up to which they come first (DeepSeek-V3: 3 of 61, on the first stage);
where there are more of them they are spread evenly (Llama 4 Maverick: every other layer)."""


class Stage(NamedTuple):
    """One pipeline stage: its number from 0, its layers, matrices of V x D it holds (`ends`)."""

    number: Number
    has: Counted
    ends: Number


class Stages(NamedTuple):
    """The stages that can be the fullest or the slowest; with fewer than three some are the same.

    `whole` has everything; `paired` is 1 where a chip has two stages, one for each direction.
    """

    first: Stage
    middle: Stage
    last: Stage
    whole: Counted
    paired: Number

    @property
    def all(self) -> tuple[Stage, ...]:
        """The three stages."""
        return self.first, self.middle, self.last


def stages(at: Site, paired: Number) -> Stages:
    """Return the stages of a plan; `at` has the plan as it is, `imbalance` and all.

    What a module that predicts further tokens (MTP) has is on the last stage: a layer like the last
    and the head again; what joins its two inputs is left out. Where stages are `paired` (DualPipe)
    a chip works half of the time on each of two: the mean.
    """
    m, plan = at.s.model, at.plan
    full = round_up(m.layers / plan.pp, at.s.calibration.quantize)
    lacking = full * plan.pp - m.layers
    alone, several = plan.pp <= 1.0, plan.pp > 1.0
    mtp = at.s.workload.mtp_layers * (1.0 - at.counts.abstract)
    first_layers = full - choose(several & (lacking >= 2.0), 1.0, 0.0)
    last_layers = full - choose(several & (lacking >= 1.0), 1.0, 0.0)
    heads = 1.0 + mtp
    tied = at.s.model.tied_embeddings
    first = _stage(at, 0.0, first_layers, 0.0, 1.0)
    middle = _stage(at, least(1.0, plan.pp - 1.0), full, 1.0, 0.0)
    last = _stage(at, plan.pp - 1.0, last_layers, choose(alone, 0.0, 1.0), 1.0)
    extra = Counted(mtp, mtp * _dense_like(at), mtp * (1.0 - _dense_like(at)), heads)
    last = last._replace(has=_sum(last.has, extra))
    # one stage has both ends; tied, a single matrix
    last = last._replace(ends=choose(alone, 2.0 - tied, 1.0))
    first = _either(alone, last, first)
    middle = _either(plan.pp > 2.0, middle, first)
    total = Counted(m.layers, at.counts.dense_layers, m.moe_layers, 0.0)
    found = Stages(first, middle, last, _sum(total, extra), paired)
    mean, ends = _sum(first.has, last.has, 0.5), (first.ends + last.ends) / 2.0
    return found._replace(
        first=_either(paired > 0, first._replace(has=mean, ends=ends), first),
        last=_either(paired > 0, last._replace(has=mean, ends=ends), last),
    )


def _dense_like(at: Site) -> Number:
    """Return 1 where a further layer has a dense FFN, as all others have."""
    return choose(at.s.model.moe_layers > 0, 0.0, 1.0)


def _stage(at: Site, number: Number, layers: Number, later: Number, ends: Number) -> Stage:
    """Return a stage of so many layers; `later` is 1 if it is not the first."""
    counts, m = at.counts, at.s.model
    comes_first = (counts.dense_layers <= FIRST_DENSE * m.layers) & (counts.dense_layers > 0)
    leading = choose(
        later > 0, most(layers - m.moe_layers, 0.0), least(counts.dense_layers, layers)
    )
    spread = layers * divide(counts.dense_layers, m.layers)
    dense = choose(comes_first, leading, spread)
    return Stage(number, Counted(layers, dense, layers - dense, 0.0), ends)


def _sum(a: Counted, b: Counted, times: Number = 1.0) -> Counted:
    """Return times (a + b)."""
    return Counted(*(times * (x + y) for x, y in zip(a, b, strict=True)))


def _either(condition: Number, this: Stage, other: Stage) -> Stage:
    has = (choose(condition, a, b) for a, b in zip(this.has, other.has, strict=True))
    return Stage(
        choose(condition, this.number, other.number),
        Counted(*has),
        choose(condition, this.ends, other.ends),
    )
