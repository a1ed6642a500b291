"""What the rows say beside public price sheets, in sentences."""

from roofrack.report.format import listed, percent, quantity, times, usd
from roofrack.report.page import Finding, Verdict

from ..common.columns import COST
from ..common.pages import RESOURCES
from . import sheets
from .measures import best_tier, changes, drain_tier
from .rows import CONTEXT, INPUT, Facts, Row
from .words import APART, NAMES, NEAR, duration, tokens


def surcharge(facts: Facts) -> Finding:
    """Say what the price sheets charge above their tier: for input, and for output."""
    table, wishes = sheets.tiers(), facts.settings
    named = table.filter(table["above_tokens"] == wishes.price_tier)
    rows = list((table if named.is_empty() else named).iter_rows(named=True))
    only = [r for r in rows if _same(r["output_rise"], wishes.surcharge)
            and not _same(r["input_rise"], wishes.surcharge)]  # fmt: skip
    others = [r for r in rows if r not in only]
    first = rows[0]
    verdict: Verdict = "contradicts" if 2 * len(only) > len(rows) else "agrees"
    text = (
        f"The lecture's surcharge of {percent(wishes.surcharge - 1)} is that of output alone."
        f" {first['vendor']}'s sheet of {first['date']} sells {first['model']} above"
        f" {tokens(first['above_tokens'])} at {times(first['output_rise'])} the price of output"
        f" and {times(first['input_rise'])} the price of input."
        if only
        else f"On no sheet does output alone rise by {percent(wishes.surcharge - 1)}."
    )
    if only:
        text += f" So do {len(only)} of {len(rows)} sheets with such a tier"
        text += f"; {listed([_rises(r) for r in others])}." if others else "."
    return Finding(text, verdict, "price sheets of the page (prices.csv)", "sheets")


def _same(a: float, b: float) -> bool:
    return abs(a - b) < 1e-6


def _rises(row: Row) -> str:
    return (
        f"{row['model']} rises {times(row['input_rise'])} for input and"
        f" {times(row['output_rise'])} for output"
    )


def output_over_input(facts: Facts) -> Finding | None:
    """Compare output over input, here and on the sheets, with what binds a decoding step."""
    wishes = facts.settings
    found: dict[str, tuple[float, Row]] = {}
    for pair in facts.pairs:
        row, prompt = (
            facts.at(pair, wishes.short_context),
            facts.prompt_at(pair, wishes.short_context),
        )
        if row and prompt and prompt[INPUT]:
            found[pair] = row[COST] / prompt[INPUT], row
    if not found:
        return None
    table = sheets.base()
    sold = sorted(float(r) for r in table["output_over_input"])
    ratio, row = next(iter(found.values()))
    shown = next(iter(found))
    reads = [p for p, (_, r) in found.items() if r["bound"] in ("kv", "weights", "activation")]
    spread = [r for r, _ in found.values()]
    far = not 1 / APART <= ratio / wishes.output_over_input <= APART
    verdict: Verdict = "contradicts" if len(reads) < len(found) or far else "agrees"
    text = (
        f"The lecture takes output at about {times(wishes.output_over_input)} the price of input as"
        " the sign that decoding is bound by memory. The sheets have"
        f" {times(sold[0])} to {times(sold[-1])} ({len(sold)} models). {shown} here, at its"
        f" cheapest with {tokens(row[CONTEXT])}: {times(ratio)}; bound by"
        f" {RESOURCES[row['bound']]}"
    )
    text += (
        f". All models: {times(min(spread))} to {times(max(spread))}, with memory binding"
        f" {len(reads)} of {len(found)}. "
        if len(found) > 1
        else ". "
    )
    long = facts.at(shown, wishes.price_tier)
    prompt = facts.prompt_at(shown, wishes.price_tier)
    if long and prompt and long[CONTEXT] > row[CONTEXT]:
        text += (
            f"The ratio is no constant: at {tokens(long[CONTEXT])} it is"
            f" {times(long[COST] / prompt[INPUT])}."
        )
    return Finding(text.rstrip(), verdict, "usd_per_mtok of decoding over prefill", "ratios")


def cached_price(facts: Facts) -> Finding | None:
    """Compare what a cached token costs with what it costs to compute it again, and the sheets."""
    waits = facts.waits
    if waits is None or not waits.again > 0:
        return None
    hold = facts.settings.hold_short_s
    best = best_tier(waits, hold)
    if best is None:
        return None
    own = best["cost"] / waits.again
    sold = sorted(float(r) for r in sheets.base()["cached_over_input"].drop_nulls())
    inside = sold[0] / NEAR <= own <= sold[-1] * NEAR
    verdict: Verdict = "agrees" if inside else "contradicts"
    text = (
        f"{facts.shown}: a token found in a cache costs {percent(own)} of computing it again"
        f" ({usd(best['cost'])} for {usd(waits.again)} per million), kept for"
        f" {duration(hold)} in {NAMES[best['tier']]}; attending to it is nearly all of that."
        f" Sheets sell it at {percent(sold[0])} to {percent(sold[-1])} of the price of input."
    )
    return Finding(text, verdict, "study: caches that wait, usd_per_mtok_cached", "tiers")


def cheapest_tier(facts: Facts) -> Finding | None:
    """Say where a cache should wait for how long, and whether the lecture's rule of drain holds."""
    waits, wishes = facts.waits, facts.settings
    if waits is None:
        return None
    steps = changes(waits)
    told = [f"{NAMES[after]} from {duration(at)} on" for at, _, after in steps]
    first = NAMES[steps[0][1]] if steps else NAMES[waits.table.sort("cost")["tier"][0]]
    holds = (wishes.hold_short_s, wishes.hold_long_s)
    pairs = [(h, best_tier(waits, h), drain_tier(waits, h)) for h in holds]
    right = [h for h, best, rule in pairs if best is not None and best["tier"] == rule]
    verdict: Verdict = "agrees" if len(right) == len(holds) else "contradicts"
    drains = listed([f"{NAMES[t]} {duration(s)}" for t, s in waits.drain_s.items()])
    text = (
        f"Where a cache of {facts.shown} waits at least cost: {first}"
        f"{', ' + listed(told) if told else ', however long'}. The lecture's rule, the tier that"
        f" takes about as long to read once as the cache waits ({drains}), names the cheapest for"
        f" {len(right)} of {len(holds)}: {listed([duration(h) for h in holds])}."
    )
    return Finding(text, verdict, "study: caches that wait; bytes and bandwidth of tiers", "tiers")


def storage(facts: Facts) -> str:
    """Compare the published price of keeping a cache with what the tiers here cost, in words."""
    waits = facts.waits
    sold = sheets.base().drop_nulls("storage_hour")
    if waits is None or sold.is_empty():
        return ""
    sheet, row = sold.row(0, named=True), waits.row
    hours: dict[str, float] = {}
    for (tier,), rows in waits.table.sort("hold_s").group_by("tier", maintain_order=True):
        low, high = rows.row(0, named=True), rows.row(-1, named=True)
        if high["hold_s"] > low["hold_s"]:
            slope = (high["cost"] - low["cost"]) / (high["hold_s"] - low["hold_s"])
            hours[str(tier)] = 3600.0 * slope
    if not hours.get("hbm"):
        return ""
    each = listed([f"{usd(v)} in {NAMES[t]}" for t, v in hours.items()])
    size = sheet["storage_hour"] / hours["hbm"] * row["kv_bytes_per_token"]
    return (
        f"{sheet['vendor']} asks {usd(sheet['storage_hour'])} for keeping a million tokens of"
        f" {sheet['model']} for an hour. A cache of {quantity(row['kv_bytes_per_token'], 'B')} per"
        f" token ({facts.shown}) costs {each}. That price would pay for chip memory up to"
        f" {quantity(size, 'B')} per token."
    )
