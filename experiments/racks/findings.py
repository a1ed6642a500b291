"""What the rows say about racks, in sentences; each is computed, or left out."""

from collections.abc import Callable

import polars as pl

from roofrack.report.format import listed, number, percent, quantity, times, usd
from roofrack.report.page import Finding, Verdict

from ..common.columns import COST, SPEED
from ..common.pages import RESOURCES, chips, error_bar
from .found import Found
from .holds import fits, system
from .rows import Facts, Row

LIKE = 1.25
"""Two ratios within this factor are called alike."""


def smaller(found: Found) -> Finding | None:
    """Compare the machine's own rack with the smallest domain of the run."""
    f = found.facts
    own, low = f.machine.domain, min(f.domains)
    if own not in f.domains or low == own:
        return None
    here, small = f.row(f.best, own), f.row(f.best, low)
    if here is None:
        return None
    text = (
        f"{f.machine.pair}, at {number(f.speed)} tokens/s or more for each user: in racks of"
        f" {chips(own)} a million tokens cost {usd(here[COST])}{error_bar(here)}"
    )
    if small is None:
        text += f"; in domains of {chips(low)} no plan tried is that fast."
        return Finding(text, "agrees", "cheapest rows of each domain", "frontier")
    ratio = small[COST] / here[COST]
    verdict: Verdict = "agrees" if ratio > f.near else "contradicts"
    text += (
        f", in domains of {chips(low)} {usd(small[COST])}, {times(ratio)} as much"
        f" ({small['plan']}; {percent(small['scale_out_fraction'] or 0.0)} of the experts' traffic"
        " leaves the domain there)."
    )
    return Finding(text, verdict, "cheapest rows of each domain", "frontier")


def larger(found: Found) -> Finding | None:
    """Say whether a domain larger than the machine's own still saves."""
    f = found.facts
    own = f.row(f.best, f.machine.domain)
    bigger = [d for d in f.domains if d > f.machine.domain]
    rows = [(d, row) for d in bigger if (row := f.row(f.best, d))]
    if own is None or not rows:
        return None
    each = [
        f"{chips(d)} cost {usd(row[COST])} ({percent(1 - row[COST] / own[COST])} less)"
        for d, row in rows
    ]
    gain = max(own[COST] / row[COST] for _, row in rows)
    verdict: Verdict = "agrees" if gain > f.near else "contradicts"
    text = (
        f"Racks larger than {chips(f.machine.domain)}, as the lecture expects them: at the same"
        f" speed {listed(each)} for a million tokens, against {usd(own[COST])}."
    )
    if verdict == "contradicts":
        text += (
            f" This model does not need them: it is served cheapest on {own['plan']}, and a larger"
            f" rack is only a larger place for the same plan.{_sooner(f, bigger)}"
        )
    return Finding(text, verdict, "cheapest rows of each domain", "domains")


def _sooner(facts: Facts, bigger: list[int]) -> str:
    """Say from which speed on a larger domain does save, if one does."""
    speeds = facts.table.filter(pl.col("domain").is_in(bigger))[SPEED].unique().sort()
    for speed in speeds.filter(speeds >= facts.speed):
        quick = facts.frontier.filter(pl.col(SPEED) >= speed)
        here = quick.filter(pl.col("domain") == facts.machine.domain)[COST].min()
        there = quick.filter(pl.col("domain").is_in(bigger))[COST].min()
        if there is not None and (here is None or here > facts.near * there):  # type: ignore[operator]
            return f" From {number(speed)} tokens/s on it is not: there a larger rack is cheaper."
    return ""


def floor(found: Found) -> Finding | None:
    """Say how the fastest step changes with the domain; the lecture: weights are read faster."""
    f = found.facts
    rows = [(d, row) for d in f.domains if (row := f.row(f.fastest, d))]
    if len(rows) < 2:
        return None
    (small, one), (large, other) = rows[0], rows[-1]
    gain = one["step_s"] / other["step_s"]
    read = one["t_weights_s"] / other["t_weights_s"] if other["t_weights_s"] else 1.0
    verdict: Verdict = "agrees" if gain > f.near else "contradicts"
    parts = {words: other[f"t_{part}_s"] or 0.0 for part, words in RESOURCES.items()}
    most = max(parts, key=lambda words: parts[words])
    text = (
        "The lecture's other gain of a large rack is latency, since more chips read the weights at"
        f" once. From {chips(small)} to {chips(large)} the quickest step falls from"
        f" {quantity(one['step_s'], 's')} to {quantity(other['step_s'], 's')}, {times(gain)}, and"
        f" reading weights in it by {times(read)}. The largest part of the quicker one is"
        f" {most}, {percent(parts[most] / other['step_upper_s'])} of all parts"
        f"{error_bar(other)}."
    )
    return Finding(text, verdict, "fastest row of each domain", "floor")


def second(found: Found) -> Finding | None:
    """Say what spreading the experts over a second rack costs."""
    pair = _pair(found)
    if pair is None or found.crossing is None:
        return None
    one, two, racks = pair
    f, held = found.facts, found.crossing.sequences
    ratio = two[COST] / one[COST]
    verdict: Verdict = "agrees" if ratio > f.near else "contradicts"
    text = (
        f"{number(held)} sequences on each chip, experts over {racks} racks of"
        f" {chips(f.machine.domain)} instead of one: a million tokens cost {usd(two[COST])} instead"
        f" of {usd(one[COST])}, {times(ratio, 3)}, and a step takes {quantity(two['step_s'], 's')}"
        f" instead of {quantity(one['step_s'], 's')}{error_bar(two)}. Each rack with its own copy"
        " of all experts costs what one rack costs, so experts belong in one rack"
    )
    text += " here too." if verdict == "agrees" else " but little is lost where they do not fit."
    if not one["fits"]:
        text += " One rack has no memory for it here: its time stands for comparison only."
    return Finding(text, verdict, "studies racks 1, 2, ...", "cost")


def leaving(found: Found) -> Finding | None:
    """Compare the share of the experts' traffic that leaves with 1 - 1/racks."""
    if found.crossing is None or found.crossing.home.height < 2:
        return None
    rows = found.crossing.home.filter(pl.col("racks") > 1)
    off = (rows["scale_out_fraction"] - (1 - 1 / rows["racks"])).abs().max()
    verdict: Verdict = "agrees" if float(off) < 0.01 else "contradicts"  # type: ignore[arg-type]
    last = rows.row(-1, named=True)
    first = rows.row(0, named=True)
    text = (
        "Tokens routed evenly leave their rack with probability 1 - 1/racks:"
        f" {percent(first['scale_out_fraction'])} over {first['racks']} racks,"
        f" {percent(last['scale_out_fraction'])} over {last['racks']}."
        f" The run differs from that by at most {percent(float(off))}."  # type: ignore[arg-type]
    )
    if found.crossing.missing:
        gone = listed([number(r) for r in found.crossing.missing])
        text += (
            f" {number(found.facts.machine.experts)} experts, each held twice at most, do not"
            f" divide over {gone} racks of {chips(found.facts.machine.domain)}."
        )
    return Finding(text, verdict, "scale_out_fraction of the studies", "leaving")


def links(found: Found) -> Finding | None:
    """Compare the links with the lecture's 8, and what they do to the all-to-all."""
    machine, claim = found.facts.machine, found.facts.link_ratio
    ratio = machine.inner_bytes_per_s / machine.outer_bytes_per_s
    verdict: Verdict = "agrees" if claim / LIKE <= ratio <= claim * LIKE else "contradicts"
    text = (
        f"The lecture takes links between racks to be {times(claim)} slower than inside. On"
        f" {machine.name} it is {times(ratio)}: {quantity(machine.inner_bytes_per_s, 'B/s')} a chip"
        f" inside, {quantity(machine.outer_bytes_per_s, 'B/s')} between."
    )
    pair = _pair(found)
    if pair and pair[0]["t_scale_up_s"] and pair[1]["t_scale_out_s"]:
        one, two, racks = pair
        slower = two["t_scale_out_s"] / one["t_scale_up_s"]
        text += (
            f" Half of that, {times(ratio / 2)}, is what two racks cost the all-to-all if only"
            f" bandwidth counted; here {racks} racks take {quantity(two['t_scale_out_s'], 's')} a"
            f" step between them, {times(slower)} the {quantity(one['t_scale_up_s'], 's')} inside"
            " one: both have latencies and uneven loads too."
        )
    figure = "levels" if found.crossing else ""
    return Finding(text, verdict, "hardware.fabric; t_scale_up_s, t_scale_out_s", figure)


def equal(found: Found) -> Finding | None:
    """Say what bandwidth between racks would make several equal to one."""
    if not found.equals:
        return None
    f = found.facts
    each = []
    for e in found.equals:
        within = f"comes within {percent(f.near - 1)} of one rack"
        if e.now <= f.near:
            each.append(f"{e.racks} racks already cost {times(e.now, 3)} what one does")
        elif e.bytes_per_s is None:
            each.append(
                f"{e.racks} racks never do: with endless bandwidth they still cost"
                f" {times(e.endless, 3)}, for latencies, launches and uneven loads stay"
            )
        else:
            factor = e.bytes_per_s / f.machine.outer_bytes_per_s
            each.append(
                f"{e.racks} racks need {quantity(e.bytes_per_s, 'B/s')} a chip between them,"
                f" {times(factor)} today's, and then their cost {within}"
            )
    text = f"What bandwidth would make several racks one? {'; '.join(each)}."
    return Finding(text, "neutral", "roofrack.inverse.solve on the studies", "equal")


def dedup(found: Found) -> Finding | None:
    """Say what one copy of a token to each rack saves."""
    pair = _pair(found)
    if pair is None or found.crossing is None:
        return None
    one, two, racks = pair
    rows = found.crossing.dedup.filter(pl.col("racks") == racks)
    if rows.is_empty() or not two["copies_leaving"]:
        return None
    apart = rows.row(0, named=True)
    text = (
        f"Sending one copy of a token to each rack, and forwarding it there, leaves"
        f" {number(apart['copies_leaving'])} instead of {number(two['copies_leaving'])} copies of"
        f" each token between {racks} racks: {usd(apart[COST])} a million tokens instead of"
        f" {usd(two[COST])}, {times(apart[COST] / one[COST], 3)} the cost of one rack"
    )
    limit = found.facts.machine.config["model"]["node_limit"]
    text += f" (a token's experts lie in at most {number(limit)} racks)." if limit else "."
    return Finding(text, "neutral", "parallelism.dedup=true", "leaving")


def _pair(found: Found) -> tuple[Row, Row, int] | None:
    """Return the rows of one rack and of the fewest racks beyond it."""
    if found.crossing is None:
        return None
    more = found.crossing.home.filter(pl.col("racks") > 1)
    one = found.crossing.row(1)
    if one is None or more.is_empty():
        return None
    two = more.row(0, named=True)
    return one, two, int(two["racks"])


def plain(found: Found) -> Finding | None:
    """Say why a model without experts has no all-to-all to compare."""
    if found.crossing is not None:
        return None
    name = found.facts.machine.model
    why = (
        f"{name} has no experts: copies of it in several racks exchange nothing while they decode,"
        " so nothing has to leave a rack"
        if not found.facts.machine.experts
        else f"The {number(found.facts.machine.experts)} experts of {name} do not divide over whole"
        f" racks of {chips(found.facts.machine.domain)}, each held twice at most"
    )
    return Finding(f"{why}. The comparison of racks is left out.", "neutral", "model.experts")


def findings(found: Found) -> tuple[Finding, ...]:
    """Return all findings whose premise holds, the most useful first."""
    makers: tuple[Callable[[Found], Finding | None], ...] = (
        smaller, second, larger, plain, equal, links, leaving, dedup, floor, fits, system,
    )  # fmt: skip
    return tuple(made for maker in makers if (made := maker(found)) is not None)
