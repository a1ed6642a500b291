"""Matrix products: projections, FFNs, router and head. MODEL section 10."""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, most, padded, round_up
from roofrack.calibration import Gemm
from roofrack.cost.roofline import Chip, Work


class Shape(NamedTuple):
    """One product: `rows` x `depth` activations times `depth` x `columns` weights."""

    rows: Number
    columns: Number
    depth: Number


def work(
    shape: Shape,
    chip: Chip,
    fit: Gemm,
    *,
    b_weights: Number,
    b_activations: Number,
    quantize: Number,
    fused: Number = 0.0,
    times: Number = 1.0,
) -> Work:
    """Return the work of one product, `times` over; bytes per element of weights and activations.

    Rows and columns are padded to tiles, which the chip's multiprocessors take in waves: of the
    last, partly idle one a `wave` power is lost. A tile waits for its first `prologue` steps of the
    inner dimension; each step costs `depth_s` besides. Few tiles cannot keep the memory busy
    (`starvation`). Activations are quantised in passes of their own unless that is `fused` into
    the kernel before. Nothing is rounded without `quantize`.
    """
    m, n, k = shape
    some = choose((m > 0) & (n > 0) & (k > 0), 1.0, 0.0)
    tile_rows, tile_columns = padded(m, fit.tile, quantize), padded(n, fit.tile_columns, quantize)
    tiles = most(tile_rows / fit.tile, 1.0) * most(tile_columns / fit.tile_columns, 1.0)
    known = (chip.sms > 0) & (quantize > 0)
    loss = divide(round_up(tiles / most(chip.sms, 1.0), quantize) * chip.sms, tiles, 1.0)
    waves = choose(known, choose(known, loss, 1.0) ** fit.wave, 1.0)
    starved = 1.0 + fit.starvation * chip.sms / (tiles * most(1.0, k / 1024.0))
    apart = choose(fused > 0, 0.0, some)
    return Work(
        flops=2.0 * tile_rows * tile_columns * (k + fit.prologue * some) * waves,
        peak=chip.peak,
        weight_bytes=n * k * b_weights * starved,
        kv_bytes=0.0,
        io_bytes=m * (n + k) * b_activations * starved,
        fixed_s=some * (fit.launch_s + k * fit.depth_s)
        + apart * (fit.quantize_s + fit.quantize_passes * 3.0 * m * k / chip.hbm_bytes_per_s),
        kernel=fit,
        times=times,
    )
