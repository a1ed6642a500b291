"""Charts of training plans: the search, what bounds a step, sizes, what each number is worth."""

from typing import Any

import altair as alt
import polars as pl

from roofrack.report import theme
from roofrack.report.format import number, percent, quantity, usd
from roofrack.report.page import Figure

from ..common.columns import COLUMN_UNITS, COST
from .facts import DEGREES, PARTS, Facts, cheapest, loss

UNITS = COLUMN_UNITS | dict.fromkeys(PARTS, "s") | {"seconds": "s", "global_batch": "sequences"}
UNITS |= {"served": "tokens", "tokens": "tokens", "usd_serve": "USD"}
LABELS = {
    "chips": "Chips",
    "plan": "Plan",
    "mfu": "MFU",
    "train_days": "Days",
    "usd_train": "Money",
    COST: "Cost",
    "global_batch": "Global batch",
    "part": "Part of the step",
    "seconds": "Time",
    "bound": "Largest loss",
    "leaf": "Number",
    "elasticity": "% of cost for 1 % more",
    **PARTS,
    **{d: d.upper() for d in DEGREES[:5]},
    "zero": "ZeRO stage",
    "recompute": "Recomputed",
}
MOST_LEAVES = 12
TOP = 15


def order_of(name: str, title: str, values: list[float]) -> alt.X:
    """Return an axis on which each number has a place of its own, smallest first."""
    text = theme.label_expression("datum.value", "")
    axis = alt.Axis(labelExpr=text, labelAngle=0)
    return alt.X(f"{name}:O", title=title, sort=sorted(values), axis=axis)


def coloured(name: str, title: str, used: list[str]) -> dict[str, Any]:
    """Return the colours of the parts of a step, the same in all charts; the legend has `used`."""
    made = theme.series(name, title, list(PARTS.values()), by="colour")
    made["color"]["legend"]["values"] = used
    return made


def plans(found: Facts) -> Figure:
    """The plan search: the best MFU of each TP and PP, and the cheapest plans as a table."""
    cells = cheapest(found.here, ["tp", "pp"]).select("tp", "pp", "mfu", "plan", COST, "train_days")
    base = alt.Chart(cells).encode(
        alt.X("tp:O", title="TP degree", axis=alt.Axis(labelAngle=0)),
        alt.Y("pp:O", title="Pipeline stages", sort="descending"),
    )
    tiles = base.mark_rect().encode(theme.ramp("mfu", "Share of peak used (MFU)"))
    tiles = theme.tooltips(
        tiles, ("plan", "Plan", None), ("mfu", "MFU"), ("train_days", "Days"),
        (COST, "Cost", "USD/Mtok"),
    )  # fmt: skip
    middle = (float(cells["mfu"].min()) + float(cells["mfu"].max())) / 2.0  # type: ignore[arg-type]
    bright = f"datum.mfu > {middle}"
    ink = alt.condition(bright, alt.value("#000000"), alt.value("#ffffff"))
    text = base.mark_text(fontSize=12).encode(alt.Text("mfu:Q", format=".0%"), color=ink)
    row = found.best
    columns = ["plan", *DEGREES, "mfu", "step_s", "train_days", "usd_train", COST]
    return Figure(
        "plans",
        f"Best use of {number(found.chips)} chips, by how layers and matrices are divided",
        alt.layer(tiles, text).properties(height=240),
        f"A tile for each TP degree and depth with a plan that fits. The best is"
        f" {percent(row['mfu'])}: {row['plan']}.",
        "Each tile is the cheapest over DP, EP, CP, ZeRO stages and recomputation. A missing tile"
        " has no plan that runs and fits. The table has the cheapest plans.",
        found.here.head(TOP).select(columns),
        UNITS,
        LABELS,
    )


def parts(found: Facts) -> Figure:
    """Parts of a step of the cheapest plan at each number of chips, as shares."""
    rows = found.sizes
    shares = [(pl.col(part).fill_null(0.0) / pl.col("step_s")).alias(part) for part in PARTS]
    long = rows.select("chips", "plan", *shares).unpivot(
        list(PARTS), index=["chips", "plan"], variable_name="part", value_name="share"
    ).with_columns(pl.col("part").replace_strict(PARTS, return_dtype=pl.String))  # fmt: skip
    used = [w for w in PARTS.values() if long.filter(part=w)["share"].max() > 0.002]  # type: ignore[operator]
    long = long.filter(pl.col("part").is_in(used))
    bars = alt.Chart(long).mark_bar().encode(
        order_of("chips", "Chips", rows["chips"].to_list()),
        theme.axis(alt.Y, "share", "Share of the step", zero=True, domain=(0.0, 1.0)),
        **coloured("part", "Part of the step", used),
    )  # fmt: skip
    bars = theme.tooltips(
        theme.stacked(bars, "part", used),
        ("chips", "Chips"), ("part", "Part", None), ("share", "Share"), ("plan", "Plan", None),
    )  # fmt: skip
    part, share = loss(found.best)
    return Figure(
        "parts",
        "Where the time of a step goes",
        bars.properties(height=280),
        f"Stacked bars by number of chips. At {number(found.chips)} chips computing takes"
        f" {percent(found.best['computing'] / found.best['step_s'])} and the largest loss,"
        f" {PARTS[part].lower()}, {percent(share)}.",
        "The cheapest plan of each number of chips. What hides behind computing is not drawn.",
        rows.select("chips", "plan", "step_s", *PARTS),
        UNITS,
        LABELS,
    )


def depths(found: Facts) -> Figure | None:
    """The cheapest plan at each depth of the pipeline."""
    rows = cheapest(found.here, ["pp"])
    if rows.height < 2:
        return None
    data = rows.select("pp", "plan", "mfu", COST, "bubble_fraction", "train_days")
    bars = alt.Chart(data).mark_bar(size=34).encode(
        alt.X("pp:O", title="Pipeline stages", axis=alt.Axis(labelAngle=0)),
        theme.axis(alt.Y, COST, "Cost", "USD/Mtok", zero=True),
    )  # fmt: skip
    text = alt.Chart(data).transform_calculate(
        label="format(datum.bubble_fraction, '.0%') + ' bubble'"
    )
    text = text.mark_text(dy=-8).encode(
        alt.X("pp:O", title="Pipeline stages"), alt.Y(f"{COST}:Q"), alt.Text("label:N")
    )
    bars = theme.tooltips(
        bars, ("plan", "Plan", None), (COST, "Cost", "USD/Mtok"), ("bubble_fraction", "Bubble")
    )
    row = data.sort(COST).row(0, named=True)
    return Figure(
        "depths",
        "Does training need a pipeline?",
        alt.layer(bars, text).properties(height=230),
        f"Cost by depth on {number(found.chips)} chips: least with {row['pp']} stages,"
        f" {quantity(row[COST], 'USD')} per million tokens.",
        "The cheapest plan that fits at each depth. Over each bar stands how much of its passes is"
        " bubble: what else a shallower plan waits for can cost more than that.",
        data,
        UNITS | {"bubble_fraction": ""},
        LABELS | {"pp": "Stages", "bubble_fraction": "Bubble"},
    )


def sizes(found: Facts) -> Figure | None:
    """Days and money over the number of chips."""
    if not found.tokens:
        return None
    rows = found.sizes.with_columns(error=pl.col("step_s_rel_std").fill_null(0.0))
    data = rows.select(
        "chips", "plan", "train_days", "usd_train", "mfu",
        low=pl.col("train_days") * (1.0 - pl.col("error")).clip(0.01),
        high=pl.col("train_days") * (1.0 + pl.col("error")),
    )  # fmt: skip
    x = theme.axis(alt.X, "chips", "Chips", log=True)
    band = alt.Chart(data).mark_area(opacity=0.18).encode(x, alt.Y("low:Q"), alt.Y2("high:Q"))
    line = alt.Chart(data).mark_line(point=True).encode(
        x, theme.axis(alt.Y, "train_days", "Time to train", "days", log=True)
    )  # fmt: skip
    tips = (
        ("chips", "Chips"), ("train_days", "Days"), ("usd_train", "Money", "USD"), ("mfu", "MFU"),
        ("plan", "Plan", None),
    )  # fmt: skip
    left = alt.layer(band, theme.tooltips(line, *tips)).properties(height=260)
    money = alt.Chart(data).mark_line(point=True).encode(
        theme.axis(alt.X, "chips", "Chips", log=True),
        theme.axis(alt.Y, "usd_train", "Money", "USD", log=True),
    )  # fmt: skip
    right = theme.tooltips(money, *tips).properties(height=260)
    first, last = data.row(0, named=True), data.row(-1, named=True)
    return Figure(
        "sizes",
        "What more chips buy",
        theme.columns(left, right),
        f"Left days, right money, over chips. {number(first['chips'])} chips:"
        f" {number(first['train_days'])} days, {usd(first['usd_train'])}; {number(last['chips'])}"
        f" chips: {number(last['train_days'])} days, {usd(last['usd_train'])}.",
        "The cheapest plan of each number of chips, global batch unchanged; the band is one"
        " standard deviation where the calibration has one. Money rises where chips wait.",
        data.drop("low", "high"),
        UNITS,
        LABELS,
    )


def bounds(batches: pl.DataFrame) -> Figure | None:
    """A map of the largest loss over chips and global batch."""
    if batches.is_empty():
        return None
    lost = [loss(row) for row in batches.iter_rows(named=True)]
    data = batches.select("chips", "global_batch", "mfu", "plan").with_columns(
        bound=pl.Series([PARTS[part] for part, _ in lost]),
        share=pl.Series([share for _, share in lost], dtype=pl.Float64),
    )
    order = [words for words in PARTS.values() if words in set(data["bound"])]
    base = alt.Chart(data).encode(
        order_of("chips", "Chips", data["chips"].unique().to_list()),
        alt.Y(
            "global_batch:O", title="Global batch (sequences)", sort="descending",
            axis=alt.Axis(labelExpr=theme.label_expression("datum.value", "")),
        ),
    )  # fmt: skip
    tiles = base.mark_rect(opacity=0.85).encode(**coloured("bound", "Largest loss", order))
    tiles = theme.tooltips(
        tiles, ("bound", "Largest loss", None), ("share", "Its share"), ("mfu", "MFU"),
        ("plan", "Plan", None),
    )  # fmt: skip
    text = base.mark_text(fontSize=12).encode(
        alt.Text("mfu:Q", format=".0%"), color=alt.value("#ffffff")
    )
    common = data.group_by("bound").len().sort("len", "bound", descending=[True, False]).row(0)
    return Figure(
        "bounds",
        "What is lost most, by chips and global batch",
        alt.layer(tiles, text).properties(height=240),
        f"A tile for each number of chips and global batch with a plan that fits. Most often it is"
        f" {common[0].lower()}, in {common[1]} of {data.height}.",
        "Colours say which part of a step, apart from computing, is largest in the cheapest plan;"
        " numbers are the share of the peak that is used (MFU).",
        data,
        UNITS | {"share": ""},
        LABELS | {"share": "Its share"},
    )


def worth(table: pl.DataFrame) -> Figure | None:
    """A tornado: what 1 % more of each number does to the cost."""
    rows = table.head(MOST_LEAVES)
    if rows.is_empty():
        return None
    order = rows["leaf"].to_list()
    bars = alt.Chart(rows).mark_bar().encode(
        theme.axis(alt.X, "elasticity", "Change of cost for 1 % more, in %"),
        alt.Y("leaf:N", sort=order, title=None, axis=alt.Axis(labelLimit=320)),
        color=alt.condition(
            "datum.elasticity < 0", alt.value(theme.PALETTE[2]), alt.value(theme.PALETTE[1])
        ),
    )  # fmt: skip
    bars = theme.tooltips(bars, ("leaf", "Number", None), ("elasticity", "% for 1 %"))
    first = rows.row(0, named=True)
    return Figure(
        "worth",
        "What each number is worth",
        bars.properties(height=22 * rows.height + 20),
        f"Bars to the left save money. The longest is {first['leaf']}:"
        f" {number(first['elasticity'])} % for 1 %.",
        "For the cheapest plan as it stands: how far the cost moves with 1 % more of a number of"
        " the machine, its calibration or the workload. Price and tokens, which it follows in"
        " proportion, are left out.",
        rows,
        {},
        LABELS,
    )
