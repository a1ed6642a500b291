"""The roofline of one block of work on one chip, and how blocks hide behind each other.

MODEL sections 3 and 10. Two times only: arithmetic and memory traffic; a kernel class says how
much of each peak is reachable and how sharply the larger one wins.
"""

from typing import NamedTuple

from roofrack.arithmetic import (
    Number,
    choose,
    divide,
    infinite,
    least,
    most,
    side_by_side,
)
from roofrack.calibration import Kernel


class Chip(NamedTuple):
    """What a kernel meets: FLOP/s of the units it uses, memory bandwidth, multiprocessors."""

    peak: Number
    hbm_bytes_per_s: Number
    sms: Number = 0.0


class Work(NamedTuple):
    """What one chip does in one kernel class of a block during one pass.

    `flops` as the kernel computes them (padded to tiles and waves), `peak` the FLOP/s of the units
    used; weight, KV cache and activation bytes moved; `fixed_s` what neither hides. All of it
    `times` over: where there may be 0 layers of a kind, one more still has its price (its
    derivative).
    """

    flops: Number
    peak: Number
    weight_bytes: Number
    kv_bytes: Number
    io_bytes: Number
    fixed_s: Number
    kernel: Kernel
    times: Number = 1.0

    @property
    def read_bytes(self) -> Number:
        """Bytes of weights and cache."""
        return self.times * (self.weight_bytes + self.kv_bytes)


class BlockTime(NamedTuple):
    """Seconds of one block: each part alone, and `busy`, the smooth maximum of all but `launch`."""

    compute: Number
    weights: Number
    kv: Number
    activation: Number
    launch: Number
    busy: Number


def smooth_max(a: Number, b: Number, p: Number) -> Number:
    """Return (a^p + b^p)^(1/p) for a, b >= 0 and p >= 1; p = 1 is the sum, p = inf the maximum.

    Computed from the ratio of the smaller to the larger, so that nothing overflows; 0 where both
    are 0. At p = inf the derivative is the maximum's (half to each side of a tie).
    """
    larger = most(a, b)
    ratio = divide(least(a, b), larger)
    sharp = infinite(p)
    exponent = choose(sharp, 1.0, p)
    rounded = larger * (1.0 + ratio**exponent) ** (1.0 / exponent)
    return choose(sharp, larger, rounded)


def block_times(works: list[tuple[Work, Number]]) -> list[BlockTime]:
    """Return the times of blocks, each with the memory bandwidth of the chips that compute it."""
    items = [
        (
            w.flops, w.peak, w.weight_bytes, w.kv_bytes, w.io_bytes, w.fixed_s, w.times,
            w.kernel.compute_efficiency, w.kernel.hbm_efficiency, w.kernel.sharpness, hbm,
        )
        for w, hbm in works
    ]  # fmt: skip
    return side_by_side(_time, items)


def _time(
    flops: Number, peak: Number, weight_bytes: Number, kv_bytes: Number, io_bytes: Number,
    fixed_s: Number, times: Number, reached: Number, of_memory: Number, sharpness: Number,
    hbm_bytes_per_s: Number,
) -> BlockTime:  # fmt: skip
    bandwidth = hbm_bytes_per_s * of_memory
    # a chip without the units asked for has peak 0: the plan is invalid, the time stays finite
    compute = divide(flops, peak * reached)
    weights, kv, activation = (b / bandwidth for b in (weight_bytes, kv_bytes, io_bytes))
    busy = smooth_max(compute, weights + kv + activation, sharpness)
    once = (compute, weights, kv, activation, fixed_s, busy)
    return BlockTime(*(times * seconds for seconds in once))


def block_time(work: Work, hbm_bytes_per_s: Number) -> BlockTime:
    """Return the times of one block on one chip (MODEL section 10: t0 is `launch`)."""
    return block_times([(work, hbm_bytes_per_s)])[0]
