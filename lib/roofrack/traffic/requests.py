"""Requests in order of arrival: when each comes, how long its prompt and its output are."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from roofrack.errors import InputError
from roofrack.traffic.summary import Summary, summarise

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

LONGEST = 10**9
"""Tokens of the longest prompt or output that is taken for one; sums of them stay exact."""


class Prefixes(NamedTuple):
    """The prompts as blocks of tokens, each named by what it and all before it hold.

    Request i has the blocks `ids[offsets[i]:offsets[i + 1]]` of `block_tokens` tokens, the last one
    perhaps in part. Two prompts share their beginning as far as their ids agree.
    """

    offsets: Whole
    ids: Whole
    block_tokens: int

    def take(self, index: Whole) -> "Prefixes":
        """Return the blocks of these requests, in this order."""
        counts = np.diff(self.offsets)[index]
        offsets = np.concatenate(([0], np.cumsum(counts)))
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        ids = self.ids[np.repeat(self.offsets[:-1][index], counts) + within]
        return Prefixes(offsets, ids, self.block_tokens)


@dataclass(frozen=True, eq=False)
class Requests:
    """N requests in order of arrival; each field but the last three holds N numbers.

    `arrival_s` is in seconds after the first request, whatever it is counted from when given.
    `prompt` tokens come in, the first `cached` of them found in a prefix cache (fewer than
    `prompt`), and `output` tokens are generated, the first of them by the prefill. `rejected`
    counts the rows of a file that are no requests, by reason; `out_of_order` those that stood
    behind a later one. Raises InputError where these are not the arrays of one sorted list of
    requests.
    """

    arrival_s: Floats
    prompt: Whole
    output: Whole
    cached: Whole = 0  # type: ignore[assignment]
    hashes: Prefixes | None = None
    rejected: Mapping[str, int] = field(default_factory=dict)
    out_of_order: int = 0

    def __post_init__(self) -> None:
        """Make arrays of what was given, count times from the first, and check."""
        arrival = np.array(self.arrival_s, np.float64)
        if arrival.ndim != 1 or not arrival.size:
            raise InputError("requests: arrival_s must be a list of at least one time")
        if not np.isfinite(arrival).all() or (np.diff(arrival) < 0).any():
            raise InputError("requests: arrival_s must be finite and sorted")
        object.__setattr__(self, "arrival_s", arrival - arrival[0])
        for name in ("prompt", "output", "cached"):
            object.__setattr__(self, name, _whole(name, getattr(self, name), arrival.size))
        for name, bad, rule in (
            ("prompt", self.prompt < 1, "at least 1"),
            ("output", self.output < 1, "at least 1"),
            ("cached", self.cached < 0, "at least 0"),
            ("cached", self.cached >= self.prompt, "less than prompt"),
        ):
            if bad.any():
                row = int(np.argmax(bad))
                value = getattr(self, name)[row]
                raise InputError(f"requests: {name}={value} of request {row}; {rule} is needed")
        if self.hashes is not None:
            _check(self.hashes, arrival.size)

    def __len__(self) -> int:
        """Return how many requests there are."""
        return len(self.arrival_s)

    @property
    def duration_s(self) -> float:
        """Seconds from the first arrival to the last."""
        return float(self.arrival_s[-1])

    @property
    def rate(self) -> float:
        """Requests per second: gaps over duration. 0 for one request, inf if all come at once."""
        if len(self) == 1:
            return 0.0
        return (len(self) - 1) / self.duration_s if self.duration_s > 0 else np.inf

    def take(self, index: npt.ArrayLike) -> "Requests":
        """Return the requests at these positions, which must rise; the first is again at 0."""
        at = np.asarray(index, np.int64)
        if not at.size:
            raise InputError("requests: none is left")
        hashes = self.hashes and self.hashes.take(at)
        columns = {name: getattr(self, name)[at] for name in ("arrival_s", *LENGTHS)}
        return dataclasses.replace(self, **columns, hashes=hashes)

    def scaled(self, factor: float) -> "Requests":
        """Return the same requests `factor` times as fast: every time is divided by it."""
        if not (np.isfinite(factor) and factor > 0):
            raise InputError(f"factor={factor}: a number above 0 is needed")
        return dataclasses.replace(self, arrival_s=self.arrival_s / factor)

    def window(self, start_s: float, end_s: float) -> "Requests":
        """Return the requests from start_s to before end_s; InputError where there is none."""
        first, last = np.searchsorted(self.arrival_s, (start_s, end_s))
        if first >= last:
            raise InputError(
                f"window of {start_s:g} to {end_s:g} s: no request arrives in it; they arrive "
                f"from 0 to {self.duration_s:g} s"
            )
        return self.take(np.arange(first, last))

    def first(self, n: int) -> "Requests":
        """Return the first n requests, or all if there are fewer."""
        if n < 1:
            raise InputError(f"n={n}: at least 1 request is needed")
        return self.take(np.arange(min(n, len(self))))

    def summary(self) -> Summary:
        """Return counts, rates and the spread of gaps and lengths."""
        return summarise(self.arrival_s, self.prompt, self.output, self.cached)


LENGTHS = ("prompt", "output", "cached")


def _whole(name: str, given: Any, count: int) -> Whole:
    """Return whole numbers, one for each request."""
    values = np.asarray(given)
    if values.ndim == 0 and name == "cached":
        values = np.broadcast_to(values, count)
    if values.shape != (count,):
        raise InputError(f"requests: {name} has shape {values.shape}; {count} numbers are needed")
    if values.dtype.kind not in "iuf" or not (np.abs(values) <= LONGEST).all():
        raise InputError(f"requests: {name} must be numbers of tokens, {LONGEST:,} at most")
    whole = values.astype(np.int64)
    if (whole != values).any():
        row = int(np.argmax(whole != values))
        raise InputError(f"requests: {name}={values[row]} of request {row} is not a whole number")
    return whole


def _check(hashes: Prefixes, count: int) -> None:
    rises = len(hashes.offsets) == count + 1 and (np.diff(hashes.offsets) >= 0).all()
    if not rises or hashes.offsets[0] != 0 or hashes.offsets[-1] != len(hashes.ids):
        raise InputError(f"requests: hashes must hold the blocks of {count} requests")
    if hashes.block_tokens < 1:
        raise InputError(f"block_tokens={hashes.block_tokens}: at least 1 token is needed")
