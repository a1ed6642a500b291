"""What the chips of a stage exchange for a micro-batch, one layer of each kind. MODEL section 7.

Tensor parallelism as in Megatron-LM: forward a sum after the attention and after the FFN, backward
one before each. With sequence parallelism each is a reduce-scatter and an all-gather, and the
backward pass gathers the kept inputs once more (Korthikanti et al. 2022, arXiv:2205.05198 section
4.2.2). What may hide behind what is told apart: the sum of input gradients behind the products for
weight gradients, the extra gather behind those for input gradients.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, most
from roofrack.cost import moe
from roofrack.cost.collectives import (
    Transfer,
    all_gather,
    all_reduce,
    either,
    repeated,
    together,
)
from roofrack.cost.exchanges import NORM_BYTES, context_parallel
from roofrack.cost.fabric import Wires, link
from roofrack.cost.shares import Pass, Share
from roofrack.cost.site import Site
from roofrack.cost.training.times import Counted, add


class Moved(NamedTuple):
    """Transfers of a micro-batch on a stage, or of one layer.

    Of tensor parallelism: `tp_forward`; backward those that all wait for (`tp_both`), those that
    only the gradients before this layer need (`tp_inputs`) and those that only the gradients of
    weights need (`tp_weights`). `cp_forward` and `cp_backward`; `ep` of one direction, and its
    seconds where levels run at once (`ep_s`).
    """

    tp_forward: Transfer
    tp_both: Transfer
    tp_inputs: Transfer
    tp_weights: Transfer
    cp_forward: Transfer
    cp_backward: Transfer
    ep: Transfer
    ep_s: Number

    def plus(self, other: "Moved", times: Number) -> "Moved":
        """Return this with `times` another."""
        transfers = [
            Transfer(*([add(x, y, times) for x, y in zip(p, q, strict=True)] for p, q in both))
            for both in (zip(a, b, strict=True) for a, b in zip(self[:-1], other[:-1], strict=True))
        ]
        return Moved._make([*transfers, add(self.ep_s, other.ep_s, times)])


class Sent(NamedTuple):
    """Seconds of each transfer of a Moved, levels one after the other; `ep_s` where at once."""

    tp_forward: Number
    tp_both: Number
    tp_inputs: Number
    tp_weights: Number
    cp_forward: Number
    cp_backward: Number
    ep: Number
    ep_s: Number

    def plus(self, other: "Sent", times: Number) -> "Sent":
        """Return this with `times` another."""
        return Sent(*(add(a, b, times) for a, b in zip(self, other, strict=True)))


class Exchanges(NamedTuple):
    """One layer of each kind, and the head; as in times.Layers."""

    every: Moved
    dense: Moved
    experts: Moved
    head: Moved

    @property
    def sent(self) -> tuple[Sent, ...]:
        """The seconds of each."""
        return tuple(Sent._make([*map(seconds, one[:-1]), one.ep_s]) for one in self)


def exchanges(at: Site, mine: Share, p: Pass, exchange: moe.Exchange) -> Exchanges:
    """Return what one layer of each kind exchanges, `exchange` that of all experts.

    `at` has one stage, as for works.works.
    """
    m, plan, tensor = at.s.model, at.plan, at.roads.tensor
    nothing = Transfer([0.0] * len(at.roads.pipeline), [0.0] * len(at.roads.pipeline))
    none = Moved._make([*[nothing] * 7, 0.0])
    split = most(at.s.plan.sequence_parallel, exchange.happens)
    among = choose(plan.attention_tp > 1.0, 1.0, 0.0)
    size = mine.tokens * m.d_model * mine.b_activations
    whole, gather = all_reduce(tensor, size), all_gather(tensor, size)
    both = repeated(gather, 2.0)

    def summed(divided: Number, times: Number) -> Moved:
        """Return the sums of a block whose products are tensor parallel."""
        apart = times * choose(divided > 0, 1.0, 0.0)
        return none._replace(
            tp_forward=repeated(either(divided > 0, both, whole), times),
            tp_both=repeated(gather, apart),
            tp_inputs=repeated(either(divided > 0, gather, whole), times),
            tp_weights=repeated(gather, apart),
        )

    squares = all_reduce(tensor, mine.tokens * 2.0 * NORM_BYTES)
    squares = repeated(squares, m.qk_norm_all_heads * among)
    every = summed(split, among)
    every = every._replace(
        tp_forward=together(every.tp_forward, squares), tp_both=together(every.tp_both, squares)
    )
    shared = exchange.happens * among * choose(m.shared_experts > 0, 1.0, 0.0)
    sequence = at.s.plan.sequence_parallel
    apart = summed(sequence, 1.0 - exchange.happens)
    divided = choose(sequence > 0, 1.0, 0.0)
    into = repeated(gather, divided)
    out = together(into, repeated(whole, 1.0 - divided))
    once = divide(1.0, m.moe_layers)
    return Exchanges(
        every=_with_context(at, mine, p, every),
        dense=summed(sequence, 1.0),
        experts=summed(1.0, shared)
        .plus(apart, 1.0)
        ._replace(ep=repeated(exchange.transfer, once), ep_s=exchange.exposed * once),
        # its input in, the gradient of its input out
        head=none._replace(tp_forward=into, tp_inputs=out, tp_weights=into),
    )


def _with_context(at: Site, mine: Share, p: Pass, every: Moved) -> Moved:
    """Add what context parallelism exchanges in one layer.

    Ring: keys and values go round, backward with their gradients. All-to-all: queries, keys, values
    and outputs change from all heads of some tokens to some heads of all, and back.
    """
    m, plan = at.s.model, at.plan
    each = divide(1.0, m.layers)
    ring = repeated(context_parallel(at, mine, p), each)
    mla = choose(m.kv_lora > 0, 1.0, 0.0)
    heads = m.heads / plan.attention_tp
    kv = m.kv_heads / choose(m.kv_heads > 0, plan.kv_shards / plan.cp, 1.0)
    plain = 2.0 * (heads + kv) * m.head_dim
    latent = 2.0 * heads * (m.qk_nope_dim + m.qk_rope_dim + m.v_head_dim)
    width = mla * latent + (1.0 - mla) * plain
    size = mine.attention_tokens * width * mine.b_activations
    swap = repeated(all_to_all(at.roads.context.wires, size), at.counts.softmax_layers * each)
    swaps = at.s.plan.context_parallel > 0
    return every._replace(
        cp_forward=either(swaps, swap, ring),
        cp_backward=either(swaps, swap, repeated(ring, 2.0)),
    )


def all_to_all(laid: Wires, size_bytes: Number) -> Transfer:
    """Return the transfer of a chip's `size_bytes` in equal parts to every member of its group.

    A level carries what goes to members that it, and no level inside it, joins.
    """
    seconds: list[Number] = []
    sent: list[Number] = []
    inside: Number = 1.0
    members = laid[-1].reach
    for wire in laid:
        via = link(wire, "all_to_all")
        moved = size_bytes * (wire.reach - inside) / members
        fixed = wire.exchange_steps * wire.latency_s + via.launch_s + via.staged_s
        seconds.append(fixed + moved * wire.load / via.bytes_per_s)
        sent.append(moved)
        inside = wire.reach
    return Transfer(seconds, sent)


def stage_moves(of: Exchanges, has: Counted) -> Moved:
    """Return what a stage exchanges that `has` so many layers of each kind."""
    levels = len(of.every.ep.seconds)
    nothing = Transfer([0.0] * levels, [0.0] * levels)
    found = Moved._make([*[nothing] * 7, 0.0])
    for kind, times in zip(of, has, strict=True):
        found = found.plus(kind, times)
    return found


def stage_sent(of: tuple[Sent, ...], has: Counted, start: Sent | None = None) -> Sent:
    """Return the seconds of what a stage exchanges, `start` besides."""
    found = start or Sent(*[0.0] * len(Sent._fields))
    for kind, times in zip(of, has, strict=True):
        if not (isinstance(times, float) and times == 0.0):
            found = found.plus(kind, times)
    return found


def seconds(*some: Transfer) -> Number:
    """Return the seconds of transfers, one after the other."""
    return sum((sum(t.seconds) for t in some), start=0.0)
