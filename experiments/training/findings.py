"""What the numbers say about training, each sentence computed from the run or its studies."""

from dataclasses import dataclass
from math import log

import polars as pl

from roofrack.report.format import listed, number, percent, quantity, times, usd
from roofrack.report.page import Finding, Verdict

from ..common.columns import COST
from ..common.pages import error_bar, setting
from .facts import PARTS, Facts, Row, loss
from .life import Life

SAME = 0.03
"""A difference below this is none."""
NEAR = 1.5
"""A ratio within this factor of what the lecture says agrees with it."""
_WORDS = {
    "exposed_tp_s": "exchanges of tensor parallelism",
    "exposed_cp_s": "exchanges of context parallelism",
    "exposed_ep_s": "exchanges of the experts",
    "pipeline": "the pipeline's bubble and hops",
    "exposed_dp_s": "gradients and weights of other ranks",
    "rest": "the optimiser and the rest",
}
assert set(_WORDS) < set(PARTS)


@dataclass(frozen=True)
class Asked:
    """The studies of a page; no `life` where the run does not say how long it trains."""

    batches: pl.DataFrame
    worth: pl.DataFrame
    life: Life | None


def findings(found: Facts, asked: Asked) -> tuple[Finding, ...]:
    """Return what can be said, the most useful first."""
    made = (
        _best(found),
        _binds(found),
        _pipeline(found),
        _chips(found),
        _change(found, asked),
        _long(found),
        _equal(found, asked.life),
        _cheapest_life(found, asked.life),
        _split(found, asked.life),
    )
    return tuple(finding for finding in made if finding)


def took(row: Row) -> str:
    """Return how long a plan takes and what it costs."""
    if not row["usd_train"]:
        return f"costs {quantity(row[COST], 'USD')} per million tokens"
    return f"takes {number(row['train_days'])} days and {usd(row['usd_train'])}"


def _best(found: Facts) -> Finding:
    row, here = found.best, found.here
    long = f" for {quantity(found.tokens)} tokens" if found.tokens else ""
    text = (
        f"{found.pair}, {number(found.chips)} chips: the cheapest plan that fits, of"
        f" {number(here.height, 9)}, {took(row)}{long}{error_bar(row)}, at {percent(row['mfu'])} of"
        f" the chips' peak (MFU): {row['plan']}."
    )
    if here.height > 1:
        dear = here.row(-1, named=True)
        text += f" The dearest that fits costs {times(dear[COST] / row[COST])} as much."
    if found.chips != found.asked:
        text += f" No plan of the run that fits has {number(found.asked)} chips."
    return Finding(text, "neutral", f"least {COST} at these chips", "plans")


def _binds(found: Facts) -> Finding:
    row = found.best
    step = row["step_s"]
    shares = sorted(((row[part] or 0.0) / step, part) for part in _WORDS)
    lost = [f"{percent(share)} {_WORDS[part]}" for share, part in reversed(shares) if share > 0.005]
    text = (
        f"What bounds it: chips compute or move memory {percent(row['computing'] / step)} of a"
        f" step of {quantity(step, 's')}."
    )
    text += f" The rest is waiting: {listed(lost)}." if lost else " Nothing is waited for."
    again = row["hfu"] - row["mfu"]
    if again > 0.005:
        text += f" Layers computed again take {percent(again)} of the peak for nothing new."
    return Finding(text, "neutral", "parts of the step of the cheapest plan", "parts")


def _pipeline(found: Facts) -> Finding | None:
    """Say what the cheapest plan without a pipeline costs."""
    here, row = found.here, found.best
    plain, deep = here.filter(pl.col("pp") == 1), here.filter(pl.col("pp") > 1)
    tried = set(found.all["pp"].to_list())
    if len(tried) < 2 or 1 not in tried:
        return None
    if plain.is_empty():
        text = (
            f"Without a pipeline nothing fits on {number(found.chips)} chips; the cheapest plan has"
            f" {row['pp']} stages."
        )
        return Finding(text, "contradicts", "plans with pp=1", "depths")
    one = plain.row(0, named=True)
    if deep.is_empty():
        return None
    other = deep.row(0, named=True)
    more = one[COST] / other[COST] - 1.0
    if more > SAME:
        text = (
            f"Here a pipeline is wise: with {other['pp']} stages training costs"
            f" {percent(1 - other[COST] / one[COST])} less than with the best plan without one"
            f" ({one['plan']}), although {percent(other['bubble_fraction'])} of its passes are"
            f" bubble: without stages {percent(loss(one)[1])} of a step waits for"
            f" {_WORDS[loss(one)[0]]}."
        )
    else:
        text = (
            f"A pipeline is not needed to train: without one the run {took(one)}"
            f" ({one['plan']}); the best with one costs {times(other[COST] / one[COST])} that."
        )
    text += " The lecture quotes: pipelining is not wise."
    verdict: Verdict = "contradicts" if more > SAME else "agrees"
    return Finding(text, verdict, "cheapest plans with pp=1 and pp>1", "depths")


def _chips(found: Facts) -> Finding | None:
    """Say what more chips buy and cost."""
    more = found.sizes.filter(pl.col("chips") > found.chips).sort(
        (pl.col("chips") / found.chips).log().sub(log(4.0)).abs(), "chips"
    )
    if more.is_empty() or not found.tokens:
        return None
    row, now = more.row(0, named=True), found.best
    quicker = now["train_days"] / row["train_days"]
    text = (
        f"{times(row['chips'] / found.chips)} the chips, at the same global batch, end the run"
        f" {times(quicker)} as soon, after {number(row['train_days'])} days, for"
        f" {times(row['usd_train'] / now['usd_train'])} the money: each rank has fewer sequences,"
        f" and {percent(loss(row)[1])} of a step waits for {_WORDS[loss(row)[0]]}"
        f" (now {percent((now[loss(row)[0]] or 0.0) / now['step_s'])})."
    )
    quick = found.sizes.sort("train_days").row(0, named=True)
    text += (
        f" No number of chips tried ends it before {number(quick['train_days'])} days"
        f" ({number(quick['chips'])} chips, {usd(quick['usd_train'])})."
    )
    return Finding(text, "neutral", "cheapest plan of each number of chips", "sizes")


def _change(found: Facts, asked: Asked) -> Finding | None:
    """Say which numbers of the machine the cost follows most, and what a larger batch does."""
    rows = asked.worth
    rows = rows.filter(pl.col("leaf").str.starts_with("hardware."), pl.col("elasticity") < 0)
    told = [
        f"{row['leaf'].removeprefix('hardware.')} saves {number(-10 * row['elasticity'], 2)} %"
        for row in rows.head(3).iter_rows(named=True)
    ]
    made = []
    if told:
        made.append(f"10 % more of {listed(told)}, for the plan as it stands and small changes")
    now = found.best["global_batch"]
    same = asked.batches.filter(pl.col("chips") == found.chips).sort("global_batch")
    one, larger = same.filter(global_batch=now), same.filter(pl.col("global_batch") > now)
    if one.height and larger.height:
        few, many = one.row(0, named=True), larger.row(-1, named=True)
        made.append(
            f"a global batch of {times(many['global_batch'] / now)} the"
            f" {quantity(found.step_tokens)} tokens saves {percent(1 - many[COST] / few[COST])}"
            f" (MFU {percent(many['mfu'])} instead of {percent(few['mfu'])}), if the model learns"
            " as well from it"
        )
    if not made:
        return None
    text = f"What would change it: {'; '.join(made)}."
    return Finding(text, "neutral", "elasticities, and a study of global batches", "worth")


def _long(found: Facts) -> Finding | None:
    """Set the run's tokens against 20 for each active parameter."""
    over = found.best["overtraining"]
    if not over:
        return None
    rule = setting(found.run, "rule_overtraining")
    optimal = found.tokens / over
    text = (
        f"{quantity(found.tokens)} tokens are {times(over)} the {quantity(optimal)} that train a"
        f" model of {quantity(found.best['params_active'])} active parameters best for a given"
        f" amount of training (20 for each, Hoffmann et al. 2022); so many would take"
        f" {number(found.best['train_days'] / over)} days and {usd(found.best['usd_train'] / over)}"
        f" here. The lecture estimates that models of today are trained {times(rule, 3)} as long."
    )
    return Finding(text, "neutral", "column overtraining", "optimum")


def _equal(found: Facts, life: Life | None) -> Finding | None:
    """Say after how many tokens serving has cost what training did."""
    if life is None or life.row is None:
        return None
    rule = setting(found.run, "rule_efficiency")
    ratio = life.break_even / found.tokens
    slow = (
        f" (slower than {number(setting(found.run, 'serve_speed'))} tokens/s for each user)"
        if life.slow
        else ""
    )
    text = (
        f"Serving has cost as much as training after {quantity(life.break_even)} tokens,"
        f" {times(ratio)} those trained on: a token costs {quantity(life.usd_trained * 1e6, 'USD')}"
        f" per million to train on and {quantity(life.usd_served * 1e6, 'USD')} to serve{slow}, in"
        f" {life.row['dtype']} on {number(life.row['chips'])} chips. A FLOP of serving so costs"
        f" {times(1 / life.efficiency)} one of training. The lecture, with a ratio of"
        f" {times(1 / rule)}: {times(3 * rule)} the tokens."
    )
    agrees = 1 / NEAR <= ratio / (3 * rule) <= NEAR
    verdict: Verdict = "agrees" if agrees else "contradicts"
    return Finding(text, verdict, "usd_train, and the cheapest row of decoding", "served")


def _cheapest_life(found: Facts, life: Life | None) -> Finding | None:
    """Say which model of equal loss is cheapest for the demand of the question."""
    if life is None or life.row is None:
        return None
    row = life.at(setting(found.run, "served_tokens", most=1e18))
    rule, over = setting(found.run, "rule_overtraining"), row["overtraining"]
    text = (
        f"If {quantity(row['served'])} tokens are to be served, the cheapest model that learns as"
        f" much as this run has {quantity(row['params'])} active parameters (this one"
        f" {quantity(found.best['params_active'])}) and is trained on {quantity(row['tokens'])}"
        f" tokens, {times(over)} the 20 for each: by a law of loss and this machine's costs. The"
        f" lecture's estimate is {times(rule, 3)}."
    )
    agrees = 1 / 3 <= over / rule <= 3
    return Finding(text, "agrees" if agrees else "contradicts", "law of loss and costs", "optimum")


def _split(found: Facts, life: Life | None) -> Finding | None:
    """Say whether training and serving of the cheapest model cost the same."""
    if life is None or life.row is None:
        return None
    row = life.at(setting(found.run, "served_tokens", most=1e18))
    split = row["usd_serve"] / row["usd_train"]
    equal = equal_split(life)
    text = (
        f"Of that model's life training costs {usd(row['usd_train'])} and serving"
        f" {usd(row['usd_serve'])}, {times(split)} as much. The lecture takes equal costs for the"
        " optimum; by this law of loss they are equal for one demand alone"
    )
    text += (
        f" ({quantity(equal['served'])} tokens, with {times(equal['overtraining'])} the 20 for each"
        " parameter)."
        if equal
        else ", and for none of those looked at."
    )
    text += (
        " More demand shrinks the model less and less, because a smaller one needs ever more tokens"
        " to learn as much."
        if split > NEAR
        else ""
    )
    agrees = 1 / NEAR <= split <= NEAR
    return Finding(text, "agrees" if agrees else "contradicts", "law of loss and costs", "split")


def equal_split(life: Life) -> Row | None:
    """Return the optimum at which serving costs what training does, if the table reaches it."""
    if life.optimum.is_empty():
        return None
    off = (pl.col("usd_serve") / pl.col("usd_train")).log().abs()
    row = life.optimum.sort(off, "served").row(0, named=True)
    return row if 0.8 <= row["usd_serve"] / row["usd_train"] <= 1.25 else None
