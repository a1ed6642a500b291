"""The nouns as JAX pytrees, so that jit, vmap and grad see their leaves.

Nouns themselves import no JAX (they are loaded at every start of the command line), so they are
registered here, when the first cost function is imported.
"""

import dataclasses

import jax

from roofrack.calibration import (
    Calibration,
    DecodeCore,
    DecodeCores,
    Experts,
    ExpertsByFormat,
    Gemm,
    Gemms,
    Kernels,
    LinearCore,
    LinearCores,
    Link,
    Links,
    PrefillCore,
    PrefillCores,
)
from roofrack.economics import Economics
from roofrack.hardware import AttentionKernels, FlopsPerS, Hardware, Level, Tier, Tiers
from roofrack.model import Model
from roofrack.nouns import Cost, Draft, Pool, Scenario
from roofrack.plan import Plan
from roofrack.workload import Dtypes, Failures, Lifetime, Workload

STATIC = {Workload: ("phase",), Scenario: ("overlap", "features")}
"""Fields that select the compiled function instead of being traced."""

for _noun in (
    Calibration, Kernels, Gemm, Gemms, DecodeCore, DecodeCores, PrefillCore, PrefillCores,
    LinearCore, LinearCores, Experts, ExpertsByFormat, Link, Links, Economics, FlopsPerS, Hardware,
    Level, Model, Plan, Cost, Scenario, Dtypes, Failures, Lifetime, Workload, Tier, Tiers, Pool,
    Draft, AttentionKernels,
):  # fmt: skip
    _static = STATIC.get(_noun, ())
    _data = [f.name for f in dataclasses.fields(_noun) if f.name not in _static]
    jax.tree_util.register_dataclass(_noun, data_fields=_data, meta_fields=list(_static))
