"""Which leaves of a plan have an effect where: plans that cost the same are one plan."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from roofrack.cost.fabric import Wire
from roofrack.nouns import Scenario
from roofrack.planning.candidates import Table, cross, models, placed, rows_of


def shards(table: Table) -> np.ndarray:
    """Return where attention is tensor parallel: else there are no tokens to split in between."""
    return np.asarray((table["tp"] > 1) & (table["attention_dp"] == 0))


def leaves_domain(s: Scenario, table: Table) -> np.ndarray:
    """Return where tokens on their way to experts leave the innermost domain of the fabric."""
    at = placed(s, table)
    own = at.prefill is at.main or (s.prefill is not None and s.prefill.plan is not None)
    found = np.zeros(table["tp"].shape, bool)
    if any(m.experts_per_token > 0 for m in models(s)):
        for one in [at.main] if own else [at.main, at.prefill]:
            laid = list(_wires(one.roads.experts))
            happens = one.plan.expert_span > one.plan.attention_tp
            found = found | (happens & (laid[-1].reach > laid[0].reach))
    return found


def _wires(of: Any) -> Iterator[Wire]:
    """Yield every level of the groups found in a part of the roads."""
    if isinstance(of, Wire):
        yield of
    elif isinstance(of, tuple | list):
        for part in of:
            yield from _wires(part)


def over_fabric(s: Scenario, table: Table, placements: np.ndarray) -> Table:
    """Pair each plan with every order that lays some group over the fabric as none before it does.

    Costs know a placement only by how many members of each group a domain of each level holds.
    """
    table, orders = cross(table, "placement", placements), placements.size
    shape = table["tp"].shape
    at = placed(s, table)
    others = [one for one in (at.prefill, at.ffn) if one is not None and one is not at.main]
    reach = [wire.reach for one in [at.main, *others] for wire in _wires(one.roads)]
    seen = np.stack([np.broadcast_to(r, shape) for r in reach], axis=-1)
    seen = seen.reshape(-1, orders, len(reach))
    again = np.zeros(seen.shape[:2], bool)
    for i in range(1, orders):
        for j in range(i):
            again[:, i] |= np.all(seen[:, i] == seen[:, j], axis=-1)
    return rows_of(table, ~again.reshape(-1))
