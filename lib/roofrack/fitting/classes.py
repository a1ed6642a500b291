"""The kernel classes that are fitted: which table, which numbers within which bounds, which shapes.

A class is fitted over the shapes that serving meets; what it says of others is extrapolation. The
numbers are those of a noun of `roofrack.calibration`, the function is the cost model's own.
"""

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

import polars as pl

from roofrack.arithmetic import Number, choose, least
from roofrack.calibration import DecodeCore, Experts, Gemm, LinearCore, PrefillCore
from roofrack.cost.attention import attended
from roofrack.cost.kernels import attention, experts, gemm, linear
from roofrack.cost.roofline import Chip, Work, block_time
from roofrack.fitting.fit import Bound, Columns, Seconds
from roofrack.model import CHUNK
from roofrack.tables import DTYPES, Dtype


class KernelClass(NamedTuple):
    """One class: its noun, the table it is fitted to, and how a row of it becomes Work.

    `kinds` maps each kind of number format to the formats of the table that it stands for; `given`
    are numbers that are not fitted, as lists where the best of several is taken. With `one_kernel`
    only the kernel that most shapes have is fitted: another one is another class.
    """

    table: str
    noun: type
    kinds: dict[str, tuple[str, ...]]
    bounds: dict[str, Bound]
    given: dict[str, tuple[float, ...]]
    domain: pl.Expr
    work: Callable[[Any, Columns, Chip], Work]
    format_column: str = "format"
    one_kernel: bool = False
    without: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    def seconds(self, numbers: Mapping[str, Any], columns: Columns) -> Number:
        """Return seconds of the calls, whose columns say chip and bytes of the format too."""
        chip = Chip(columns["peak"], columns["hbm_bytes_per_s"], columns["sms"])
        gain = numbers.get(GAIN)
        noun = self.noun(**{n: v for n, v in numbers.items() if n != GAIN})
        work = self.work(noun, columns, chip)
        if gain is not None:
            held = work.weight_bytes + work.kv_bytes + work.io_bytes
            faster = choose(held <= columns["cache_bytes"], gain, 1.0)
            work = work._replace(kv_bytes=work.kv_bytes / faster, io_bytes=work.io_bytes / faster)
        time = block_time(work, chip.hbm_bytes_per_s)
        return time.busy + time.launch


def seconds_of(name: str, **given: float) -> Seconds:
    """Return the function of a class with the numbers that are not fitted; the same each time."""
    return _seconds_of(name, tuple(given.items()))


@cache
def _seconds_of(name: str, given: tuple[tuple[str, float], ...]) -> Seconds:
    return lambda numbers, columns: CLASSES[name].seconds(dict(given) | dict(numbers), columns)


GAIN = "cache_gain"
"""A number of the benchmark, not of the kernel: how much faster than from memory a call moves what
the last-level cache still holds of the call before it. It is fitted and not kept: in serving other
layers come between."""

ACTIVATION_BYTES = 2.0
"""Bytes of an activation between blocks, as engines have them."""

EFFICIENCY = Bound(0.1, 0.8, 1.0)
SHARPNESS = Bound(1.0, 2.0, 10.0)


def _gemm(fit: Gemm, at: Columns, chip: Chip) -> Work:
    shape = gemm.Shape(at["m"], at["n"], at["k"])
    return gemm.work(
        shape, chip, fit, b_weights=at["bytes"], b_activations=ACTIVATION_BYTES, quantize=1.0
    )


GEMM = KernelClass(
    table="gemm",
    noun=Gemm,
    kinds={"bf16": ("bf16",), "fp8": ("fp8",), "fp8_block": ("fp8_block",), "fp4": ("nvfp4",)},
    bounds={
        "compute_efficiency": EFFICIENCY,
        "hbm_efficiency": EFFICIENCY,
        "sharpness": SHARPNESS,
        "launch_s": Bound(5e-7, 4e-6, 2e-5),
        "prologue": Bound(0.1, 50.0, 2000.0),
        "wave": Bound(0.01, 0.5, 1.0),
        "depth_s": Bound(1e-13, 3e-10, 5e-9),
        "quantize_passes": Bound(1e-3, 1.0, 10.0),
        "starvation": Bound(1e-5, 0.02, 1.0),
    },
    given={"tile": (64.0, 128.0), "tile_columns": (128.0,)},
    # matrices of served models; a head has 2^17 columns, a prompt 2^14 rows at most
    domain=(pl.col("n") >= 256) & (pl.col("k") >= 512) & (pl.col("m") <= 16384),
    work=_gemm,
    without={"bf16": ("quantize_passes",)},
)


def _grouped_decode(fit: DecodeCore, at: Columns, chip: Chip) -> Work:
    seen = choose(at["window"] > 0, least(at["context"], at["window"]), at["context"])
    call = attention.Decoding(
        sequences=at["batch"],
        queries=1.0,
        shared=at["kv_heads"],
        heads=at["heads"] / at["kv_heads"],
        context=at["context"],
        seen=seen,
        pair_flops=4.0 * at["head_dim"],
        kv_bytes=at["batch"] * at["kv_heads"] * seen * 2.0 * at["head_dim"] * at["bytes"],
        io_bytes=2.0 * at["batch"] * at["heads"] * at["head_dim"] * ACTIVATION_BYTES,
    )
    return attention.decode(call, chip, fit, 1.0)


def _latent_decode(fit: DecodeCore, at: Columns, chip: Chip) -> Work:
    latent = at["kv_lora"] + at["qk_rope_dim"]
    call = attention.Decoding(
        sequences=at["batch"],
        queries=1.0,
        shared=1.0,
        heads=at["heads"],
        context=at["context"],
        seen=at["context"],
        pair_flops=2.0 * (latent + at["kv_lora"]),
        kv_bytes=at["batch"] * at["context"] * latent * at["bytes"],
        io_bytes=2.0 * at["batch"] * at["heads"] * at["kv_lora"] * ACTIVATION_BYTES,
    )
    return attention.decode(call, chip, fit, 1.0)


def _grouped_prefill(fit: PrefillCore, at: Columns, chip: Chip) -> Work:
    cached, new, window = at["context"] - at["queries"], at["queries"], at["window"]
    call = attention.Prompts(
        sequences=at["batch"],
        new=new,
        heads=at["heads"],
        seen=attended(cached, new, window),
        longest=choose(window > 0, least(at["context"], window), at["context"]),
        unbounded=attended(cached, new, 0.0 * window),
        pair_flops=4.0 * at["head_dim"],
        kv_bytes=at["batch"] * at["kv_heads"] * at["context"] * 2.0 * at["head_dim"] * at["bytes"],
        io_bytes=2.0 * at["batch"] * at["heads"] * new * at["head_dim"] * ACTIVATION_BYTES,
    )
    return attention.prefill(call, chip, fit, 1.0)


def _latent_prefill(fit: PrefillCore, at: Columns, chip: Chip) -> Work:
    cached, new = at["context"] - at["queries"], at["queries"]
    seen = attended(cached, new, 0.0 * new)
    latent = at["kv_lora"] + at["qk_rope_dim"]
    call = attention.Prompts(
        sequences=at["batch"],
        new=new,
        heads=at["heads"],
        seen=seen,
        longest=at["context"],
        unbounded=seen,
        pair_flops=2.0 * (at["qk_nope_dim"] + at["qk_rope_dim"] + at["v_head_dim"]),
        kv_bytes=at["batch"] * at["context"] * latent * at["bytes"],
        io_bytes=2.0 * at["batch"] * at["heads"] * new * at["v_head_dim"] * ACTIVATION_BYTES,
    )
    return attention.prefill(call, chip, fit, 1.0)


def _linear(fit: LinearCore, at: Columns, chip: Chip) -> Work:
    keys, values = at["key_heads"] * at["key_dim"], at["value_heads"] * at["value_dim"]
    tokens, state = at["batch"] * at["queries"], values * at["key_dim"]
    # as `model.count`: a recurrent step, and in prompts the products within a chunk
    in_chunk = CHUNK * at["value_heads"] * (at["key_dim"] + at["value_dim"])
    call = linear.Call(
        sequences=at["batch"],
        heads=at["value_heads"],
        flops=tokens * (6.0 * state + choose(at["queries"] > 1, in_chunk, 0.0)),
        state_bytes=2.0 * at["batch"] * state * at["state_bytes"],
        io_bytes=2.0 * tokens * (keys + values) * ACTIVATION_BYTES,
    )
    return linear.work(call, chip, fit, 1.0)


WARM = 0.5
"""Share of the last-level cache that the experts' weights find: the rest holds activations."""


def _experts(fit: Experts, at: Columns, chip: Chip) -> Work:
    shape = experts.Shape(
        d_model=at["d_model"],
        d_ff=at["d_ff"] / at["tp"],
        matrices=2.0 + at["gated"],
        b_weights=at["bytes"],
        b_activations=ACTIVATION_BYTES,
    )
    load = experts.Load(at["tokens"], at["top_k"], at["held"], at["touched"], at["rows"])
    return experts.work(shape, load, chip, fit, warm_bytes=WARM * at["cache_bytes"])


def _caches() -> dict[str, tuple[str, ...]]:
    return {"bf16": ("bf16", "fp16"), "fp8": ("fp8",)}


DECODE = {
    "compute_efficiency": Bound(0.02, 0.4, 1.0),
    "hbm_efficiency": EFFICIENCY,
    "sharpness": SHARPNESS,
    "launch_s": Bound(5e-7, 5e-6, 6e-5),
    "blocks_per_sm": Bound(0.2, 1.0, 64.0),
    "block_s": Bound(1e-9, 1e-6, 3e-5),
    "split_s": Bound(1e-11, 3e-8, 1e-6),
    GAIN: Bound(1.0, 2.0, 6.0),
}
PREFILL = {
    "compute_efficiency": EFFICIENCY,
    "hbm_efficiency": EFFICIENCY,
    "sharpness": SHARPNESS,
    "launch_s": Bound(5e-7, 8e-6, 5e-5),
    "exponent": Bound(0.1, 20.0, 500.0),
    "tail": Bound(1e-3, 0.3, 3.0),
    "block_s": Bound(1e-9, 5e-7, 1e-4),
    GAIN: Bound(1.0, 2.0, 6.0),
}
SERVED_DECODE = (
    (pl.col("context") >= 256)
    & (pl.col("batch") <= 512)
    & pl.col("head_dim").is_in([64.0, 128.0])
    & (pl.col("heads") / pl.col("kv_heads")).is_between(4.0, 16.0)
    & (pl.col("kv_heads") <= 8)
)
"""Grouped queries as served models have them on one chip."""
SERVED_PREFILL = (
    pl.col("queries").is_between(128, 16384)
    & (pl.col("batch") * pl.col("queries") <= 32768)
    & pl.col("head_dim").is_in([64.0, 128.0])
    & (pl.col("kv_heads") <= 8)
)

CLASSES: dict[str, KernelClass] = {
    "gemm": GEMM,
    "attention_prefill": KernelClass(
        table="attention_prefill",
        noun=PrefillCore,
        kinds=_caches(),
        bounds=PREFILL,
        given={},
        domain=SERVED_PREFILL,
        work=_grouped_prefill,
        format_column="kv_format",
    ),
    "attention_decode": KernelClass(
        table="attention_decode",
        noun=DecodeCore,
        kinds=_caches(),
        # reading binds: what arithmetic reaches is hardly seen, and must not be made up. A low
        # share of the FLOP/s (or a dull maximum) would stand for what else keeps a fast memory
        # waiting, and make decoding bound by arithmetic on a chip that has less of it. About half
        # is what MLA reaches in decoding, which is bound by arithmetic.
        bounds=DECODE
        | {"compute_efficiency": Bound(0.5, 0.7, 1.0), "sharpness": Bound(3.0, 4.0, 10.0)},
        given={"group": (16.0,), "splits": (False, True), "beyond_window": (0.0, 1.0)},
        domain=SERVED_DECODE,
        work=_grouped_decode,
        format_column="kv_format",
    ),
    "mla_prefill": KernelClass(
        table="mla_prefill",
        noun=PrefillCore,
        kinds=_caches(),
        bounds=PREFILL,
        given={},
        domain=pl.col("queries").is_between(128, 16384)
        & (pl.col("batch") * pl.col("queries") <= 32768),
        work=_latent_prefill,
        format_column="kv_format",
    ),
    "mla_decode": KernelClass(
        table="mla_decode",
        noun=DecodeCore,
        kinds=_caches(),
        bounds=DECODE,
        given={"group": (16.0, 64.0, 128.0), "splits": (False, True)},
        domain=(pl.col("context") >= 256) & (pl.col("batch") <= 512) & (pl.col("heads") >= 8),
        work=_latent_decode,
        format_column="kv_format",
    ),
    "linear_prefill": KernelClass(
        table="linear_prefill",
        noun=LinearCore,
        kinds={"bf16": ("bf16",)},
        bounds={
            "compute_efficiency": Bound(1e-3, 0.2, 1.0),
            "sharpness": SHARPNESS,
            "launch_s": Bound(5e-7, 2e-5, 3e-4),
            "passes": Bound(0.5, 5.0, 100.0),
        },
        # states are few: only the product of efficiency and passes is seen
        given={"hbm_efficiency": (0.8,)},
        domain=pl.col("queries").is_between(128, 16384)
        & (pl.col("batch") * pl.col("queries") <= 65536),
        work=_linear,
    ),
    "linear_decode": KernelClass(
        table="linear_decode",
        noun=LinearCore,
        kinds={"bf16": ("bf16",)},
        bounds={
            "hbm_efficiency": EFFICIENCY,
            "launch_s": Bound(5e-7, 5e-6, 6e-5),
            GAIN: Bound(1.0, 2.0, 6.0),
        },
        # a step is bound by reading and writing its state: arithmetic is never seen
        given={"compute_efficiency": (0.5,), "sharpness": (2.0,), "passes": (1.0,)},
        domain=pl.col("batch") <= 512,
        work=_linear,
    ),
    "moe": KernelClass(
        table="moe",
        noun=Experts,
        kinds={
            "bf16": ("bf16",),
            "fp8": ("fp8",),
            "fp8_block": ("fp8_block",),
            "fp4": ("nvfp4",),
            "w4a16": ("w4a16_mxfp4", "int4_wo"),
            "w4a8": ("w4a8_mxfp4_mxfp8",),
        },
        bounds={
            "compute_efficiency": Bound(0.05, 0.6, 1.0),
            "hbm_efficiency": Bound(0.1, 0.7, 1.0),
            "sharpness": SHARPNESS,
            "launch_s": Bound(1e-7, 1e-5, 2e-4),
            "pad_rows": Bound(1.0, 32.0, 256.0),
            "prologue": Bound(1.0, 100.0, 5000.0),
            "local_passes": Bound(0.01, 1.0, 30.0),
            "all_passes": Bound(0.001, 0.5, 30.0),
            "depth_s": Bound(1e-12, 3e-10, 1e-7),
            "expert_s": Bound(1e-10, 1e-8, 1e-5),
        },
        given={},
        one_kernel=True,
        domain=(pl.col("tokens") <= 16384)
        & (pl.col("ep") <= 8)
        & (pl.col("tp") <= 8)
        & pl.col("top_k").is_between(4, 10),
        work=_experts,
    ),
}
"""By the name of the class in `calibration.kernel`."""


_STORED = {"w4a16_mxfp4": "mxfp4", "int4_wo": "int4", "w4a8_mxfp4_mxfp8": "mxfp4"}
_COMPUTED = {"w4a16_mxfp4": "bf16", "int4_wo": "bf16", "w4a8_mxfp4_mxfp8": "mxfp8"}


def stored(format: str) -> Dtype:
    """Return how weights or cache of a format of the tables are stored."""
    return DTYPES[_STORED.get(format, format)]


def computed(format: str) -> str:
    """Return the matrix units that a format of the tables uses."""
    return DTYPES[_COMPUTED.get(format, format)].math
