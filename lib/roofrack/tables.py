"""Names that stand for rows of small tables: dtypes, fabric topologies, price tiers, readings.

A categorical choice is an index into one of these tables, so that it can be an axis of a sweep
inside one compiled function. Order matters only within a process: results store the names.
"""

from itertools import permutations
from typing import NamedTuple

PHASES = ("decode", "prefill", "serve", "train")
"""What one evaluation covers; static (one compilation each)."""

OVERLAPS = ("smooth", "ideal", "matmul", "none")
"""How the parts of a pass hide behind each other (MODEL section 3); static."""


class Dtype(NamedTuple):
    """One number format: bytes per element, block scales included, and the units that compute."""

    bytes: float
    math: str


MATH_UNITS = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4")
"""The kinds of matrix unit a chip may have: the keys of `hardware.flops_per_s`."""

DTYPES = {
    "fp32": Dtype(4.0, "fp32"),
    "tf32": Dtype(4.0, "tf32"),
    "bf16": Dtype(2.0, "bf16"),
    "fp16": Dtype(2.0, "fp16"),
    "fp8": Dtype(1.0, "fp8"),
    # an fp32 scale for each 128 elements: activations in the DeepSeek-V3 recipe, arXiv:2412.19437
    "fp8_block": Dtype(1.0 + 4.0 / 128.0, "fp8"),
    # OCP Microscaling (MX) 1.0: one 8-bit scale for each 32 elements
    "mxfp8": Dtype(8.25 / 8.0, "fp8"),
    "int8": Dtype(1.0, "int8"),
    "int4": Dtype(0.5, "int8"),
    "fp4": Dtype(0.5, "fp4"),
    "mxfp4": Dtype(4.25 / 8.0, "fp4"),
    # NVFP4: one FP8 scale for each 16 elements
    "nvfp4": Dtype(4.5 / 8.0, "fp4"),
}
"""Every dtype by name. The same name may be given for storage and for maths."""

OWN_WEIGHTS = ("weights", *DTYPES)
"""Formats of a part of the weights: the same as the others, or one of its own."""

MASTER = ("none", *DTYPES)
"""Formats of the weights that an optimiser updates: those of the model itself, or a copy."""

OWN_OUTPUT = ("attention", *DTYPES)
"""Formats of the projection out of the attention: that of those into it, or one of its own."""

OWN_MATH = ("math", *DTYPES)
"""Formats that a part computes in: the same as the others, or one of its own."""


class Topology(NamedTuple):
    """How the chips of a level are wired: torus axes (0 = switched), or a link for every pair."""

    axes: float
    full_mesh: float


TOPOLOGIES = {
    "switched": Topology(0.0, 0.0),
    "full_mesh": Topology(0.0, 1.0),
    "ring": Topology(1.0, 0.0),
    "torus_2d": Topology(2.0, 0.0),
    "torus_3d": Topology(3.0, 0.0),
}
"""Every topology by name."""

SERVING = ("aggregated", "disaggregated", "afd")
"""Where the work of `phase=serve` is done: prompts and tokens on the same chips; prompts on a pool
of their own; and attention and FFN of the decode on different pools besides."""

CACHE_TIERS = ("hbm", "host", "flash")
"""Where cached prompt tokens wait for their next use."""

FEATURES = {
    "chunks": ("workload.chunk", 1e-9),
    "rows": ("parallelism.tp_rows", 1.5),
    "load": ("workload.arrivals_per_s", 1e-300),
}
"""Parts of the cost model that are left out, not computed with no effect, where no point of a study
has the leaf at or above the value; static."""

PLACED = ("tp", "cp", "ep", "pp")
"""What a placement orders. `ep` is the part of dp that one group of experts spans; the rest of dp
is outermost, nothing passes between its members."""

PLACEMENTS = tuple("-".join(order) for order in permutations(PLACED))
"""Every order of laying a plan over the fabric, innermost first; the first is the default."""

PP_BATCH = ("grow", "fixed")
"""The two readings of `batch` under pipelining (MODEL section 6)."""

SCHEDULES = ("1f1b", "gpipe", "interleaved", "zb_h1", "zb_h2", "dualpipe")
"""In which order the stages of a training pipeline work through their micro-batches (MODEL
section 6); the first is the default."""

RECOMPUTE = ("none", "selective", "full", "alternate")
"""What of the forward pass is computed again for the backward pass: nothing, the attention core
(which fused kernels do in any case), whole layers from their inputs, or every second matrix product
and whatever lies between them (torchtitan's selective checkpointing by operation)."""

CONTEXT_PARALLEL = ("ring", "all_to_all")
"""How chips that divide a sequence meet its keys and values: they pass round the ring while the
core works (Ring Attention, arXiv:2310.01889), or tokens are exchanged for heads before and after it
(DeepSpeed-Ulysses, arXiv:2309.14509)."""


class AttentionKernel(NamedTuple):
    """A fused attention kernel: `hardware.attention_kernels` says how fast it is on a machine.

    That share of the peak is of long causal sequences and heads of 128 elements. Of it s / (s +
    `ramp`) is reached for a sequence of s, `exponent` is the work of the softmax as elements of a
    head, and backward each FLOP takes `slower` times as long as forward.
    """

    ramp: float
    exponent: float
    slower: float


ATTENTION_KERNELS = {
    # the fastest of those published for a machine, else as fitted
    "best": None,
    # the core of prompts of the machine's calibration; backward as FlashAttention-2 on A100
    "fitted": None,
    # forward and backward of 512 to 16k tokens: figures 4 and 7 of arXiv:2307.08691, causal
    "flash_1": AttentionKernel(350.0, 0.0, 73.0 / 63.0),
    "flash_2": AttentionKernel(500.0, 18.0, 73.0 / 63.0),
    # forward causal, backward over forward not causal: figures 5 and 6 of arXiv:2407.08608
    "flash_3": AttentionKernel(450.0, 55.0, 638.0 / 542.0),
    # forward and backward of Llama 3.1's heads, H200 and GB200: NVIDIA/cudnn-frontend@3929da2ef4c1,
    # benchmark/sdpa_benchmark_training/results; narrow heads: figure 5 of arXiv:2407.08608
    "cudnn": AttentionKernel(950.0, 80.0, 644.0 / 541.0),
}
"""Every fused attention kernel of training by name."""

DATA_PLACED = ("outside", "inside")
"""Where data-parallel ranks that no group of experts spans are laid over the fabric: outside all
else, or with those that one spans (Megatron-LM's order tp-cp-ep-dp-pp)."""


class Optimizer(NamedTuple):
    """What an optimiser keeps of each parameter of the layers' matrices, and of all others.

    `states` and `others` bytes of moments for a parameter; `newton_schulz` iterations that
    orthogonalise each update of a matrix.
    """

    states: float
    others: float
    newton_schulz: float = 0.0


OPTIMIZERS = {
    # two moments in single precision (Kingma and Ba, arXiv:1412.6980)
    "adam": Optimizer(8.0, 8.0),
    # two moments in two bytes: DeepSeek-V3, arXiv:2412.19437 section 3.3.3
    "adam_bf16": Optimizer(4.0, 4.0),
    # two moments of a byte, each block of 2048 with a scale (Dettmers et al., arXiv:2110.02861)
    "adam_8bit": Optimizer(2.0 + 2.0 * 4.0 / 2048.0, 2.0 + 2.0 * 4.0 / 2048.0),
    # one momentum, 5 Newton-Schulz iterations; embedding and head by Adam (arXiv:2502.16982)
    "muon": Optimizer(4.0, 8.0, 5.0),
    # one momentum (Chen et al., arXiv:2302.06675)
    "lion": Optimizer(4.0, 4.0),
    "sgd_momentum": Optimizer(4.0, 4.0),
    "sgd": Optimizer(0.0, 0.0),
}
"""Every optimiser by name."""

BASES = ("rent", "own")
"""What an hour of a chip costs: a rental price, or capital, power and upkeep."""

PRICES = ("low", "typical", "high")
"""Which of a machine's sourced rental prices is paid."""
