"""Deployments: what a composed configuration says of the machines that a simulation runs on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from roofrack.conversion import Study
from roofrack.cost import estimate
from roofrack.cost.layout import CHUNK_REASON, reasons
from roofrack.cost.mixed import cache_tokens, decode_of, prompts_of
from roofrack.cost.passes import Places, places
from roofrack.cost.shares import Pass
from roofrack.cost.site import site
from roofrack.errors import InfeasibleError, InputError
from roofrack.nouns import Scenario
from roofrack.simulation.asked import AUTO, Engine

MOST = 4096
"""Points of the axes of one simulation."""


@dataclass(frozen=True)
class Deployment:
    """One point of a study, and how an instance of it works.

    `shown` are the values that tell it from others; `row` the estimate of its steady state. The
    cache of an instance holds `cache_tokens`, that of one which computes prompts
    `prompt_cache_tokens`; `prefill_instances` do so where that is done apart (0: it is not). Of
    `budget`, the tokens of a pass, a decoding sequence takes `each` beside prompts.
    """

    shown: Mapping[str, Any]
    scenario: Scenario
    row: Mapping[str, float]
    policy: str
    routing: str
    slots: int
    budget: int
    each: int
    cache_tokens: float
    prompt_cache_tokens: float
    prefill_instances: int
    replicas: int

    @property
    def usd_per_s(self) -> float:
        """What all machines cost, used or not, prefill instances in the number simulated."""
        return self.row["usd_per_hour"] / 3600.0


def deployments(
    study: Study, engine: Engine, own: Mapping[str, Any] | None = None
) -> list[Deployment]:
    """Return the deployments of a study: every point, with every way the engine may work.

    `own` is what tells the study from others.
    Raises InputError for what cannot be simulated, InfeasibleError for a plan that cannot run.
    """
    if study.phase != "serve":
        raise InputError(
            f"workload.phase={study.phase}: a simulation serves requests; give workload=chat or "
            "another with prompts and outputs, or workload.phase=serve"
        )
    if study.points > MOST:
        raise InputError(f"simulate: {study.points:,} points; at most {MOST:,}: shorten an axis")
    found: list[Deployment] = []
    for place in np.ndindex(*study.shape):
        values = {a.path: float(a.values[i]) for a, i in zip(study.axes, place, strict=True)}
        shown = dict(own or {}) | {
            a.column: a.shown[i] for a, i in zip(study.axes, place, strict=True)
        }
        for policy, routing in product(engine.policy, engine.routing):
            s = study.bind(values)
            found.append(_deployment(s, shown, policy, routing, engine))
    return found


def _deployment(
    s: Scenario, shown: dict[str, Any], policy: str, routing: str, engine: Engine
) -> Deployment:
    w = s.workload
    name = {"policy": policy, "routing": routing}
    shown = shown | {k: v for k, v in name.items() if len(getattr(engine, k)) > 1}
    with np.errstate(all="ignore"):
        row = {k: float(v) for k, v in estimate(_still(s)).items()}
        at = places(site(s))
        apart = bool(at.separate > 0)
        instances = _instances(s, row) if apart else 0
        s = replace(s, workload=replace(w, prefill_instances=float(instances)))
        row = {k: float(v) for k, v in estimate(_still(s)).items()}
    if policy == AUTO:
        policy = "chunked" if w.chunk > 0 and not apart else "prefill_first"
    if engine.scale_at > 0 and (apart or routing == "prefix"):
        raise InputError(
            "engine.scale_at: replicas come and go only where they compute prompts themselves, and "
            "with engine.routing=round_robin or least_loaded"
        )
    if policy == "chunked" and apart:
        raise InputError("engine.policy=chunked: prompts are computed on machines of their own")
    # a batch that is not always full needs no chunks that keep it so
    if mask := int(row["why_invalid"]) & ~CHUNK_REASON:
        told = reasons(mask)
        raise InfeasibleError(f"the plan cannot run: {told}; `roofrack point` says more")
    slots = int(w.batch * (at.main.plan.pp if s.plan.pp_batch == 0 else 1.0))
    budget, each = _budget(s, at, policy, engine, slots)
    tokens = engine.cache_tokens or _cache_tokens(s, at, budget, slots)
    own = tokens
    if apart and not engine.cache_tokens:
        own = _prompt_cache_tokens(s, at, budget)
    if tokens < 1:
        raise InfeasibleError(
            "the weights and buffers leave no memory for a KV cache; `roofrack point` shows them"
        )
    return Deployment(
        shown=shown,
        scenario=s,
        row=row,
        policy=policy,
        routing=routing,
        slots=slots,
        budget=budget,
        each=each,
        cache_tokens=tokens,
        prompt_cache_tokens=own,
        prefill_instances=instances,
        replicas=int(s.plan.replicas),
    )


def _still(s: Scenario) -> Scenario:
    """Return the scenario without a rate: a full batch all the time."""
    features = tuple(name for name in s.features if name != "load")
    return replace(s, workload=replace(s.workload, arrivals_per_s=0.0), features=features)


def _instances(s: Scenario, row: Mapping[str, float]) -> int:
    """Return how many instances compute prompts for each that decodes, a whole number."""
    wanted = float(s.workload.prefill_instances) or row["prefill_instances"]
    return max(1, int(np.ceil(wanted - 1e-6)))


def _budget(s: Scenario, at: Places, policy: str, engine: Engine, slots: int) -> tuple[int, int]:
    """Return the tokens of a pass, and how many of them a decoding sequence takes beside prompts.

    As told, of all tokens, those included that are drafted; or the workload's chunk, of prompt
    tokens only, on every attention rank.
    """
    ranks = float(at.prefill.plan.attention_ranks * at.prefill.plan.pp)
    each = 1 + int(s.workload.draft_tokens)
    if policy == "chunked" and not engine.budget:
        return int((s.workload.chunk or CHUNK) * ranks), 0
    if not engine.budget:
        whole = s.workload.prefill_batch * s.workload.prompt
        return int(max(PROMPTS, whole) * ranks), each
    budget = int(engine.budget)
    if policy == "chunked" and budget <= slots * each:
        drafted = f" of {each} tokens each" if each > 1 else ""
        raise InputError(
            f"engine.budget={budget}: the tokens of a pass must be more than its {slots} decoding "
            f"sequences (workload.batch){drafted}, or prompts are never computed"
        )
    return budget, each


CHUNK, PROMPTS = 2048, 8192
"""Prompt tokens of a pass and attention rank where nothing says so: in chunks, and whole.
Round numbers of the size that engines begin with; both are reported."""


def _cache_tokens(s: Scenario, at: Places, budget: int, slots: int) -> float:
    mean = float(s.workload.prompt + s.workload.output / 2.0)
    passes: tuple[Pass, ...] = (decode_of(at.main, float(slots), mean),)
    if at.separate == 0:
        passes = (*passes, prompts_of(at.main, float(budget), mean / 2.0))
    return float(cache_tokens(at, passes, mean))


def _prompt_cache_tokens(s: Scenario, at: Places, budget: int) -> float:
    """Return the tokens that an instance which computes prompts apart has room for."""
    alone = Places(at.prefill, at.prefill, None, 0.0, 0.0)
    prompt = float(s.workload.prompt)
    most = prompts_of(at.prefill, float(budget), prompt / 2.0)
    return float(cache_tokens(alone, (most,), prompt))
