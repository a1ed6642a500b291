"""Plans found by simulation: least chips, break-even with an API, tiers, what waiting saves."""

from roofrack.simulation.planning.command import Planned, answer

__all__ = ["Planned", "answer"]
