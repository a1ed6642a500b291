"""Where a pass runs: a scenario laid out over its machine, with all that follows from that."""

from dataclasses import replace
from typing import Any, NamedTuple

from roofrack.arithmetic import Number, choose, most
from roofrack.cost.layout import Layout, layout
from roofrack.cost.roads import Path, Roads, path, roads
from roofrack.cost.routing import Unevenness, unevenness
from roofrack.cost.shares import Formats, Pass, Share, formats, share
from roofrack.model import Counts, Model, count
from roofrack.nouns import Pool, Scenario
from roofrack.tables import SERVING

DISAGGREGATED, AFD = float(SERVING.index("disaggregated")), float(SERVING.index("afd"))


class Site(NamedTuple):
    """Machines that do one kind of work; `s` has their hardware and plan."""

    s: Scenario
    counts: Counts
    plan: Layout
    roads: Roads
    formats: Formats
    uneven: Unevenness

    def share(self, p: Pass) -> Share:
        """Return the share of one chip in a pass."""
        return share(self.s, self.plan, self.formats, p)


def site(s: Scenario) -> Site:
    """Lay a scenario out."""
    plan = layout(s)
    return _site(s, plan, roads(s.hardware, s.calibration, plan, "rows" in s.features))


def _site(s: Scenario, plan: Layout, over: Roads) -> Site:
    m = s.model
    uneven = unevenness(m.experts, s.plan.redundant_experts, plan.ep, s.workload.routing_spread)
    return Site(s, count(m), plan, over, formats(s), uneven)


def pool(at: Site, part: Pool | None, used: Number) -> Site:
    """Return where a part of the work is done: on its own pool where `used`, else at `at`."""
    if part is None or (part.hardware is None and part.plan is None):
        return at
    calibration = at.s.calibration
    if part.calibration is not None:
        calibration = _either(used, part.calibration, calibration)
    hardware = at.s.hardware
    if part.hardware is not None:
        hardware = _either(used, part.hardware, hardware)
    plan = at.s.plan if part.plan is None else _either(used, part.plan, at.s.plan)
    return site(replace(at.s, hardware=hardware, plan=plan, calibration=calibration))


def _either(condition: Number, this: Any, other: Any) -> Any:
    """Choose leaf by leaf between two nouns of the same shape."""
    chosen: dict[str, Any] = {}
    for name, a in vars(this).items():
        b = getattr(other, name)
        if isinstance(a, tuple):
            chosen[name] = tuple(_either(condition, x, y) for x, y in zip(a, b, strict=True))
        elif hasattr(a, "__dataclass_fields__"):
            chosen[name] = _either(condition, a, b)
        else:
            chosen[name] = choose(condition, a, b)
    return type(this)(**chosen)


def way_from(one: Site, at: Site, far: Site) -> Path:
    """Return the way between the pools `at` and `far` as the machines of `one` of them have it.

    Two kinds of machine are never in the same rack.
    """
    chips = at.plan.chips + far.plan.chips
    if far.s.hardware is not at.s.hardware:
        chips = most(chips, one.s.hardware.fabric[0].chips + 1.0)
    return path(one.s.hardware, one.s.calibration, chips)


def drafter(at: Site) -> Site:
    """Return where tokens are drafted: on the same chips, in one stage, with the drafting model.

    Without a model of its own that is `draft_layers` layers like the model's (an MTP module, an
    EAGLE head), with experts if it has any, full attention and the model's own head.
    """
    assert at.s.draft is not None
    m = at.s.draft.model or _like(at.s.model, at.s.workload.draft_layers)
    s = replace(at.s, model=m)
    plan = layout(s)._replace(pp=1.0, imbalance=1.0, in_flight=at.plan.microbatch)
    return _site(s, plan, at.roads)


def _like(m: Model, layers: Number) -> Model:
    def kind(of: Number) -> Number:
        return choose(of > 0, layers, 0.0)

    share = layers / m.layers
    return replace(
        m,
        layers=layers,
        moe_layers=kind(m.moe_layers),
        sparse_layers=kind(m.sparse_layers),
        window_layers=0.0,
        linear_layers=0.0,
        shared_kv_layers=0.0,
        params_total=m.params_total * share,
        params_active=m.params_active * share,
        kv_bytes_per_token=m.kv_bytes_per_token * share,
    )
