"""What kinds of work of a training step are made of: legs, and passes over activations."""

from dataclasses import replace
from typing import NamedTuple

from roofrack.arithmetic import Number
from roofrack.cost import ffn
from roofrack.cost.roofline import Work
from roofrack.cost.site import Site

MASK_BYTES = 1.0
"""Bytes of one element of a dropout mask."""


class Legs(NamedTuple):
    """The work of one kind of layer: forward, and for the gradients of inputs and of weights."""

    forward: list[Work]
    inputs: list[Work]
    weights: list[Work]


def joined(*some: Legs) -> Legs:
    """Return the work of several together."""
    forward, inputs, weights = (
        [w for leg in legs for w in leg] for legs in zip(*some, strict=True)
    )
    return Legs(forward, inputs, weights)


def passes(at: Site, elements: Number, more_bytes: Number, times: Number) -> Work:
    """Return a pass over activations: `elements` read and written, and bytes besides.

    Of the memory bandwidth it reaches the calibration's `stream_efficiency`.
    """
    moved = elements * at.formats.activations + more_bytes
    io = moved * (1.0 - at.counts.abstract) * at.s.cost.activation_io
    fit = at.formats.weights.fit
    streams = replace(fit, hbm_efficiency=at.s.calibration.stream_efficiency)
    return ffn.totals(at.formats.weights, 0.0, 0.0)._replace(
        io_bytes=io, times=times, kernel=streams
    )
