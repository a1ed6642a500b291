"""What a step is made of, and the pace of its pipeline: the slowest stage, and all others."""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose
from roofrack.cost import moe, schedules
from roofrack.cost.layout import microbatches
from roofrack.cost.shares import Pass, Share
from roofrack.cost.site import Site
from roofrack.cost.training.exchanges import Exchanges, Sent, exchanges, stage_sent
from roofrack.cost.training.ranks import Ranks, ranks
from roofrack.cost.training.readings import Part, Reading, read
from roofrack.cost.training.stages import Stages, stages
from roofrack.cost.training.times import Counted, Layers, layers, stage_time
from roofrack.cost.training.works import train_pass, works


class Setting(NamedTuple):
    """A training step before it is timed.

    `at` where it runs, `p` and `mine` a micro-batch, `m` of them; `exchange` of all experts; `of`
    one layer of each kind and `ex` what it exchanges; the `stages`, of which the fullest have
    `full_layers`; the `ranks`; `loads` of the three stages and of all layers together.
    """

    at: Site
    p: Pass
    mine: Share
    m: Number
    exchange: moe.Exchange
    of: Layers
    ex: Exchanges
    stages: Stages
    full_layers: Number
    ranks: Ranks
    loads: tuple["Load", ...]


class Load(NamedTuple):
    """What some layers cost for a micro-batch: `stage` with their heads, `body` without."""

    has: Counted
    stage: Part
    body: Part


def setting(at: Site) -> Setting:
    """Return what a step is made of."""
    p = train_pass(at)
    mine = at.share(p)
    one = at._replace(plan=at.plan._replace(imbalance=1.0, pp=1.0))
    exchange = moe.exchange(one, mine)
    paired = schedules.copies(at.s.plan.schedule) - 1.0
    found = stages(at, paired * choose(at.plan.pp > 1.0, 1.0, 0.0))
    of, ex = layers(one, works(one, mine, p)), exchanges(one, mine, p, exchange)
    sent = ex.sent
    counted = (*(stage.has for stage in found.all), found.whole)
    return Setting(
        at=at,
        p=p,
        mine=mine,
        m=microbatches(at.s, at.plan.dp),
        exchange=exchange,
        of=of,
        ex=ex,
        stages=found,
        full_layers=at.s.model.layers / at.plan.pp * at.plan.imbalance,
        ranks=ranks(at),
        loads=tuple(load(of, sent, has) for has in counted),
    )


def load(of: Layers, each: tuple[Sent, ...], has: Counted) -> Load:
    """Return what so many layers of each kind cost; `each` is what one of them exchanges."""
    layers_only, heads = has._replace(head=0.0), Counted(0.0, 0.0, 0.0, has.head)
    timed, sent = stage_time(of, layers_only), stage_sent(each, layers_only)
    whole = Part(stage_time(of, heads, timed), stage_sent(each, heads, sent))
    return Load(has, whole, Part(timed, sent))


class Paced(NamedTuple):
    """Pace of a pipeline: the slowest stage, which of three it is, and the mean of all others."""

    slowest: Reading
    which: Number
    others: Reading


def paced(of: Setting, overlap: str) -> Paced:
    """Return the pace of a pipeline; the slowest stage by a forward and a backward pass."""
    at, pp = of.at, of.at.plan.pp
    *each, whole = (
        read(at, overlap, one.stage, one.body, one.has.every, of.full_layers) for one in of.loads
    )
    slowest, which = each[0], 0.0
    for number, found in enumerate(each[1:], 1):
        these, those = found.forward + found.backward, slowest.forward + slowest.backward
        # stages that wait for the host alike differ in what they compute
        more = (these > those) | ((these == those) & (found.host < slowest.host))
        slowest = Reading(*(choose(more, a, b) for a, b in zip(found, slowest, strict=True)))
        which = choose(more, number * 1.0, which)
    alone = pp <= 1.0
    others = whole.minus(slowest, choose(alone, 1.0, pp - 1.0))
    others = Reading(*(choose(alone, a, b) for a, b in zip(slowest, others, strict=True)))
    return Paced(slowest, which, others)


def slowest_load(of: Setting, pace: Paced) -> Load:
    """Return what the slowest stage costs."""
    first, middle, last = of.loads[:3]

    def chosen(a: Number, b: Number, c: Number) -> Number:
        if isinstance(a, float) and a == 0.0 and a == b == c:
            return a
        return choose(pace.which == 0.0, a, choose(pace.which == 1.0, b, c))

    def part(name: str) -> Part:
        parts = [getattr(one, name) for one in (first, middle, last)]
        legs = zip(*(p.timed for p in parts), strict=True)
        timed = [type(leg[0])(*map(chosen, *leg)) for leg in legs]
        sent = map(chosen, *(p.sent for p in parts))
        return Part(type(parts[0].timed)(*timed), type(parts[0].sent)(*sent))

    has = Counted(*map(chosen, first.has, middle.has, last.has))
    return Load(has, part("stage"), part("body"))
