"""How far real kernels and links fall short of the data sheet: a handful of numbers per class."""

from dataclasses import dataclass, field
from typing import Any

from roofrack.fields import Leaf, amount, declare, flag, positive, share


def _sharpness() -> Any:
    leaf = Leaf("exponent of the smooth maximum", "", None, at_least=1.0, infinite=True)
    return declare(leaf)


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """What every kernel class has: t = (tc^p + tb^p)^(1/p) + fixed (MODEL section 10).

    tc = FLOP / (peak * compute_efficiency); tb = bytes / (bandwidth * hbm_efficiency); p =
    `sharpness` (1 is the sum, inf the maximum); fixed = `launch_s` per call and what a class adds.
    `rel_std` is the error of the class on shapes that no fit saw, 0 = not fitted.
    """

    compute_efficiency: float = share("reachable share of the peak FLOP/s")
    hbm_efficiency: float = share("reachable share of the memory bandwidth")
    sharpness: float = _sharpness()
    launch_s: float = amount("fixed time of one call", "s")
    rel_std: float = amount("relative standard error of one call; 0 = not fitted", "", 0)


@dataclass(frozen=True, kw_only=True)
class Gemm(Kernel):
    """A matrix product of m x k activations with k x n weights; cost.kernels.gemm has the form."""

    tile: float = positive("rows that a tile of the output has", "rows", integer=True)
    tile_columns: float = positive(
        "columns that a tile of the output has", "columns", 1, integer=True
    )
    wave: float = amount("exponent of the loss in the last wave of tiles; 1 = all of it", "", 0)
    prologue: float = amount("steps of the inner dimension that a tile waits for", "elements", 0)
    depth_s: float = amount("time that each step of the inner dimension adds", "s", 0)
    starvation: float = amount("memory time that is lost where tiles are few", "", 0)
    quantize_s: float = amount("fixed time of quantising the activations", "s", 0)
    quantize_passes: float = amount(
        "passes of 3 bytes over the activations to quantise them", "", 0
    )


@dataclass(frozen=True, kw_only=True)
class Gemms:
    """The matrix products by number format; block scales are a format of their own."""

    bf16: Gemm = field()
    fp8: Gemm = field()
    fp8_block: Gemm = field()
    fp4: Gemm = field()


@dataclass(frozen=True, kw_only=True)
class DecodeCore(Kernel):
    """The attention core of decoding tokens; cost.kernels.attention has the form."""

    group: float = positive("query heads that are computed together at least", "heads", 1)
    splits: float = flag("a long context is divided among multiprocessors", True)
    blocks_per_sm: float = amount("blocks for each multiprocessor that splitting aims at", "", 0)
    block_s: float = amount("time of one round of blocks over the multiprocessors", "s", 0)
    split_s: float = amount("time that the square root of the context adds", "s", 0)
    beyond_window: float = amount("share of the tokens beyond a window that is read", "", 0)


@dataclass(frozen=True, kw_only=True)
class DecodeCores:
    """The core of decoding tokens by the format of the cache: two bytes, or one."""

    bf16: DecodeCore = field()
    fp8: DecodeCore = field()


@dataclass(frozen=True, kw_only=True)
class PrefillCore(Kernel):
    """The attention core of a prompt; cost.kernels.attention has the form."""

    exponent: float = amount("work of the softmax, as elements of a head", "elements", 0)
    tail: float = amount("share of the longest tile that others wait for", "", 0)
    block_s: float = amount("time of one round of tiles over the multiprocessors", "s", 0)


@dataclass(frozen=True, kw_only=True)
class PrefillCores:
    """The core of prompts by the format of the cache: two bytes, or one."""

    bf16: PrefillCore = field()
    fp8: PrefillCore = field()


@dataclass(frozen=True, kw_only=True)
class LinearCore(Kernel):
    """The core of a layer of linear attention; cost.kernels.linear has the form."""

    passes: float = amount("passes over queries, keys, values and outputs", "", 1)


@dataclass(frozen=True, kw_only=True)
class LinearCores:
    """The core of linear attention by the format of its activations."""

    bf16: LinearCore = field()


@dataclass(frozen=True, kw_only=True)
class Experts(Kernel):
    """The fused routed experts of a layer; cost.kernels.experts has the form."""

    pad_rows: float = amount("rows that the tiles of an expert compute in vain", "rows", 0)
    prologue: float = amount("steps of the inner dimension that a tile waits for", "elements", 0)
    local_passes: float = amount("passes over the rows of a rank's own experts", "", 0)
    all_passes: float = amount("passes over the rows of all experts", "", 0)
    depth_s: float = amount("time of one step of both inner dimensions", "s", 0)
    expert_s: float = amount("time that each expert held adds", "s", 0)


@dataclass(frozen=True, kw_only=True)
class ExpertsByFormat:
    """The routed experts by number format; w4: weights of four bits, a: width of the maths."""

    bf16: Experts = field()
    fp8: Experts = field()
    fp8_block: Experts = field()
    fp4: Experts = field()
    w4a16: Experts = field()
    w4a8: Experts = field()


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """The kernel classes. Projections, FFNs, router and head are `gemm`."""

    gemm: Gemms = field()
    attention_prefill: PrefillCores = field()
    attention_decode: DecodeCores = field()
    mla_prefill: PrefillCores = field()
    mla_decode: DecodeCores = field()
    linear_prefill: LinearCores = field()
    linear_decode: LinearCores = field()
    moe: ExpertsByFormat = field()


@dataclass(frozen=True, kw_only=True)
class Link:
    """What a collective reaches of a kind of link; cost.ways has the form.

    There is a protocol for large messages, and one for small ones that sends more and waits less;
    the faster of the two counts.
    """

    efficiency: float = share("reachable share of the link bandwidth")
    launch_s: float = amount("fixed time of one collective", "s")
    step_s: float = amount("time that each doubling of the members adds", "s", 0)
    staged_s: float = amount("time that the protocol for large messages waits longer", "s", 0)
    own: float = amount("share of the buffer that a chip copies besides", "", 0)
    low_latency: float = amount(
        "bytes that the protocol for small messages sends over those of the one for large messages;"
        " 0 = there is none",
        "",
        0,
    )
    direct: float = flag("for small messages every chip reads the buffers of all others", False)
    row_s: float = amount("time that each copy of a token adds (exchanges of experts)", "s", 0)
    expert_s: float = amount("time that each expert of a chip adds (exchanges of experts)", "s", 0)


@dataclass(frozen=True, kw_only=True)
class Links:
    """The collectives over one kind of link; a reduce-scatter is as an all-gather.

    `dispatch` takes tokens to their experts and `combine` back; `all_to_all` are the library's
    exchanges, pipeline hops and what goes between pools.
    """

    all_reduce: Link = field()
    all_gather: Link = field()
    all_to_all: Link = field()
    dispatch: Link = field()
    combine: Link = field()


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Everything fitted (or, until then, assumed); the data sheet stays in Hardware."""

    kernel: Kernels = field()
    scale_up: Links = field()
    scale_out: Links = field()
    layer_s: float = amount("small kernels of one layer", "s")
    host_s: float = amount(
        "time of the host to launch a layer forward in training, half of backward; 0 = captured",
        "s",
        0,
    )
    published_kernels: float = flag(
        "attention kernels of training are as fast as was published of them", True
    )
    stream_efficiency: float = share(
        "reachable share of the memory bandwidth by kernels that only move (norms, softmax)", 0.8
    )
    step_s: float = amount("fixed time of one pass", "s")
    sparse_group: float = positive(
        "query heads that kernels of sparse attention compute together", "heads", 1
    )
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
    fused_quantization: float = flag(
        "activations are quantised by the kernel before, not by one of their own", False
    )
    link_rel_std: float = amount("relative standard error of collectives; 0 = not fitted", "", 0)
    shared_beside: float = flag("shared experts are computed beside the routed ones", False)
    step_rel_std: float = amount(
        "relative standard error of a pass besides that of its kernels; 0 = not fitted", "", 0
    )
