"""What a rack holds, and what holds the rack: sentences about memory, cables, weight and power."""

import polars as pl

from roofrack.report.format import listed, number, percent, quantity, times
from roofrack.report.page import Finding

from ..common.pages import chips
from .found import Found


def fits(found: Found) -> Finding | None:
    """Say what one rack holds."""
    f, table = found.facts, found.room
    rows = (
        table.filter(pl.col("context") == int(max(1, f.machine.context))) if len(table) else table
    )
    rows = rows.filter(pl.col("domain") == f.machine.domain) if len(rows) else rows
    if rows.is_empty():
        return None
    row = rows.row(0, named=True)
    longest = table.filter(
        pl.col("domain") == f.machine.domain, pl.col("sequences") >= pl.col("chips")
    )["context"].max()
    text = (
        f"One rack of {chips(f.machine.domain)} has room for {quantity(row['capacity'], 'B')}; the"
        f" weights take {quantity(row['weights'], 'B')},"
        f" {percent(row['weights'] / row['capacity'])}. Beside them fit"
        f" {number(row['sequences'])} sequences of {number(row['context'])} tokens"
    )
    if longest is not None:
        text += f", or one on every chip up to a context of {number(longest)} tokens"  # type: ignore[arg-type]
    held = found.crossing.sequences if found.crossing else 1
    ratio = times(row["params"] / row["params_total"])
    text += (
        f". With {number(held)} sequences on each chip a model of {quantity(row['params'])}"
        f" parameters still fits, {ratio} this one."
    )
    return Finding(text, "neutral", "mem_total_bytes at two batches, a line through both", "room")


def system(found: Found) -> Finding | None:
    """Say what is published about the rack itself, and what a larger one would be."""
    f = found.facts
    rows = found.systems.filter(pl.col("name") == str(f.machine.config["hardware"]["name"]))
    if rows.is_empty():
        return None
    row = rows.row(0, named=True)
    told = [
        f"{quantity(row[key], unit) if unit != 'kg' else number(row[key]) + ' kg'}{word}"
        for key, unit, word in (
            ("power_w", "W", ""),
            ("weight_kg", "kg", ""),
            ("cables", "", " cables"),
        )
        if row[key] is not None
    ]
    if not told or not row["chips"]:
        return None
    text = (
        f"The rack itself, {f.machine.name}, {chips(row['chips'])}: {listed(told)}"
        f"{', cooling: ' + row['cooling'] if row['cooling'] else ''}."
    )
    largest = max(f.domains)
    if row["power_w"] and largest > row["chips"]:
        text += (
            f" A domain of {chips(largest)} built alike would draw"
            f" {quantity(row['power_per_chip'] * largest, 'W')}"
        )
        if row["weight_per_chip"]:
            text += f" and weigh {quantity(row['weight_per_chip'] * largest / 1000)} t"
        text += "."
    return Finding(text, "neutral", "published.system of conf/hardware", "systems")
