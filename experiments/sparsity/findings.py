"""What the rows say about sparsity, in sentences; each is computed, or left out."""

from collections.abc import Callable

import polars as pl

from roofrack.report.format import listed, number, percent, times, usd
from roofrack.report.page import Finding, Verdict

from ..common.pages import RESOURCES, error_bar
from .asked import Way
from .figures import where
from .found import Found, size
from .layouts import hides
from .network import way_of
from .quality import LAWS
from .rows import COST

ALIKE = 1.5
"""Two batches within this factor are called alike."""
MOST = 0.9
"""The share of the experts from which on nearly all are read."""


def capacity(found: Found) -> Finding | None:
    """Say what the parameters cost that a token does not use."""
    f, own = found.facts, found.own
    few = f.least.row(0, named=True) if f.least.height else None
    if own is None or few is None or few["ratio"] >= own["ratio"]:
        return None
    grown, dearer = own["total"] / few["total"], own[COST] / few[COST]
    text = (
        f"{f.machine.pair}, at {number(f.speed)} tokens/s or more for each user:"
        f" {size(own['total'])} parameters of which a token uses {size(own['active'])} cost"
        f" {usd(own[COST])} per million tokens{error_bar(own)}. With"
        f" {number(few['ratio'] * f.machine.per_token)} instead of"
        f" {number(f.machine.experts)} experts, {size(few['total'])} in all and as many active, it"
        f" would be {usd(few[COST])}: {times(grown)} the parameters for {times(dearer)} the cost."
    )
    verdict: Verdict = "agrees" if dearer < grown else "contradicts"
    return Finding(text, verdict, "cheapest rows of each ratio", "capacity")


def ends(found: Found) -> Finding | None:
    """Say what the next doublings cost, and where it ends."""
    f, own = found.facts, found.own
    more = [r for r in f.least.iter_rows(named=True) if own and r["ratio"] > own["ratio"]]
    if own is None or not more:
        return None
    each = [
        f"{number(r['ratio'] * f.machine.per_token)} experts ({size(r['total'])}) cost"
        f" {usd(r[COST])}, {times(r[COST] / own[COST])}, in {where(int(r['racks']))}"
        for r in more
    ]
    left = [r for r in f.ratios if r > more[-1]["ratio"]]
    text = f"Beyond the model as it is: {listed(each)}."
    last = more[-1]
    share = last["mem_weights_bytes"] / last["mem_capacity_bytes"]
    text += (
        f" At the last, weights fill {percent(share)} of a chip's memory and a step is bound by"
        f" {RESOURCES[last['bound']]}."
    )
    if left:
        fastest = f"at {number(f.speed)} tokens/s"
        text += f" {number(left[0] * f.machine.per_token)} experts are not served {fastest} at all."
    return Finding(text, "neutral", "cheapest rows of each ratio", "capacity")


def leaves(found: Found) -> Finding | None:
    """Compare one rack with more at every ratio; the lecture: the all-to-all must stay inside."""
    f = found.facts
    pairs = []
    for ratio in f.ratios:
        rows = f.best.filter(pl.col("ratio") == ratio)
        inside, beyond = rows.filter(pl.col("racks") == 1), rows.filter(pl.col("racks") > 1)
        if inside.height and beyond.height:
            pairs.append((ratio, inside[COST][0], beyond.sort(COST).row(0, named=True)))
    outside = [
        r for r in f.least.iter_rows(named=True) if r["racks"] > 1
    ]  # ratios that are cheapest, or only served, in several racks
    if not pairs and not outside:
        return None
    text = ""
    if pairs:
        ratio, one, more = min(pairs, key=lambda p: abs(p[0] - found.ratio))
        text = (
            f"With {f.machine.experts_at(ratio)} the cheapest plan over several racks"
            f" ({where(int(more['racks']))}, {percent(more['scale_out_fraction'] or 0.0)} of the"
            f" experts' traffic leaves) costs {usd(more[COST])}, {times(more[COST] / one)} that of"
            " one rack."
        )
    verdict: Verdict = "neutral"
    if outside:
        first = outside[0]
        text += (
            f" From {number(first['ratio'] * f.machine.per_token)} experts on"
            f" ({size(first['total'])} parameters) leaving is the cheaper way all the same:"
            f" {where(int(first['racks']))} have the memory for"
            f" {number(first['sequences'])} sequences."
        )
    elif more[COST] / one > f.near:
        text += (
            " At no ratio tried is leaving the rack cheaper: a rack bounds how sparse this model"
            " may be, as the lecture says."
        )
        verdict = "agrees"
    else:
        text += " That is alike: this model may leave the rack, against the lecture's rule."
        verdict = "contradicts"
    return Finding(text.strip(), verdict, "cheapest rows of one rack and of several", "capacity")


def binds(found: Found) -> Finding | None:
    """Say from how many sequences on the exchange hides behind the work, inside and outside."""
    held = found.layouts
    if held is None:
        return None
    each = []
    for place in held.places:
        rows = held.home.filter(pl.col("place") == place, pl.col("ratio") == found.ratio)
        if rows.is_empty():
            continue
        row = rows.row(0, named=True)
        text = f"{place} it takes {times(row['exchange'])} as long"
        hidden = hides(held, place, found.ratio)
        if hidden is None:
            text += " and is the longer part however many sequences there are"
        elif row["exchange"] >= 1:
            text += f" and is the shorter part only from {number(hidden)} sequences on"
        each.append(text)
    if not each:
        return None
    text = (
        "The exchange of tokens with experts against what a chip does itself (arithmetic or"
        f" memory), at {number(held.sequences)} sequences on each chip: on {'; on '.join(each)}."
    )
    return Finding(text, "neutral", "t_scale_up_s + t_scale_out_s over t_compute_s or memory",
                   "binds")  # fmt: skip


def batch(found: Found) -> Finding | None:
    """Hold the critical batch against the lecture's 300 times the sparsity."""
    f = found.facts
    row = f.row(f.all.filter("valid").sort("critical_batch"), found.ratio)
    if row is None or not row["critical_batch"]:
        return None
    rule = float(f.run.experiment["lecture_batch"])
    wanted, ratio = rule * found.ratio, row["critical_batch_experts"] / (rule * found.ratio)
    dense = row["critical_batch"] * row["active"] / row["total"]
    verdict: Verdict = "agrees" if 1 / ALIKE <= ratio <= ALIKE else "contradicts"
    text = (
        f"The lecture: a batch is large enough at {number(rule)} times the sparsity, here"
        f" {number(wanted)} tokens. This machine in these formats needs {number(dense)} for weights"
        f" that every token uses, and {number(row['critical_batch_experts'])} for the experts,"
        f" {times(ratio)} the rule; over all weights it is {number(row['critical_batch'])}, since"
        f" {size(row['active'])} of {size(row['total'])} parameters are used by each token and not"
        " all of them are in experts."
    )
    if verdict == "contradicts":
        text += (
            " The rule counts the experts' bytes at the peaks of the chip; kernels reach neither,"
            " and less of the arithmetic or of the bandwidth moves the batch."
        )
    return Finding(text, verdict, "critical_batch, critical_batch_experts", "critical")


def read(found: Found) -> Finding | None:
    """Say how many experts small batches read."""
    m = found.facts.machine
    own = found.touched.filter(pl.col("ratio") == found.ratio)
    if own.is_empty() or found.ratio <= 1:
        return None
    one = own.row(0, named=True)
    most = own.filter(pl.col("share") >= MOST)
    eight = own.filter(pl.col("batch") == 8.0)
    text = f"One token reads {number(one['touched'])} of {number(m.experts)} experts in a layer"
    if eight.height:
        text += f", eight tokens {number(eight['touched'][0])}"
    if most.height:
        text += f", and from about {number(most['batch'][0])} tokens on {percent(MOST)} are read"
    text += (
        ": what a token does not use is free only for who is served nearly alone. In a batch all"
        " experts are read, each for few tokens."
    )
    return Finding(text, "neutral", "experts_touched", "read")


def cut(found: Found) -> Finding | None:
    """Say what finer experts cost."""
    inside = found.cut.filter(pl.col("racks") == 1) if found.cut.height else found.cut
    if inside.height < 2:
        return None
    low, high = inside.row(0, named=True), inside.row(-1, named=True)
    own = inside.filter(pl.col("grain") == 1.0)
    best = inside.sort(COST).row(0, named=True)
    here = f" (as it is {usd(own[COST][0])})" if own.height else ""
    text = (
        "With the same parameters, total and active, cut into fewer or more experts:"
        f" {number(low['per_token'])} of {number(low['experts'])} cost {usd(low[COST])},"
        f" {number(high['per_token'])} of {number(high['experts'])} {usd(high[COST])}{here}. Each"
        " expert that a token visits is another copy of it on the network; cheapest to serve is"
        f" {number(best['per_token'])} of {number(best['experts'])}. Finer experts are chosen for"
        " their quality, which is not in this number."
    )
    return Finding(text, "neutral", "cheapest rows of each cut in one rack", "cuts")


def send(found: Found) -> Finding | None:
    """Say what formats, single copies and limits save in two racks."""
    if found.sent.is_empty():
        return None
    racks = int(found.sent["racks"].min())  # type: ignore[arg-type]
    wide = way_of(found, racks, Way("bf16", False, 0))
    narrow = way_of(found, racks, Way("fp8_block", False, 0))
    once = way_of(found, racks, Way("fp8_block", True, 0))
    if not (wide and narrow and once):
        return None
    limited = found.sent.filter(pl.col("racks") == racks, pl.col("limit") > 0).sort("over")
    text = (
        f"Experts over {racks} racks cost {times(wide, 3)} what they do in one if tokens travel to"
        f" them in BF16, {times(narrow, 3)} in FP8, {times(once, 3)} if a token goes to each rack"
        " once and is passed on there"
    )
    if limited.height:
        row = limited.row(0, named=True)
        text += (
            f", and {times(row['over'], 3)} if its experts lie in {number(row['limit'])} of them at"
            f" most, which a model has to be trained for"
        )
    own = found.facts.machine.config["model"]["node_limit"]
    text += f" (this one: {number(own)})." if own else "."
    return Finding(text, "neutral", "workload.dtype.dispatch, parallelism.dedup, model.node_limit",
                   "ways")  # fmt: skip


def worth(found: Found) -> Finding | None:
    """Say what the laws make of the capacity."""
    f = found.facts
    rows = found.quality.filter(pl.col("ratio") == found.ratio)
    if rows.is_empty() or found.ratio <= 1:
        return None
    each, gains = [], []
    for row in rows.iter_rows(named=True):
        gain = row["effective"] / row["active"]
        each.append(f"{size(row['effective'])} ({row['law']}, {times(gain)})")
        more = found.quality.filter(
            pl.col("law") == row["law"], pl.col("ratio") > found.ratio
        ).sort("ratio")
        if more.height:
            next_ = more.row(0, named=True)
            gains.append(next_["effective"] / row["effective"] - 1)
            dearer, times_ = next_[COST] / row[COST] - 1, next_["ratio"] / row["ratio"]
    text = (
        f"What is the capacity worth? {f.machine.experts_at(found.ratio)} are as good as a dense"
        f" model of {listed(each)}, where a token uses {size(rows['active'][0])}."
    )
    if gains:
        text += (
            f" {times(times_)} the experts would make that {percent(min(gains))} to"
            f" {percent(max(gains))} larger, for {percent(dearer)} more a token."
        )
    beyond = [rows["active"][0] / law.params for law in LAWS]
    if min(beyond) > 1:
        text += (
            f" Both are extrapolations: the laws were fitted to models {times(min(beyond))} to"
            f" {times(max(beyond))} smaller, of which a token visits one expert."
        )
    return Finding(text, "neutral", "laws of loss; experiment.training_tokens", "worth")


def turns(found: Found) -> Finding | None:
    """Say what would make capacity cheaper or dearer."""
    table = found.changed.drop_nulls("growth") if found.changed.height else found.changed
    now = table.filter(pl.col("change") == "") if table.height else table
    some = table.filter(pl.col("change") != "").sort("growth") if table.height else table
    if now.is_empty() or some.height < 2:
        return None
    low, high = some.row(0, named=True), some.row(-1, named=True)
    text = (
        f"Capacity costs {times(now['growth'][0])} here (the model over the same one with the"
        f" fewest experts). It would be {times(low['growth'])} with {low['change']}, and"
        f" {times(high['growth'])} with {high['change']}."
    )
    return Finding(text, "neutral", "studies with one number changed", "turns")


def findings(found: Found) -> tuple[Finding, ...]:
    """Return all findings whose premise holds, the most useful first."""
    makers: tuple[Callable[[Found], Finding | None], ...] = (
        capacity, ends, leaves, binds, send, batch, read, cut, worth, turns,
    )  # fmt: skip
    return tuple(made for maker in makers if (made := maker(found)) is not None)
