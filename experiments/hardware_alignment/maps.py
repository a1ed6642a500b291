"""The live charts: a map of what binds, a map of costs, and the machines for one model."""

from typing import Any

import altair as alt
import polars as pl

from roofrack.report import live, theme
from roofrack.report.controls import Control
from roofrack.report.format import number, usd
from roofrack.report.page import Figure

from ..common.columns import COST, SPEED
from ..common.pages import RESOURCES
from .found import Found
from .rows import paid_price

DATA = "cells"
SHORT = {
    "compute": "A", "weights": "W", "kv": "KV", "activation": "Ac", "scale_up": "N",
    "scale_out": "NR", "pipeline": "P", "overhead": "L",
}  # fmt: skip
"""What stands in a cell for each resource."""
UNITS = {COST: "USD/Mtok", SPEED: "token/s", "batch": "sequences", "context": "tokens"}
LABELS = {
    "machine": "Machine", "model": "Model", COST: "Cost", SPEED: "Speed per user",
    "bound": "Longest part", "plan": "Plan", "batch": "Batch", "over": "Over the cheapest",
    "floor": "Speed asked", "price": "Price",
}  # fmt: skip
_SHOWN = ["machine", "model", COST, "over", SPEED, "bound", "plan", "batch"]


def controls(found: Found) -> tuple[Control, ...]:
    """Return what can be moved, as far as there is a choice."""
    f = found.facts
    contexts = tuple(sorted(f.cells["context"].unique()))
    served = [m for m in f.models if m in set(f.cells["model"])]
    start = f.shown[1] if f.shown[1] in served else served[0]
    prices = tuple(found.dataset["price"].unique(maintain_order=True))
    made = [
        Control("context", "Context", contexts, f.context, "tokens"),
        Control("floor", "Speed for each user, at least", tuple(f.floors), f.floor, "token/s"),
        Control("price", "Rental price", prices, paid_price(f)),
        Control("model", "Model", tuple(f.models[m] for m in served), f.models[start]),
    ]
    return tuple(c for c in made if len(c.values) > 1)


def of_map(found: Found) -> tuple[Control, ...]:
    """Return the controls that the maps follow: all but the model, which they show side by side."""
    return tuple(c for c in controls(found) if c.key != "model")


def letters() -> str:
    """Say what the letters in the map stand for."""
    return ", ".join(f"{SHORT[part]} {words}" for part, words in RESOURCES.items())


def grid(found: Found, chart: alt.Chart) -> alt.Chart:
    """Return a chart with a column for each model and a row for each machine."""
    f = found.facts
    return chart.encode(
        alt.X("model:N", title=None, sort=list(f.models.values()),
              axis=alt.Axis(labelAngle=-60, labelLimit=150, orient="top", labelOverlap=False)),
        alt.Y("machine:N", title=None, sort=list(f.machines.values()),
              axis=alt.Axis(labelLimit=150, labelOverlap=False)),
    )  # fmt: skip


def _grid(found: Found) -> alt.Chart:
    return grid(found, live.chart(DATA, of_map(found)))


def _colour(found: Found) -> alt.Color:
    """Return the colour of the longest part: that of the part of a step everywhere."""
    used = [words for words in RESOURCES.values() if words in set(found.dataset["bound"])]
    place = {words: list(theme.PARTS).index(f"t_{part}_s") for part, words in RESOURCES.items()}
    return alt.Color(
        "bound:N",
        title="Longest part of a step",
        sort=used,
        scale=alt.Scale(domain=used, range=[theme.PALETTE[place[words]] for words in used]),
    )


def _tips(chart: alt.Chart) -> alt.Chart:
    return theme.tooltips(
        chart, ("model", "Model", None), ("machine", "Machine", None),
        ("bound", "Longest part", None), (COST, "Cost", "USD/Mtok"),
        ("over", "Over the cheapest machine"), (SPEED, "Speed", "token/s"),
        ("plan", "Plan", None), ("batch", "Batch", "sequences"),
    )  # fmt: skip


def fitting(found: Found, least: float) -> dict[str, Any]:
    """Return how words stand in the cells: none where these are narrower than `least` px."""
    width = f"width / {len(found.facts.models)}"
    return {
        "fontSize": alt.expr(f"{width} < 30 ? 9 : 11"),
        "opacity": alt.expr(f"{width} < {least} ? 0 : 1"),
    }


def _height(found: Found) -> int:
    return 24 * len(found.facts.machines) + 30


def binds(found: Found) -> Figure:
    """The map of what binds, coloured and lettered."""
    used = set(found.dataset["bound"])
    short = [f"datum.bound === '{w}' ? '{SHORT[p]}' : " for p, w in RESOURCES.items() if w in used]
    cells = _tips(_grid(found).mark_rect(opacity=0.45).encode(color=_colour(found)))
    text = (
        _grid(found)
        .transform_calculate(letter="".join(short) + "''")
        .mark_text(**fitting(found, 16))
    )
    text = text.encode(text="letter:N")
    chart = alt.layer(cells, text).properties(height=_height(found))
    counts = found.facts.home.group_by("bound").len().sort("len", descending=True)
    words = ", ".join(f"{bound} in {n}" for bound, n in counts.iter_rows())
    table = live.rows_at_start(found.dataset, of_map(found)).select(_SHOWN)
    return Figure(
        "binds",
        "What binds: every machine with every model",
        chart.add_params(*live.parameters(of_map(found))),
        "A grid of machines and models; each cell says which part of a step is the longest with the"
        f" cheapest plan. As the page opens: {words or 'no cell can serve'}.",
        f"Letters: {letters()}. An empty cell has no plan that runs, fits and is quick enough. Move"
        " the context and the speed: patience and long contexts turn cells to KV, haste to weights,"
        " networks and launches.",
        table,
        UNITS,
        LABELS,
    )


def cost(found: Found) -> Figure:
    """The map of costs."""
    cells = _grid(found).mark_rect(opacity=0.55).encode(
        color=alt.Color(
            "over:Q",
            title="Over the cheapest machine (log)",
            scale=alt.Scale(type="log", scheme="yelloworangered", domain=[1, 10], clamp=True),
            legend=alt.Legend(values=[1, 2, 5, 10], titleLimit=320),
        )
    )  # fmt: skip
    written = (
        f"datum['{COST}'] >= 10 ? format(datum['{COST}'], '.0f') : datum['{COST}'] >= 0.1 ?"
        f" format(datum['{COST}'], '.2f') : format(datum['{COST}'], '.3f')"
    )
    text = _grid(found).transform_calculate(dollars=written).mark_text(**fitting(found, 26))
    text = text.encode(text="dollars:N")
    chart = alt.layer(_tips(cells), text).properties(height=_height(found))
    home = found.facts.home
    words = ""
    if home.height:
        low, high = home.sort(COST).row(0, named=True), home.sort(COST).row(-1, named=True)
        f = found.facts
        words = (
            f" From {usd(low[COST])} ({f.models[low['model']]} on {f.machines[low['machine']]}) to"
            f" {usd(high[COST])} ({f.models[high['model']]} on {f.machines[high['machine']]})."
        )
    return Figure(
        "cost",
        "What a token costs: every machine with every model",
        chart.add_params(*live.parameters(of_map(found))),
        "A grid of machines and models; each cell has the cost per million tokens of the cheapest"
        f" plan.{words}",
        "US dollars per million generated tokens. Compare down a column: pale is near the cheapest"
        " machine for that model. A machine that is dark in one column and pale in another fits"
        " some shapes only. The rental price can be moved to either end of the dated offers.",
        live.rows_at_start(found.dataset, of_map(found)).select(_SHOWN),
        UNITS,
        LABELS,
    )


def machines(found: Found) -> Figure:
    """Cost against speed of all machines for one model."""
    given = controls(found)
    x = theme.axis(alt.X, SPEED, "Speed per user", "token/s")
    y = theme.axis(alt.Y, COST, "Cost", "USD/Mtok", log=True)
    base = live.chart(DATA, given).encode(x, y)
    dots = _tips(base.mark_point(size=90).encode(color=_colour(found)))
    names = base.mark_text(align="left", dx=8, fontSize=11).encode(text="machine:N")
    chart = alt.layer(dots, names).properties(height=380)
    start = live.rows_at_start(found.dataset, given).sort(COST)
    words = "; ".join(
        f"{r['machine']} {usd(r[COST])} at {number(r[SPEED])} tokens/s"
        for r in start.head(4).iter_rows(named=True)
    )
    return Figure(
        "live_cost",
        "The machines for one model: cost and speed",
        chart.add_params(*live.parameters(given)),
        f"A point for each machine that can serve the model chosen. The cheapest: {words or '–'}.",
        "Better is lower and further right. Each point is the cheapest plan that keeps the speed"
        " asked for; choose model, context, speed and price above.",
        start.select(_SHOWN),
        UNITS,
        LABELS,
    )


def listed_machines(found: Found) -> Figure:
    """The table of machines: what they have, and what they are rented for."""
    f = found.facts
    rows = []
    for key, name in f.machines.items():
        tree = f.hardware(key)
        study = f.choices.studies[key]
        inner = f"hardware.fabric.{study.levels['hardware'][0]}"
        estimated = "usd_per_chip_hour" in (tree.get("assumed") or {})
        rows.append(
            {"machine": name, "domain": study.leaves[f"{inner}.chips"],
             "hbm_bytes": float(tree["hbm_bytes"]), "hbm": float(tree["hbm_bytes_per_s"]),
             "inside": study.leaves[f"{inner}.bytes_per_s"],
             "low": tree.get("usd_per_chip_hour_low"), "typical": tree["usd_per_chip_hour"],
             "high": tree.get("usd_per_chip_hour_high"), "date": str(tree.get("price_date") or "–"),
             "estimate": "estimated" if estimated else "quoted",
             "losses": f.choices.machines[key].config["choices"]["calibration"]}
        )  # fmt: skip
    return Figure(
        "machines",
        "The machines and their prices",
        None,
        "",
        "Rental prices of one chip and hour; their sources stand in the file of each machine"
        " (conf/hardware). Estimated: derived from the price of a related machine. Losses: the"
        " calibration; default is typical of five NVIDIA architectures and not fitted to the"
        " machine.",
        pl.DataFrame(rows, infer_schema_length=None),
        {"hbm_bytes": "byte", "hbm": "byte/s", "inside": "byte/s", "low": "USD/h",
         "typical": "USD/h", "high": "USD/h"},
        {"machine": "Machine", "domain": "Chips in a domain", "hbm_bytes": "Memory",
         "hbm": "Memory bandwidth", "inside": "Inside the domain", "low": "Low",
         "typical": "Typical", "high": "High", "date": "Date", "estimate": "Price is",
         "losses": "Losses"},
    )  # fmt: skip


def counts(found: Found) -> Figure:
    """The table of how many plans can serve each pair."""
    f = found.facts
    table = f.named(f.counts).select("machine", "model", "tried", "runs", "fits")
    return Figure(
        "counts",
        "How many plans were tried, can run, and fit",
        None,
        "",
        "All contexts and batches together. Plans that are the same machine twice are not counted.",
        table,
        {},
        {"machine": "Machine", "model": "Model", "tried": "Tried", "runs": "Can run",
         "fits": "Fit"},
    )  # fmt: skip
