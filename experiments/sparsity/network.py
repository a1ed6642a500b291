"""Charts of the exchange of tokens with experts: where it binds, and what makes it smaller."""

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report.format import number, times, usd
from roofrack.report.page import Figure

from .asked import Way
from .figures import LABELS, UNITS, around, where
from .found import Found
from .layouts import Layouts
from .rows import COST


def binds(found: Found, held: Layouts) -> Figure:
    """A map of how long the exchange takes against what chips do themselves."""
    table = held.plain.select("place", "ratio", "sequences", "exchange", COST, "fits").sort(
        "place", "ratio", "sequences"
    )
    drawn = table.with_columns(
        pl.col("ratio", "sequences").map_elements(number, return_dtype=pl.String),
        words=pl.col("exchange").map_elements(lambda v: number(v, 2), return_dtype=pl.String),
    )
    base = alt.Chart(drawn).encode(
        alt.X("sequences:O", title="Sequences on each chip", axis=alt.Axis(labelAngle=0),
              sort=[number(v) for v in sorted(table["sequences"].unique())]),
        alt.Y("ratio:O", title=LABELS["ratio"],
              sort=[number(v) for v in sorted(table["ratio"].unique(), reverse=True)]),
    )  # fmt: skip
    cells = base.mark_rect(opacity=0.38).encode(
        alt.Color("exchange:Q", title="Exchange over own work",
                  scale=alt.Scale(type="log", scheme="blueorange", domainMid=1.0,
                                  domain=[0.1, 10.0], clamp=True),
                  legend=alt.Legend(values=[0.1, 0.3, 1, 3, 10])),
    )  # fmt: skip
    cells = theme.tooltips(
        cells, ("place", "Layout", None), ("ratio", LABELS["ratio"], None),
        ("sequences", "Sequences on each chip", None), ("exchange", "Exchange over own work"),
        (COST, "Cost", "USD/Mtok"),
    )  # fmt: skip
    text = base.mark_text(fontSize=10).encode(text="words:N")
    panels = [
        alt.layer(cells, text)
        .transform_filter(alt.FieldEqualPredicate(field="place", equal=place))
        .properties(title=place, height=34 * table["ratio"].n_unique())
        for place in held.places
    ]
    longest = table.sort("exchange").row(-1, named=True)
    return Figure(
        "binds",
        "Where the exchange of tokens takes longer than the work itself",
        theme.columns(*panels),
        f"A grid for each layout: {'; '.join(held.places)}. At most the exchange takes"
        f" {times(longest['exchange'])} the work of a chip, at a ratio of"
        f" {number(longest['ratio'])} and {number(longest['sequences'])} sequences on each chip"
        f" ({longest['place']}).",
        "Time of the exchange (dispatch and combine) over what a chip does itself, arithmetic or"
        " memory, whichever is longer. Above 1 (orange) the network binds. Rows that are missing"
        " have fewer experts than chips.",
        table,
        UNITS,
        LABELS,
    )


def ways(found: Found) -> Figure | None:
    """What formats, one copy to each rack and limits save where the exchange leaves the rack."""
    if found.sent.is_empty():
        return None
    table = found.sent.select("racks", "way", "over", COST, "copies_leaving").with_columns(
        where=pl.format("{} racks", "racks")
    )
    order = list(found.sent.sort("place")["way"].unique(maintain_order=True))
    places = [f"{n} racks" for n in sorted(table["racks"].unique())]
    y = alt.Y("way:N", title=None, sort=order, axis=alt.Axis(labelLimit=240))
    bars = alt.Chart(table).mark_bar().encode(
        theme.axis(alt.X, "over", "Cost over that of one rack", zero=True), y,
        **theme.series("where", "Experts over", places, by="colour"),
    ).encode(yOffset=alt.YOffset("where:N", sort=places))  # fmt: skip
    bars = theme.tooltips(
        bars, ("where", "Experts over", None), ("way", "Way", None), ("over", "Over one rack"),
        (COST, "Cost", "USD/Mtok"), ("copies_leaving", "Copies that leave the rack"),
    )  # fmt: skip
    least = table.sort("racks", "over").group_by("racks", maintain_order=True).first()
    words = "; ".join(
        f"{r['racks']} racks at least {times(r['over'], 3)} ({r['way']})"
        for r in least.iter_rows(named=True)
    )
    return Figure(
        "ways",
        "What sends less between racks",
        bars.properties(height=20 * table.height + 30),
        f"Cost over that of one rack by the way tokens are sent: {words}.",
        "As many sequences on each chip everywhere. A token that goes to a rack once is passed on"
        " inside it; a limit is a rule of training, which lets a token choose experts of so many"
        " racks alone.",
        table,
        UNITS,
        LABELS,
    )


def way_of(found: Found, racks: int, way: Way) -> float | None:
    """Return the cost of a way over that of one rack."""
    rows = found.sent.filter(pl.col("racks") == racks, pl.col("way") == way.words)
    return float(rows["over"][0]) if rows.height else None


def cuts(found: Found) -> Figure | None:
    """Cost over how finely experts are cut."""
    if found.cut.is_empty():
        return None
    f = found.facts
    table = found.cut.with_columns(
        where=pl.col("racks").map_elements(lambda n: where(int(n)), return_dtype=pl.String)
    ).select("grain", "where", "experts", "per_token", "width", COST, "plan", "bound")
    order = list(found.cut.sort("racks")["racks"].unique(maintain_order=True))
    order = [where(int(racks)) for racks in order]
    lines = alt.Chart(table).mark_line(point=True).encode(
        theme.axis(alt.X, "per_token", "Experts that a token visits", log=True,
                   values=sorted(table["per_token"].unique()), domain=around(table["per_token"])),
        theme.axis(alt.Y, COST, "Cost", "USD/Mtok", log=True, domain=around(table[COST])),
        **theme.series("where", "Plans over", order),
    )  # fmt: skip
    lines = theme.tooltips(
        lines, ("where", "Plans over", None), ("per_token", "Experts per token"),
        ("experts", "Experts"), ("width", "Width of each"), (COST, "Cost", "USD/Mtok"),
        ("plan", "Plan", None),
    )  # fmt: skip
    inside = table.filter(pl.col("where") == "one rack")
    words = "; ".join(
        f"{number(r['per_token'])} of {number(r['experts'])}: {usd(r[COST])}"
        for r in (inside if inside.height else table).iter_rows(named=True)
    )
    return Figure(
        "cuts",
        "The same parameters in more, smaller experts",
        lines.properties(height=280),
        f"Cost by experts per token, parameters held: {words}.",
        "Every token visits more of smaller experts, and travels to each of them: arithmetic and"
        f" memory stay, the traffic grows with the number visited. {f.machine.model} as it is has"
        f" {f.machine.experts_at(f.machine.ratio)}.",
        table,
        UNITS,
        LABELS,
    )
