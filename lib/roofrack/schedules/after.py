"""What a stage does once its passes are done: it adds up gradients and updates its weights."""

from typing import NamedTuple

AFTER = ("gradients", "tied", "update", "weights", "host", "fixed")
"""Waits for gradients of other ranks, and for those of a matrix that two stages hold; the update;
waits for weights of other ranks, and for the host; what is fixed in a step."""


class After(NamedTuple):
    """One piece of it, of a kind of AFTER; seconds from the start of the step."""

    stage: int
    kind: str
    start_s: float
    end_s: float
