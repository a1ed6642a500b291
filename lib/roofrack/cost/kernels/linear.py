"""The core of linear attention: a state for each sequence and head, which tokens update in turn.

MODEL section 10. Gated DeltaNet is what was fitted (its causal convolution included); other layers
with a state of fixed size (Mamba, lightning attention) take the same form.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, most
from roofrack.calibration import LinearCore
from roofrack.cost.roofline import Chip, Work


class Call(NamedTuple):
    """New tokens of some sequences on one chip, one layer.

    `sequences`, each with a state for each of `heads` value heads; `flops` of all of them; bytes of
    the states read and written, and of queries, keys, values and outputs once each.
    """

    sequences: Number
    heads: Number
    flops: Number
    state_bytes: Number
    io_bytes: Number


def work(call: Call, chip: Chip, fit: LinearCore, quantize: Number) -> Work:
    """Return the work of the core of one layer.

    FLOP: a head of a sequence walks along its tokens on a multiprocessor of its own, as each chunk
    needs the state that the one before it left (Yang et al. 2024, arXiv:2412.06464 section 3): with
    fewer heads than multiprocessors the others idle. Bytes: the states once, and `passes` over the
    activations, as chunks are worked on in several kernels that meet in memory.
    """
    walks = call.sequences * call.heads
    known = (chip.sms > 0) & (quantize > 0)
    idle = choose(known, most(1.0, divide(chip.sms, walks, 1.0)), 1.0)
    return Work(
        flops=call.flops * idle,
        peak=chip.peak,
        weight_bytes=0.0,
        kv_bytes=call.state_bytes,
        io_bytes=fit.passes * call.io_bytes,
        fixed_s=choose(walks > 0, 1.0, 0.0) * fit.launch_s,
        kernel=fit,
    )
