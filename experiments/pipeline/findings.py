"""What the numbers say about pipelines, each sentence computed from the run or its studies."""

from dataclasses import dataclass
from math import ceil

import polars as pl

from roofrack.report.format import number, percent, quantity, times
from roofrack.report.page import Finding

from ..common.columns import COST
from ..common.pages import chips, setting
from .asked import LINKS, Need, outer_level
from .facts import FIXED, GROW, Facts, Row, cheapest, same_chips

FLAT = 0.15
"""A change of the cache below this is none: layers that stages cannot share evenly make it."""
NEUTRAL = 0.03
"""A change of time or money below this is none."""
TRILLION = 1e12


@dataclass(frozen=True)
class Asked:
    """The studies of a page."""

    need: Need
    moved: pl.DataFrame
    trained: pl.DataFrame


def findings(found: Facts, asked: Asked) -> tuple[Finding, ...]:
    """Return what can be said, the most useful first."""
    made = (
        _needed(found, asked.need),
        _memory(found),
        _latency(found),
        _readings(found),
        _pays(found),
        _same(found),
        _trillion(found, asked.need),
        _bubbles(found, asked.trained),
        _links(found, asked.moved),
    )
    return tuple(finding for finding in made if finding)


def bar(row: Row) -> str:
    """Return the error bar of a row's time, where its calibration gives one."""
    error = row["step_s_rel_std"]
    text = f" (each give or take {percent(error)}, one standard deviation, mostly the same way)"
    return text if error else ""


def stages(count: int) -> str:
    """Return a number of stages in words."""
    return "1 stage" if count == 1 else f"{count} stages"


def _needed(found: Facts, need: Need) -> Finding:
    """Say at which depth the model fits, with nothing but its weights and with the batch shown."""
    served = found.rung().filter("fits")
    if served.is_empty():
        row = found.rung().sort("mem_total_bytes").row(0, named=True)
        text = (
            f"Not served: {found.pair} with {number(found.batch)} sequences of"
            f" {number(found.context)} tokens fits none of the depths tried. The least that a chip"
            f" would hold is {quantity(row['mem_total_bytes'], 'B')}, with {stages(row['pp'])}, and"
            f" it has room for {quantity(row['mem_capacity_bytes'], 'B')}."
        )
        return Finding(text, "neutral", "fits of all rows of the home layout", "memory")
    row = served.row(0, named=True)
    free = 1.0 - row["mem_total_bytes"] / row["mem_capacity_bytes"]
    if row["pp"] == 1:
        start = f"A pipeline is not needed: {found.pair} fits one stage"
    elif found.base == 1:
        start = f"A pipeline is needed: {found.pair} first fits with {row['pp']} stages, each"
    else:
        start = f"The least depth tried that fits {found.pair} is {row['pp']} stages, each"
    text = (
        f"{start} of {found.words}, with"
        f" {number(found.batch)} sequences of {number(found.context)} tokens, and leaves"
        f" {percent(free)} of the memory free."
    )
    return Finding(text, "agrees" if row["pp"] == 1 else "contradicts", "fits by depth", "need")


def _memory(found: Facts) -> Finding | None:
    if not found.ends or found.reading != GROW:
        return None
    one, deep = found.ends
    saved = one["mem_weights_bytes"] / deep["mem_weights_bytes"]
    kept = deep["mem_kv_bytes"] / one["mem_kv_bytes"] if one["mem_kv_bytes"] else 1.0
    ideal = deep["pp"] / one["pp"]
    text = (
        f"{stages(deep['pp'])} instead of {one['pp']} cut the weights on a chip {times(saved)},"
        f" from {quantity(one['mem_weights_bytes'], 'B')} to"
        f" {quantity(deep['mem_weights_bytes'], 'B')}. The KV cache on it stays: it goes from"
        f" {quantity(one['mem_kv_bytes'], 'B')} to {quantity(deep['mem_kv_bytes'], 'B')}. A chip"
        " holds the cache of fewer layers, but as many micro-batches are in flight as there are"
        " stages."
    )
    if saved < 0.97 * ideal:
        text += (
            f" The saving is less than {times(ideal)} because the fullest chip keeps an embedding"
            " or the head, and more layers than the mean where they do not divide."
        )
    flat = abs(kept - 1.0) <= FLAT
    return Finding(text, "agrees" if flat else "contradicts", "memory by depth, grow", "memory")


def imbalance(found: Facts, pp: int) -> float:
    """Return the layers of the fullest stage over the mean, as the run's calibration counts."""
    if not found.job.config["calibration"]["quantize"]:
        return 1.0
    layers = found.job.config["model"]["layers"]
    return ceil(layers / pp) * pp / layers


def _latency(found: Facts) -> Finding | None:
    if not found.ends or found.reading != GROW:
        return None
    one, deep = found.ends
    more = deep["tpot_s"] / one["tpot_s"] - 1.0
    hop = deep["t_pipeline_s"]
    text = (
        f"A token takes {quantity(one['tpot_s'], 's')} with {stages(one['pp'])} and"
        f" {quantity(deep['tpot_s'], 's')}{bar(deep)} with {stages(deep['pp'])} of as many chips,"
        f" {percent(abs(more))} {'more' if more >= 0 else 'less'}."
        f" Hops between stages are {quantity(hop, 's')} of it,"
        f" {quantity(hop / deep['pp'], 's')} each."
    )
    uneven = imbalance(found, deep["pp"]) / imbalance(found, one["pp"]) - 1.0
    if uneven > 0.005:
        text += (
            f" {number(found.job.config['model']['layers'])} layers do not divide into"
            f" {deep['pp']} stages: all wait for the fullest, {percent(uneven)} above the mean."
        )
    neutral = abs(more) <= NEUTRAL
    text += (
        " The lecture: neither better nor worse."
        if neutral
        else " The lecture has it neither better nor worse; it leaves out hops, uneven stages and"
        " what every stage pays once a pass."
    )
    return Finding(text, "agrees" if neutral else "contradicts", "tpot_s by depth", "latency")


def _readings(found: Facts) -> Finding | None:
    """Set both meanings of the batch against each other at the depth shown."""
    if not found.ends:
        return None
    base = found.base
    rows = [found.at(pp, r) for pp in (base, found.deep or base) for r in (GROW, FIXED)]
    if any(row is None for row in rows):
        return None
    one, _, grow, fixed = (row for row in rows if row)
    text = (
        f"What a batch of {number(found.batch)} means decides the rest. If each of"
        f" {grow['pp']} stages works on as many (grow), {number(found.batch * grow['pp'])} are in"
        f" flight and a token costs {times(grow[COST] / one[COST])} what it does with"
        f" {stages(base)}. If they are all there are (fixed), the cache on a chip does shrink,"
        f" {times(one['mem_kv_bytes'] / fixed['mem_kv_bytes'])} if a cache is kept, but each pass"
        f" reads the weights for {number(found.batch / fixed['pp'])} of them alone, on"
        f" {times(fixed['chips'] / one['chips'])} the chips: a token costs"
        f" {times(fixed[COST] / one[COST])}."
    ).replace(" if a cache is kept", "")
    worse = fixed[COST] > grow[COST]
    return Finding(text, "agrees" if worse else "contradicts", "grow and fixed rows", "cost")


def _pays(found: Facts) -> Finding | None:
    """Say whether the memory that is saved pays for itself, as a larger batch."""
    best = cheapest(found)
    first = best.filter(pp=found.base)
    if best.height < 2 or first.is_empty():
        return None
    one = first.row(0, named=True)
    deep = best.filter(pl.col("pp") > found.base).sort(COST).row(0, named=True)
    gain = 1.0 - deep[COST] / one[COST]
    text = (
        f"Filled with as large a batch as is cheapest, a token costs"
        f" {quantity(one[COST], 'USD')} per million with {stages(one['pp'])} (batch"
        f" {number(one['batch'])}, {quantity(one['tpot_s'], 's')} a token) and"
        f" {quantity(deep[COST], 'USD')} with {deep['pp']}, the best of deeper ones (batch"
        f" {number(deep['batch'])} for each stage, {quantity(deep['tpot_s'], 's')}). "
    )
    if gain > NEUTRAL:
        text += (
            f"The memory that weights leave holds more sequences and saves {percent(gain)}, at"
            f" {times(deep['tpot_s'] / one['tpot_s'])} the time for each token."
        )
    else:
        text += "Memory for more sequences does not make the token cheaper: depth does not pay."
    agrees = gain <= NEUTRAL
    return Finding(text, "agrees" if agrees else "contradicts", "cheapest row by depth", "cheapest")


def _same(found: Facts) -> Finding | None:
    rows = same_chips(found)
    deeper = rows.filter(pl.col("pp") > found.base)
    first = rows.filter(pp=found.base)
    if first.is_empty() or deeper.is_empty():
        return None
    one = first.row(0, named=True)
    deep = deeper.sort((pl.col("pp") - (found.deep or 2)).abs(), "pp").row(0, named=True)
    text = (
        f"The same {chips(one['chips'])} and the same {number(found.batch)} sequences, cut"
        f" into {deep['pp']} stages of {chips(deep['stage'])}: a token takes"
        f" {times(deep['tpot_s'] / one['tpot_s'])} as long and costs"
        f" {times(deep[COST] / one[COST])} as much, and weights take"
        f" {quantity(deep['mem_weights_bytes'], 'B')} of a chip instead of"
        f" {quantity(one['mem_weights_bytes'], 'B')}. A smaller stage shares each layer among"
        " fewer chips, so depth replaces a way to divide weights, it does not add one."
    )
    return Finding(text, "neutral", "rows of equal chips, fixed", "cost")


def _trillion(found: Facts, need: Need) -> Finding | None:
    if need.limit is None:
        return None
    alone = (
        f"; with {number(need.alone)} sequences, up to {quantity(need.limit_alone)}"
        if need.limit_alone and need.alone != found.batch
        else ""
    )
    text = (
        f"One stage of {found.words} is enough for up to {quantity(need.limit)} parameters of this"
        f" kind (more {need.grown}) with {number(found.batch)} sequences of"
        f" {number(found.context)} tokens{alone}. Larger weights need a pipeline, or a larger"
        " rack. The lecture: a rack has tens of terabytes, a trillion parameters need one."
    )
    fits = need.limit >= TRILLION
    return Finding(text, "agrees" if fits else "contradicts", "weights grown in a study", "need")


def _bubbles(found: Facts, trained: pl.DataFrame) -> Finding | None:
    """Compare the schedules at the depth shown, with four micro-batches for each stage."""
    if trained.is_empty():
        return None
    depths = trained["depth"].unique().to_list()
    depth = min(depths, key=lambda d: (abs(d - setting(found.run, "show_depth")), d))
    rows = trained.filter(depth=depth)
    sizes = rows["m"].unique().to_list()
    m = min(sizes, key=lambda size: (abs(size - 4 * depth), size))
    rows = rows.filter(m=m).sort("step_s")
    plain = rows.filter(key="1f1b")
    if plain.is_empty() or rows.height < 2:
        return None
    one, best = plain.row(0, named=True), rows.row(0, named=True)
    text = (
        f"In training a pipeline waits while it fills and drains: with {depth} stages and"
        f" {number(m)} micro-batches 1F1B leaves chips idle {percent(one['bubble_fraction'])} of"
        f" the passes. The quickest step has {best['schedule']}, idle"
        f" {percent(best['bubble_fraction'])}: it takes"
        f" {percent(1 - best['step_s'] / one['step_s'])} less, its activations"
        f" {times(_over(best, one, 'mem_activation_bytes'))} and its weights"
        f" {times(_over(best, one, 'mem_weights_bytes'))} the memory."
    )
    idle = one["bubble_fraction"] > NEUTRAL
    return Finding(text, "agrees" if idle else "contradicts", "schedules in training", "bubbles")


def _over(row: Row, other: Row, column: str) -> float:
    return float(row[column]) / float(other[column]) if other[column] else 1.0


def _links(found: Facts, moved: pl.DataFrame) -> Finding | None:
    """Say what faster links between racks would change at the depth shown."""
    outer = outer_level(found.job.config)
    if not found.deep or not outer:
        return None
    rows = moved.filter(
        context=found.context, batch=found.batch, reading=found.reading, depth=found.deep
    ).sort("links")
    if rows.height < 2:
        return None
    now = rows.filter((pl.col("links") / outer[1] - 1.0).abs() < 1e-6).row(0, named=True)
    fast = rows.row(-1, named=True)
    gain = 1.0 - fast["tpot_s"] / now["tpot_s"]
    text = (
        f"What would change it: with {times(LINKS[-1])} the bandwidth between racks a token of"
        f" {stages(found.deep)} would take {quantity(fast['tpot_s'], 's')} instead of"
        f" {quantity(now['tpot_s'], 's')}, {percent(gain)} less"
        f"{': hops cost latency, not bandwidth.' if gain < NEUTRAL else '.'}"
    )
    return Finding(text, "neutral", "a study of the links between racks", "live_tpot")
