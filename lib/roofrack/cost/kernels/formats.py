"""Which of the fitted numbers a format has: each kernel class knows a few kinds of format.

A kind is told by what the matrix units multiply and by how the weights are stored. Where a chip has
no numbers for a kind, its calibration repeats those of the nearest.
"""

import dataclasses
from typing import TypeVar

import numpy as np

from roofrack.arithmetic import Number, choose, look_up
from roofrack.calibration import (
    DecodeCore,
    DecodeCores,
    Experts,
    ExpertsByFormat,
    Gemm,
    Gemms,
    Kernel,
    PrefillCore,
    PrefillCores,
)
from roofrack.tables import DTYPES

_MATH = {"fp8": 1.0, "int8": 1.0, "fp4": 3.0}
"""Position among the kinds bf16, fp8, fp8_block, fp4 by matrix unit; all other units: bf16."""

_KIND = np.array([_MATH.get(d.math, 0.0) for d in DTYPES.values()])
_BLOCK = np.array([float(name == "fp8_block") for name in DTYPES])
_FOUR_BITS = np.array([float(d.bytes < 0.75) for d in DTYPES.values()])
_SMALL = np.array([float(d.bytes < 1.5) for d in DTYPES.values()])

_Fit = TypeVar("_Fit", bound=Kernel)


def where(condition: Number, this: _Fit, other: _Fit) -> _Fit:
    """Choose between the numbers of two kinds, leaf by leaf."""
    values = {
        f.name: choose(condition, getattr(this, f.name), getattr(other, f.name))
        for f in dataclasses.fields(this)
    }
    return dataclasses.replace(this, **values)


def gemm(of: Gemms, weights: Number, math: Number) -> Gemm:
    """Return the numbers of matrix products, given formats of weights and maths by index."""
    kind = look_up(_KIND, math)
    block = (look_up(_BLOCK, math) > 0) | (look_up(_BLOCK, weights) > 0)
    eight = where(block, of.fp8_block, of.fp8)
    return where(kind == 3.0, of.fp4, where(kind == 1.0, eight, of.bf16))


def experts(of: ExpertsByFormat, weights: Number, math: Number) -> Experts:
    """Return the numbers of fused experts, given formats of weights and maths by index."""
    kind, four = look_up(_KIND, math), look_up(_FOUR_BITS, weights) > 0
    block = (look_up(_BLOCK, math) > 0) | (look_up(_BLOCK, weights) > 0)
    sixteen = where(four, of.w4a16, of.bf16)
    eight = where(four, of.w4a8, where(block, of.fp8_block, of.fp8))
    return where(kind == 3.0, of.fp4, where(kind == 1.0, eight, sixteen))


def decoding(of: DecodeCores, kv: Number) -> DecodeCore:
    """Return the numbers of a core of decoding tokens, given the cache's format by index."""
    return where(look_up(_SMALL, kv) > 0, of.fp8, of.bf16)


def prefilling(of: PrefillCores, kv: Number) -> PrefillCore:
    """Return the numbers of a core of prompts, given the cache's format by index."""
    return where(look_up(_SMALL, kv) > 0, of.fp8, of.bf16)
