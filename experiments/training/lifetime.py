"""Charts of a model's life: what serving costs beside training, and how long to train for it."""

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report.format import number, quantity, times, usd
from roofrack.report.page import Figure, Section

from ..common.pages import setting
from .facts import Facts
from .figures import UNITS
from .findings import equal_split
from .life import Life

LABELS = {
    "served": "Tokens served",
    "overtraining": "Tokens over 20 for each parameter",
    "params": "Active parameters",
    "tokens": "Tokens trained on",
    "usd_train": "Training",
    "usd_serve": "Serving",
    "usd": "Money",
    "what": "Spent on",
}
SPENT = {"usd_train": "Training", "usd_serve": "Serving"}


def section(found: Facts, life: Life | None) -> Section | None:
    """Return the section; None where nothing is said about tokens, or nothing can be served."""
    if life is None or life.row is None:
        return None
    row = life.row
    speed = row["tokens_per_s_per_user"]
    text = (
        f"Served in {row['dtype']} on {number(row['chips'])} chips of the same machine, batch"
        f" {number(row['workload.batch'])}, a context of"
        f" {number(setting(found.run, 'serve_context'))} tokens, a token costs"
        f" {quantity(row['usd_per_mtok'], 'USD')} per million at {number(speed)} tokens/s for each"
        " user: the cheapest way tried. Tokens of reinforcement learning are generated like those"
        " served and cost at least as much: count them with these.",
    )
    rule = (
        "A smaller model that is trained longer can learn as much and is cheaper to serve. With"
        " a law of loss, and the costs of a token in training and in serving, there is one size"
        " that costs least for each demand.",
    )
    made = [_served(found, life), _optimum(found, life), _split(found, life)]
    return Section("The life after training", (*text, *rule), tuple(made))


def _served(found: Facts, life: Life) -> Figure:
    """Money over tokens served: training is paid once, serving for each token."""
    trained = float(found.best["usd_train"])
    demand = life.optimum["served"].to_list()
    near = [s for s in demand if life.break_even / 1e3 <= s <= life.break_even * 1e3] or demand
    rows = [
        row for s in near for row in (("Training", s, trained), ("Serving", s, s * life.usd_served))
    ]
    data = pl.DataFrame(rows, schema=["what", "served", "usd"], orient="row")
    lines = alt.Chart(data).mark_line().encode(
        theme.axis(alt.X, "served", "Tokens served", "", log=True),
        theme.axis(alt.Y, "usd", "Money", "USD", log=True),
        **theme.series("what", "Spent on", list(SPENT.values())),
    )  # fmt: skip
    lines = theme.tooltips(
        lines, ("what", "Spent on", None), ("served", "Tokens served"), ("usd", "Money", "USD")
    )
    rule = alt.Chart(pl.DataFrame({"served": [life.break_even]})).mark_rule(strokeDash=[5, 4])
    rule = rule.encode(theme.axis(alt.X, "served", "Tokens served", "", log=True))
    return Figure(
        "served",
        "When serving has cost as much as training",
        alt.layer(rule, lines).properties(height=260),
        f"Training is {usd(trained)} whatever is served; serving meets it at"
        f" {quantity(life.break_even)} tokens (dashed).",
        f"{found.pair}, trained on {quantity(found.tokens)} tokens. The lecture's rule: at the"
        " optimum pre-training, reinforcement learning and serving cost about the same.",
        data,
        UNITS | {"usd": "USD"},
        LABELS,
    )


def _optimum(found: Facts, life: Life) -> Figure:
    """The cheapest over-training for each demand."""
    data = life.optimum
    x = theme.axis(alt.X, "served", "Tokens served", "", log=True)
    y = theme.axis(alt.Y, "overtraining", "Times 20 tokens for each parameter", log=True)
    line = theme.tooltips(
        alt.Chart(data).mark_line().encode(x, y),
        ("served", "Tokens served"), ("overtraining", "Times 20"), ("params", "Parameters"),
        ("tokens", "Tokens trained on"),
    )  # fmt: skip
    rule = setting(found.run, "rule_overtraining")
    marks = pl.DataFrame(
        {
            "overtraining": [float(found.best["overtraining"]), rule],
            "label": ["This run", "The lecture's estimate"],
        }
    )
    rules = alt.Chart(marks).mark_rule(strokeDash=[5, 4]).encode(alt.Y("overtraining:Q"))
    names = alt.Chart(marks).mark_text(align="left", x=6, dy=-7).encode(
        alt.Y("overtraining:Q"), alt.Text("label:N")
    )  # fmt: skip
    row = life.at(setting(found.run, "served_tokens", most=1e18))
    return Figure(
        "optimum",
        "How long to train for what is to be served",
        alt.layer(line, rules, names).properties(height=300),
        f"The cheapest over-training rises with demand: {times(row['overtraining'])} at"
        f" {quantity(row['served'])} tokens served. This run has"
        f" {times(found.best['overtraining'])}.",
        "Each point is the size and length of training that costs least for its demand, of all"
        " that learn as much as this run: loss by Besiroglu et al. 2024 (arXiv:2404.10102), fitted"
        " to models much smaller than this one, trained much shorter.",
        data,
        UNITS,
        LABELS,
    )


def _split(found: Facts, life: Life) -> Figure:
    """How the cost of the cheapest life divides."""
    data = life.optimum.unpivot(
        list(SPENT), index=["served", "overtraining"], variable_name="what", value_name="usd"
    ).with_columns(pl.col("what").replace_strict(SPENT, return_dtype=pl.String))  # fmt: skip
    lines = alt.Chart(data).mark_line().encode(
        theme.axis(alt.X, "served", "Tokens served", "", log=True),
        theme.axis(alt.Y, "usd", "Money", "USD", log=True),
        **theme.series("what", "Spent on", list(SPENT.values())),
    )  # fmt: skip
    lines = theme.tooltips(
        lines, ("what", "Spent on", None), ("served", "Tokens served"), ("usd", "Money", "USD"),
        ("overtraining", "Times 20"),
    )  # fmt: skip
    row = life.at(setting(found.run, "served_tokens", most=1e18))
    equal = equal_split(life)
    where = (
        f" They cost the same at {quantity(equal['served'])} tokens served, with"
        f" {times(equal['overtraining'])} over-training."
        if equal
        else ""
    )
    return Figure(
        "split",
        "Training and serving of the cheapest model for each demand",
        lines.properties(height=260),
        f"At {quantity(row['served'])} tokens served training costs {usd(row['usd_train'])} and"
        f" serving {usd(row['usd_serve'])}.{where}",
        "Were equal cost the rule, the lines would lie on each other. By this law the larger the"
        f" demand, the more is spent on serving.{where}",
        data,
        UNITS | {"usd": "USD"},
        LABELS,
    )
