"""The clock of a simulation: seconds of a pass, looked up in tables that the cost model filled."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from roofrack.simulation.state import Tables

Array = Any

CORNERS = tuple(
    zip(
        *((i, j, k, m) for j in (0, 1) for i in (0, 1) for k in (0, 1) for m in (0, 1)), strict=True
    )
)
"""Of a cell of the table, along batch, context, new, attended; those of the lower context first."""


class Seconds(NamedTuple):
    """Of a pass: `seconds`, and `per_token` more of the mean context, up to the context `until`."""

    seconds: Array
    per_token: Array
    until: Array


def pass_s(
    of: Tables, clock: Array, batch: Array, context: Array, new: Array, attended: Array
) -> Seconds:
    """Return the seconds of a pass of each cell [C], linear between the nodes of its table.

    `batch` decoding sequences of mean `context` cached tokens, `new` prompt tokens that attend to
    `attended` positions on average. Beyond the last node the last slope holds.
    """
    _, batches, contexts, news, attends = of.seconds.shape
    nodes = of.context[clock]
    cell, c_share = _between(nodes, context)
    b, b_share = of.below[batch], of.share[batch]
    n, n_share = _between(of.new[clock], new)
    a, a_share = _between(of.attended[clock], attended)
    row = ((clock * batches + b) * contexts + cell) * news + n
    corners = jnp.asarray(CORNERS, jnp.int32)[:, :, None]
    strides = (contexts * news * attends, news * attends, attends, 1)
    where = row * attends + a + sum(c * s for c, s in zip(corners, strides, strict=True))
    values = of.seconds.reshape(-1).at[where].get(mode="clip", wrap_negative_indices=False)
    for side, share in ((0, b_share), (2, n_share), (3, a_share)):
        values = values * jnp.where(corners[side] > 0, share, 1.0 - share)
    low, high = values[: len(values) // 2].sum(0), values[len(values) // 2 :].sum(0)
    cells = jnp.arange(nodes.shape[0])
    end = nodes[cells, cell + 1]
    until = jnp.where(cell >= contexts - 2, jnp.inf, end)
    slope = (high - low) / (end - nodes[cells, cell])
    return Seconds(low + (high - low) * c_share, slope, until)


def _between(nodes: Array, value: Array) -> tuple[Array, Array]:
    """Return the node of [C, n] under each value [C], and how far it is to the next."""
    under = (value[:, None] >= nodes[:, 1:-1]).sum(1)
    cells = jnp.arange(nodes.shape[0])
    low, high = nodes[cells, under], nodes[cells, under + 1]
    return under, (value - low) / (high - low)
