"""How the model is laid over the chips: every plan that can run, and of each kind the cheapest."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from roofrack.advice.case import Case, Change, Row
from roofrack.advice.words import room
from roofrack.errors import InputError
from roofrack.planning import LEAVES, Plans, plans
from roofrack.report.format import percent
from roofrack.report.search_text import plan_words
from roofrack.tables import RECOMPUTE

MOST, MOST_AT_LOAD = 60_000, 2_000
"""Plans evaluated at once: a second or two, and half a gigabyte."""
FEWER = 6
"""How often the chips are halved."""
BATCHES = tuple(2.0**k for k in range(-3, 9))
"""Batch sizes tried with every plan, over the one there is."""
BATCH, COPIES = "workload.batch", "parallelism.replicas"
_DEGREES = ("tp", "pp", "dp", "cp")


@dataclass(frozen=True)
class Table:
    """Plans and what they cost: every column has an element for each plan.

    `batch` keeps the sequences in flight: of a deeper pipeline each pass has fewer.
    """

    plans: Plans
    batch: np.ndarray
    columns: Mapping[str, np.ndarray]

    def best(self, mask: np.ndarray) -> int | None:
        """Return the cheapest plan of those in the mask; of equals the first listed."""
        if not np.any(mask):
            return None
        return int(np.argmin(np.where(mask, self.columns["goal"], np.inf)))


def counts(case: Case, more: bool = False) -> list[int]:
    """Return the chips of an instance to look at: as many as now, halved, or also doubled."""
    n = round(float(case.at.chips))
    reach = int(case.s.hardware.fabric[-1].chips)
    if more:
        found = [n * 2**k for k in range(1, 13)]
    elif case.phase == "train":
        found = [n]
    else:
        found = [n // 2**k for k in range(FEWER + 1) if n % 2**k == 0]
    return [c for c in found if 1 <= c <= reach]


def listed(case: Case, chips: int) -> Plans | None:
    """Return every plan of so many chips; None where there is none."""
    within: dict[str, Any] = {}
    if case.phase == "train":
        # its micro-batches and schedule are varied elsewhere, what it keeps is a part of the plan
        plan, leaves = case.s.plan, ("microbatches", "schedule", "virtual_stages")
        within = {name: _told(case, name, getattr(plan, name)) for name in leaves}
        kept = RECOMPUTE[int(plan.recompute)]
        within |= {"zero": "all", "recompute": list(dict.fromkeys([kept, "none", "full"]))}
    try:
        found = plans(case.s, chips, within=within)
    except InputError:  # more than can be listed
        return None
    return found if len(found) else None


def _told(case: Case, name: str, value: float) -> float | str:
    leaf = case.declared[f"parallelism.{name}"]
    return leaf.choices[int(value)] if leaf.choices else float(value)


def table(case: Case, chips: list[int], flight: float | None = None) -> Table | None:
    """Evaluate all plans of these numbers of chips, with so many sequences in flight (as now)."""
    some = [found for c in chips if (found := listed(case, c)) is not None]
    if not some:
        return None
    found = Plans({n: np.concatenate([p[n] for p in some]) for n in LEAVES})
    each = batch_of(case, found, float(case.at.in_flight) if flight is None else flight)
    whole = (each >= 1) & (each == np.floor(each))
    rows = np.flatnonzero(whole)[: most(case)]
    if not rows.size:
        return None
    return evaluated(case, found.take(rows), each[rows])


def batch_of(case: Case, found: Plans, flight: float | np.ndarray) -> np.ndarray:
    """Return the batch of each plan with which so many sequences are in flight in an instance."""
    if case.phase == "train":
        return np.full(len(found), case.now(BATCH))
    return flight / np.where(found["pp_batch"] == 0, found["pp"], 1.0)


def evaluated(case: Case, found: Plans, each: np.ndarray, **extra: np.ndarray) -> Table:
    """Evaluate plans, each with its batch; `extra` are other leaves of the plan."""
    leaves = {f"parallelism.{n}": c for n, c in {**found.columns, **extra}.items()}
    batches = {} if case.phase == "train" else {BATCH: each}
    return Table(found, each, case.columns(leaves | batches))


def most(case: Case) -> int:
    """Return how many plans are evaluated at once: queues take their time."""
    return MOST if case.row["utilization"] is None else MOST_AT_LOAD


def values_of(case: Case, found: Table, row: int) -> dict[str, float]:
    """Return the leaves of a plan, and its batch, that are others than those of the scenario."""
    told = {f"parallelism.{name}": float(found.plans[name][row]) for name in LEAVES}
    changed = {path: v for path, v in told.items() if v != case.now(path)}
    at = {"parallelism.dp": float(case.at.dp), "parallelism.ep": float(case.at.ep)}
    solved = {p for p, v in at.items() if told[p] == v} if not _degrees(case, told) else set()
    size = float(found.batch[row])
    batch = {BATCH: size} if size != case.now(BATCH) else {}
    return {path: v for path, v in changed.items() if path not in solved} | batch


def _degrees(case: Case, told: Mapping[str, float]) -> bool:
    """Tell whether a plan has other degrees than the scenario: what was solved has to be told."""
    return any(told[f"parallelism.{n}"] != float(getattr(case.at, n)) for n in (*_DEGREES, "ep"))


def plan_of(found: Table, row: int) -> str:
    """Return a plan in words."""
    leaves = {name: float(found.plans[name][row]) for name in LEAVES}
    words = [f"zero={leaves['zero']:g}"] if leaves["zero"] else []
    words += [f"recompute={RECOMPUTE[int(leaves['recompute'])]}"] if leaves["recompute"] else []
    return " ".join([plan_words(leaves), *words])


def propose(case: Case) -> Iterator[Change]:
    """Yield the cheapest plan of each kind: without a pipeline, inside a domain, fewer chips."""
    found = table(case, counts(case))
    if found is None:
        return
    for key, mask, lead in _kinds(case, found):
        row = found.best(mask & found.columns["kept"])
        if row is not None and (values := values_of(case, found, row)):
            yield Change("plan", key, values, lead(plan_of(found, row)))
    yield from replicas(case, found)
    yield from together(case, found)


Lead = Callable[[str], Callable[[Row, Row], str]]


def _kinds(case: Case, found: Table) -> Iterator[tuple[str, np.ndarray, Lead]]:
    """Yield (key, which plans, what to say of the best one of them)."""
    has, at = found.plans, case.at
    domain = float(case.s.hardware.fabric[0].chips)
    same = {name: has[name] == float(getattr(at, name)) for name in (*_DEGREES, "ep")}
    alike = has["attention_dp"] == case.s.plan.attention_dp
    there = np.all([same[n] for n in _DEGREES], axis=0)
    if at.pp > 1:
        fewer = (has["pp"] < at.pp) & same["tp"] & same["cp"] & alike
        yield "pp", fewer & (has["pp"] == 1), _pipeline(case)
        yield "pp_fewer", fewer & (has["pp"] > 1), _shorter(case)
    if at.tp > domain:
        yield "tp_domain", (has["tp"] <= domain) & same["pp"], _wide(case, domain)
    if case.s.model.experts > 0:
        if (case.row["scale_out_fraction"] or 0.0) > 0:
            inside = found.columns["scale_out_fraction"] == 0
            yield "ep_domain", inside & there & alike, _spanning(case)
        yield "ep", there & alike, lambda plan: _said(f"experts over fewer or more chips ({plan})")
    yield (
        "attention_dp",
        there & same["ep"] & ~alike,
        lambda plan: _said(f"attention {'tensor' if case.s.plan.attention_dp else 'data'} "
                           f"parallel over the chips of tp ({plan})"),
    )  # fmt: skip
    chips = has.chips
    if case.phase != "train":
        yield "chips", chips < at.chips, lambda plan: _roomy(f"fewer chips do ({plan})")
    yield "plan", chips == at.chips, lambda plan: _said(f"the same chips laid out as {plan}")


def _said(text: str) -> Callable[[Row, Row], str]:
    return lambda before, after: text


def _roomy(text: str) -> Callable[[Row, Row], str]:
    return lambda before, after: f"{text}: {room(after)}"


def _pipeline(case: Case) -> Lead:
    return lambda plan: (
        lambda before, after: f"PP={case.at.pp:g} is not needed: with PP=1 ({plan}) {room(after)}"
    )


def _shorter(case: Case) -> Lead:
    return lambda plan: _roomy(f"PP={case.at.pp:g} is deeper than needed ({plan})")


def _wide(case: Case, domain: float) -> Lead:
    return lambda plan: _said(
        f"TP={case.at.tp:g} leaves the scale-up domain of {domain:g} chips; inside it ({plan})"
    )


def _spanning(case: Case) -> Lead:
    racks, leaving = case.row["racks"], case.row["scale_out_fraction"]
    return lambda plan: _said(
        f"experts span {racks:,g} scale-up domains: {percent(leaving)} of dispatch bytes cross; "
        f"staying inside one ({plan})"
    )


def replicas(case: Case, found: Table) -> Iterator[Change]:
    """Yield narrower instances, as many as fill the chips, that share the same sequences."""
    ways = float(case.at.chips) / found.plans.chips
    each = batch_of(case, found.plans, float(case.at.in_flight) / ways)
    told = np.flatnonzero((ways > 1) & (each >= 1) & (each == np.floor(each)))
    if case.phase == "train" or not told.size:
        return
    copies = case.now(COPIES) * ways[told]
    narrow = evaluated(case, found.plans.take(told), each[told], replicas=copies)
    row = narrow.best(narrow.columns["kept"])
    if row is None:
        return
    lead = _said(
        f"{ways[told][row]:g} instances of {narrow.plans.chips[row]:g} chips instead of one, the "
        f"same sequences divided among them ({plan_of(narrow, row)})"
    )
    values = values_of(case, narrow, row) | {COPIES: float(copies[row])}
    yield Change("plan", "replicas", values, lead)


def together(case: Case, found: Table) -> Iterator[Change]:
    """Yield the cheapest plan and batch that is no slower than now, or keeps the limits."""
    if case.phase == "train":
        return
    able = np.flatnonzero(found.columns["why_invalid"] == 0)[: most(case) // len(BATCHES)]
    rows = np.repeat(able, len(BATCHES))
    each = np.round(found.batch[rows] * np.tile(BATCHES, able.size))
    rows, each = rows[each >= 1], each[each >= 1]
    if not rows.size:
        return
    both = evaluated(case, found.plans.take(rows), each)
    how = "within the limits" if case.limits else "no slower than now"
    mask = both.columns["kept" if case.limits else "quick"]
    row = both.best(mask)
    if row is None or not (values := values_of(case, both, row)):
        return
    plan, size = plan_of(both, row), each[row]
    said = f"the best of {rows.size:,} plans and batch sizes, {how}: {plan}, batch {size:g}"
    yield Change("best", "best", values, _said(said))
