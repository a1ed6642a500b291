"""How far real kernels and links fall short of the data sheet: a handful of numbers per class."""

from dataclasses import dataclass, field

from roofrack.fields import Leaf, amount, declare, flag, positive, share


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One kernel class in the form of MODEL section 10: t = (tc^p + tb^p)^(1/p) + t0.

    tc = FLOP / (peak * compute_efficiency), rows padded to `tile`; tb = bytes / (bandwidth *
    hbm_efficiency); p = `sharpness` (1 is the sum, inf the maximum); t0 = `launch_s` per call.
    """

    compute_efficiency: float = share("reachable share of the peak FLOP/s")
    hbm_efficiency: float = share("reachable share of the memory bandwidth")
    sharpness: float = declare(
        Leaf("exponent of the smooth maximum", "", None, at_least=1.0, infinite=True)
    )
    launch_s: float = amount("fixed time of one call", "s")
    tile: float = positive("rows a kernel computes at least", "rows", integer=True)


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """The kernel classes. Projections, FFNs and the head are `gemm`."""

    gemm: Kernel = field()
    attention_prefill: Kernel = field()
    attention_decode: Kernel = field()
    moe: Kernel = field()


@dataclass(frozen=True, kw_only=True)
class Link:
    """What a collective reaches of a kind of link: t = launch_s + bytes/(bandwidth*efficiency).

    A message of m bytes reaches m/(m + half_bytes) of that bandwidth.
    """

    efficiency: float = share("reachable share of the link bandwidth")
    launch_s: float = amount("fixed time of one collective", "s")
    half_bytes: float = amount("message that reaches half the bandwidth", "byte", 0)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Everything fitted (or, until then, assumed); the data sheet stays in Hardware."""

    kernel: Kernels = field()
    scale_up: Link = field()
    scale_out: Link = field()
    layer_s: float = amount("small kernels of one layer", "s")
    step_s: float = amount("fixed time of one pass", "s")
    comm_overlap: float = declare(
        Leaf(
            "share of the shorter of compute and communication hidden (overlap=smooth)",
            "",
            None,
            at_least=0.0,
            at_most=1.0,
        )
    )
    hbm_usable: float = share("share of the memory that weights, cache and activations may fill")
    quantize: float = flag("whole sequences per chip, tiles and collective steps are rounded up")
    step_rel_std: float = amount("relative standard error of a pass; 0 = not fitted", "", 0)
