"""Axes in, blocks of evaluated points out; memory does not grow with their number."""

from roofrack.grid.stream import BLOCK, Block, compiled, evaluate, points, stream

__all__ = ["BLOCK", "Block", "compiled", "evaluate", "points", "stream"]
