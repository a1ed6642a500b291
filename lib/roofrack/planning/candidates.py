"""Plans that may run, made by divisors, and what the cost model says of them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from math import prod
from typing import Any

import numpy as np

from roofrack.cost.columns import invalid
from roofrack.cost.forward import Parts
from roofrack.cost.layout import REASONS, layout, why_invalid
from roofrack.cost.passes import Places, places
from roofrack.cost.serving import Spell, serve_spell
from roofrack.cost.site import site
from roofrack.errors import InputError
from roofrack.nouns import Scenario
from roofrack.planning.asked import DEGREES, LEAVES
from roofrack.tables import FEATURES

MOST = 4_000_000
"""Candidates looked at in one call: half a gigabyte in the making."""

SETTLED = (
    "tp does not divide the query heads",
    "tp and the KV heads: neither divides the other",
    "tp does not divide d_ff",
    "more pipeline stages than layers",
    "the columns of a 2-D FFN (tp / tp_rows) do not divide d_ff",
    "tp_rows divides neither tp nor d_model",
)
"""Reasons that no choice of ep or of a later leaf can change."""

BLOCK = 1 << 15
"""Plans looked at together: what is made of them stays in the processor's cache."""


Table = dict[str, np.ndarray]
"""One float array for each leaf, all of one length: a plan is a row."""


def chips_of(table: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the chips of one instance of each plan."""
    return np.asarray(prod(table[name] for name in DEGREES))


def with_plans(s: Scenario, table: Mapping[str, Any]) -> Scenario:
    """Return the scenario with these leaves of its plan, and the features that they need."""
    _, least = FEATURES["rows"]
    rows = bool(np.any(np.asarray(table.get("tp_rows", 1.0)) >= least))
    features = tuple(dict.fromkeys([*s.features, *(["rows"] if rows else [])]))
    return replace(s, plan=replace(s.plan, **table, racks=0.0), features=features)


def rows_of(table: Table, rows: np.ndarray) -> Table:
    """Return some rows of a table."""
    return {name: column[rows] for name, column in table.items()}


@cache
def divisors(n: int) -> np.ndarray:
    """Return every divisor of a whole number, ascending."""
    small = np.arange(1, int(n**0.5) + 1)
    small = small[n % small == 0]
    return np.unique(np.concatenate([small, n // small])).astype(float)


def generate(
    s: Scenario,
    counts: np.ndarray,
    allowed: Mapping[str, np.ndarray],
    *,
    up_to: bool = False,
    prune: bool = True,
) -> Table:
    """Return plans of these chip counts that may or may not run.

    Leaves that do not decide it (LEAVES from placement on) have their first value. `prune` leaves
    out what the degrees alone rule out, before experts multiply it.
    """
    table = _degrees(counts, allowed, up_to)
    single = {"microbatches": 0.0}  # micro-batches of one sequence each
    table |= {
        name: np.full(
            len(table["tp"]), allowed[name][0] if allowed[name].size else single.get(name, 1.0)
        )
        for name in LEAVES
        if name not in table
    }
    table = cross_by(table, "tp_rows", table["tp"], _tp_rows(s, allowed))
    table = cross(table, "attention_dp", allowed["attention_dp"], table["tp"] > 1)
    if prune:
        table = rows_of(table, ~_settled(s, table))
    stage = table["tp"] * table["cp"] * table["dp"]
    table = cross_by(table, "ep", stage, _ep(s, allowed))
    table = cross(table, "redundant_experts", allowed["redundant_experts"])
    table = cross(table, "overlap_batches", allowed["overlap_batches"])
    return cross(table, "pp_batch", allowed["pp_batch"], table["pp"] > 1)


def _degrees(counts: np.ndarray, allowed: Mapping[str, np.ndarray], up_to: bool) -> Table:
    """Return all degrees that multiply to one of these counts, or to anything up to it."""
    table: Table = {"rest": counts}
    for name in DEGREES:
        given = allowed[name]

        def options(rest: int, name: str = name, given: np.ndarray = given) -> np.ndarray:
            if up_to:
                every = np.arange(1.0, rest + 1.0) if given.size == 0 else given[given <= rest]
                return every
            every = np.array([float(rest)]) if name == DEGREES[-1] else divisors(rest)
            return every if given.size == 0 else given[np.isin(given, every)]

        table = cross_by(table, name, table["rest"], options)
        table["rest"] = table["rest"] // table[name]
    del table["rest"]
    return table


def models(s: Scenario) -> list[Any]:
    """Return the model and what drafts for it: the models that the plan divides."""
    return [s.model] + ([s.draft.model] if s.draft is not None and s.draft.model else [])


def _ep(s: Scenario, allowed: Mapping[str, np.ndarray]) -> Callable[[int], np.ndarray]:
    given = allowed["ep"]
    experts = any(m.experts > 0 for m in models(s))

    def options(stage: int) -> np.ndarray:
        if given.size == 0:
            every = divisors(stage)
        else:
            every = np.array(list(dict.fromkeys((given + (given == 0) * stage).tolist())))
        return every if experts else every[:1]

    return options


def _tp_rows(s: Scenario, allowed: Mapping[str, np.ndarray]) -> Callable[[int], np.ndarray]:
    given = allowed["tp_rows"]
    dense = any(m.moe_layers < m.layers for m in models(s))

    def options(tp: int) -> np.ndarray:
        every = divisors(tp) if given.size == 0 else given
        if dense:
            return every
        # without effect, but what does not divide is refused all the same
        divides = every[(tp % every == 0) & (s.model.d_model % every == 0)]
        return (divides if divides.size else every)[:1]

    return options


def cross_by(
    table: Table, name: str, key: np.ndarray, options: Callable[[int], np.ndarray]
) -> Table:
    """Pair each plan with every value that its `key` leaves to a leaf."""
    distinct, where = np.unique(key, return_inverse=True)
    lists = [options(int(value)) for value in distinct]
    sizes = np.array([len(values) for values in lists], int)[where]
    if sizes.sum() > MOST:
        raise InputError(
            f"within.{name}: more than {MOST:,} plans to look at; restrict a leaf (within) or "
            "give fewer chips"
        )
    rows = np.repeat(np.arange(len(where)), sizes)
    ends = np.cumsum(sizes)
    nth = np.arange(len(rows)) - np.repeat(ends - sizes, sizes)
    starts = np.cumsum([0, *(len(values) for values in lists)])
    values = np.concatenate([*lists, np.empty(0)])
    return rows_of(table, rows) | {name: values[starts[where][rows] + nth]}


def cross(table: Table, name: str, values: np.ndarray, matters: Any = True) -> Table:
    """Pair each plan with every value of a leaf, or with the first where the leaf has no effect."""
    key = np.broadcast_to(matters, table["tp"].shape).astype(float)
    return cross_by(table, name, key, lambda has: values if has else values[:1])


_IDLE = Spell(0.0, 0.0, 0.0, Parts(*[0.0] * len(Parts._fields)), (), (0.0, 0.0), ())
"""Passes that nobody has to time to know whether a plan can run."""


def placed(s: Scenario, table: Table) -> Places:
    """Return the machines that do the work under each plan, laid out."""
    return places(site(with_plans(s, table)))


def why(s: Scenario, table: Table) -> np.ndarray:
    """Return the mask of REASONS of each plan; 0 where it can run."""
    in_chunks = s.workload.phase == "serve" and s.workload.chunk > 0
    found = np.empty(table["tp"].shape, int)
    with np.errstate(all="ignore"):
        for start in range(0, len(found), BLOCK):
            block = slice(start, start + BLOCK)
            at = placed(s, {name: column[block] for name, column in table.items()})
            found[block] = invalid(at, serve_spell(at) if in_chunks else _IDLE)
    return found


def _settled(s: Scenario, table: Table) -> np.ndarray:
    """Return where a plan is ruled out whatever the leaves that come after attention_dp."""
    at = with_plans(s, table)
    with np.errstate(all="ignore"):
        mask = np.asarray(why_invalid(at, layout(at), math_peak=1.0), int)
    return np.asarray(mask & sum(1 << REASONS.index(reason) for reason in SETTLED) > 0)
