"""Collectives: the numbers of a link, fitted through the cost model's own ways."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import polars as pl

from roofrack.arithmetic import Number, least
from roofrack.calibration import Link, Links
from roofrack.cost import collectives, routing
from roofrack.cost.fabric import Trunk, wires
from roofrack.cost.ways import group
from roofrack.fitting.fit import Bound, Columns, Seconds
from roofrack.hardware import Hardware
from roofrack.tables import DTYPES

LIBRARY = ("all_gather", "all_to_all")
"""Collectives that engines leave to a library (NCCL)."""

EXPERTS = ("dispatch", "combine")
"""Exchanges of tokens with their experts."""

NAMES = ("all_reduce", *LIBRARY, *EXPERTS)
"""The collectives that are fitted: fields of Links, and kinds of table."""

BOUNDS = {
    "efficiency": Bound(0.02, 0.7, 1.0),
    "launch_s": Bound(1e-8, 4e-6, 1e-4),
    "step_s": Bound(1e-9, 1e-7, 5e-6),
    "staged_s": Bound(1e-8, 1e-5, 1e-4),
    "own": Bound(1e-3, 0.1, 3.0),
    "low_latency": Bound(1.0, 2.0, 16.0),
}
"""Numbers that are fitted, within their bounds."""

EXCHANGE_BOUNDS = {
    "efficiency": Bound(0.02, 0.5, 1.0),
    "launch_s": Bound(1e-7, 2e-5, 3e-4),
    "row_s": Bound(1e-12, 1e-9, 1e-6),
    "expert_s": Bound(1e-10, 1e-7, 1e-5),
}
"""The same for `dispatch` and `combine`, which have one protocol."""

MOST_BYTES = 2.0**28
"""Largest messages of serving."""

_SENT = {"default": "bf16"}
"""Formats of exchanged tokens that the tables do not name: two bytes."""


def seconds_of(collective: str, direct: bool) -> Seconds:
    """Return the function of a collective; `direct` as in Link. The same function each time."""
    return _seconds_of(collective, direct)


@cache
def _seconds_of(collective: str, direct: bool) -> Seconds:
    def seconds(numbers: Mapping[str, Any], columns: Columns) -> Number:
        return time(collective, Link(**numbers, direct=float(direct)), columns)

    return seconds


def time(collective: str, link: Link, columns: Columns) -> Number:
    """Return seconds of collectives of `members` chips on the level that the columns describe."""
    level = Trunk(
        chips=columns["level_chips"],
        bytes_per_s=columns["link_bytes_per_s"],
        hop_bytes_per_s=columns["link_bytes_per_s"],
        latency_s=columns["latency_s"],
        links=Links(**dict.fromkeys(NAMES, link)),
        torus_axes=0.0,
        full_mesh=0.0,
        ring_closes_at=0.0,
        in_network=columns["in_network"],
    )
    members = columns["members"]
    laid = wires([level], 1.0, (members, 1.0))
    if collective == "all_reduce":
        return sum(collectives.all_reduce(group(laid), columns["bytes"]).seconds)
    if collective == "all_gather":
        return sum(collectives.all_gather(group(laid), columns["bytes"]).seconds)
    if collective in EXPERTS:
        way = routing.route(laid, least(columns["top_k"], members), 1.0, 0.0, 0.0)
        held = columns["experts"] / members
        sent = columns["token_bytes"]
        return routing.all_to_all(laid, way, sent, columns["tokens"], (collective,), held).longest
    # each chip has a share of its buffer for every member: one copy to a place at random
    way = routing.route(laid, 1.0, 1.0, 0.0, 0.0)
    return routing.all_to_all(laid, way, columns["bytes"], 1.0).longest


def calls(table: pl.DataFrame, hardware: Hardware) -> pl.DataFrame:
    """Return the calls of a table that are fitted to, with what the machine brings to them.

    Of several kernels that exchange tokens the fastest for each shape: engines have one for few
    tokens and one for many.
    """
    level = hardware.fabric[0]
    if "top_k" in table.columns:
        table = _exchanges(table)
    else:
        table = table.filter(pl.col("bytes") <= MOST_BYTES)
    return table.filter(pl.col("nodes") == 1).with_columns(
        level_chips=pl.lit(max(float(level.chips), 8.0)),
        link_bytes_per_s=pl.lit(float(level.bytes_per_s)),
        latency_s=pl.lit(float(level.latency_s)),
        in_network=pl.lit(float(level.in_network_reduction)),
    )


def _exchanges(table: pl.DataFrame) -> pl.DataFrame:
    shape = ["members", "nodes", "tokens", "d_model", "top_k", "experts", "format"]
    sizes = {n: DTYPES[_SENT.get(n, n)].bytes for n in table["format"].unique()}
    fastest = table.sort("seconds").unique(shape, keep="first", maintain_order=True)
    return fastest.sort(shape).with_columns(
        token_bytes=pl.col("d_model") * pl.col("format").replace_strict(sizes)
    )


def bounds(name: str, direct: bool) -> dict[str, Bound]:
    """Return the numbers of a collective that are fitted, within their bounds."""
    if name in EXPERTS:
        return EXCHANGE_BOUNDS
    return {n: b for n, b in BOUNDS.items() if not (direct and n == "low_latency")}
