"""Refuse what would have no effect: identical rows would look like an answer."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from roofrack.axes import Axis
from roofrack.errors import InputError
from roofrack.schema import ALIASES, PARTS
from roofrack.tables import ATTENTION_KERNELS, SERVING

_TRAINING = (
    "sequence",
    "global_batch",
    "tokens",
    "optimizer",
    "gradient_clipping",
    "dropout",
    "mtp_layers",
    "failures",
    "lifetime",
    "dtype.gradients",
    "dtype.master",
)
"""Leaves of the workload, or parts of it, that only training looks at."""

_LOAD = {
    "arrivals_per_s": 0.0,
    "arrival_cv": 1.0,
    "prompt_cv": 0.0,
    "output_cv": 0.0,
    "wait_s": 0.0,
    "ttft_limit_s": float("inf"),
    "tpot_limit_s": float("inf"),
}
"""Leaves of the workload that only serving at a load looks at, and where they say nothing."""

_UNUSED = {
    "decode": (
        "prompt",
        "output",
        "cached",
        "prefill_batch",
        "cache_tier",
        "hold_s",
        *_LOAD,
        *_TRAINING,
    ),
    "prefill": (
        "context",
        "output",
        "prefill_batch",
        "draft_tokens",
        "acceptance",
        "draft_layers",
        *_LOAD,
        *_TRAINING,
    ),
    "serve": ("context", *_TRAINING),
    "train": (
        "batch",
        "context",
        "prompt",
        "output",
        "cached",
        "shared_prefix",
        "prefill_batch",
        "chunk",
        "prefill_instances",
        "draft_tokens",
        "acceptance",
        "draft_layers",
        "cache_tier",
        "hold_s",
        *_LOAD,
    ),
}
"""Leaves of the workload that a phase does not look at."""

_LENGTHS = ("context", "prompt", "output", "cached", "sequence", "global_batch")

_TRAINING_PLAN = (
    "microbatches",
    "schedule",
    "virtual_stages",
    "zero",
    "recompute",
    "recompute_layers",
    "flash_attention",
    "attention_kernel",
    "loss_bytes",
    "context_parallel",
    "data_placed",
    "overlap_tp",
    "overlap_ep",
    "overlap_dp",
    "overlap_pp",
    "offload_optimizer",
    "offload_weights",
    "offload_activations",
)
"""Leaves of the plan that only training looks at."""

_SERVING_PLAN = {
    "tp_rows": 1,
    "redundant_experts": 0,
    "attention_dp": 0,
    "overlap_batches": 1,
    "pp_batch": 0,
    "replicas": 1,
}
"""Leaves of the plan that training does not look at, and their values as the cost model holds
them."""


def check_used(phase: str, config: Mapping[str, Any], found: Mapping[str, Axis]) -> None:
    """Refuse to vary what has no effect: identical rows would look like an answer."""
    uses = ", ".join(n for n in _LENGTHS if n not in _UNUSED[phase])
    for name in _UNUSED[phase]:
        swept = [p for p in found if p == f"workload.{name}" or p.startswith(f"workload.{name}.")]
        if swept or (name in ALIASES and config.get(name) is not None):
            raise InputError(
                f"{name if name in ALIASES else swept[0]}: has no effect on "
                f"workload.phase={phase}, which uses {uses}"
            )
    for name in _SERVING_PLAN if phase == "train" else _TRAINING_PLAN:
        if f"parallelism.{name}" in found:
            raise InputError(
                f"parallelism.{name}: has no effect on workload.phase={phase}, which uses {uses}"
            )


def check_parts(
    phase: str,
    config: Mapping[str, Any],
    leaves: Mapping[str, float],
    found: Mapping[str, Axis],
) -> None:
    """Refuse parts of a deployment, and what is set of them, where nothing uses them."""

    def values(path: str) -> Any:
        return found[path].values if path in found else np.array([leaves[path]])

    serving = values("workload.serving")
    chosen = config["choices"]
    pools = {
        "prefill": ("serve", 1, "disaggregated or afd"),
        "ffn": ("decode or serve", 2, "afd"),
    }
    for part, (phases, least, modes) in pools.items():
        used = phase in phases and np.any(serving >= least)
        for group in PARTS[part]:
            if chosen.get(f"{part}_{group}") is not None and not used:
                raise InputError(
                    f"{group}@{part}.{group}={chosen[f'{part}_{group}']}: used only with "
                    f"workload.phase={phases} and workload.serving={modes}"
                )
    for name, value in _SERVING_PLAN.items() if phase == "train" else ():
        if np.any(values(f"parallelism.{name}") != value):
            shown = "false" if name == "attention_dp" else "grow" if name == "pp_batch" else value
            raise InputError(
                f"parallelism.{name}: used only where workload.phase is not train; leave it {shown}"
            )
    drafts = np.any(values("workload.draft_tokens") > 0) and phase in ("decode", "serve")
    if chosen.get("draft_model") is not None and not drafts:
        raise InputError(
            f"model@draft.model={chosen['draft_model']}: used only with workload.draft_tokens "
            "above 0, in decode or serve"
        )
    if phase != "serve" and np.any(values("workload.arrivals_per_s") > 0):
        raise InputError(
            f"workload.arrivals_per_s={np.max(values('workload.arrivals_per_s')):g}: used only "
            f"with workload.phase=serve, not with {phase}"
        )
    if phase == "train":
        _check_kernel(chosen.get("hardware"), values)
    serves = {"decode": (0, 2), "prefill": (0,), "serve": (0, 1, 2), "train": (0,)}[phase]
    if not np.all(np.isin(serving, serves)):
        allowed = ", ".join(SERVING[i] for i in serves)
        wrong = SERVING[int(next(v for v in serving if v not in serves))]
        raise InputError(
            f"workload.serving={wrong}: has no effect on workload.phase={phase}; allowed: {allowed}"
        )
    for path, useful in (
        ("workload.chunk", np.any(serving == 0) and phase == "serve"),
        ("workload.prefill_instances", np.any(serving >= 1) and phase == "serve"),
    ):
        if np.any(values(path) > 0) and not useful:
            mode = "aggregated" if path.endswith("chunk") else "disaggregated or afd"
            raise InputError(
                f"{path}={values(path)[0]:g}: used only with workload.phase=serve and "
                f"workload.serving={mode}"
            )


def _check_kernel(hardware: Any, values: Callable[[str], Any]) -> None:
    """Refuse an attention kernel of unknown speed on the machine, and one that has no effect."""
    known = {
        name: kernel is None or np.all(values(f"hardware.attention_kernels.{name}") > 0)
        for name, kernel in ATTENTION_KERNELS.items()
    }
    used = np.any(values("parallelism.flash_attention") > 0) and np.any(
        values("calibration.published_kernels") > 0
    )
    for index, (name, told) in enumerate(known.items()):
        asked = np.any(values("parallelism.attention_kernel") == index)
        if asked and ATTENTION_KERNELS[name] and not used:
            raise InputError(
                f"parallelism.attention_kernel={name}: has no effect with "
                "parallelism.flash_attention=false, nor with a calibration without losses (ideal)"
            )
        if asked and not told:
            allowed = ", ".join(n for n, published in known.items() if published)
            raise InputError(
                f"parallelism.attention_kernel={name}: its speed on hardware={hardware} is not "
                f"published; known there: {allowed}"
            )


def check_racks(config: Mapping[str, Any]) -> None:
    """Refuse racks and dp together: racks solves dp."""
    given = config["parallelism"].get("dp", 1)
    if config.get("racks") is not None and given != 1:
        raise InputError(
            f"parallelism.dp={given} and racks={config['racks']}: racks solves dp; "
            "leave parallelism.dp at 1 (parallelism=rack) or drop racks"
        )


def check_sparsity(
    config: Mapping[str, Any], leaves: Mapping[str, float], found: Mapping[str, Axis]
) -> None:
    """Refuse sparsity without experts, or beside another number of them."""
    if config.get("sparsity") is None:
        return
    if leaves["model.experts_per_token"] == 0:
        raise InputError(
            f"sparsity={config['sparsity']}: {config['model'].get('name')} has no experts"
        )
    if "model.experts" in found:
        raise InputError("sparsity and model.experts: both set the number of experts; give one")
