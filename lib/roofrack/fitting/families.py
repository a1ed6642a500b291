"""Priors of a chip without tables: one fit of each kernel class over the chips of its family.

What its numbers are worth on a chip that has no tables is what they miss of a chip whose tables the
fit did not see: each chip is left out in turn.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from roofrack import config
from roofrack.errors import InputError, nearest
from roofrack.fitting import links
from roofrack.fitting.build import FUSED, FUSED_LAYER_S, LIBRARY, NEAREST, STEP_REL_STD
from roofrack.fitting.calibrate import BACKENDS, MACHINES, TOLERATED, Fitted
from roofrack.fitting.classes import CLASSES
from roofrack.fitting.document import numbers, record, rounded
from roofrack.fitting.pools import PoolOf, joint, kernel_pool, left_out, link_pool, missed

FAMILIES: dict[str, tuple[str, ...]] = {
    "ampere": ("a100_sxm",),
    "hopper": ("h100_sxm", "h200_sxm"),
    "ada": ("l40s",),
    "blackwell": ("b200_sxm", "b300_sxm", "gb200", "gb300"),
}
"""Chips of the package by architecture."""

USUAL_DEPTH = 4096.0
"""Inner dimension of the product whose fixed time tells backends apart."""


def family(chips: Sequence[str], backend: str) -> dict[str, Any]:
    """Return the tree of a calibration that stands for a chip like `chips`; as `build.build`.

    `rel_std` is the error on a chip that the fit did not see. InputError for chips without tables.
    """
    for chip in chips:
        if chip not in MACHINES:
            raise InputError(
                f"chip={chip}: allowed: {', '.join(MACHINES)}.{nearest(chip, MACHINES)}"
            )
    if backend not in BACKENDS:
        raise InputError(
            f"backend={backend}: allowed: {', '.join(BACKENDS)}.{nearest(backend, BACKENDS)}"
        )
    tree: dict[str, Any] = config.compose(["calibration=default"])["calibration"]
    fits: dict[str, Any] = {}
    assumed: dict[str, str] = {}
    kernels = {name: _class(name, chips, backend, fits, assumed) for name in CLASSES}
    scale_up = {name: _link(name, chips, backend, fits, assumed) for name in links.NAMES}
    for name in links.EXPERTS:
        if not scale_up[name]:
            scale_up[name] = dict(scale_up["all_to_all"])
            assumed[f"scale_up.{name}"] = "as all_to_all: no table of it in this family"
    # as in `build`: exchanges of experts are few, and their errors are in `fits`
    spreads = {name: link.pop("rel_std") for name, link in scale_up.items()}
    counted = [spread for name, spread in spreads.items() if name not in links.EXPERTS]
    ours = {"kernel": kernels, "scale_up": tree["scale_up"] | scale_up}
    return (
        ours
        | {n: v for n, v in tree.items() if n not in (*ours, "name", "sources", "assumed")}
        | {"link_rel_std": rounded(float(np.sqrt(np.mean(np.square(counted)))))}
        | {"layer_s": FUSED_LAYER_S if backend in FUSED else tree["layer_s"]}
        | {"fused_quantization": backend in FUSED, "step_rel_std": STEP_REL_STD}
        | {"fits": fits, "assumed": assumed}
    )


def _class(
    name: str, chips: Sequence[str], backend: str, fits: dict[str, Any], assumed: dict[str, str]
) -> dict[str, Any]:
    """Return the numbers of a class by kind; `fits` and `assumed` note where they are from."""
    leaves: dict[str, Any] = {}
    for kind in CLASSES[name].kinds:
        found = _first(name, kind, chips, backend, assumed)
        if found is not None:
            leaves[kind], fits[f"{name}.{kind}"] = found
    if not leaves:
        raise InputError(f"no table of {name} on {', '.join(chips)} that the form describes")
    measured = tuple(leaves)
    for kind in CLASSES[name].kinds:
        if kind not in leaves:
            other = next(k for k in (*NEAREST[kind], *measured) if k in measured)
            leaves[kind] = dict(leaves[other])
            assumed[f"kernel.{name}.{kind}"] = f"as {other}: no table of this format in this family"
    return {kind: leaves[kind] for kind in CLASSES[name].kinds}


def _first(
    name: str, kind: str, chips: Sequence[str], backend: str, assumed: dict[str, str]
) -> tuple[dict[str, float], dict[str, Any]] | None:
    """Return leaves and record from the first backend whose tables the form describes.

    As `build` has it: where a backend fuses quantisation and no table says what it takes, the
    backend with the least fixed time, whose products have the least of it.
    """
    candidates: list[tuple[Fitted, PoolOf]] = []
    for source in dict.fromkeys((backend, *BACKENDS)):
        pool_of = partial(kernel_pool, name, kind, backend=source)
        found = joint(pool_of(chips), chips)
        if found is None or found.fit.mean_held_out > TOLERATED:
            continue
        candidates.append((found, pool_of))
        if backend not in FUSED or name != "gemm" or kind == "bf16" or "quantize_s" in found.given:
            break
    if not candidates:
        return None
    best = min(candidates, key=_fixed_s) if name == "gemm" else candidates[0]
    return _stated(*best, chips, f"kernel.{name}.{kind}", assumed)


def _fixed_s(candidate: tuple[Fitted, PoolOf]) -> float:
    fitted = candidate[0].fit.numbers
    return fitted["launch_s"] + USUAL_DEPTH * fitted["depth_s"]


def _link(
    name: str, chips: Sequence[str], backend: str, fits: dict[str, Any], assumed: dict[str, str]
) -> dict[str, Any]:
    """Return the numbers of a collective, from the first backend whose tables the form describes.

    Where it describes none, the best fit there is: its error says what that is worth. None at all
    where experts' exchanges have no table.
    """
    order = (LIBRARY,) if name in links.LIBRARY else (backend, *BACKENDS)
    candidates: list[tuple[Fitted, PoolOf]] = []
    for source in dict.fromkeys(order):
        pool_of = partial(link_pool, name, backend=source)
        found = joint(pool_of(chips), chips)
        if found is not None:
            candidates.append((found, pool_of))
            if found.fit.mean_held_out <= TOLERATED:
                break
    if not candidates and name in links.EXPERTS:
        return {}
    if not candidates:
        raise InputError(f"no table of {name} on {', '.join(chips)}")
    best = min(candidates, key=lambda pair: max(pair[0].fit.mean_held_out, TOLERATED))
    of = f"scale_up.{name}"
    leaves, fits[of] = _stated(*best, chips, of, assumed)
    return leaves


def _stated(
    found: Fitted, pool_of: PoolOf, chips: Sequence[str], of: str, assumed: dict[str, str]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the leaves of a fit, their `rel_std` that of chips not seen, and its record.

    Of chips of one family each is left out in turn, of several families each family. A chip alone
    is compared with a fit to the other families: a new chip of its family is closer than that.
    """
    families = [chosen for f in FAMILIES.values() if (chosen := [c for c in f if c in chips])]
    alone = [[chip] for chip in chips]
    errors = left_out(pool_of(chips), families if len(families) > 1 else alone)
    if not errors:
        others = [c for f in FAMILIES.values() for c in f if c not in chips]
        wide = pool_of([*chips, *others])
        distant = joint(wide, others)
        if distant is not None:
            errors = {c: missed(wide, distant, c) for c in chips if c in wide.calls}
    noted = record(found)
    if not errors:
        assumed[f"{of}.rel_std"] = "of held-out shapes: no other chip has a table"
        return numbers(found), noted
    spread = float(np.sqrt(np.mean([e.rel_std**2 for e in errors.values()])))
    noted["left_out"] = " ".join(f"{chip} {rounded(e.mean)}" for chip, e in errors.items())
    return numbers(found._replace(fit=found.fit._replace(rel_std=spread))), noted
