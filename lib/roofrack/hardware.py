"""The first noun: a machine as its data sheet and its price list describe it."""

from dataclasses import dataclass, field

from roofrack.fields import amount, at_least_one, flag, name, positive
from roofrack.tables import TOPOLOGIES

DEPTH = 4
"""Levels of a fabric, at most; fewer are filled up with idle ones."""


@dataclass(frozen=True, kw_only=True)
class FlopsPerS:
    """Dense peak of one chip by kind of matrix unit; a multiply-add is 2 FLOP; 0 = no such unit."""

    fp32: float = amount("dense FP32 peak", "FLOP/s", 0)
    tf32: float = amount("dense TF32 peak", "FLOP/s", 0)
    bf16: float = amount("dense BF16 peak", "FLOP/s", 0)
    fp16: float = amount("dense FP16 peak", "FLOP/s", 0)
    fp8: float = amount("dense FP8 peak", "FLOP/s", 0)
    int8: float = amount("dense INT8 peak", "op/s", 0)
    fp4: float = amount("dense FP4 peak", "FLOP/s", 0)


@dataclass(frozen=True, kw_only=True)
class Level:
    """One level of the fabric. A chip's bandwidth is in ONE direction, all its links together."""

    chips: float = positive("chips that one domain of this level connects", "chips", integer=True)
    bytes_per_s: float = positive("bandwidth of one chip, one direction", "byte/s")
    latency_s: float = amount("latency of one hop", "s")
    topology: float = name("how the chips are wired", TOPOLOGIES, "switched")
    ring_closes_at: float = amount(
        "members of a torus axis from which its ring closes; 0 = always", "chips", 0
    )
    in_network_reduction: float = flag("switches add up all-reduces", False)
    oversubscription: float = at_least_one(
        "bandwidth of the chips over what this level carries at once", "", 1
    )


@dataclass(frozen=True, kw_only=True)
class Tier:
    """Memory behind the HBM, each chip's share of it; `bytes` 0 = there is none."""

    bytes: float = amount("capacity for each chip", "byte", 0)
    bytes_per_s: float = amount("bandwidth to one chip, one direction", "byte/s", 0)
    usd_per_hour: float = amount("price of the capacity of one chip", "USD/h", 0)


@dataclass(frozen=True, kw_only=True)
class Tiers:
    """Where a KV cache can wait when it is not in HBM."""

    host: Tier = field()
    flash: Tier = field()


@dataclass(frozen=True, kw_only=True)
class AttentionKernels:
    """Published speeds of fused attention kernels in training: shares of the dense BF16 peak.

    Forward and backward together, causal (half the pairs counted), long sequences, heads of 128
    elements; 0 = none was read for this machine.
    """

    flash_1: float = amount("share of the peak of FlashAttention", "", 0, at_most=1.0)
    flash_2: float = amount("share of the peak of FlashAttention-2", "", 0, at_most=1.0)
    flash_3: float = amount("share of the peak of FlashAttention-3", "", 0, at_most=1.0)
    cudnn: float = amount("share of the peak of cuDNN's fused attention", "", 0, at_most=1.0)


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """One chip and the fabric that joins its copies; `fabric` is innermost level first.

    The innermost level is the scale-up domain, which the text calls a rack. Where a file has no
    `overlap_loss` of its own it is that of NCCL on H100.
    """

    flops_per_s: FlopsPerS = field()
    sms: float = amount(
        "multiprocessors that tiles are dealt to; 0 = not told, nothing is lost in waves",
        "",
        0,
        integer=True,
    )
    hbm_bytes: float = positive("memory of one chip", "byte")
    hbm_bytes_per_s: float = positive("memory bandwidth of one chip", "byte/s")
    fabric: tuple[Level, ...] = field()
    tiers: Tiers = field()
    power_w: float = amount("power of one chip under load", "W")
    usd_per_chip_hour: float = amount("rental price, typical", "USD/h")
    usd_per_chip_hour_low: float = amount("rental price, low end of the offers", "USD/h")
    usd_per_chip_hour_high: float = amount("rental price, high end of the offers", "USD/h")
    overlap_loss: float = amount(
        "share of its speed that computation loses in training while something travels beside it",
        "",
        0.33,
        at_most=1.0,
    )
    attention_kernels: AttentionKernels = field(default_factory=AttentionKernels)
    capex_usd: float = amount("price of a chip with its share of system and network", "USD", 0)
