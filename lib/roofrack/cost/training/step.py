"""One training step: micro-batches through a pipeline, then the ranks and the optimiser.

MODEL sections 6 and 7. The slowest stage sets the pace; a pipeline fills and drains at the pace of
the others. What each part takes is a page of its own.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, least, most
from roofrack.cost import pipeline, schedules
from roofrack.cost.collectives import Transfer, all_gather, repeated, together
from roofrack.cost.forward import Parts
from roofrack.cost.training.exchanges import seconds, stage_moves
from roofrack.cost.training.memory import fullest
from roofrack.cost.training.offload import Offload, offload
from roofrack.cost.training.optimizer import update_s
from roofrack.cost.training.pace import Load, Paced, Setting, paced, slowest_load
from roofrack.cost.training.ranks import Updates, all_updates, exposed_s, tied_ends, updates
from roofrack.cost.training.readings import DUALPIPE, recomputed
from roofrack.cost.training.times import Shares, Spent, stage_shares


class Pipelined(NamedTuple):
    """Seconds of a step's passes: `busy` on the slowest stage, idle in the `bubble`, in `hops`."""

    busy: Number
    bubble: Number
    hops: Number

    @property
    def total(self) -> Number:
        """All of them together."""
        return self.busy + self.bubble + self.hops


def pipelined(of: Setting, pace: Paced, hop: Transfer, overlap: str) -> Pipelined:
    """Return the seconds of the passes under a schedule.

    Filling and draining, every hop is waited for; in between those that do not pass while another
    micro-batch is computed (`overlap_pp`).
    """
    plan, pp = of.at.s.plan, of.at.plan.pp
    schedule, v = plan.schedule, plan.virtual_stages
    f, b, _, pair, _ = pace.slowest
    # two micro-batches are worked on at once in the steady state only
    steady = most(of.m - pp, 0.0)
    dual = (schedule == DUALPIPE) & (pp > 1.0)
    busy = choose(
        dual,
        schedules.busy_s(schedule, pp, of.m, f, b, pair),
        of.m * (f + b) - steady * (f + b - pair),
    )
    each = seconds(hop) * schedules.messages(schedule, v)
    steadily = 2.0 * each * of.m * (1.0 if overlap == "none" else 1.0 - plan.overlap_pp)
    if overlap == "ideal":
        each, steadily = 0.0 * each, 0.0 * each
    o = pace.others
    bubble = schedules.bubble_s(
        schedule, pp, of.m, v, o.forward + each, o.backward + each, o.weights, o.pair + 2.0 * each
    )
    return Pipelined(busy, most(bubble, 0.0), steadily)


def hop_of(of: Setting) -> Transfer:
    """Return the transfer over one boundary between stages, the mean of all.

    Its bytes are those of a chip, the mean over stages, of which one has no boundary. Every chip
    sends its part of the tokens; where they are not divided over tensor-parallel chips anyway,
    those gather them again (Narayanan et al. 2021, arXiv:2104.04473 section 4.1).
    """
    at = of.at
    every = pipeline.hops(at.s, at.plan, at.roads.pipeline, of.mine, 0.0)
    once = divide(1.0, at.plan.pp - 1.0)
    size = of.mine.tokens * at.s.model.d_model * of.mine.b_activations
    apart = choose(at.s.plan.sequence_parallel > 0, 0.0, 1.0) * choose(at.plan.pp > 1.0, 1.0, 0.0)
    whole = repeated(all_gather(at.roads.tensor, size), apart)
    part = divide(at.plan.pp - 1.0, at.plan.pp)
    gathered = Transfer(whole.seconds, [sent * part for sent in whole.sent_bytes])
    return together(Transfer([t * once for t in every.seconds], every.sent_bytes), gathered)


class Ends(NamedTuple):
    """What a step does besides its passes.

    `ranks_s` seconds waited for other ranks, `moved` all that they exchange; gradients of a `tied`
    matrix; seconds of the `update`; traffic with the host and what of it is waited for.
    """

    ranks_s: Number
    moved: Updates
    tied: Transfer
    update: Number
    host: Offload
    host_s: Number

    @property
    def total(self) -> Number:
        """Seconds waited for."""
        return self.ranks_s + seconds(self.tied) + self.update + self.host_s


class Once(NamedTuple):
    """What is the same however much is hidden: transfers, and seconds of the update."""

    moved: Updates
    tied: Transfer
    update: Number
    host: Offload


def once(of: Setting) -> Once:
    """Return what a step does besides its passes."""
    has = fullest(of.at, of.stages, of.ranks)
    return Once(
        updates(of.at, of.ranks, has, of.m),
        tied_ends(of.at),
        update_s(of.at, of.ranks, has),
        offload(of),
    )


def ends(of: Setting, overlap: str, pace: Paced, passes: Pipelined, same: Once) -> Ends:
    """Return what of it is waited for."""
    between = seconds(all_updates(same.moved))
    tied, host_s = same.tied, most(same.host.seconds - passes.total, 0.0)
    if overlap == "none":
        waited, host_s = between, same.host.seconds
    elif overlap == "ideal":
        waited, tied = most(between - passes.total, 0.0), repeated(tied, 0.0)
    else:
        waited = sum(exposed_s(of.at, same.moved, pace.slowest, of.full_layers), start=0.0)
    return Ends(waited, same.moved, tied, same.update, same.host, host_s)


class Step(NamedTuple):
    """A training step.

    Seconds as estimated, and brackets; its `parts` alone, which sum to `upper`; `passes`, `ends`
    and `pace` of the estimate; `load` of a micro-batch on the slowest stage, `moved` by what it
    exchanges, and its `shares` by block and error; a `hop`, and `messages` for each micro-batch
    over a boundary.
    """

    estimate: Number
    lower: Number
    upper: Number
    parts: Parts
    passes: Pipelined
    ends: Ends
    load: Load
    moved: dict[str, Transfer]
    shares: Shares
    hop: Transfer
    messages: Number


def step(of: Setting) -> Step:
    """Return a step under the scenario's overlap, between all hidden and nothing hidden."""
    overlap, step_s = of.at.s.overlap, of.at.s.calibration.step_s
    hop, same = hop_of(of), once(of)
    found: dict[str, tuple[Paced, Pipelined, Ends, Number]] = {}
    for name in dict.fromkeys((overlap, "ideal", "none")):
        pace = paced(of, name)
        passes = pipelined(of, pace, hop, name)
        after = ends(of, name, pace, passes, same)
        found[name] = (pace, passes, after, passes.total + after.total + step_s)
    pace, passes, after, estimate = found["none"]
    upper, alone = estimate, slowest_load(of, pace)
    whole, cores = recomputed(of.at, of.full_layers)
    moved = exchanged(of, alone, whole)
    parts = _parts(of, alone, moved, passes, after, pace.slowest.host)
    pace, passes, after, estimate = found[overlap]
    estimate = least(estimate, upper)
    return Step(
        estimate,
        least(found["ideal"][-1], estimate),
        upper,
        parts,
        passes,
        after,
        alone,
        moved,
        stage_shares(of.of, alone.has, whole, cores),
        hop,
        schedules.messages(of.at.s.plan.schedule, of.at.s.plan.virtual_stages),
    )


def computed(of: Setting, load: Load) -> Spent:
    """Return what a micro-batch computes on a stage: both passes, and what is computed again."""
    whole, cores = recomputed(of.at, of.full_layers)
    t = load.stage.timed
    found = t.forward.plus(t.inputs).plus(t.weights)
    return found.plus(load.body.timed.forward, whole).plus(load.body.timed.core, cores)


def exchanged(of: Setting, load: Load, whole: Number) -> dict[str, Transfer]:
    """Return what a micro-batch exchanges on a stage, by the dimension that causes it.

    Of the `whole` share of its layers the forward exchanges are made again.
    """
    moved = stage_moves(of.ex, load.has)
    again = stage_moves(of.ex, load.has._replace(head=0.0))
    tp = (moved.tp_forward, moved.tp_both, moved.tp_inputs, moved.tp_weights)
    return {
        "tp": together(*tp, repeated(again.tp_forward, whole)),
        "cp": together(moved.cp_forward, moved.cp_backward, repeated(again.cp_forward, whole)),
        "ep": together(repeated(moved.ep, 2.0), repeated(again.ep, whole)),
    }


def _parts(
    of: Setting,
    load: Load,
    moved: dict[str, Transfer],
    passes: Pipelined,
    after: Ends,
    host_s: Number,
) -> Parts:
    """Return the parts of a step in which nothing is hidden; of the update all is memory."""
    one = computed(of, load)
    sent = together(*moved.values())
    between = together(all_updates(after.moved), after.tied)
    levels = [of.m * a + b for a, b in zip(sent.seconds, between.seconds, strict=True)]
    return Parts(
        compute=of.m * one.compute,
        weights=of.m * one.weights + after.update,
        kv=of.m * one.kv,
        activation=of.m * one.activation,
        scale_up=levels[0],
        scale_out=sum(levels[1:], start=0.0),
        pipeline=passes.bubble + passes.hops,
        overhead=of.m * (one.launch + host_s) + after.host_s + of.at.s.calibration.step_s,
    )
