"""What hides behind what on one stage: from its parts to seconds of a forward and a backward pass.

The readings are those of inference (`cost.overlap`): `smooth` takes each block at its roofline and
hides what the plan says; `ideal` hides all behind the longest resource of a pass, `none` nothing;
`matmul` hides weights behind arithmetic. What travels while the chip computes takes some of its
speed, `hardware.overlap_loss`.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, least, most
from roofrack.cost.site import Site
from roofrack.cost.training.exchanges import Sent
from roofrack.cost.training.times import Spent, Timed
from roofrack.tables import RECOMPUTE, SCHEDULES

SELECTIVE, FULL, ALTERNATE = (
    float(RECOMPUTE.index(name)) for name in ("selective", "full", "alternate")
)
DUALPIPE = float(SCHEDULES.index("dualpipe"))


class Part(NamedTuple):
    """A stage, or a part of its layers: what it computes and what it exchanges."""

    timed: Timed
    sent: Sent


class Reading(NamedTuple):
    """Seconds of a micro-batch on a stage.

    `forward`, the whole `backward` (recomputation included) and of it what is for the gradients of
    `weights`; `pair` of a forward and a backward of two micro-batches at once; `host` of both what
    the chip waits for the host to launch.
    """

    forward: Number
    backward: Number
    weights: Number
    pair: Number
    host: Number

    def minus(self, other: "Reading", ways: Number) -> "Reading":
        """Return the difference to another, divided; never below 0."""
        return Reading(*(most(a - b, 0.0) / ways for a, b in zip(self, other, strict=True)))


def taken(at: Site, full_layers: Number) -> Number:
    """Return the share of a stage's layers that recomputation takes."""
    plan = at.s.plan
    some = least(1.0, plan.recompute_layers / full_layers)
    return choose(plan.recompute_layers > 0, some, 1.0)


def recomputed(at: Site, full_layers: Number) -> tuple[Number, Number]:
    """Return which share of the layers is computed again, and whether their cores alone are.

    A fused core computes its scores again in any case: `selective` adds nothing to it. `alternate`
    keeps cores, so that their share is taken off again.
    """
    plan, share = at.s.plan, taken(at, full_layers)
    whole = choose(plan.recompute == FULL, share, 0.0)
    unfused = choose(plan.flash_attention > 0, 0.0, 1.0)
    again = choose(plan.recompute == ALTERNATE, share * _every_second(at), 0.0)
    return whole + again, choose(plan.recompute == SELECTIVE, unfused, 0.0) - again


def _every_second(at: Site) -> Number:
    """Return the share of a layer's products that every second one is: keys, output, one inward.

    By their FLOP; latents count as the keys and values that they expand to.
    """
    m = at.s.model
    mla = choose(m.kv_lora > 0, 1.0, 0.0)
    query = mla * m.heads * (m.qk_nope_dim + m.qk_rope_dim) + (1.0 - mla) * m.heads * m.head_dim
    keys = mla * m.heads * m.qk_nope_dim + (1.0 - mla) * m.kv_heads * m.head_dim
    out = mla * m.heads * m.v_head_dim + (1.0 - mla) * m.heads * m.head_dim
    dense = divide(at.counts.dense_layers, m.layers) * m.d_ff
    routed = m.experts_per_token * m.d_ff_expert + m.shared_experts * m.d_ff_shared
    hidden = dense + divide(m.moe_layers, m.layers) * routed
    return divide(keys + out + hidden, query + 2.0 * keys + out + m.ffn_matrices * hidden)


def read(
    at: Site, overlap: str, stage: Part, body: Part, layers: Number, full_layers: Number
) -> Reading:
    """Return the seconds of a stage of some `layers` under an overlap.

    `body` is the stage without its heads. Kernels do not run before the host has launched them:
    where it is slower than the chip, it sets the pace.
    """
    whole, cores = recomputed(at, full_layers)
    forward = _forward_s(at, overlap, stage)
    again = whole * _forward_s(at, overlap, body) + cores * _work(overlap, body.timed.core)
    backward = _backward_s(at, overlap, stage) + again
    t = stage.timed
    weights = _work(overlap, t.weights)
    host = at.s.calibration.host_s * layers
    back = (2.0 + whole + most(cores, 0.0)) * host
    waits = most(host - forward, 0.0) + most(back - backward, 0.0)
    forward, backward = most(forward, host), most(backward, back)
    pair = forward + backward
    if overlap not in ("ideal", "none"):
        computed = t.forward.busy + t.inputs.busy + t.weights.busy
        hidden = _beside(at) * won(at, 2.0 * stage.sent.ep_s, computed)
        pair = most(pair - hidden, host + back)
    return Reading(forward, backward, weights, pair, waits)


def won(at: Site, sent_s: Number, busy_s: Number) -> Number:
    """Return the seconds won where something travels beside what is computed.

    Computation goes on at 1 - `overlap_loss` of its speed as long as something travels.
    """
    return least((1.0 - at.s.hardware.overlap_loss) * sent_s, busy_s)


def _memory(t: Spent) -> Number:
    return t.weights + t.kv + t.activation


def _work(overlap: str, t: Spent) -> Number:
    """Return the seconds of what is computed, launches included."""
    if overlap == "ideal":
        return most(t.compute, _memory(t)) + t.launch
    if overlap == "none":
        return t.compute + _memory(t) + t.launch
    if overlap == "matmul":
        return t.kv + most(t.compute, t.weights) + t.activation + t.launch
    return t.busy + t.launch


def _ring(at: Site) -> Number:
    """Return 1 where keys and values come round while the core works on others."""
    return choose(at.s.plan.context_parallel > 0, 0.0, 1.0)


def _forward_s(at: Site, overlap: str, of: Part) -> Number:
    t, moved = of.timed.forward, of.sent
    sent = moved.tp_forward + moved.cp_forward + moved.ep_s
    if overlap == "ideal":
        return most(most(t.compute, _memory(t)), sent) + t.launch
    if overlap == "none":
        # levels of an exchange that run at once are parts of their own
        return _work(overlap, t) + moved.tp_forward + moved.cp_forward + moved.ep
    _, beside, _ = _hidden(at, of)
    own = at.s.calibration.comm_overlap if overlap == "smooth" else 0.0
    rest = _ring(at) * least(moved.cp_forward, of.timed.core.busy)
    more = won(at, sent - rest, t.busy - least(rest, t.busy))
    return _work(overlap, t) + sent - beside - own * more


def _backward_s(at: Site, overlap: str, of: Part) -> Number:
    """Return the seconds of the gradients; what hides behind which product is as in `exchanges`."""
    t, moved = of.timed, of.sent
    tp = moved.tp_both + moved.tp_inputs + moved.tp_weights
    sent = tp + moved.cp_backward + moved.ep_s
    both = t.inputs.plus(t.weights)
    if overlap == "ideal":
        return most(most(both.compute, _memory(both)), sent) + both.launch
    if overlap == "none":
        return _work(overlap, both) + tp + moved.cp_backward + moved.ep
    beside, _, ring = _hidden(at, of)
    hidden = at.s.plan.overlap_tp * beside + ring
    return _work(overlap, t.inputs) + _work(overlap, t.weights) + sent - hidden


def exposed(
    at: Site, overlap: str, stage: Part, body: Part, full_layers: Number
) -> dict[str, Number]:
    """Return seconds of exchanges of a micro-batch that a stage waits for, by cause.

    What `calibration.comm_overlap` hides of a forward pass is not told apart.
    """
    whole, _ = recomputed(at, full_layers)
    t, moved, again = stage.timed, stage.sent, body.sent
    if overlap == "none":
        tp = moved.tp_both + moved.tp_inputs + moved.tp_weights
        return {
            "tp": moved.tp_forward + tp + whole * again.tp_forward,
            "cp": moved.cp_forward + moved.cp_backward + whole * again.cp_forward,
            "ep": 2.0 * moved.ep + whole * again.ep,
        }
    if overlap == "ideal":
        return dict.fromkeys(("tp", "cp", "ep"), 0.0)
    ring, tp, core = _ring(at), at.s.plan.overlap_tp, t.core.busy
    computed = t.forward.busy + t.inputs.busy + t.weights.busy
    return {
        "tp": moved.tp_forward
        + moved.tp_both
        + _left(moved.tp_inputs, t.weights.busy, tp)
        + _left(moved.tp_weights, t.inputs.busy, tp)
        + whole * again.tp_forward,
        "cp": _left(moved.cp_forward, core, ring)
        + _left(moved.cp_backward, 2.0 * core, ring)
        + whole * _left(again.cp_forward, body.timed.core.busy, ring),
        "ep": _left(2.0 * moved.ep_s, computed, _beside(at)) + whole * again.ep_s,
    }


def _left(sent: Number, behind: Number, hides: Number) -> Number:
    """Return what is waited for of something sent, where it `hides` (1, else 0) behind another."""
    return sent - hides * sent + hides * most(sent - behind, 0.0)


def _beside(at: Site) -> Number:
    """Return 1 where exchanges of experts pass while another micro-batch is computed."""
    return most(at.s.plan.overlap_ep, choose(at.s.plan.schedule == DUALPIPE, 1.0, 0.0))


def _hidden(at: Site, of: Part) -> tuple[Number, Number, Number]:
    """Return what hiding wins of tensor parallelism backward, and of a ring forward and backward.

    The core has two gradients for each of its products forward.
    """
    t, moved = of.timed, of.sent
    beside = won(at, moved.tp_inputs, t.weights.busy)
    beside = beside + won(at, moved.tp_weights, t.inputs.busy)
    ring = _ring(at)
    return (
        beside,
        ring * won(at, moved.cp_forward, t.core.busy),
        ring * won(at, moved.cp_backward, 2.0 * t.core.busy),
    )
