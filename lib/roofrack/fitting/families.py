"""Priors of a chip without tables: one fit of each kernel class over the chips of its family.

What its numbers are worth on a chip that has no tables is what they miss of a chip whose tables the
fit did not see: each chip is left out in turn.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from roofrack.errors import InputError
from roofrack.fitting import links
from roofrack.fitting.assemble import Choice, Source, Told, assemble
from roofrack.fitting.calibrate import check
from roofrack.fitting.document import record, rounded
from roofrack.fitting.forms import Fitted, Subject
from roofrack.fitting.pools import Left, gather, joint, left_out, missed

FAMILIES: dict[str, tuple[str, ...]] = {
    "ampere": ("a100_sxm",),
    "hopper": ("h100_sxm", "h200_sxm"),
    "ada": ("l40s",),
    "blackwell": ("b200_sxm", "b300_sxm", "gb200", "gb300"),
}
"""Chips of the package by architecture."""


def family(chips: Sequence[str], backend: str) -> dict[str, Any]:
    """Return the tree of a calibration that stands for a chip like `chips`; as `build.build`.

    `rel_std` is the error on a chip that the fit did not see. InputError for chips without tables.
    """
    check(chips, backend)
    source = Source(
        "in this family",
        partial(_fit, chips),
        partial(_tell, chips),
        partial(_undescribed, chips),
    )
    return assemble(source, backend)


def _fit(chips: Sequence[str], of: Subject, backend: str) -> Fitted | None:
    return joint(gather(of, chips, backend), chips)


def _tell(chips: Sequence[str], of: Subject, choice: Choice) -> Told:
    """Return the fit with the error of chips not seen, which the record names."""
    found = choice.fitted
    noted = record(found)
    errors = _unseen(chips, of, choice.backend)
    if not errors:
        return Told(found, noted, "of held-out shapes: no other chip has a table")
    noted["left_out"] = " ".join(f"{chip} {rounded(e.mean)}" for chip, e in errors.items())
    spread = float(np.sqrt(np.mean([e.rel_std**2 for e in errors.values()])))
    return Told(found._replace(fit=found.fit._replace(rel_std=spread)), noted)


def _unseen(chips: Sequence[str], of: Subject, backend: str) -> dict[str, Left]:
    """Return what fits that did not see a chip miss of it, by chip.

    Of chips of one family each is left out in turn, of several families each family. A chip alone
    is compared with a fit to the other families: a new chip of its family is closer than that.
    """
    families = [chosen for f in FAMILIES.values() if (chosen := [c for c in f if c in chips])]
    each = [[chip] for chip in chips]
    errors = left_out(gather(of, chips, backend), families if len(families) > 1 else each)
    if errors:
        return errors
    others = [c for f in FAMILIES.values() for c in f if c not in chips]
    wide = gather(of, [*chips, *others], backend)
    distant = joint(wide, others)
    if distant is None:
        return {}
    return {chip: missed(wide, distant, chip) for chip in chips if chip in wide.calls}


def _undescribed(chips: Sequence[str], of: Subject, poor: Sequence[Choice]) -> Choice | None:
    """Return the best fit of a collective, however much it misses; InputError where there is none.

    Unlike that of one chip, its error is of chips not seen and says what it is worth. Exchanges of
    experts have the library's instead, kernels what stands in for them.
    """
    if of.kind:
        return None
    if poor:
        return min(poor, key=lambda choice: choice.fitted.fit.mean_held_out)
    if of.name in links.EXPERTS:
        return None
    raise InputError(f"no table of {of.name} on {', '.join(chips)}")
