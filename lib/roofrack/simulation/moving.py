"""How long the caches of single requests are on their way: between pools, and from their tier."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from roofrack.cost import money
from roofrack.cost.caches import retrieve_s, transfer_s
from roofrack.cost.passes import Places, places
from roofrack.cost.shares import Pass
from roofrack.cost.site import site
from roofrack.errors import InputError
from roofrack.nouns import Scenario
from roofrack.tables import CACHE_TIERS

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


def _of(s: Scenario, **lengths: Any) -> Places:
    return places(site(replace(s, workload=replace(s.workload, **lengths))))


def transfers_s(s: Scenario, prompt: Whole) -> Floats:
    """Return the seconds that the cache of each prompt [N] takes to the pool that decodes."""
    at = _of(s, prompt=prompt.astype(float))
    # of one prompt, not of those that a rank computes together
    one = Pass(False, at.prefill.plan.attention_ranks, 1.0, 0.0, 1.0)
    return np.asarray(transfer_s(at, one)) + np.zeros(len(prompt))


def fetches_s(s: Scenario, cached: Whole) -> Floats:
    """Return the seconds that so many cached tokens of each prompt [N] take from their tier.

    Raises InputError where the machines have no such memory.
    """
    at = _of(s, cached=cached.astype(float)).prefill
    if cached.any() and not money.tier(at.s).bytes_per_s > 0:
        tier = CACHE_TIERS[int(s.workload.cache_tier)]
        raise InputError(
            f"workload.cache_tier={tier}: these machines have no such memory "
            f"(hardware.tiers.{tier}); allowed is hbm"
        )
    one = Pass(False, 1.0, 1.0, 0.0, 1.0)
    return np.asarray(retrieve_s(at, one)) + np.zeros(len(cached))
