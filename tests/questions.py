"""What the tests of questions share."""

from collections.abc import Callable
from pathlib import Path

Sweep = Callable[..., Path]
"""Evaluates overrides as `roofrack sweep` does; returns the folder."""
SMALL = (
    "experiment=fast_mode",
    "hardware=b200,gb200_nvl72",
    "model=llama3_1_70b,deepseek_v3",
    "batch=1,8,64,512,4096,8192",
    "parallelism.tp=1,8",
    "parallelism.dp=1,8,64",
    "workload.dtype.math=fp8",
)
"""The question fast_mode, small."""
