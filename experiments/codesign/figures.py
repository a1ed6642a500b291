"""Charts about shapes: one choice each, then all of them, then machines."""

import altair as alt
import polars as pl

from roofrack.report import live, theme
from roofrack.report.controls import Control
from roofrack.report.format import number, quantity, times, usd
from roofrack.report.page import Figure

from ..common.charts import quickest_steps, used_parts
from ..common.columns import COST, SPEED
from .findings import winner
from .rows import SLICES, Facts
from .shapes import kind_words, shape_words

DATA = "shapes"
UNITS = {COST: "USD/Mtok", SPEED: "token/s", "low": "USD/Mtok", "high": "USD/Mtok",
         "step_s": "s", **dict.fromkeys(theme.PARTS, "s")}  # fmt: skip
LABELS = {
    "words": "Shape", "value": "Value", "kind": "Attention", COST: "Cost", SPEED: "Speed per user",
    "over": "Over the model as it is", "bound": "Longest part", "plan": "Plan", "batch": "Batch",
    "machine": "Machine", "aspect": "Width over layers", "total": "Parameters",
    "active": "Active", "low": "At the lowest price", "high": "At the highest price",
    "format": "Format", "layers": "Layers", "step_s": "Step", **theme.PARTS,
}  # fmt: skip
_TIPS = (
    ("words", "Shape", None), ("over", "Over the model as it is"), (COST, "Cost", "USD/Mtok"),
    (SPEED, "Speed", "token/s"), ("bound", "Longest part", None), ("plan", "Plan", None),
)  # fmt: skip
_SHOWN = ["words", COST, "over", SPEED, "bound", "plan"]
_AXES = {
    "depth": "Layers",
    "kv": "KV heads",
    "grain": "Experts, each as many times smaller",
    "sparse": "Experts, a token visiting as many",
}
_TITLES = {
    "depth": "Deep or wide",
    "kv": "KV heads",
    "kind": "Kinds of attention",
    "grain": "Many small experts or few large ones",
    "sparse": "More experts at equal active parameters",
}
_CAPTIONS = {
    "depth": "Width and hidden width follow, so that parameters stay. Each layer pays launches and"
    " exchanges whatever its width; a cost that rises to the right is theirs.",
    "kv": "The parameters that KV heads take or free go to the FFN. The cache of a token grows with"
    " the heads; where reading it binds, so does the cost.",
    "kind": "Attention of other models in the place of this one's, grown with the width. What it"
    " saves depends on the context: move it.",
    "grain": "Total and active parameters stay; a token visits more experts, each smaller. Finer"
    " experts are chosen for quality (DeepSeekMoE, arXiv:2401.06066), which is not seen here.",
    "sparse": "Only the total grows to the right. Larger models of equal active parameters are"
    " usually better, so these shapes are not equals.",
}


def controls(facts: Facts, data: pl.DataFrame) -> tuple[Control, ...]:
    """Return what can be moved, as far as there is a choice."""
    made = (
        Control("context", "Context", tuple(sorted(data["context"].unique())), facts.context,
                "tokens"),
        Control("floor", "Speed for each user, at least", tuple(facts.floors), facts.floor,
                "token/s"),
        Control("machine", "Machine", tuple(data["machine"].unique(maintain_order=True)),
                facts.names[facts.machine]),
    )  # fmt: skip
    return tuple(c for c in made if len(c.values) > 1 and c.start in c.values)


def slice_figure(facts: Facts, data: pl.DataFrame, name: str) -> Figure:
    """Cost over the model as it is, along one choice."""
    given = controls(facts, data)
    base = live.chart(DATA, given).transform_filter(f"datum.slice === '{name}'")
    rows = data.filter(pl.col("slice") == name)
    ratios = rows["over"].drop_nulls()
    wide = bool(ratios.len() and float(ratios.max()) > 10 * float(ratios.min()))  # type: ignore[arg-type]
    y = theme.axis(alt.Y, "over", "Cost over the model as it is", log=wide)
    if name == "kind":
        chart = base.mark_bar().encode(
            theme.axis(alt.X, "over", "Cost over the model as it is", zero=True),
            alt.Y("kind:N", title=None, sort="x", axis=alt.Axis(labelLimit=260)),
        )
        chart = chart.properties(height=34 * rows["kind"].n_unique())
    else:
        x = _along(rows, name)
        chart = base.mark_line(point=True).encode(x, y).properties(height=240)
    start = live.rows_at_start(rows, given)
    told = "; ".join(
        f"{r['kind'] if name == 'kind' else number(r['value'])} {times(r['over'])}"
        for r in start.iter_rows(named=True)
    )
    return Figure(
        name,
        _TITLES[name],
        theme.tooltips(chart, *_TIPS).add_params(*live.parameters(given)),
        f"{SLICES[name]} against cost over {facts.model} as it is: {told or 'none can serve'}.",
        _CAPTIONS[name] + " 1 is the model as it is, with the same machine, context and speed.",
        start.select(_SHOWN),
        UNITS,
        LABELS,
    )


def _along(rows: pl.DataFrame, name: str) -> alt.X:
    """Return the axis of a slice: a tick for each of its values."""
    values = sorted(rows["value"].unique())
    ends = (0.9 * values[0], 1.1 * values[-1])
    return theme.axis(alt.X, "value", _AXES[name], log=True, values=values, domain=ends)


def quick(facts: Facts) -> Figure | None:
    """The quickest step by depth, its parts stacked."""
    places = [i for i in facts.members.get("depth", ()) if i in set(facts.quick["shape"])]
    if len(places) < 2:
        return None
    table = pl.DataFrame({"shape": places}).join(facts.quick, on="shape", maintain_order="left")
    layers = {i: int(facts.shapes[i].leaves["model.layers"]) for i in places}
    table = table.with_columns(
        label=pl.col("shape").replace_strict(
            {i: f"{n} layers" for i, n in layers.items()}, return_dtype=pl.String
        ),
        words=pl.col("shape").replace_strict(
            {i: shape_words(facts.shapes[i]) for i in places}, return_dtype=pl.String
        ),
    )
    bars = quickest_steps(table, table["label"].to_list(), "words", "Shape")
    told = "; ".join(
        f"{r['label']} {quantity(r['step_s'], 's')}" for r in table.iter_rows(named=True)
    )
    return Figure(
        "quick",
        "What depth costs in latency",
        bars.properties(height=40 * table.height),
        f"The quickest step of each depth at any cost: {told}.",
        f"On {facts.names[facts.machine]}, parts stacked as if nothing overlapped. Launches and"
        " exchanges grow with the layers, weights do not.",
        table.select("words", "step_s", "plan", "batch", *used_parts(table)),
        UNITS,
        LABELS,
    )


def search(facts: Facts) -> Figure | None:
    """All shapes: cost against aspect ratio."""
    rows = facts.searched.filter(
        pl.col("machine") == facts.machine, pl.col("over").is_not_null()
    ).with_columns(
        attention=pl.col("shape").map_elements(
            lambda i: _attention(facts, i), return_dtype=pl.String
        )
    )
    if rows.height < 2:
        return None
    columns = ["words", "attention", "aspect", "over", COST, SPEED, "total", "active", "bound",
               "plan", "batch"]  # fmt: skip
    table = rows.select(columns)
    order = table["attention"].unique(maintain_order=True).to_list()
    dots = alt.Chart(table).mark_point(size=60).encode(
        theme.axis(alt.X, "aspect", "Width over layers", log=True),
        theme.axis(alt.Y, "over", "Cost over the model as it is", log=True),
        **theme.series("attention", "Attention", order, by="shape"),
    )  # fmt: skip
    dots = theme.tooltips(dots, *_TIPS, ("total", "Parameters"), ("active", "Active"))
    rule = alt.Chart(pl.DataFrame({"one": [1.0]})).mark_rule(strokeDash=[5, 4]).encode(y="one:Q")
    first = table.row(0, named=True)
    return Figure(
        "search",
        "All shapes with as many parameters",
        alt.layer(dots, rule).properties(height=340),
        f"{table.height} shapes on {facts.names[facts.machine]}; the cheapest is {first['words']}"
        f" at {times(first['over'])} the cost of the model as it is.",
        "Every depth with every cut of experts and every attention. Below the dashed line a shape"
        " is cheaper than the model as it is. The table has the cheapest first.",
        table,
        UNITS,
        LABELS | {"attention": "Attention"},
    )


def _attention(facts: Facts, place: int) -> str:
    """Return whose attention a shape has."""
    kind = facts.shapes[place].choice.kind
    if kind == facts.family.own:
        return f"its own, {kind_words(facts.family.base)}"
    names = {key: choice.name for key, choice in facts.choices.models.items()}
    return f"as {names[kind]}"


def winners(facts: Facts) -> Figure | None:
    """The cheapest shape of each machine, and what it costs on the others."""
    found = {m: r for m in facts.compared if (r := winner(facts, m)) is not None}
    if len(found) < 2:
        return None
    cost = {(r["machine"], r["shape"]): r[COST] for r in facts.searched.iter_rows(named=True)}
    rows = [
        {"made": facts.names[one], "on": facts.names[other],
         "over": cost[other, won["shape"]] / there[COST], "words": won["words"]}
        for one, won in found.items()
        for other, there in found.items()
        if (other, won["shape"]) in cost
    ]  # fmt: skip
    table = pl.DataFrame(rows)
    names = [facts.names[m] for m in found]
    base = alt.Chart(table).encode(
        alt.X("on:N", title="Served on", sort=names, axis=alt.Axis(labelAngle=0, labelLimit=140)),
        alt.Y("made:N", title="Shape made for", sort=names, axis=alt.Axis(labelLimit=200)),
    )
    cells = base.mark_rect(opacity=0.55).encode(
        color=alt.Color(
            "over:Q",
            title="Over the best there (log)",
            scale=alt.Scale(type="log", scheme="yelloworangered", domain=[1, 3], clamp=True),
            legend=alt.Legend(values=[1, 1.5, 2, 3]),
        )
    )
    cells = theme.tooltips(cells, ("made", "Shape made for", None), ("words", "Shape", None),
                           ("on", "Served on", None), ("over", "Over the best there"))  # fmt: skip
    text = base.transform_calculate(written="format(datum.over, '.2f')").mark_text(fontSize=12)
    told = "; ".join(f"for {facts.names[m]}: {r['words']}" for m, r in found.items())
    return Figure(
        "winners",
        "The shape made for one machine, served on another",
        alt.layer(cells, text.encode(text="written:N")).properties(height=46 * len(found)),
        f"The cheapest shapes: {told}.",
        "Each cell is the cost over that of the shape made for the machine below. A row of ones"
        " suits all machines.",
        table,
        {},
        {"made": "Shape made for", "on": "Served on", "over": "Over the best there",
         "words": "Shape"},
    )  # fmt: skip


def rented(facts: Facts) -> Figure | None:
    """The model as it is on every machine, with the range of prices."""
    if facts.rented.height < 2:
        return None
    names = pl.col("machine").replace_strict(dict(facts.names), return_dtype=pl.String)
    table = facts.rented.with_columns(names).select(
        "machine", COST, "low", "high", SPEED, "bound", "plan", "batch"
    )
    order = table["machine"].to_list()
    base = alt.Chart(table).encode(
        alt.Y("machine:N", title=None, sort=order, axis=alt.Axis(labelLimit=160))
    )
    x = theme.axis(alt.X, COST, "Cost", "USD/Mtok", log=True)
    dots = base.mark_point(size=80).encode(x)
    dots = theme.tooltips(dots, ("machine", "Machine", None), *_TIPS[2:])
    lines = base.mark_rule(strokeWidth=3, opacity=0.35).encode(alt.X("low:Q"), alt.X2("high:Q"))
    told = "; ".join(f"{r['machine']} {usd(r[COST])}" for r in table.head(5).iter_rows(named=True))
    return Figure(
        "rented",
        f"Which machine suits {facts.model} as it is",
        alt.layer(lines, dots).properties(height=28 * table.height),
        f"The cheapest: {told}.",
        "The point is the typical rental price, the bar the range of dated offers. Where bars"
        " overlap, the price you are offered decides and not the machine.",
        table,
        UNITS,
        LABELS,
    )


def formats(facts: Facts) -> Figure | None:
    """The table of number formats."""
    rows = facts.formats.filter(pl.col("floor") == facts.floor).sort(COST)
    if rows.height < 2:
        return None
    return Figure(
        "formats",
        "Number formats",
        None,
        "",
        f"{facts.model} as it is on {facts.names[facts.machine]}. Formats differ in the cache too"
        " (conf/dtype); whether the model keeps its quality is not asked.",
        rows.select("format", COST, SPEED, "bound", "plan", "batch"),
        UNITS,
        LABELS,
    )
