"""What travels between a chip and the memory of its host in a step."""

from typing import NamedTuple

from roofrack.arithmetic import Number, divide, most
from roofrack.cost.shares import bytes_of
from roofrack.cost.training.memory import layer_bytes, resident
from roofrack.cost.training.optimizer import divided_bytes
from roofrack.cost.training.pace import Setting


class Offload(NamedTuple):
    """Bytes of a step each way, and seconds at the bandwidth of the host, both ways at once."""

    out_bytes: Number
    in_bytes: Number
    seconds: Number


def offload(of: Setting) -> Offload:
    """Return the traffic of the first stage, which holds the most activations.

    An optimiser's state in the host is updated there: gradients out, weights in (ZeRO-Offload,
    arXiv:2101.06840). Weights come in for each pass; activations go out forward and come in
    backward.
    """
    at, m, stage = of.at, of.m, of.stages.first
    s, plan = at.s, at.s.plan
    has = resident(at, of.stages, stage)
    size = bytes_of(s.workload.dtype.gradients)
    gradients = divided_bytes(at, of.ranks, 1.0, (has.dense * size, has.experts * size))
    fresh = divided_bytes(at, of.ranks, 1.0, has.weight_bytes)
    each = layer_bytes(at, of.mine, of.full_layers)
    kept = m * sum(n * b for n, b in zip(stage.has[:3], each, strict=True))
    out = plan.offload_optimizer * gradients + plan.offload_activations * kept
    back = plan.offload_optimizer * fresh + plan.offload_activations * kept
    back = back + plan.offload_weights * 2.0 * m * sum(has.weight_bytes)
    return Offload(out, back, divide(most(out, back), s.hardware.tiers.host.bytes_per_s))
