"""All ways to lay a model over a number of chips: every plan that can run, each of them once.

MODEL section 5. Degrees are divisors of the chips, so nothing near the full product is ever made.
What can run is what the cost model itself says (`layout.why_invalid`), asked once for all plans.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from roofrack.conversion import Study
from roofrack.errors import InputError
from roofrack.nouns import Scenario
from roofrack.planning.asked import LEAVES, allowed_of, check_chips, scalar
from roofrack.planning.candidates import chips_of, cross, generate, rows_of, why, with_plans
from roofrack.planning.effects import leaves_domain, over_fabric, shards
from roofrack.planning.micro import OWN_REASONS, scheduled
from roofrack.planning.refusal import Refusal, why_none

__all__ = ["LEAVES", "Plans", "Refusal", "bind", "plans", "why_none"]


@dataclass(frozen=True)
class Plans:
    """A set of plans: for each of LEAVES a float array, all of one length, as a Plan holds them.

    Names are indices into `tables`, truth values 0.0 and 1.0; `ep` is always the degree.
    """

    columns: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        """Return the number of plans."""
        return len(self.columns["tp"])

    def __getitem__(self, leaf: str) -> np.ndarray:
        """Return one leaf of all plans."""
        return self.columns[leaf]

    @property
    def chips(self) -> np.ndarray:
        """Chips of one instance of each plan."""
        return chips_of(self.columns)

    def take(self, rows: Any) -> "Plans":
        """Return some of the plans: by position, by slice or by truth value."""
        return Plans({name: column[rows] for name, column in self.columns.items()})


def plans(
    s: Scenario, chips: int, *, within: Mapping[str, Any] | None = None, up_to: bool = False
) -> Plans:
    """Return every plan that lays one instance of a scenario's model over exactly `chips` chips.

    All plans with tp*pp*dp*cp = chips (or fewer, with `up_to`) for which the cost model's
    `why_invalid` is 0, and no others; whether they fit in memory is a matter of cost. The plan of
    the scenario does not matter but for the leaves not varied: by default the degrees, ep,
    attention_dp, sequence_parallel and dedup are. `within` says otherwise, leaf by leaf, in the
    words of a configuration: a value, a list of values, or "all". A pool with a plan of its own
    keeps it. The set may be empty: `why_none` tells why.

    Plans that differ only in a leaf without effect are one plan, listed with the first value that
    the leaf may take (false, tp-cp-ep-pp, as given): ep where there are no experts (1),
    attention_dp and tp_rows at tp=1, sequence_parallel where attention is not tensor parallel,
    pp_batch at pp=1, tp_rows without dense layers, dedup where no tokens leave the innermost
    domain, and orders of placement by which each group meets the fabric as by another; of training
    the schedule at pp=1.

    In training the micro-batches of a step, their schedule and the virtual stages are varied
    besides; attention_dp is not.

    Raises InputError for a scenario with axes, for a number of chips that the fabric does not
    connect, and for leaves and values that a plan does not have.

    >>> import roofrack
    >>> s = roofrack.scenario("hardware=gb200_nvl72", "model=deepseek_v3", "batch=512")
    >>> found = plans(s, 72)
    >>> len(found), float(found["ep"].max())
    (584, 8.0)

    256 experts do not go into 72 chips: use fewer chips, or copy 32 of them.

    >>> float(plans(s, 64)["ep"].max()), float(plans(s, 72, up_to=True)["ep"].max())
    (64.0, 64.0)
    >>> float(plans(s, 72, within={"redundant_experts": [0, 32]})["ep"].max())
    72.0
    """
    s = scalar(s)
    check_chips(s, chips)
    allowed = allowed_of(s, within or {})
    table = generate(s, np.array([chips], float), allowed, up_to=up_to)
    table = rows_of(table, why(s, table) & ~OWN_REASONS == 0)
    if allowed["placement"].size > 1:
        table = over_fabric(s, table, allowed["placement"])
    table = cross(table, "dedup", allowed["dedup"], leaves_domain(s, table))
    table = cross(table, "sequence_parallel", allowed["sequence_parallel"], shards(table))
    if s.workload.phase == "train":
        table = scheduled(s, table, allowed)
    return Plans({name: table[name] for name in LEAVES})


def bind(of: Study | Scenario, found: Plans) -> Scenario:
    """Return a scenario whose plan is each of the plans in turn, ready to be estimated.

    Of a scenario the leaves of the plan become arrays of shape (plans,); other leaves that are
    arrays have to broadcast with it. Of a study the axes come first and the plans last.

    >>> import roofrack
    >>> from roofrack.cost import estimate  # in NumPy: nothing to compile
    >>> s = roofrack.scenario("hardware=h100_sxm", "model=llama3_1_70b", "batch=64")
    >>> found = plans(s, 8)
    >>> best = found.take([estimate(bind(s, found))["tpot_s"].argmin()])
    >>> best["tp"].item(), best["dp"].item()
    (8.0, 1.0)
    """
    if isinstance(of, Scenario):
        return with_plans(of, found.columns)
    clash = [axis.column for axis in of.axes if axis.path.startswith("parallelism.")]
    if clash:
        raise InputError(f"{clash[0]}: an axis of the study, but the plans set it; give one value")
    *grid, last = np.ix_(*(axis.values for axis in of.axes), np.arange(len(found)))
    values = {axis.path: value for axis, value in zip(of.axes, grid, strict=True)}
    mine = {f"parallelism.{name}": column[last] for name, column in found.columns.items()}
    return of.bind(values | mine | {"parallelism.racks": 0.0})
