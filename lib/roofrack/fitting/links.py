"""Collectives: the numbers of a link, fitted to measured calls through the cost model's own ways."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import polars as pl

from roofrack.arithmetic import Number
from roofrack.calibration import Link, Links
from roofrack.cost import collectives, routing
from roofrack.cost.fabric import Trunk, wires
from roofrack.cost.ways import group
from roofrack.fitting.fit import Bound, Columns, Seconds
from roofrack.hardware import Hardware

TABLES = {"all_reduce": "all_reduce", "all_gather": "all_gather", "all_to_all": "all_to_all"}
"""By the name of the collective in `calibration.scale_up`, the kind of table."""

BOUNDS = {
    "efficiency": Bound(0.02, 0.7, 1.0),
    "launch_s": Bound(1e-8, 4e-6, 1e-4),
    "step_s": Bound(1e-9, 1e-7, 5e-6),
    "staged_s": Bound(1e-8, 1e-5, 1e-4),
    "own": Bound(1e-3, 0.1, 3.0),
    "low_latency": Bound(1.0, 2.0, 16.0),
}
"""Numbers that are fitted, within their bounds."""

DOMAIN = (pl.col("bytes") <= 2.0**28) & (pl.col("nodes") == 1)
"""Messages of serving, within one scale-up domain."""


def seconds_of(collective: str, direct: bool) -> Seconds:
    """Return the function of a collective; `direct` as in Link. The same function each time."""
    return _seconds_of(collective, direct)


@cache
def _seconds_of(collective: str, direct: bool) -> Seconds:
    def seconds(numbers: Mapping[str, Any], columns: Columns) -> Number:
        low = {} if direct else {"low_latency": numbers["low_latency"]}
        given = {n: v for n, v in numbers.items() if n != "low_latency"} | low
        return time(collective, Link(**given, direct=float(direct)), columns)

    return seconds


def time(collective: str, link: Link, columns: Columns) -> Number:
    """Return seconds of collectives of `members` chips on the level that the columns describe."""
    level = Trunk(
        chips=columns["level_chips"],
        bytes_per_s=columns["link_bytes_per_s"],
        hop_bytes_per_s=columns["link_bytes_per_s"],
        latency_s=columns["latency_s"],
        links=Links(all_reduce=link, all_gather=link, all_to_all=link),
        torus_axes=0.0,
        full_mesh=0.0,
        ring_closes_at=0.0,
        in_network=columns["in_network"],
    )
    members, size = columns["members"], columns["bytes"]
    laid = wires([level], 1.0, (members, 1.0))
    if collective == "all_reduce":
        return sum(collectives.all_reduce(group(laid), size).seconds)
    if collective == "all_gather":
        return sum(collectives.all_gather(group(laid), size).seconds)
    # each chip has a share of its buffer for every member: one copy to a place at random
    way = routing.route(laid, 1.0, 1.0, 0.0, 0.0)
    return routing.all_to_all(laid, way, size, 1.0).longest


def calls(table: pl.DataFrame, hardware: Hardware) -> pl.DataFrame:
    """Return the calls of a table that are fitted to, with what the machine brings to them."""
    level = hardware.fabric[0]
    return table.filter(DOMAIN).with_columns(
        level_chips=pl.lit(max(float(level.chips), 8.0)),
        link_bytes_per_s=pl.lit(float(level.bytes_per_s)),
        latency_s=pl.lit(float(level.latency_s)),
        in_network=pl.lit(float(level.in_network_reduction)),
    )
