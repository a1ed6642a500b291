"""Matrix products: projections, FFNs, router and head. MODEL section 10."""

import dataclasses
from typing import NamedTuple

from roofrack.arithmetic import (
    Number,
    choose,
    divide,
    most,
    padded,
    round_up,
    side_by_side,
)
from roofrack.calibration import Gemm
from roofrack.cost.roofline import Chip, Work


class Shape(NamedTuple):
    """One product: `rows` x `depth` activations times `depth` x `columns` weights."""

    rows: Number
    columns: Number
    depth: Number


class _Effort(NamedTuple):
    """What one product takes: see Work."""

    flops: Number
    weight_bytes: Number
    io_bytes: Number
    fixed_s: Number


class Product(NamedTuple):
    """One product: its shape, how often, bytes of a weight, the chip's units, and its losses."""

    shape: Shape
    times: Number
    b_weights: Number
    peak: Number
    fit: Gemm


def works(
    products: list[Product],
    hbm_bytes_per_s: Number,
    sms: Number,
    *,
    b_activations: Number,
    quantize: Number,
    fused: Number = 0.0,
) -> list[Work]:
    """Return the work of several products on the same chips, as `work` has it of one."""
    names = [f.name for f in dataclasses.fields(Gemm)]

    def effort(*given: Number) -> _Effort:
        rows, columns, depth, b_weights, hbm, units, activations, rounded, once = given[:9]
        fit = Gemm(**dict(zip(names, given[9:], strict=True)))
        shape, chip = Shape(rows, columns, depth), Chip(1.0, hbm, units)
        return _effort(shape, chip, fit, b_weights, activations, rounded, once)

    common = (hbm_bytes_per_s, sms, b_activations, quantize, fused)
    found = side_by_side(
        effort,
        [(*p.shape, p.b_weights, *common, *(getattr(p.fit, n) for n in names)) for p in products],
    )
    return [
        Work(e.flops, p.peak, e.weight_bytes, 0.0, e.io_bytes, e.fixed_s, p.fit, p.times)
        for p, e in zip(products, found, strict=True)
    ]


def work(
    shape: Shape,
    chip: Chip,
    fit: Gemm,
    *,
    b_weights: Number,
    b_activations: Number,
    quantize: Number,
    fused: Number = 0.0,
) -> Work:
    """Return the work of one product; bytes per element of weights and activations.

    Rows and columns are padded to tiles, which the chip's multiprocessors take in waves: of the
    last, partly idle one a `wave` power is lost. A tile waits for its first `prologue` steps of the
    inner dimension; each step costs `depth_s` besides. Few tiles cannot keep the memory busy
    (`starvation`). Activations are quantised in passes of their own unless that is `fused` into
    the kernel before. Nothing is rounded without `quantize`.
    """
    e = _effort(shape, chip, fit, b_weights, b_activations, quantize, fused)
    return Work(e.flops, chip.peak, e.weight_bytes, 0.0, e.io_bytes, e.fixed_s, fit)


def _effort(
    shape: Shape,
    chip: Chip,
    fit: Gemm,
    b_weights: Number,
    b_activations: Number,
    quantize: Number,
    fused: Number,
) -> _Effort:
    m, n, k = shape
    some = choose((m > 0) & (n > 0) & (k > 0), 1.0, 0.0)
    tile_rows, tile_columns = (
        padded(m, fit.tile, quantize),
        padded(n, fit.tile_columns, quantize),
    )
    tiles = most(tile_rows / fit.tile, 1.0) * most(tile_columns / fit.tile_columns, 1.0)
    known = (chip.sms > 0) & (quantize > 0)
    loss = divide(round_up(tiles / most(chip.sms, 1.0), quantize) * chip.sms, tiles, 1.0)
    waves = choose(known, choose(known, loss, 1.0) ** fit.wave, 1.0)
    starved = 1.0 + fit.starvation * chip.sms / (tiles * most(1.0, k / 1024.0))
    apart = choose(fused > 0, 0.0, some)
    return _Effort(
        flops=2.0 * tile_rows * tile_columns * (k + fit.prologue * some) * waves,
        weight_bytes=n * k * b_weights * starved,
        io_bytes=some * m * (n + k) * b_activations * starved,
        fixed_s=some * (fit.launch_s + k * fit.depth_s)
        + apart * (fit.quantize_s + fit.quantize_passes * 3.0 * m * k / chip.hbm_bytes_per_s),
    )
