"""Training: one step of it, what it holds, and what a whole run costs. MODEL sections 5 to 7.

A step is micro-batches of forward and backward passes through a pipeline, made of the same kernel
classes and collectives as inference, and then an update of the weights.
"""

from roofrack.cost.training.columns import COLUMNS, UNTRAINED, estimate

__all__ = ["COLUMNS", "UNTRAINED", "estimate"]
