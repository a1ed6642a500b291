"""Words that sentences and charts about context share."""

from roofrack.report.format import number, quantity

from .rows import TIERS

NEAR = 1.25
"""Two numbers within this factor are called alike."""
APART = 2.0
"""A price or a knee that is off by more than this contradicts."""
NAMES = {**TIERS, "again": "computing it again"}


def tokens(value: float) -> str:
    """Write a length: 8,192 tokens, 1.05 million tokens."""
    return quantity(value, "tokens")


def duration(seconds: float) -> str:
    """Write a holding time in the unit that people use for it."""
    for size, word in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{number(seconds / size, 2)} {word}"
    return quantity(seconds, "s")
