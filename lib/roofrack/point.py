"""One scenario, answered at once: the same cost model on plain numbers, nothing compiled."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isqrt
from typing import Any

import numpy as np

from roofrack.conversion import Study, to_study
from roofrack.cost import estimate, schedules
from roofrack.cost.columns import pools
from roofrack.cost.layout import REASONS, Layout, layout, reasons, why_invalid
from roofrack.cost.passes import places
from roofrack.cost.site import site
from roofrack.derivatives import slopes
from roofrack.errors import InfeasibleError, InputError
from roofrack.results.schema import COLUMNS, KEPT_WHEN_INVALID, PARTS
from roofrack.schema import PARTS as GROUPS_OF
from roofrack.tables import CACHE_TIERS, DTYPES, MATH_UNITS, OWN_MATH, SCHEDULES

AT_ONCE = 10_000
"""More points than a person reads: `point` refuses and names `sweep`."""


def point(
    container: Mapping[str, Any], *, strict: bool = True
) -> dict[str, Any] | list[dict[str, Any]]:
    """Return the result of a composed configuration: one row, or one per point if it has axes.

    A row has the keys of the result schema, in double precision; None where there is no value; a
    single one also `elasticities` of the cost per token (None where it costs nothing). A single
    plan that cannot run raises InfeasibleError; among several, and if not `strict` (one of several
    jobs), it is a row that says why.
    """
    study = to_study(container)
    total = study.points
    if total > AT_ONCE:
        raise InputError(f"point: {total:,} points; `roofrack sweep` is made for that many")
    with np.errstate(all="ignore"):  # a plan that cannot run may divide by zero
        columns = estimate(study.grid())
    flat = {name: np.broadcast_to(value, study.shape).ravel() for name, value in columns.items()}
    if strict and not study.axes and (mask := int(flat["why_invalid"][0])):
        raise InfeasibleError(_why_not(study, mask))
    rows = [_row(study, flat, index) for index in range(total)]
    if study.axes:
        return rows
    if not strict:
        return rows[0]
    has_cost = not rows[0]["why_invalid"] and rows[0]["usd_per_mtok"]
    return rows[0] | {"elasticities": elasticities(study) if has_cost else None}


def elasticities(study: Study, of: str = "usd_per_mtok") -> dict[str, float]:
    """Return d log(of) / d log(leaf) of every number of machine and model, the largest first."""
    with np.errstate(all="ignore"):
        found = slopes(study.grid(), of, levels=study.levels).slopes
    return {slope.entry.path: float(slope.elasticity) for slope in found}


def _row(study: Study, flat: Mapping[str, np.ndarray], index: int) -> dict[str, Any]:
    places = np.unravel_index(index, study.shape) if study.axes else ()
    mask = int(flat["why_invalid"][index])
    row: dict[str, Any] = {**study.labels, "overlap": study.overlap, "phase": study.phase}
    row |= {axis.column: axis.shown[i] for axis, i in zip(study.axes, places, strict=True)}
    for name in COLUMNS:
        if name in row:
            continue
        if name == "valid":
            row[name] = mask == 0
        elif name == "why_invalid":
            row[name] = reasons(mask)
        elif mask and name not in KEPT_WHEN_INVALID:
            row[name] = None
        else:
            row[name] = _plain(name, flat[name][index])
    return row


def _plain(name: str, value: Any) -> Any:
    """Return a value as JSON has it: null instead of NaN and infinity."""
    if name == "bound":
        return PARTS[int(value)]
    if isinstance(value, np.bool_):
        return bool(value)
    return float(value) if np.isfinite(value) else None


def _why_not(study: Study, mask: int) -> str:
    """Say why a single plan cannot run: the keys that clash, their values, and what would do."""
    main = site(study.grid())
    said: list[str] = []
    explained = 0
    for part, at in pools(places(main)).items():
        theirs = int(why_invalid(at.s, at.plan, at.formats.least_peak))
        if theirs:
            said += [_named(study, part, text) for text in _said(_seen(study, part), theirs)]
            explained |= theirs
    own = int(why_invalid(main.s, main.plan, main.formats.least_peak))
    said = _said(study, own | mask & ~explained) + said
    return "this plan cannot run: " + "; ".join(said)


def _said(study: Study, mask: int) -> list[str]:
    return [explain(study) for bit, explain in enumerate(_CLASHES.values()) if mask >> bit & 1]


def _named(study: Study, part: str, text: str) -> str:
    """Say in which part something clashes: by the path of its own leaves, or before the text."""
    for group in GROUPS_OF[part]:
        if study.labels.get(f"{part}_{group}") is not None:
            text = text.replace(f"{group}.", f"{part}.{group}.")
    return text if f"{part}." in text else f"{part}: {text}"


def _seen(study: Study, part: str) -> Study:
    """Return the study as one of its parts sees it, whose leaves stand in for the main ones."""
    leaves, labels, levels = dict(study.leaves), dict(study.labels), dict(study.levels)
    for path, value in study.leaves.items():
        if path.startswith(f"{part}."):
            leaves[path.removeprefix(f"{part}.")] = value
    for group in GROUPS_OF[part]:
        if labels.get(f"{part}_{group}") is not None:
            labels[group] = labels[f"{part}_{group}"]
    if f"{part}.hardware" in levels:
        levels["hardware"] = levels[f"{part}.hardware"]
    return replace(study, leaves=leaves, labels=labels, levels=levels)


def _divides(
    degree: str, size: str, value: Callable[[Layout], float], more: str = ""
) -> Callable[[Study], str]:
    """Return the message for a degree that has to divide a size of the model."""

    def say(study: Study) -> str:
        got, whole = value(layout(study.grid())), study.leaves[size]
        return (
            f"{degree}={got:g} does not divide {size}={whole:g} of {study.labels['model']}; "
            f"{_divisors_near(got, whole)}{more and f', {more}'}"
        )

    return say


def _divisors_near(got: float, whole: float) -> str:
    near = sorted(_divisors(whole), key=lambda d: abs(d - got))[:2]
    return f"divisors near it: {', '.join(f'{d:g}' for d in sorted(near))}"


def _divisors(whole: float) -> list[int]:
    low = [d for d in range(1, isqrt(int(whole)) + 1) if whole % d == 0]
    return sorted({*low, *(int(whole) // d for d in low)}) or [1]


def _units(study: Study) -> str:
    leaf, dtype = "math", list(DTYPES)[int(study.leaves["workload.dtype.math"])]
    has = [u for u in MATH_UNITS if study.leaves[f"hardware.flops_per_s.{u}"] > 0]
    allowed = [name for name, row in DTYPES.items() if row.math in has]
    if dtype in allowed:
        leaf = "experts_math"
        dtype = OWN_MATH[int(study.leaves["workload.dtype.experts_math"])]
    return (
        f"workload.dtype.{leaf}={dtype}: {study.labels['hardware']} has no units for it; "
        f"allowed: {', '.join(allowed)}"
    )


def _slots(study: Study) -> str:
    plan, copies = layout(study.grid()), study.leaves["parallelism.redundant_experts"]
    places = f"{plan.slots:g} places for experts"
    if copies:
        places += f" (model.experts={plan.slots - copies:g} and {copies:g} second copies)"
    return (
        f"parallelism.ep={plan.ep:g} does not divide the {places} of {study.labels['model']}; "
        f"{_divisors_near(plan.ep, plan.slots)}"
    )


def _stage(study: Study) -> str:
    plan = layout(study.grid())
    return (
        f"parallelism.ep={plan.ep:g} does not divide the {plan.stage:g} chips of a stage "
        "(dp*tp*cp); `stage` takes all of them"
    )


def _ranks(study: Study) -> str:
    plan = layout(study.grid())
    return (
        f"racks={study.leaves['parallelism.racks']:g} of "
        f"{study.grid().hardware.fabric[0].chips:g} chips is not a whole number of "
        f"{plan.tp * plan.pp * plan.cp:g}-chip ranks (tp*pp*cp)"
    )


def _groups(study: Study) -> str:
    plan = layout(study.grid())
    return (
        f"expert groups of {plan.ep:g} x {plan.expert_tp:g} chips (ep x what shards an expert) do "
        f"not fill the {plan.stage:g} chips of a stage"
    )


def _reach(study: Study) -> str:
    plan, most = layout(study.grid()), study.grid().hardware.fabric[-1].chips
    return f"{plan.chips:,.0f} chips: the fabric of {study.labels['hardware']} connects {most:,.0f}"


def _chunks(study: Study) -> str:
    w = study.grid().workload
    return (
        f"workload.chunk={w.chunk:g}: too small to keep workload.batch={w.batch:g} full; each "
        f"request brings {w.prompt - w.cached:g} tokens to prefill for {w.output:g} it generates"
    )


def _tier(study: Study) -> str:
    name = CACHE_TIERS[int(study.leaves["workload.cache_tier"])]
    path = f"hardware.tiers.{name}.bytes"
    return (
        f"workload.cache_tier={name}: {study.labels['hardware']} states no such memory; give "
        f"{path} and its bandwidth, or keep cached tokens in hbm"
    )


def _unpriced(study: Study) -> str:
    return (
        f"economics.basis=own: {study.labels['hardware']} states no price to buy it at; give "
        "hardware.capex_usd, or economics.basis=rent"
    )


def _microbatches(study: Study) -> str:
    s = study.grid()
    plan, m = layout(s), s.plan.microbatches
    each = f"{m:g} micro-batches" if m else "micro-batches of one sequence"
    return (
        f"workload.global_batch={s.workload.global_batch:g} does not divide into {each} "
        f"(parallelism.microbatches) on each of dp={plan.dp:g} ranks"
    )


def _schedule(study: Study) -> str:
    s = study.grid()
    plan = layout(s)
    m, v = s.workload.global_batch / plan.microbatch, s.plan.virtual_stages
    clashes = schedules.invalid(s.plan.schedule, plan.pp, m, v)
    why = "; ".join(text for clash, text in clashes[1:] if np.any(clash))
    return (
        f"parallelism.schedule={SCHEDULES[int(s.plan.schedule)]} with pp={plan.pp:g}, {m:g} "
        f"micro-batches and virtual_stages={v:g}: {why}"
    )


def _host(study: Study) -> str:
    return (
        f"parallelism.offload_*: {study.labels['hardware']} states no host memory; give "
        "hardware.tiers.host.bytes and its bandwidth, or offload nothing"
    )


def _pair(text: str, *paths: str) -> Callable[[Study], str]:
    def say(study: Study) -> str:
        values = " and ".join(f"{path}={study.leaves[path]:g}" for path in paths)
        return f"{values}: {text}"

    return say


_EXPLAIN: tuple[Callable[[Study], str], ...] = (
    _divides("parallelism.tp", "model.heads", lambda p: p.attention_tp),
    _divides("parallelism.tp", "model.kv_heads", lambda p: p.attention_tp, "or a multiple of it"),
    _divides("parallelism.tp", "model.d_ff", lambda p: p.tp),
    _divides("the tensor-parallel degree of an expert", "model.d_ff_expert", lambda p: p.expert_tp),
    _slots,
    _stage,
    _pair("a stage needs a layer", "parallelism.pp", "model.layers"),
    _units,
    _ranks,
    _pair("under pp_batch=fixed each stage needs a sequence", "workload.batch", "parallelism.pp"),
    _pair("a token cannot visit more", "model.experts_per_token", "model.experts"),
    _pair("nothing of the prompt is left to compute", "workload.cached", "workload.prompt"),
    _reach,
    _groups,
    _pair("more of a kind than all", "model.layers", "model.moe_layers", "model.window_layers"),
    _pair("a window is needed", "model.window_layers", "model.window"),
    _pair("each query head has one KV head at most", "model.kv_heads", "model.heads"),
    _pair("active are a part of the total", "model.params_active", "model.params_total"),
    _divides("the columns of the 2-D FFN (tp / tp_rows)", "model.d_ff", lambda p: p.tp / p.tp_rows),
    _pair("rows divide both", "parallelism.tp_rows", "parallelism.tp", "model.d_model"),
    _pair("each part needs a sequence", "parallelism.overlap_batches", "workload.batch"),
    _chunks,
    _pair("only experts are copied, once", "parallelism.redundant_experts", "model.experts"),
    _pair("these layers need sizes of heads", "model.linear_layers", "model.sparse_layers"),
    _tier,
    _pair(
        "the scenario was made without such a part; compose it with the leaf set",
        "workload.serving",
        "workload.draft_tokens",
        "workload.chunk",
        "parallelism.tp_rows",
    ),
    _unpriced,
    _microbatches,
    _schedule,
    _pair(
        "each part of a stage has the same layers",
        "parallelism.virtual_stages",
        "model.layers",
        "parallelism.pp",
    ),
    _host,
)
_CLASHES = dict(zip(REASONS, _EXPLAIN, strict=True))
"""What to say of each reason at a single point."""
