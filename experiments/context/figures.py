"""Charts about context: what it costs, where the time goes, price sheets, waiting caches."""

import altair as alt
import polars as pl

from roofrack.report import live, theme
from roofrack.report.controls import Control
from roofrack.report.format import number, quantity, usd
from roofrack.report.page import Figure

from ..common.charts import used_parts
from ..common.columns import COST
from ..common.moving import price_over_run, values_of
from .measures import kv_bytes_for, line
from .rows import BATCH, CONTEXT, INPUT, PROMPT, Facts
from .words import tokens

OUTPUT_WORDS, INPUT_WORDS = "written", "read"
KINDS = (OUTPUT_WORDS, INPUT_WORDS)
HERE, SHEET = "this run", "price sheets"
UNITS = {
    COST: "USD/Mtok",
    "cost": "USD/Mtok",
    "hold_s": "s",
    "retrieve_s": "s",
    "seconds": "s",
    "input": "USD/Mtok",
    "cached": "USD/Mtok",
    "output": "USD/Mtok",
    "storage_hour": "USD/Mtok",
    "kv_bytes": "B",
    "needed_bytes": "B",
}
LABELS = {
    "pair": "Model",
    CONTEXT: "Context, tokens",
    "length": "Context or prompt, tokens",
    "what": "Token",
    "cost": "Cost",
    "seconds": "Time",
    "part": "Part of the step",
    BATCH: "Batch",
    "knee": "Knee, tokens",
    "kv_bytes": "Cache per token",
    "needed_bytes": "Cache per token for a knee at the price tier",
    "above_tokens": "Above so many tokens",
    "input": "Input",
    "cached": "Cached input",
    "output": "Output",
    "storage_hour": "Keeping it for an hour",
    "output_over_input": "Output over input",
    "cached_over_input": "Cached over input",
    "hold_s": "Holding time",
    "retrieve_s": "Time to fetch the cache",
    "tier": "Where it waits",
}


def controls(facts: Facts) -> dict[str, Control]:
    """Return what the reader moves: the model, the batch, and the price of a chip."""
    batches = values_of(facts.steps, BATCH)
    own = line(facts, facts.shown)
    start = own.batch if own else facts.of(facts.steps, facts.shown)[BATCH].min()
    return {
        "model": Control("model", "Model", facts.pairs, facts.shown, column="pair"),
        "batch": Control("batch", "Batch", batches, start, "sequences"),  # type: ignore[arg-type]
        "price": price_over_run(),
    }


def datasets(facts: Facts) -> dict[str, pl.DataFrame]:
    """Return the tables that live charts read."""
    return {"cost": _costs(facts), "steps": _steps(facts)}


def _costs(facts: Facts) -> pl.DataFrame:
    """Return what a token costs by pair and length, read and written."""
    written = facts.best.select(
        "pair", "plan", BATCH, length=CONTEXT, cost=pl.col(COST), what=pl.lit(OUTPUT_WORDS),
    )  # fmt: skip
    read = facts.prompts.select(
        "pair", pl.lit("").alias("plan"), pl.col(BATCH).cast(pl.Float64), length=PROMPT, cost=INPUT,
        what=pl.lit(INPUT_WORDS),
    )  # fmt: skip
    table = pl.concat([written, read], how="vertical_relaxed")
    return table.with_columns(pl.col("cost").cast(pl.Float64))


def _steps(facts: Facts) -> pl.DataFrame:
    """Return the parts of each step, one row a part, and the length as people write it."""
    used = used_parts(facts.steps)
    long = facts.steps.unpivot(
        used, index=["pair", BATCH, CONTEXT], variable_name="part", value_name="seconds"
    )
    long = long.with_columns(
        pl.col("part").replace_strict(theme.PARTS),
        pl.col("seconds").cast(pl.Float64),
        length=pl.col(CONTEXT).map_elements(short, return_dtype=pl.String),
    )
    most = 8000 // max(1, len(used))
    if facts.steps.height > most:  # a page should open quickly
        kept = set(sorted(set(long[BATCH]))[::2])
        long = long.filter(pl.col(BATCH).is_in(kept | {controls(facts)["batch"].start}))
    return long


def short(value: float) -> str:
    """Write a length in a few letters: 8k, 200k, 1M."""
    for size, letter in ((2**20, "Mi"), (1e6, "M"), (2**10, "Ki"), (1e3, "k")):
        if value >= size and value % size == 0:
            return f"{number(value / size)}{letter}"
    return number(value)


def cost(facts: Facts) -> Figure:
    """Draw what a token costs over the context, read and written; the price moves it all."""
    of = controls(facts)
    table, order = _costs(facts), list(facts.pairs)
    dash = alt.StrokeDash(
        "what:N", title="Token", sort=list(KINDS),
        scale=alt.Scale(domain=list(KINDS), range=[[1, 0], [4, 4]]),
        legend=alt.Legend(symbolType="stroke", symbolSize=450),
    )  # fmt: skip
    made = live.scaled(live.chart("cost"), "cost", of["price"])
    made = made.mark_line(point=True).encode(
        theme.axis(alt.X, "length", "Context, or prompt", "tokens", log=True, domain=_ends(table)),
        theme.axis(alt.Y, "cost", "Cost", "USD/Mtok", log=True),
        theme.series("pair", "Model", order, by="colour")["color"],
        dash,
        opacity=live.faded(of["model"], faint=0.35),
    )
    made = theme.tooltips(
        made, ("pair", "Model", None), ("what", "Token", None), ("length", "Length", "tokens"),
        ("cost", "Cost", "USD/Mtok"), ("plan", "Plan", None),
    )  # fmt: skip
    tier = pl.DataFrame({"length": [facts.settings.price_tier], "words": ["price tier"]})
    low, high = _ends(table)
    tier = tier.filter(pl.col("length").is_between(low, high))
    x = alt.X("length:Q", scale=alt.Scale(type="log", domain=_ends(table)))
    ends = facts.of(facts.best, facts.shown).sort(CONTEXT)
    first, last = ends.row(0, named=True), ends.row(-1, named=True)
    return Figure(
        "cost",
        "What a token costs at each context",
        alt.layer(made, *marked(tier, x)).add_params(*live.parameters([of["model"], of["price"]])),
        f"{facts.shown}: {usd(first[COST])} at {tokens(first[CONTEXT])}, {usd(last[COST])} at"
        f" {tokens(last[CONTEXT])} for a token written.",
        "Written tokens read the whole cache each time; tokens read (dashed) are computed together"
        " and rise later. Each point is the cheapest plan and batch; batches are tried in powers of"
        " two, so lines are a little uneven.",
        live.rows_at_start(table, [of["model"]]),
        UNITS,
        LABELS,
    )


def marked(mark: pl.DataFrame, x: alt.X) -> tuple[alt.Chart, alt.Chart]:
    """Return a dashed rule at each place of `x`, and the column `words` beside it."""
    words = alt.Chart(mark).mark_text(align="right", dx=-5)
    return dashed(mark, x), words.encode(x, alt.YValue(8), text="words:N")


def dashed(mark: pl.DataFrame, x: alt.X) -> alt.Chart:
    """Return a dashed rule at each place of `x`."""
    return alt.Chart(mark).mark_rule(strokeDash=[6, 4], strokeWidth=1.4).encode(x)


def _ends(table: pl.DataFrame) -> list[float]:
    low, high = float(table["length"].min()), float(table["length"].max())  # type: ignore[arg-type]
    return [low / 1.05, high * 1.05]


def parts(facts: Facts) -> Figure:
    """Draw the parts of a step over the context, of one model and batch."""
    of = controls(facts)
    table = _steps(facts)
    order = [short(v) for v in sorted(set(facts.steps[CONTEXT]))]
    present = [w for w in theme.PARTS.values() if w in set(table["part"])]
    colour = theme.parts()
    colour["color"]["legend"]["values"] = present
    chosen = [of["model"], of["batch"]]
    made = live.chart("steps", chosen).mark_bar().encode(
        alt.X("length:N", sort=order, title="Context (tokens)", axis=alt.Axis(labelAngle=0),
              scale=alt.Scale(domain=order)),
        theme.axis(alt.Y, "seconds", "Time of the parts", "s", zero=True),
        **colour,
    )  # fmt: skip
    made = theme.stacked(made, "part", present)
    made = theme.tooltips(
        made, ("part", "Part", None), ("seconds", "Time", "s"), ("length", "Context", None)
    )
    shown = live.rows_at_start(table, chosen)
    last = shown.filter(pl.col(CONTEXT) == pl.col(CONTEXT).max())
    top = last.sort("seconds", descending=True).row(0, named=True)
    plan = facts.of(facts.steps, facts.shown)["plan"][0]
    return Figure(
        "parts",
        "Where the time of a step goes",
        made.add_params(*live.parameters(chosen)),
        f"{facts.shown}, batch {number(float(of['batch'].start))}: at"
        f" {tokens(top[CONTEXT])} {top['part'].lower()} take {quantity(top['seconds'], 's')} of"
        f" {quantity(float(last['seconds'].sum()), 's')}.",
        f"One plan at all contexts ({plan} for {facts.shown}), nothing hidden behind anything."
        " Contexts without a bar do not fit beside so large a batch.",
        shown.drop("length"),
        UNITS,
        LABELS,
    )


def knees(facts: Facts) -> Figure | None:
    """Draw the knee of each pair beside the price tier."""
    tier = facts.settings.price_tier
    rows = facts.best.group_by("pair", maintain_order=True).first()
    rows = rows.filter(pl.col("context_knee_tokens") > 0)
    each = [
        {
            "pair": r["pair"],
            "knee": float(r["context_knee_tokens"]),
            "kv_bytes": float(r["kv_bytes_per_token"]),
            "needed_bytes": kv_bytes_for(r, tier),
        }
        for r in rows.iter_rows(named=True)
    ]
    if not each:
        return None
    table = pl.DataFrame(each).sort("knee", descending=True)
    x = theme.axis(alt.X, "knee", "Knee", "tokens of context", log=True)
    y = alt.Y("pair:N", sort=table["pair"].to_list(), title=None)
    dots = theme.tooltips(
        alt.Chart(table).mark_point(filled=True, size=110).encode(x, y),
        ("pair", "Model", None), ("knee", "Knee", "tokens"), ("kv_bytes", "Cache per token", "B"),
    )  # fmt: skip
    words = table.with_columns(
        words=pl.col("knee").map_elements(lambda v: number(v, 2), return_dtype=pl.String)
    )
    text = alt.Chart(words).mark_text(align="left", dx=10).encode(x, y, text="words:N")
    mark = pl.DataFrame({"knee": [tier], "words": ["price tier"]})
    return Figure(
        "knees",
        "Where reading the cache overtakes the matmuls",
        alt.layer(dots, text, *marked(mark, x)).properties(height=60 + 34 * table.height),
        "; ".join(f"{r['pair']}: {tokens(r['knee'])}" for r in table.iter_rows(named=True)) + ".",
        "Weight reads and attention's own arithmetic are left out, as in the lecture.",
        table,
        UNITS,
        LABELS,
    )
