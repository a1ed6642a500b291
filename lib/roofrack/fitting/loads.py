"""What the busiest rank of a measured expert group computed: rows, and experts with any row.

The tables tell the tokens and how they were dealt: `balanced`, every expert in turn, or
`power_law_A`, popularities drawn from a power law of exponent A and the fullest rank measured (the
benchmark of aiconfigurator-core). The cost model has its own expectation of both for real traffic.
"""

from functools import cache

import numpy as np
import polars as pl

DRAWS = 16
"""Draws of a power law that are averaged."""
SEED = 20260728
SHAPE = ("tokens", "top_k", "experts", "ep", "distribution")


def with_loads(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table of kind `moe` with the columns `rows`, `touched` and `held` of a rank."""
    shapes = table.select(SHAPE).unique(maintain_order=True)
    found = [load(int(t), int(k), int(e), int(ep), d) for t, k, e, ep, d in shapes.iter_rows()]
    known = shapes.with_columns(
        rows=pl.Series([rows for rows, _ in found], dtype=pl.Float64),
        touched=pl.Series([touched for _, touched in found], dtype=pl.Float64),
        held=pl.col("experts") / pl.col("ep"),
    )
    return table.join(known, on=SHAPE, how="left", maintain_order="left")


@cache
def load(
    tokens: int, per_token: int, experts: int, ranks: int, distribution: str
) -> tuple[float, float]:
    """Return rows of the busiest of `ranks` ranks, and how many of its experts have any."""
    if not distribution.startswith("power_law_"):
        dealt = _in_turn(tokens, per_token, experts)[None]
    else:
        exponent = float(distribution.removeprefix("power_law_"))
        dealt = _by_popularity(tokens, per_token, experts, exponent)
    by_rank = dealt.reshape(len(dealt), ranks, -1)
    busiest = by_rank.sum(2).argmax(1)
    own = by_rank[np.arange(len(dealt)), busiest]
    return float(own.sum(1).mean()), float((own > 0).sum(1).mean())


def _in_turn(tokens: int, per_token: int, experts: int) -> np.ndarray:
    """Deal rows evenly: a token's experts lie far apart, the next token's beside them."""
    stride = -(-experts // per_token)
    first = np.arange(tokens) if tokens >= stride else np.arange(tokens) * stride // tokens
    chosen = (first[:, None] + np.arange(per_token) * stride) % experts
    return np.bincount(chosen.ravel(), minlength=experts).astype(float)


def _by_popularity(tokens: int, per_token: int, experts: int, exponent: float) -> np.ndarray:
    """Draw popularities from a power law and deal tokens * per_token rows in their proportion."""
    rng = np.random.default_rng(SEED)
    rows = float(tokens * per_token)
    low, high = (1.0, max(0.8 * tokens, 1.0001)) if rows > experts else (0.01, 2.0)
    uniform = rng.random((DRAWS, experts))
    power = 1.0 - exponent
    drawn = ((high**power - low**power) * uniform + low**power) ** (1.0 / power)
    share = np.minimum(drawn / drawn.sum(1, keepdims=True) * rows, tokens)
    return _whole(share, rows, tokens)


def _whole(share: np.ndarray, rows: float, most: int) -> np.ndarray:
    """Round shares to whole rows that add up, what is over going to the largest remainders."""
    for _ in range(8):  # what is cut off at `most` goes to the others
        short = rows - share.sum(1, keepdims=True)
        room = share < most
        share = np.minimum(
            share + room * share * short / np.maximum((room * share).sum(1, keepdims=True), 1e-9),
            most,
        )
    whole = np.floor(share)
    left = np.rint(rows - whole.sum(1)).astype(int)
    order = np.argsort(whole - share, axis=1)
    for draw, count in enumerate(left):
        whole[draw, order[draw, : max(count, 0)]] += 1
    return whole
