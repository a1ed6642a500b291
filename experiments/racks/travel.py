"""Charts of experts spread over several racks: cost, parts, traffic. Some follow the sliders."""

import altair as alt
import polars as pl

from roofrack.report import live, theme
from roofrack.report.format import percent, quantity, times, usd
from roofrack.report.page import Figure

from ..common.charts import used_parts
from ..common.columns import COST
from .crossing import Crossing, controls, speed_of
from .figures import LABELS, RACKS, UNITS
from .found import Found

OVER = "Racks that the experts are spread over"


def dataset(found: Crossing) -> pl.DataFrame:
    """Return what the live charts read: all settings, few columns."""
    names = used_parts(found.table)
    return found.table.select(
        "racks", "sequences", "faster", "context", "fits", "step_s", COST, *names
    ).rename({p: theme.PARTS[p] for p in names})


def cost(found: Found) -> Figure:
    """Cost of a token by number of racks; follows the sliders."""
    assert found.crossing is not None
    moved = controls(found.crossing, found.facts.machine)
    chart = live.chart("crossing", moved[:3])
    chart = live.scaled(chart, COST, moved[3])
    bars = chart.mark_bar().encode(
        alt.X("racks:O", title=OVER, axis=alt.Axis(labelAngle=0)),
        theme.axis(alt.Y, COST, "Cost", "USD/Mtok", zero=True),
        opacity=alt.condition("datum.fits", alt.value(1.0), alt.value(0.35)),
    )
    bars = theme.tooltips(bars, RACKS, (COST, "Cost", "USD/Mtok"), ("step_s", "Step", "s"))
    table = live.rows_at_start(dataset(found.crossing), moved)
    words = "; ".join(f"{r['racks']}: {usd(r[COST])}" for r in table.iter_rows(named=True))
    return Figure(
        "cost",
        "What a token costs by number of racks",
        bars.add_params(*live.parameters(moved)).properties(height=260),
        f"Dollars per million tokens by number of racks: {words}.",
        "Each chip holds the same number of sequences, so without a network all bars would be"
        " alike, or fall a little, since more chips share the weights. Faint bars have no memory"
        " for it.",
        table,
        UNITS,
        LABELS,
    )


def parts(found: Found) -> Figure:
    """Parts of the step by number of racks; follows the sliders."""
    assert found.crossing is not None
    moved = controls(found.crossing, found.facts.machine)[:3]
    table = dataset(found.crossing)
    names = [name for name in theme.PARTS.values() if name in table.columns]
    chart = live.chart("crossing", moved).transform_fold([*names], as_=["part", "seconds"])
    bars = chart.mark_bar().encode(
        alt.X("racks:O", title=OVER, axis=alt.Axis(labelAngle=0)),
        theme.axis(alt.Y, "seconds", "Parts of a step", "s", zero=True),
        **theme.parts(),
    )
    bars = theme.stacked(bars, "part", list(theme.PARTS.values()))
    bars = theme.tooltips(bars, RACKS, ("part", "Part", None), ("seconds", "Time", "s"))
    start = live.rows_at_start(table, moved)
    last = start.row(-1, named=True)
    name = theme.PARTS["t_scale_out_s"]
    return Figure(
        "parts",
        "What the step is spent on",
        bars.add_params(*live.parameters(moved)).properties(height=300),
        f"Parts of a step, stacked, by number of racks. Over {last['racks']} racks the network"
        f" between racks takes {quantity(last.get(name), 's')} if nothing hides it.",
        "The network inside a rack gives way to the one between racks. Parts are drawn as if"
        " nothing overlapped.",
        start,
        dict.fromkeys([*names, "step_s"], "s") | UNITS,
        LABELS,
    )


def leaving(found: Crossing) -> Figure:
    """The share of the experts' traffic that leaves, against 1 - 1/racks."""
    table = found.home.select(
        "racks", "scale_out_fraction", "copies_leaving", formula=1 - 1 / pl.col("racks")
    )
    once = found.dedup.select("racks", once="copies_leaving")
    table = table.join(once, on="racks", how="left", maintain_order="left")
    x = theme.axis(alt.X, "racks", "Racks", values=table["racks"].to_list())
    line = alt.Chart(table).mark_line(strokeDash=[6, 4], color=theme.PALETTE[6])
    line = line.encode(x, theme.axis(alt.Y, "formula", "Share that leaves", domain=[0, 1]))
    points = alt.Chart(table).mark_point(size=90).encode(
        x, theme.axis(alt.Y, "scale_out_fraction", "Share that leaves", domain=[0, 1])
    )  # fmt: skip
    points = theme.tooltips(
        points, RACKS, ("scale_out_fraction", "Leaves"), ("copies_leaving", "Copies of a token"),
        ("once", "Copies, one a rack"),
    )  # fmt: skip
    last = table.row(-1, named=True)
    return Figure(
        "leaving",
        "How much of the experts' traffic leaves the rack",
        alt.layer(line, points).properties(height=240),
        f"Points from the run on the dashed line 1 - 1/racks; over {last['racks']} racks"
        f" {percent(last['scale_out_fraction'])} leave.",
        "Points are computed, the dashed line is 1 - 1/racks. The table has the copies of each"
        " token that leave, also with one copy to each rack.",
        table,
        {},
        LABELS | {
            "scale_out_fraction": "Share that leaves", "formula": "1 - 1/racks",
            "copies_leaving": "Copies leaving", "once": "Copies leaving, one a rack",
        },
    )  # fmt: skip


def levels(found: Crossing) -> Figure:
    """Bytes that a chip sends in a step, inside the rack and between racks."""
    names = {"traffic_ep_1_bytes": "inside the rack", "traffic_ep_2_bytes": "between racks"}
    table = found.home.select("racks", *names)
    long = table.unpivot(list(names), index="racks", variable_name="level", value_name="bytes")
    long = long.with_columns(pl.col("level").replace_strict(names))
    lines = alt.Chart(long).mark_line(point=True).encode(
        theme.axis(alt.X, "racks", "Racks", values=table["racks"].to_list()),
        theme.axis(alt.Y, "bytes", "Sent by a chip in a step", "B", zero=True),
        **theme.series("level", "Experts' traffic", list(names.values())),
    )  # fmt: skip
    lines = theme.tooltips(lines, RACKS, ("level", "Network", None), ("bytes", "Sent", "B"))
    last = table.row(-1, named=True)
    return Figure(
        "levels",
        "The experts' traffic by level of the network",
        lines.properties(height=240),
        f"Over {last['racks']} racks a chip sends {quantity(last['traffic_ep_1_bytes'], 'B')}"
        f" inside its rack and {quantity(last['traffic_ep_2_bytes'], 'B')} between racks.",
        "What no longer stays in the rack takes the slower network; the busiest chip's bytes are"
        " counted.",
        table,
        dict.fromkeys(names, "byte"),
        LABELS | {k: v.capitalize() for k, v in names.items()},
    )


def equal(found: Found) -> Figure:
    """Cost over that of one rack against the bandwidth between racks."""
    assert found.crossing is not None
    c, machine = found.crossing, found.facts.machine
    one = c.row(1)
    base = one[COST] if one else 1.0
    shown = [e.racks for e in found.equals]
    table = c.table.filter(
        pl.col("sequences") == c.sequences, pl.col("context") == c.context,
        pl.col("racks").is_in(shown),
    )  # fmt: skip
    table = table.select(
        "racks", bandwidth=pl.col(speed_of(machine)).cast(pl.Float64), ratio=pl.col(COST) / base
    ).sort("racks", "bandwidth")
    named = table.with_columns(series=pl.format("{} racks", pl.col("racks")))
    lines = alt.Chart(named).mark_line(point=True).encode(
        theme.axis(alt.X, "bandwidth", "Bandwidth between racks, of a chip", "B/s", log=True),
        theme.axis(alt.Y, "ratio", "Cost over that of one rack"),
        **theme.series("series", "Experts over", [f"{r} racks" for r in shown]),
    )  # fmt: skip
    lines = theme.tooltips(
        lines, ("series", "Experts over", None), ("bandwidth", "Bandwidth", "B/s"),
        ("ratio", "Cost over one rack"),
    )  # fmt: skip
    rules = pl.DataFrame({"at": [machine.outer_bytes_per_s, machine.inner_bytes_per_s]})
    rule = alt.Chart(rules).mark_rule(strokeDash=[5, 4]).encode(x="at:Q")
    words = "; ".join(f"{e.racks} racks {times(e.now, 3)}" for e in found.equals)
    return Figure(
        "equal",
        "What bandwidth between racks would make several racks one",
        alt.layer(lines, rule).properties(height=260),
        f"Cost over that of one rack against bandwidth; today {words}.",
        f"Dashed rules: links between racks today, {quantity(machine.outer_bytes_per_s, 'B/s')},"
        f" and inside one, {quantity(machine.inner_bytes_per_s, 'B/s')}. Where a line"
        " flattens above 1, latencies and launches keep it there, whatever the bandwidth.",
        table,
        {"bandwidth": "byte/s"},
        LABELS | {"bandwidth": "Bandwidth between racks", "ratio": "Cost over one rack"},
    )
