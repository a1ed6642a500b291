"""What the run says about shapes, in sentences."""

from typing import Any

import polars as pl

from roofrack.report.format import listed, number, percent, quantity, times, usd
from roofrack.report.page import Finding, Verdict

from ..common.columns import COST, SPEED
from .rows import Facts
from .shapes import kind_words, shape_words

_EQUAL = 1.02
"""Costs closer than this are not told apart in words."""


def findings(facts: Facts) -> list[Finding]:
    """Return what holds for this run, the most useful first."""
    made = (
        best(facts),
        depth(facts),
        heads(facts),
        kinds(facts),
        grain(facts),
        sparse(facts),
        machines(facts),
        rented(facts),
        formats(facts),
        unserved(facts),
    )
    return [finding for finding in made if finding]


def terms(facts: Facts) -> str:
    """Say at which context and speed is compared."""
    speed = f", at least {number(facts.floor)} tokens/s for each user" if facts.floor else ""
    return f"context of {number(facts.context)} tokens{speed}"


def winner(facts: Facts, machine: str) -> dict[str, Any] | None:
    """Return the cheapest shape on a machine where the model as it is serves too."""
    rows = facts.searched.filter(pl.col("machine") == machine, pl.col("before").is_not_null())
    return rows.sort(COST).row(0, named=True) if rows.height else None


def best(facts: Facts) -> Finding | None:
    """The cheapest shape of all tried."""
    row = winner(facts, facts.machine)
    if row is None or facts.made.equal < 2:
        return None
    where = facts.names[facts.machine]
    verdict: Verdict
    if row["over"] > 1 / _EQUAL:
        text = (
            f"On {where} no shape of {facts.made.equal} with as many parameters is cheaper than"
            f" {facts.model} as it is by more than {percent(_EQUAL - 1)}."
        )
        verdict = "contradicts"
    else:
        text = (
            f"On {where} a token of {facts.model} costs {usd(row['before'])} per million. The"
            f" cheapest of {facts.made.equal} shapes with as many parameters, total and active,"
            f" saves {percent(1 - row['over'])}: {row['words']}. Whether it answers as well is not"
            " modelled."
        )
        verdict = "agrees"
    if row["step_s_rel_std"] is not None:
        text += (
            f" One standard deviation of a cost is {percent(row['step_s_rel_std'])}; of a ratio of"
            " two shapes on one machine it is less."
        )
    return Finding(text, verdict, "cheapest plan of every shape, at home", "search")


def depth(facts: Facts) -> Finding | None:
    """What layers cost, and what they cost in latency."""
    rows = facts.sliced("depth")
    quick = facts.quick.join(rows.select("shape"), on="shape") if rows.height else rows
    if rows.height < 2:
        return None
    layers = {i: facts.shapes[i].leaves["model.layers"] for i in rows["shape"]}
    ends = rows.row(0, named=True), rows.row(-1, named=True)
    few, many = (layers[row["shape"]] for row in ends)
    ratio = ends[1]["over"] / ends[0]["over"]
    steps = {r["shape"]: r["step_s"] for r in quick.iter_rows(named=True)}
    each = (steps[ends[1]["shape"]] - steps[ends[0]["shape"]]) / (many - few)
    verdict: Verdict = "agrees" if each > 0 and ratio > _EQUAL else "contradicts"
    text = (
        f"Depth costs latency: at equal parameters each further layer adds"
        f" {quantity(each, 's')} to the quickest step, which is"
        f" {quantity(steps[ends[0]['shape']], 's')} with {number(few)} layers and"
        f" {quantity(steps[ends[1]['shape']], 's')} with {number(many)}. At the speed asked"
        f" ({number(facts.floor)} tokens/s) the cheapest token costs {times(ratio)} as much with"
        f" {number(many)} layers as with {number(few)}."
    )
    return Finding(text, verdict, "the slice of depths; quickest plan at any cost", "quick")


def heads(facts: Facts) -> Finding | None:
    """What KV heads cost."""
    rows = facts.sliced("kv")
    if rows.height < 2:
        return None
    count = {i: facts.shapes[i].leaves["model.kv_heads"] for i in rows["shape"]}
    by = {count[r["shape"]]: r for r in rows.iter_rows(named=True)}
    many = max(by)
    few = 8.0 if 8.0 in by and many > 8 else min(by)
    saved = 1 - by[few][COST] / by[many][COST]
    text = (
        f"At equal parameters and active FLOPs {number(few)} KV head{'s' * (few != 1)}"
        f" instead of {number(many)} save {percent(saved)} of the cost"
    )
    own = facts.family.base["model.kv_heads"]
    least = min(by)
    if own in by and least < own:
        text += (
            f"; {number(least)} instead of the {number(own)} of {facts.model} would save"
            f" {percent(1 - by[least][COST] / by[own][COST])}"
        )
    verdict: Verdict = "agrees" if saved > _EQUAL - 1 else "contradicts"
    return Finding(f"{text}.", verdict, "the slice of KV heads", "kv")


def kinds(facts: Facts) -> Finding | None:
    """What other kinds of attention cost."""
    rows = facts.sliced("kind")
    others = rows.filter(pl.col("shape") != 0).sort("over") if rows.height else rows
    if others.is_empty():
        return None
    each = [
        f"{kind_words(facts.shapes[r['shape']].leaves)} {times(r['over'])}"
        for r in others.iter_rows(named=True)
    ]
    text = (
        f"Attention in the place of the model's own ({kind_words(facts.family.base)}), cost over"
        f" it: {listed(each)}."
    )
    far = facts.cells.filter(
        pl.col("machine") == facts.machine,
        pl.col("floor") == facts.floors[0],
        pl.col("context") == facts.cells["context"].max(),
    )
    base = far.filter(pl.col("shape") == 0)
    long = far.filter(pl.col("shape").is_in(others["shape"].to_list())).sort(COST)
    if base.height and long.height and facts.cells["context"].n_unique() > 1:
        first = long.row(0, named=True)
        text += (
            f" At {number(first['context'])} tokens, however slowly, the cheapest of them is"
            f" {kind_words(facts.shapes[first['shape']].leaves)} at"
            f" {times(first[COST] / base[COST][0])}."
        )
    return Finding(text, "neutral", "the slice of attention", "kind")


def grain(facts: Facts) -> Finding | None:
    """What cutting experts finer costs."""
    rows = facts.sliced("grain")
    if rows.height < 2:
        return None
    low, high = rows.row(0, named=True), rows.row(-1, named=True)
    a, b = (facts.shapes[r["shape"]].leaves for r in (low, high))
    ratio = high[COST] / low[COST]
    text = (
        f"More, smaller experts at equal parameters: {number(b['model.experts_per_token'])} of"
        f" {number(b['model.experts'])} cost {times(ratio, 3)} what"
        f" {number(a['model.experts_per_token'])} of {number(a['model.experts'])} cost"
    )
    if ratio > _EQUAL:
        text += ": each token travels to more experts, and their matrices are smaller."
    else:
        text += "."
    return Finding(text, "neutral", "the slice of grains", "grain")


def sparse(facts: Facts) -> Finding | None:
    """What more experts cost at equal active parameters."""
    rows = facts.sliced("sparse")
    if rows.height < 2:
        return None
    low, high = rows.row(0, named=True), rows.row(-1, named=True)
    one, other = facts.shapes[low["shape"]], facts.shapes[high["shape"]]
    text = (
        f"At equal active FLOPs {number(other.leaves['model.experts'])} experts instead of"
        f" {number(one.leaves['model.experts'])} make"
        f" {quantity(other.total)} parameters of {quantity(one.total)}, and a token cost"
        f" {times(high[COST] / low[COST], 3)} as much: {times(other.total / one.total)} the"
        " parameters."
    )
    dear = high[COST] / low[COST] < other.total / one.total
    text += " Capacity is cheaper than its bytes." if dear else ""
    return Finding(text, "neutral", "the slice of experts at equal active parameters", "sparse")


def machines(facts: Facts) -> Finding | None:
    """Whether machines want different shapes, and what the wrong one costs."""
    rows = [(m, r) for m in facts.compared if (r := winner(facts, m)) is not None]
    if len(rows) < 2:
        return None
    cost = {(r["machine"], r["shape"]): r[COST] for r in facts.searched.iter_rows(named=True)}
    worst: tuple[float, str, str] | None = None
    for one, won in rows:
        for other, best_there in rows:
            here = cost.get((other, won["shape"]))
            if one != other and here is not None:
                regret = here / best_there[COST]
                worst = max(worst or (0.0, "", ""), (regret, one, other))
    different = {won["words"] for _, won in rows}
    if worst is None:
        return None
    if len(different) == 1 or worst[0] < _EQUAL:
        text = (
            f"One shape suits all {len(rows)} machines: the cheapest on any of them costs at most"
            f" {percent(worst[0] - 1)} more than the cheapest on another."
        )
        return Finding(text, "contradicts", "cheapest shapes on other machines", "winners")
    text = (
        f"{len(rows)} machines want {len(different)} shapes. Carried from"
        f" {facts.names[worst[1]]} to {facts.names[worst[2]]}, the cheapest shape costs"
        f" {times(worst[0], 3)} what the one made for that machine does; on no other pair is it"
        " more."
    )
    return Finding(text, "agrees", "cheapest shapes on other machines", "winners")


def rented(facts: Facts) -> Finding | None:
    """Given the model, which machine."""
    table = facts.rented
    if table.height < 2:
        return None
    first, last = table.row(0, named=True), table.row(-1, named=True)
    beaten = table.filter(pl.col("low") < first["high"]).height - 1
    text = (
        f"Given {facts.model} as it is, {facts.names[first['machine']]} is the cheapest of"
        f" {table.height} machines ({usd(first[COST])} per million tokens), and"
        f" {facts.names[last['machine']]} costs {times(last[COST] / first[COST])} as much. Prices"
        f" decide: at the ends of their dated ranges {beaten} of the others could be cheaper than"
        " the first."
    )
    return Finding(text, "neutral", "least usd_per_mtok of each machine", "rented")


def formats(facts: Facts) -> Finding | None:
    """What other number formats cost."""
    rows = facts.formats.filter(pl.col("floor") == facts.floor).sort(COST)
    own = rows.filter(pl.col("format") == facts.job.config["choices"]["dtype"])
    others = rows.filter(pl.col("format") != facts.job.config["choices"]["dtype"])
    if own.is_empty() or others.is_empty():
        return None
    each = [
        f"{r['format']} {times(r[COST] / own[COST][0])} at {number(r[SPEED])} tokens/s"
        for r in others.iter_rows(named=True)
    ]
    text = f"Number formats, cost over {own['format'][0]}: {listed(each)}."
    return Finding(text, "neutral", "the model as it is in each format", "formats")


def unserved(facts: Facts) -> Finding | None:
    """Name the machines that no plan serves the model as it is on."""
    there = set(facts.rented["machine"])
    missing = [name for key, name in facts.names.items() if key not in there]
    if not missing:
        return None
    return Finding(
        f"{facts.model} as it is is not served by any plan tried, or not quickly enough, on"
        f" {listed(missing)} ({terms(facts)}).",
        "neutral",
        "rows that run, fit and keep the speed",
    )


def answer(facts: Facts) -> str:
    """Answer the question in a few sentences."""
    rows = facts.home().filter(pl.col("shape") == 0)
    where = facts.names[facts.machine]
    if rows.is_empty():
        return (
            f"{facts.model} as it is cannot be served on {where} by any plan tried"
            f" ({terms(facts)}), so shapes have nothing to be compared with there."
        )
    row = rows.row(0, named=True)
    text = (
        f"{facts.model} on {where} costs {usd(row[COST])} per million tokens ({terms(facts)});"
        f" the longest part of a step is {row['bound']}. "
    )
    won = winner(facts, facts.machine)
    if won is not None and won["over"] < 1 / _EQUAL:
        shape = facts.shapes[won["shape"]]
        text += (
            f"With as many parameters, {shape_words(shape)} would cost {usd(won[COST])},"
            f" {percent(1 - won['over'])} less. Only cost is compared: equal parameters stand in"
            " for equal quality, which nobody promises."
        )
    return text.strip()
