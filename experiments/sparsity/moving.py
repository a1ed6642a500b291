"""Charts that follow the sliders: cost and parts of a step while experts join one layout."""

import altair as alt
import polars as pl

from roofrack.report import live, theme
from roofrack.report.format import number, percent, usd
from roofrack.report.page import Figure

from ..common.charts import used_parts
from .figures import LABELS, RATIO, UNITS, ratio_axis
from .found import Found
from .layouts import Layouts, controls
from .rows import COST

DATASET = "layouts"


def dataset(held: Layouts) -> pl.DataFrame:
    """Return what the live charts read: all settings, few columns."""
    names = used_parts(held.table)
    return held.table.select(
        "ratio", "place", "sequences", "faster", "context", "fits", COST, *names
    ).rename({part: theme.PARTS[part] for part in names})


def cost(found: Found, held: Layouts) -> Figure:
    """Cost over the ratio at a fixed layout; follows the sliders."""
    moved = controls(held, found.facts.machine)
    chart = live.chart(DATASET, moved[:3])
    chart = live.scaled(chart, COST, moved[3]) if len(moved) > 3 else chart
    lines = chart.mark_line(point=alt.OverlayMarkDef(size=40)).encode(
        ratio_axis(found.facts),
        theme.axis(alt.Y, COST, "Cost", "USD/Mtok", zero=True),
        **theme.series("place", "Layout", held.places),
    )
    lines = theme.tooltips(lines, RATIO, ("place", "Layout", None), (COST, "Cost", "USD/Mtok"))
    table = live.rows_at_start(dataset(held), moved).sort("place", "ratio")
    words = "; ".join(
        f"{place}: "
        + ", ".join(
            f"{number(r['ratio'])} {usd(r[COST])}"
            for r in table.filter(pl.col("place") == place).iter_rows(named=True)
        )
        for place in held.places
    )
    return Figure(
        "layout",
        "Cost of a token while experts are added to the same chips",
        lines.add_params(*live.parameters(moved)).properties(height=280),
        f"As the page opens: {words}.",
        "Each chip holds as many sequences everywhere, so a second rack changes nothing but the way"
        " that tokens travel, and that each chip holds fewer experts. A layout may be slower than"
        f" {number(found.facts.speed)} tokens/s, or have no memory for it.",
        table,
        UNITS,
        LABELS,
    )


def parts(found: Found, held: Layouts) -> Figure:
    """Parts of the step of the model as it is, by layout; follows the sliders."""
    moved = controls(held, found.facts.machine)[:3]
    table = dataset(held)
    names = [theme.PARTS[part] for part in used_parts(held.table)]
    chart = live.chart(DATASET, moved).transform_filter(
        f"abs(datum.ratio - {found.ratio:.10g}) < 1e-6 * {found.ratio:.10g}"
    )
    chart = chart.transform_fold([*names], as_=["part", "seconds"])
    bars = chart.mark_bar().encode(
        theme.axis(alt.X, "seconds", "Parts of a step", "s", zero=True),
        alt.Y("place:N", title=None, sort=list(held.places), axis=alt.Axis(labelLimit=230)),
        **theme.parts(),
    )
    bars = theme.stacked(bars, "part", list(theme.PARTS.values()))
    bars = theme.tooltips(
        bars, ("place", "Layout", None), ("part", "Part", None), ("seconds", "Time", "s")
    )
    start = live.rows_at_start(table, moved).filter(pl.col("ratio") == found.ratio)
    between = {theme.PARTS["t_scale_up_s"], theme.PARTS["t_scale_out_s"]}
    words = "; ".join(
        f"{r['place']}: the exchange is"
        f" {percent(sum(r[n] for n in names if n in between) / sum(r[n] for n in names))}"
        for r in start.iter_rows(named=True)
    )
    return Figure(
        "parts",
        "What a step consists of, the model as it is",
        bars.properties(height=52 * len(held.places) + 20).add_params(*live.parameters(moved)),
        f"Parts of a step, as if nothing overlapped. As the page opens: {words}.",
        "The more sequences, the more of the exchange is bandwidth and the less is launches and"
        " latency; more bandwidth shortens the former only.",
        start,
        UNITS | {theme.PARTS[p]: "s" for p in used_parts(held.table)},
        LABELS,
    )
