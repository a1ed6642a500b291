"""The fused routed experts of one MoE layer on one chip. MODEL section 10.

Two grouped matrix products (up and gate together, then down) over the experts that tokens of the
group visit, with the passes around them: permute, quantise, activate, add up. One form holds from
one token to a prompt of many thousands; nothing switches at a token count.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide
from roofrack.calibration import Experts
from roofrack.cost.roofline import Chip, Work

PASS_BYTES = 2.0
"""Bytes of an activation between the products: BF16 in every kernel fitted."""


class Shape(NamedTuple):
    """One expert as a chip holds it; `d_ff` its own share of the inner width.

    `matrices` 3 for gated experts, 2 for plain ones; bytes of one weight, scales included, and of
    one activation read or written.
    """

    d_model: Number
    d_ff: Number
    matrices: Number
    b_weights: Number
    b_activations: Number


class Load(NamedTuple):
    """What the busiest rank of an expert group meets in one pass.

    `tokens` of the whole group, each choosing `per_token` experts; of the `held` experts of the
    rank `touched` get a row at least, and `rows` rows together.
    """

    tokens: Number
    per_token: Number
    held: Number
    touched: Number
    rows: Number


def work(
    shape: Shape,
    load: Load,
    chip: Chip,
    fit: Experts,
    warm_bytes: Number = 0.0,
    times: Number = 1.0,
) -> Work:
    """Return the work of the routed experts of one layer, `times` over.

    FLOP: 2 for each pair of a weight and a row, with `pad_rows` more rows for each expert touched
    (half a tile in the mean, rows being spread unevenly) and `prologue` more steps of the inner
    dimension: a tile of the output first fills its pipeline. Bytes: the weights of the experts
    touched, once, and the rows. Fixed, as nothing hides it: `launch_s`, `depth_s` for each step of
    the two inner dimensions (latency of a walk along them), `expert_s` for each expert held
    (offsets of the groups), and the passes of `passes_s`.

    A benchmark that repeats one call finds in the last-level cache what fits there (`warm_bytes`):
    all of a small set of weights, nothing of a larger one, as each pass evicts what the next
    needs. In serving other layers come between, and nothing is left.
    """
    width, depth, up = shape.d_ff, shape.d_model, shape.matrices - 1.0
    steps = up * width * (depth + fit.prologue) + depth * (width + fit.prologue)
    rows = load.rows + load.touched * fit.pad_rows
    held = shape.matrices * width * depth * shape.b_weights * load.touched
    cold = 1.0 / (1.0 + divide(warm_bytes, held) ** 4)
    some = choose((load.rows > 0) & (width > 0), 1.0, 0.0)
    latency_s = fit.launch_s + fit.depth_s * (depth + width) + fit.expert_s * load.held
    return Work(
        flops=2.0 * rows * steps,
        peak=chip.peak,
        weight_bytes=held * cold,
        kv_bytes=0.0,
        io_bytes=load.rows * (2.0 * depth + shape.matrices * width) * shape.b_activations,
        fixed_s=some * (latency_s + passes_s(shape, load, chip, fit)),
        kernel=fit,
        times=times,
    )


def passes_s(shape: Shape, load: Load, chip: Chip, fit: Experts) -> Number:
    """Return the seconds of the passes over the activations.

    A pass takes a row in and out (2 d_model) and through the activation (d_ff of each matrix).
    Kernels that permute (CUTLASS) go over the rows of the rank's own experts (`local_passes`);
    those that only sort the choices (Triton, Marlin, trtllm-gen) over tokens * per_token rows,
    wherever their experts are (`all_passes`).
    """
    row = (2.0 * shape.d_model + shape.matrices * shape.d_ff) * PASS_BYTES
    rows = fit.local_passes * load.rows + fit.all_passes * load.tokens * load.per_token
    return rows * row / chip.hbm_bytes_per_s
