"""What a reader can move: two plans of the pair shown, over batch, context, bandwidth and price."""

import altair as alt
import polars as pl

from roofrack.report import live, theme
from roofrack.report.controls import Control
from roofrack.report.format import number, quantity
from roofrack.report.page import Figure, Section

from ..common.studies import Studies
from .draw import BATCH_TIP, LABELS, PLAN_TIP, UNITS, legend, parts_of
from .rows import COST, DEGREES, SPEED, Facts

DATASET = "moves"
CONTEXTS = (1024.0, 4096.0, 8192.0, 32768.0, 131072.0)
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Bandwidth inside the rack, and price, over what the machine has."""
MOST_BATCHES = 20
Moved = tuple[Control, Control, Control | None, Control | None]
TIERS = ("slow", "fast", "fastest")
"""Whose plans are shown, each once."""


def section(found: Facts, studies: Studies) -> tuple[Section, pl.DataFrame]:
    """Return the part of the page that can be moved, and the table behind it."""
    table = _table(found, studies)
    batch, context, link, price = _controls(found, table)
    followed = tuple(c for c in (batch, context, link, price) if c is not None)
    figures = (
        _curve(found, table, COST, "Cost", "USD/Mtok", (context, link), batch, price),
        _curve(found, table, SPEED, "Speed per user", "token/s", (context, link), batch, None),
        _parts(found, table, tuple(c for c in (batch, context, link) if c is not None)),
    )
    text = (
        f"{found.label(found.shown)}, with the plans of its cheapest token and of fast, which stay"
        " as they are. Every value was computed; nothing between them is interpolated. Bandwidth"
        " is that between the chips of a rack."
    )
    return Section("Move it yourself", (text,), figures, followed), table


def _table(found: Facts, studies: Studies) -> pl.DataFrame:
    """Return two plans of the pair shown at every batch, context and bandwidth."""
    job = next(
        j
        for j in studies.run.jobs
        if (j.config["choices"]["hardware"], j.config["choices"]["model"]) == found.shown
    )
    config = found.configs[found.shown]
    level, facts = next(iter(config["hardware"]["fabric"].items()))
    path = f"hardware.fabric.{level}.bytes_per_s"
    rows = []
    seen: set[str] = set()
    for tier in TIERS:
        row = found.tier(found.shown, tier)
        if row["plan"] in seen:
            continue
        seen.add(row["plan"])
        math = row.get("workload.dtype.math") or config["workload"]["dtype"]["math"]
        words = [
            f"parallelism={config['choices']['parallelism']}",
            *(f"parallelism.{degree}={row[degree]}" for degree in DEGREES),
            f"workload.dtype.math={math}",
            f"batch=[{','.join(f'{b:g}' for b in _batches(found))}]",
            f"context=[{','.join(f'{c:g}' for c in _contexts(found))}]",
        ]
        if facts["bytes_per_s"]:
            values = ",".join(f"{factor * facts['bytes_per_s']:.6g}" for factor in FACTORS)
            words.append(f"{path}=[{values}]")
        made = studies.rows(f"moves, {tier}", *words, job=job)
        if path not in made.columns:
            made = made.with_columns(pl.lit(None, pl.Float64).alias(path))
        rows.append(made.with_columns(plan=pl.lit(row["plan"]), tier=pl.lit(tier)))
    table = pl.concat(rows, how="diagonal_relaxed").filter("valid", "fits")
    keep = {"batch": "batch", "context": "context", path: "link"}
    return table.select(
        "tier",
        "plan",
        *(pl.col(old).cast(pl.Float64).alias(new) for old, new in keep.items()),
        COST,
        SPEED,
        "usd_per_hour",
        "chips",
        *theme.PARTS,
    )


def _batches(found: Facts) -> list[float]:
    """Return the run's batches, thinned evenly where there are many."""
    values = sorted(float(b) for b in found.table["batch"].unique())
    if len(values) <= MOST_BATCHES:
        return values
    places = {round(i * (len(values) - 1) / (MOST_BATCHES - 1)) for i in range(MOST_BATCHES)}
    return [values[place] for place in sorted(places)]


def _contexts(found: Facts) -> list[float]:
    return sorted({*CONTEXTS, found.context})


def _controls(found: Facts, table: pl.DataFrame) -> Moved:
    """Return the controls batch, context, bandwidth and price; None where there is none."""
    batches = tuple(sorted(table["batch"].unique()))
    normal = found.tier(found.shown, "normal")["batch"]
    start = min(batches, key=lambda b: abs(b - normal))
    links = tuple(sorted(table["link"].drop_nulls().unique()))
    price = table["usd_per_hour"][0] / table["chips"][0] if table.height else 0.0
    contexts = tuple(sorted(table["context"].unique()))
    at = min(contexts, key=lambda c: abs(c - found.context))
    middle = links[len(links) // 2] if links else 0.0
    return (
        Control("batch", "Batch", batches, start, "sequences"),
        Control("context", "Context", contexts, at, "tokens"),
        Control("link", "Bandwidth of a chip", links, middle, "B/s") if len(links) > 1 else None,
        Control("price", "Price of a chip", tuple(f * price for f in FACTORS), price, "USD/h")
        if price > 0
        else None,
    )


def _curve(
    found: Facts,
    table: pl.DataFrame,
    column: str,
    title: str,
    unit: str,
    fixed: tuple[Control | None, ...],
    batch: Control,
    price: Control | None,
) -> Figure:
    """Draw a result over the batch for both plans; a rule stands at the batch chosen."""
    held = tuple(control for control in fixed if control is not None)
    order = list(table["plan"].unique(maintain_order=True))
    data = live.chart(DATASET, held)
    data = data if price is None else live.scaled(data, column, price)
    x = theme.axis(alt.X, "batch", "Batch", "sequences", log=True)
    y = theme.axis(alt.Y, column, title, unit, log=True)
    series = legend(theme.series("plan", "Plan", order), columns=1)
    lines = data.mark_line().encode(x, y, **series)
    lines = theme.tooltips(lines, PLAN_TIP, BATCH_TIP, (column, title, unit))
    chosen = live.chart(DATASET, (*held, batch))
    chosen = chosen if price is None else live.scaled(chosen, column, price)
    dots = chosen.mark_point(size=110).encode(x, y, color=series["color"])
    label = dots.mark_text(align="left", dx=10, dy=-10, fontWeight=600).encode(
        text=alt.Text("label:N"), color=alt.value("currentColor")
    )
    label = label.transform_calculate(label=theme.label_expression(f"datum.{column}", unit))
    words = "context, bandwidth and price" if price else "context and bandwidth"
    asked = [control for control in (*held, batch, price) if control is not None]
    chart = alt.layer(lines, dots, label).add_params(*live.parameters(asked))
    shown = live.rows_at_start(table, held)
    best = shown.sort(column, descending=column == SPEED).row(0, named=True)
    return Figure(
        f"move-{column}",
        f"{title} against batch, at the {words} chosen",
        chart,
        f"Two lines over the batch. As the page opens, the best is {quantity(best[column], unit)}"
        f" at a batch of {number(best['batch'])} ({best['plan']}).",
        "The marked points stand at the batch chosen above.",
        shown.select("plan", "batch", "context", "link", column),
        UNITS | {"link": "B/s", "context": "tokens"},
        LABELS | {"link": "Bandwidth of a chip", "context": "Context"},
    )


def _parts(found: Facts, table: pl.DataFrame, held: tuple[Control, ...]) -> Figure:
    """Draw what the step at the chosen batch consists of, for both plans."""
    used = parts_of(table)
    named = {part: theme.PARTS[part] for part in used}
    chart = live.chart(DATASET, held).transform_fold([*used], as_=["column", "seconds"])
    names = pl.DataFrame({"column": list(named), "part": list(named.values())})
    chart = chart.transform_lookup("column", alt.LookupData(names, "column", ["part"]))
    bars = chart.mark_bar().encode(
        theme.axis(alt.X, "seconds", "Time in one step", "s", zero=True),
        alt.Y("plan:N", title=None, sort=list(table["plan"].unique(maintain_order=True)),
              axis=alt.Axis(labelLimit=230)),
        **legend(theme.parts(), set(named.values())),
    )  # fmt: skip
    bars = theme.stacked(bars, "part", list(named.values()))
    bars = theme.tooltips(
        bars, ("plan", "Plan", None), ("part", "Part", None), ("seconds", "Time", "s")
    )
    shown = live.rows_at_start(table, held)
    return Figure(
        "move-parts",
        "What one step consists of, at what is chosen",
        bars.properties(height=110).add_params(*live.parameters(held)),
        "Stacked bars of the parts of a step, as if nothing overlapped. As the page opens: "
        + "; ".join(
            f"{r['plan']}: " + ", ".join(f"{named[p]} {quantity(r[p], 's')}" for p in used if r[p])
            for r in shown.iter_rows(named=True)
        )
        + ".",
        "More bandwidth shortens only the parts that cross the network; a longer context only those"
        " that read the cache.",
        shown.select("plan", "batch", "context", "link", *used),
        UNITS | {"link": "B/s", "context": "tokens"},
        LABELS | {"link": "Bandwidth of a chip", "context": "Context"},
    )
