"""What the run says about machines and models, in sentences."""

import polars as pl

from roofrack.report.format import listed, number, percent, times, usd
from roofrack.report.page import Finding, Verdict

from ..common.columns import COST, SPEED
from ..common.pages import RESOURCES, setting
from .found import Found
from .rows import reversal, sure_winners, unserved, winners

_EQUAL = 1.02
"""Costs closer than this are not told apart in words."""


def findings(found: Found) -> list[Finding]:
    """Return what holds for this run, the most useful first."""
    made = (
        _order(found),
        _cheapest(found),
        _binds(found),
        _domain(found),
        _next(found),
        _bought(found),
        _heads(found),
        _torus(found),
        _unserved(found),
    )
    return [finding for finding in made if finding]


def terms(found: Found) -> str:
    """Say at which context and speed the findings compare."""
    f = found.facts
    speed = f", at least {number(f.floor)} tokens/s for each user" if f.floor else ""
    return f"context of {number(f.context)} tokens{speed}"


def _order(found: Found) -> Finding | None:
    """Whether which machine is cheaper depends on the model."""
    f, turn = found.facts, reversal(found.facts)
    if len(f.machines) < 2 or len(f.models) < 2 or f.home["model"].n_unique() < 2:
        return None
    if turn is None:
        return Finding(
            "Which of two machines is cheaper is the same for every model compared.",
            "contradicts",
            "cost of each cell over that of the same model on another machine",
            "cost",
        )
    one, other = f.machines[turn["one"]], f.machines[turn["other"]]
    text = (
        f"Machine and model have to fit: for {f.models[turn['for_one']]} a token costs"
        f" {times(turn['up'])} as much on {other} as on {one}, for {f.models[turn['for_other']]}"
        f" it costs {times(turn['down'])} as much on {one} as on {other}."
    )
    errors = f.home["step_s_rel_std"].drop_nulls()
    if errors.len():
        text += (
            f" One standard deviation of a cost here is {percent(float(errors.min()))} to"  # type: ignore[arg-type]
            f" {percent(float(errors.max()))} of it."  # type: ignore[arg-type]
        )
    verdict: Verdict = "agrees" if min(turn["up"], turn["down"]) > _EQUAL else "neutral"
    return Finding(
        text, verdict, "the pair of machines whose order changes most between models", "cost"
    )


def _cheapest(found: Found) -> Finding | None:
    f = found.facts
    if len(f.machines) < 2 or f.home.is_empty():
        return None
    best = winners(f.home)
    by = best.group_by("machine").len().sort("len", "machine", descending=[True, False])
    each = [
        f"{f.machines[m]} for {n} of {best.height} models" if best.height > 1 else f.machines[m]
        for m, n in by.iter_rows()
    ]
    sure = sure_winners(f)
    held = sum(sure.values())
    text = f"Cheapest at typical prices: {listed(each)}. "
    dated = ", ".join(
        f"{f.machines[m]} {usd(f.price(m))} a chip and hour, {f.hardware(m).get('price_date')}"
        for m in by["machine"].head(2)
    )
    text += f"Prices decide it: {dated}. "
    if sure:
        text += (
            f"{held or 'None'} of {len(sure)} first places would survive the ends of the dated"
            " price ranges, the first at its highest price and all others at their lowest."
        )
    return Finding(text.strip(), "neutral", "least usd_per_mtok of each model", "live_cost")


def _binds(found: Found) -> Finding | None:
    f = found.facts
    if f.home.is_empty():
        return None
    counts = f.home.group_by("bound").len().sort("len", "bound", descending=[True, False])
    each = [f"{bound} in {n}" for bound, n in counts.iter_rows()]
    arithmetic = f.home.filter(pl.col("bound") == RESOURCES["compute"]).height
    text = (
        f"Of {f.home.height} cells that can serve, the longest part of a step is"
        f" {listed(each)} (cheapest plan). "
    )
    slow = f.at(f.context, f.floors[0])
    if f.floors[0] < f.floor and slow.height:
        kv = slow.filter(pl.col("bound") == RESOURCES["kv"]).height
        text += (
            f"Without that speed it is {RESOURCES['kv']} in {kv} of {slow.height}: patience fills"
            " the memory with caches."
        )
    elif not arithmetic:
        text += "Arithmetic binds nowhere."
    return Finding(text.strip(), "neutral", "bound of the cheapest plan of each cell", "binds")


def _domain(found: Found) -> Finding | None:
    f, table = found.facts, found.domains
    if table.is_empty():
        return None
    span = table.group_by("model", maintain_order=True).agg(
        pl.col("over").first(), pl.col("domain").first(), pl.col("domain").last().alias("large"),
        pl.col("over").last().alias("last"), pl.col("experts").first(), pl.col("name").first(),
    )  # fmt: skip
    wide = span.sort("over", descending=True).row(0, named=True)
    ratio = wide["over"] / wide["last"]
    if ratio < _EQUAL:
        text = (
            f"On {f.machines[f.shown[0]]} the size of the scale-up domain does not matter: none of"
            f" {span.height} models with experts costs {percent(_EQUAL - 1)} more in domains of"
            f" {number(wide['domain'])} than of {number(wide['large'])}."
        )
        return Finding(text, "contradicts", "a study of fabric.*.chips", "domains")
    rows = table.filter(pl.col("name") == wide["name"], pl.col("over") <= wide["last"] * _EQUAL)
    enough = rows.sort("domain").row(0, named=True)
    calm = span.filter(pl.col("over") / pl.col("last") < _EQUAL)["name"].to_list()
    text = (
        f"{wide['name']} has {number(wide['experts'])} experts: with the chips and prices of"
        f" {f.machines[f.shown[0]]}, in domains of {number(wide['domain'])} chips a token costs"
        f" {times(ratio)} what it costs in domains of {number(wide['large'])}; from"
        f" {number(enough['domain'])} chips on a larger domain saves less than"
        f" {percent(_EQUAL - 1)}."
    )
    if calm:
        text += f" {listed(calm)} cannot tell the sizes apart."
    return Finding(text, "agrees", "a study of fabric.*.chips at the same price", "domains")


def _next(found: Found) -> Finding | None:
    f, table = found.facts, found.nexts
    if table.is_empty():
        return None
    counts = table.group_by("what").len().sort("len", "what", descending=[True, False])
    each = [f"{what} in {n}" for what, n in counts.iter_rows()]
    text = (
        f"1 % more of which number is worth most? Of {table.height} cells it is {listed(each)}"
        f" (plan and batch held). "
    )
    own = table.filter(pl.col("machine") == f.shown[0], pl.col("model") == f.shown[1])
    if own.height:
        row = own.row(0, named=True)
        text += (
            f"For {f.pair} it is {row['what']}: 1 % of it changes the cost by"
            f" {percent(abs(row['elasticity']) / 100)}, worth up to {usd(row['worth'])} an hour on"
            f" a chip of {usd(f.price(f.shown[0]))}."
        )
    return Finding(text.strip(), "neutral", "d log(usd_per_mtok) / d log(leaf)", "nexts")


def _bought(found: Found) -> Finding | None:
    f, table = found.facts, found.bought
    if table.is_empty():
        return None
    factor = times(setting(f.run, "factor", above=1.0))
    first = table.row(0, named=True)
    useful = table.filter(pl.col("saving") > _EQUAL - 1)
    idle = table.filter(pl.col("saving") <= _EQUAL - 1)["what"].to_list()
    if useful.is_empty():
        text = (
            f"{f.pair}: none of {listed(table['what'].to_list())}, each {factor} better, saves more"
            f" than {percent(_EQUAL - 1)}."
        )
        return Finding(text, "neutral", "studies with the number changed", "bought")
    rest = [f"{r['what']} {percent(r['saving'])}" for r in useful.rows(named=True)[1:]]
    text = (
        f"{f.pair}, plan and batch chosen again: {factor} better {first['what']} saves"
        f" {percent(first['saving'])} and may cost up to {usd(first['worth'])} more for each chip"
        f" and hour"
    )
    text += f"; others save: {listed(rest)}." if rest else "."
    if idle:
        text += f" Less than {percent(_EQUAL - 1)}: {listed(idle)}."
    return Finding(text, "neutral", "studies with the number changed", "bought")


def _heads(found: Found) -> Finding | None:
    f, table = found.facts, found.heads
    if table.is_empty():
        return None
    beyond = table.filter(pl.col("copies") > 1)
    if beyond.is_empty():
        return None
    own = beyond.filter(pl.col("model") == f.shown[1])
    row = (own if own.height else beyond).sort("tp").row(-1, named=True)
    what = "one latent" if row["heads"] == 1 else f"{number(row['heads'])} KV heads"
    text = (
        f"KV heads limit TP: {row['name']} has {what}, so at TP {number(row['tp'])} each entry of"
        f" its cache is held {number(row['copies'])} times, and the cheapest plan of that TP costs"
        f" {times(row['over'])} the best one on {f.machines[f.shown[0]]}."
    )
    verdict: Verdict = "agrees" if row["over"] > _EQUAL else "contradicts"
    return Finding(text, verdict, "cheapest plan of each TP", "heads")


def _torus(found: Found) -> Finding | None:
    table = found.wired
    if table.is_empty():
        return None
    worst, least = table.row(0, named=True), table.row(-1, named=True)
    text = (
        f"A torus carries all-to-all traffic over many hops: {worst['model']} on"
        f" {worst['machine']} costs {times(worst['over'], 3)} what switches of the same bandwidth"
        f" would make of it"
    )
    if table.height > 1:
        text += (
            f", {least['model']} on {least['machine']} {times(least['over'], 3)}; plan and batch"
            " chosen for each"
        )
    text += "."
    return Finding(
        text,
        "agrees" if worst["over"] > _EQUAL else "contradicts",
        "a study with fabric.*.topology=switched",
        "wired",
    )


def _unserved(found: Found) -> Finding | None:
    f, missing = found.facts, unserved(found.facts)
    if not missing:
        return None
    each = [
        f"{model} on {listed(machines)}"
        if len(machines) < len(f.machines)
        else f"{model} on any of the machines"
        for model, machines in missing.items()
    ]
    return Finding(
        f"Not served by any plan tried: {'; '.join(each)}.",
        "neutral",
        "valid and fits of all points; the table says how many can run",
        "counts",
    )


def answer(found: Found) -> str:
    """Answer the question in a few sentences."""
    f = found.facts
    if f.home.is_empty():
        return "Nothing can serve here: no plan tried runs and fits on any machine. See the limits."
    row = f.row(*f.shown)
    text = ""
    if row is not None:
        text = (
            f"{f.pair}: {usd(row[COST])} per million tokens at {number(row[SPEED])} tokens/s for"
            f" each user ({terms(found)}), with {row['plan']} and {number(row['batch'])} sequences;"
            f" the longest part of a step is {row['bound']}. "
        )
    else:
        text = f"{f.pair} cannot be served by any plan tried ({terms(found)}). "
    best = winners(f.home)
    own = best.filter(pl.col("model") == f.shown[1])
    if own.height and len(f.machines) > 1:
        won = own.row(0, named=True)
        text += (
            f"The cheapest of {len(f.machines)} machines for it is {f.machines[won['machine']]}, at"
            f" {usd(won[COST])}. "
        )
    if not found.bought.is_empty() and found.bought["saving"][0] > _EQUAL - 1:
        text += f"Next to buy: {found.bought['what'][0]}."
    return text.strip()
