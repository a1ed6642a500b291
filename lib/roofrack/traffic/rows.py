"""The rows of a file: which are requests, and why the others are not."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from roofrack.errors import InputError
from roofrack.traffic.requests import LONGEST, Floats, Prefixes, Requests, Whole


class Rows(NamedTuple):
    """What a file holds, N numbers each in its order, NaN where nothing stands."""

    time_s: Floats
    prompt: Floats
    output: Floats
    cached: Floats | None
    blocks: pl.Series | None
    block_tokens: int


def requests_of(rows: Rows, origin: str) -> Requests:
    """Return the rows that are requests, in order of arrival, and count the others by reason.

    The first reason that applies counts. A prompt that is wholly cached is a request: its last
    token is computed all the same. Raises InputError where no row is a request.
    """
    count = len(rows.time_s)
    good = np.ones(count, bool)
    rejected: dict[str, int] = {}
    for reason, bad in _reasons(rows):
        hit = int((good & bad).sum())
        if hit:
            rejected[reason] = hit
            good &= ~bad
    if not good.any():
        told = ", ".join(f"{reason} ({n})" for reason, n in rejected.items())
        raise InputError(
            f"{origin}: none of its {count} rows is a request: {told}"
            if count
            else f"{origin}: has columns but no rows"
        )
    kept = np.flatnonzero(good)
    times = rows.time_s[kept]
    late = int((times < np.maximum.accumulate(times)).sum())
    order = kept[np.argsort(times, kind="stable")]
    prompt = rows.prompt[order]
    cached = 0 if rows.cached is None else np.minimum(rows.cached[order], prompt - 1.0)
    hashes = None if rows.blocks is None else _prefixes(rows.blocks, rows.block_tokens).take(order)
    return Requests(
        rows.time_s[order],
        prompt,  # type: ignore[arg-type]  # whole, as was seen
        rows.output[order],  # type: ignore[arg-type]
        cached,  # type: ignore[arg-type]
        hashes,
        rejected,
        late,
    )


def _reasons(rows: Rows) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    yield "no arrival time", ~np.isfinite(rows.time_s)
    yield "arrival before 0", rows.time_s < 0
    for name, values, least in (
        ("prompt", rows.prompt, 1),
        ("output", rows.output, 1),
        ("cached", rows.cached, 0),
    ):
        if values is None:
            continue
        yield f"no {name} length", ~np.isfinite(values)
        yield f"{name} below {least}", values < least
        yield f"{name} above {LONGEST:,}", values > LONGEST
        yield f"{name} not whole", values != np.floor(values)
    if rows.cached is not None:
        yield "cached above prompt", rows.cached > rows.prompt


def _prefixes(blocks: pl.Series, block_tokens: int) -> Prefixes:
    counts: Whole = blocks.list.len().fill_null(0).cast(pl.Int64).to_numpy()
    ids = blocks.filter(pl.Series(counts > 0)).explode().cast(pl.Int64).to_numpy()
    return Prefixes(np.concatenate(([0], np.cumsum(counts))), ids, block_tokens)
