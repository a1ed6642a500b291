"""What the reader moves: the global batch and the price of a chip."""

import altair as alt
import polars as pl

from roofrack.report import live, theme
from roofrack.report.controls import Control
from roofrack.report.format import number, percent, quantity, usd
from roofrack.report.page import Figure, Section

from ..common.columns import COST
from ..common.moving import chip_price, in_words, values_of
from .facts import PARTS, Facts
from .figures import LABELS, UNITS, order_of

DATASET = "trained"


def dataset(batches: pl.DataFrame) -> pl.DataFrame:
    """Return what the charts read: the cheapest plan of each number of chips and batch."""
    columns = ("chips", "global_batch", "plan", "mfu", "train_days", "usd_train", COST)
    parts = [pl.col(part).fill_null(0.0) for part in PARTS]
    return batches.select(*columns, *parts).sort("global_batch", "chips")


def section(found: Facts, batches: pl.DataFrame) -> Section | None:
    """Return the section that the reader moves; None without rows to move."""
    data = dataset(batches)
    values = values_of(data, "global_batch")
    start = float(found.best["global_batch"])
    if start not in values:
        return None
    batch = Control("global_batch", "Global batch", values, start, "sequences")
    price = chip_price(found.best["usd_per_chip_hour"])
    told = (
        f"{found.pair}: the cheapest plan that fits for each number of chips and each global batch,"
        " of the degrees that serve best in the whole search.",
    )
    drawn = [f for f in (_days(data, batch), _money(data, batch, price), _parts(data, batch)) if f]
    return Section("Try it", told, tuple(drawn), (batch, price) if price else (batch,))


def _chips() -> alt.X:
    return theme.axis(alt.X, "chips", "Chips", log=True)


def _days(data: pl.DataFrame, batch: Control) -> Figure:
    """Days, or share of the peak where the run does not say how long it trains."""
    timed = data["train_days"].null_count() < data.height
    column, title, unit = ("train_days", "Time to train", "days") if timed else ("mfu", "MFU", "")
    lines = live.chart(DATASET, (batch,)).mark_line(point=True)
    lines = lines.encode(_chips(), theme.axis(alt.Y, column, title, unit, log=timed))
    lines = theme.tooltips(
        lines, ("chips", "Chips"), (column, title, unit), ("mfu", "MFU"), ("plan", "Plan", None)
    )
    table = live.rows_at_start(data, (batch,))
    first, last = table.row(0, named=True), table.row(-1, named=True)
    written = (lambda v: f"{number(v)} days") if timed else percent
    return Figure(
        "live_days",
        f"{title} over chips",
        lines.add_params(*live.parameters((batch,))).properties(height=240),
        f"As the page opens: {written(first[column])} on {number(first['chips'])} chips,"
        f" {written(last[column])} on {number(last['chips'])}.",
        "A larger global batch keeps more chips busy: each rank has more sequences, and the"
        " pipeline more micro-batches.",
        table.drop(*PARTS),
        UNITS,
        LABELS,
    )


def _money(data: pl.DataFrame, batch: Control, price: Control | None) -> Figure | None:
    if data["usd_train"].null_count() == data.height:
        return None
    made = live.chart(DATASET, (batch,))
    made = live.scaled(made, "usd_train", price) if price else made
    lines = made.mark_line(point=True).encode(
        _chips(), theme.axis(alt.Y, "usd_train", "Money", "USD", log=True)
    )
    lines = theme.tooltips(lines, ("chips", "Chips"), ("usd_train", "Money", "USD"))
    every = (batch, price) if price else (batch,)
    table = live.rows_at_start(data, (batch,))
    row = table.sort("usd_train").row(0, named=True)
    return Figure(
        "live_money",
        "Money over chips",
        lines.add_params(*live.parameters(every)).properties(height=240),
        f"As the page opens the least is {usd(row['usd_train'])}, on {number(row['chips'])} chips.",
        "Money follows the price of a chip in proportion; the cheapest number of chips does not"
        " depend on it.",
        table.select("chips", "global_batch", "usd_train", "train_days"),
        UNITS,
        LABELS,
    )


def _parts(data: pl.DataFrame, batch: Control) -> Figure:
    total = " + ".join(f"datum['{part}']" for part in PARTS)
    order = list(PARTS.values())
    bars = (
        live.chart(DATASET, (batch,))
        .transform_calculate(step=total)
        .transform_fold(list(PARTS), as_=["part", "seconds"])
        .transform_calculate(part=in_words(PARTS), share="datum.seconds / datum.step")
        .mark_bar()
        .encode(
            order_of("chips", "Chips", data["chips"].unique().to_list()),
            theme.axis(alt.Y, "share", "Share of the step", zero=True, domain=(0.0, 1.0)),
            **theme.series("part", "Part of the step", order, by="colour"),
        )
    )
    bars = theme.stacked(bars, "part", order)
    bars = theme.tooltips(
        bars, ("chips", "Chips"), ("part", "Part", None), ("seconds", "Time", "s")
    )
    table = live.rows_at_start(data, (batch,))
    row = table.row(-1, named=True)
    step = sum(row[part] for part in PARTS)
    return Figure(
        "live_parts",
        "What bounds a step",
        bars.add_params(*live.parameters((batch,))).properties(height=260),
        f"As the page opens, on {number(row['chips'])} chips a step of {quantity(step, 's')} is"
        f" computing for {percent(row['computing'] / step)}.",
        "Move the global batch: the share of the bubble and of gradients shrinks as it grows.",
        table.select("chips", "plan", *PARTS),
        UNITS,
        LABELS,
    )
