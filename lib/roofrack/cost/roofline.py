"""The roofline of one block of work on one chip, and how blocks hide behind each other.

MODEL sections 3 and 10. Two times only: arithmetic and memory traffic; a kernel class says how
much of each peak is reachable and how sharply the larger one wins.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from roofrack.arithmetic import Number, choose, divide
from roofrack.calibration import Kernel


class Work(NamedTuple):
    """What one chip does in one block during one pass, all layers together.

    `flops` with rows padded to tiles, `peak` the FLOP/s of the units used; weight, KV cache and
    activation bytes moved; `calls` kernels launched.
    """

    flops: Number
    peak: Number
    weight_bytes: Number
    kv_bytes: Number
    io_bytes: Number
    calls: Number
    kernel: Kernel


class BlockTime(NamedTuple):
    """Seconds of one block: each part alone, and `busy`, their smooth maximum (no launches)."""

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
    larger = jnp.maximum(a, b)
    ratio = divide(jnp.minimum(a, b), larger)
    sharp = jnp.isinf(p)
    exponent = choose(sharp, 1.0, p)
    rounded = larger * (1.0 + ratio**exponent) ** (1.0 / exponent)
    return choose(sharp, larger, rounded)


def block_time(work: Work, hbm_bytes_per_s: Number) -> BlockTime:
    """Return the times of one block on one chip (MODEL section 10: t0 is `launch`)."""
    bandwidth = hbm_bytes_per_s * work.kernel.hbm_efficiency
    # a chip without the units asked for has peak 0: the plan is invalid, the time stays finite
    compute = divide(work.flops, work.peak * work.kernel.compute_efficiency)
    weights = work.weight_bytes / bandwidth
    kv = work.kv_bytes / bandwidth
    activation = work.io_bytes / bandwidth
    busy = smooth_max(compute, weights + kv + activation, work.kernel.sharpness)
    return BlockTime(compute, weights, kv, activation, work.calls * work.kernel.launch_s, busy)


@jax.custom_jvp
def _ceil(x: Number) -> Number:
    return jnp.ceil(x)


@_ceil.defjvp
def _ceil_jvp(primals: tuple[Number], tangents: tuple[Number]) -> tuple[Number, Number]:
    return jnp.ceil(primals[0]), tangents[0]


def round_up(x: Number, quantize: Number) -> Number:
    """Return ceil(x) where `quantize` is set, else x. The derivative is 1 in both cases.

    The exact forward value has steps; the derivative is that of the smooth surrogate x, so that
    "a little more batch" still has a price.
    """
    return choose(quantize > 0, _ceil(jnp.asarray(x, jnp.result_type(float))), x)


def padded(rows: Number, tile: Number, quantize: Number) -> Number:
    """Return `rows` rounded up to whole tiles where `quantize` is set (tensor cores work in tiles)."""
    return choose(quantize > 0, tile * round_up(rows / tile, quantize), rows)
