"""Shapes evaluated on machines: one slice for each choice, and all choices at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import polars as pl

from roofrack.results.run import JobRun, Run

from ..common.columns import COST, SPEED
from ..common.files import Choices, asked_names, choices, full_names, numbers
from ..common.jobs import one_phase, only_axes
from ..common.pages import setting
from ..common.stacks import AXES, home_of, served, with_plan
from .shapes import Choice, Family, Rules, Shape, grains, kind_words, shape_words
from .studied import best_of, formats, rented, searched

NAME = "codesign"
SLICES = {
    "depth": "Layers",
    "kv": "KV heads",
    "kind": "Attention",
    "grain": "Experts at equal parameters",
    "sparse": "Experts at equal active parameters",
}
"""What a slice changes while all else is held, in words."""


@dataclass(frozen=True)
class Facts:
    """What the page is computed from; the first of `shapes` is the model as it is.

    `members` are the places of shapes in each slice. `cells` is the cheapest plan of each shape of
    a slice on each machine at each context and `floor`; `searched` that of all shapes at home;
    `quick` the quickest plan of each shape of a slice on the machine shown, at any cost; `rented`
    the model as it is on all machines, at home; `formats` the model as it is in other formats.
    """

    run: Run
    job: JobRun
    family: Family
    shapes: Sequence[Shape]
    members: Mapping[str, Sequence[int]]
    made: "Made"
    choices: Choices
    names: Mapping[str, str]
    compared: Sequence[str]
    cells: pl.DataFrame
    searched: pl.DataFrame
    quick: pl.DataFrame
    rented: pl.DataFrame
    formats: pl.DataFrame
    context: float
    floor: float
    floors: Sequence[float]

    @property
    def machine(self) -> str:
        """The machine of the run, by its short name."""
        return str(self.job.config["choices"]["hardware"])

    @property
    def model(self) -> str:
        """The model of the run, in words."""
        tree = self.job.config
        return str(tree["model"].get("name") or tree["choices"]["model"])

    def home(self, machine: str | None = None) -> pl.DataFrame:
        """Return the cells of a machine (the run's if none is named) at home."""
        return self.cells.filter(
            pl.col("machine") == (machine or self.machine),
            pl.col("context") == self.context,
            pl.col("floor") == self.floor,
        )

    def sliced(self, name: str, machine: str | None = None) -> pl.DataFrame:
        """Return the cells of a slice at home, in its order, with `value` and `over`.

        `over` is the cost over that of the model as it is; empty where that one cannot serve.
        """
        rows = self.home(machine)
        base = rows.filter(pl.col("shape") == 0)
        places = pl.DataFrame({"shape": list(self.members.get(name, ()))}, {"shape": pl.Int64})
        if base.is_empty() or places.height < 2:
            return pl.DataFrame()
        found = places.join(rows, on="shape", how="inner", maintain_order="left")
        return found.with_columns(over=pl.col(COST) / base[COST][0])


def can_design(run: Run) -> bool:
    """Tell whether the model of a run has an architecture, and not totals only."""
    model = run.jobs[0].config["model"]
    return not model.get("params_total") and bool(model.get("heads"))


def facts(run: Run) -> Facts:
    """Evaluate all shapes. Raises InputError where the run cannot be asked."""
    one_phase(run, "decode", NAME)
    only_axes(run, AXES, NAME)
    job = run.jobs[0]
    own = str(job.config["choices"]["model"])
    first = str(job.config["choices"]["hardware"])
    asked = asked_names(run, "machines", "hardware")
    compared = asked_names(run, "compare", "hardware")
    donors = [key for key in asked_names(run, "attention", "model") if key != own]
    found = choices(run, job, list(dict.fromkeys([*compared, *asked])), [own, *donors])
    floors = numbers(run, "speeds", (0.0,))
    family = _family(run, found, own, first)
    shapes, members, made = _shapes(run, family, [own, *donors])
    sliced = sorted({0, *(i for places in members.values() for i in places)})
    cells, quick = [], pl.DataFrame()
    for machine in compared:
        rows = served(found.studies[machine], [shapes[i].leaves for i in sliced]).rows
        places = dict(enumerate(sliced))
        rows = rows.with_columns(shape=pl.col("item").replace_strict(places, return_dtype=pl.Int64))
        cells.append(best_of(rows, ("shape", "context"), floors, machine))
        if machine == first:
            quick = with_plan(
                rows.sort(SPEED, descending=True).group_by("shape", "context").first()
            )
    table = pl.concat(cells)
    context, floor = home_of(run, table.filter(pl.col("shape") == 0, machine=first), floors)
    return Facts(
        run=run,
        job=job,
        family=family,
        shapes=shapes,
        members=members,
        made=made,
        choices=found,
        names=full_names(found.machines),
        compared=compared,
        cells=table,
        searched=searched(found, compared, shapes[: made.equal], context, floor),
        quick=quick.filter(pl.col("context") == context),
        rented=rented(found, family, context, floor),
        formats=formats(run, found, first, context, floors),
        context=context,
        floor=floor,
        floors=floors,
    )


def _family(run: Run, found: Choices, own: str, machine: str) -> Family:
    rules = Rules(
        setting(run, "width_step"), setting(run, "tolerance"), setting(run, "active_tolerance")
    )
    donors = {
        key: model.leaves
        for key, model in found.models.items()
        if key == own or (model.leaves["model.heads"] and not model.leaves["model.params_total"])
    }
    return Family(found.studies[machine], own, donors, rules)


class Made(NamedTuple):
    """How many shapes could not be made, and how many of the first have equal parameters."""

    left_out: int
    equal: int


def _shapes(
    run: Run, family: Family, kinds: Sequence[str]
) -> tuple[list[Shape], dict[str, list[int]], Made]:
    """Return all shapes, the places of each slice in them, and how many there are."""
    base = family.as_it_is()
    layers = base.choice.layers
    depths = sorted({max(1.0, round(layers * d)) for d in numbers(run, "depths", (1.0,)) if d})
    cuts = grains(family, numbers(run, "grains", (1.0,)))
    heads = [k for k in numbers(run, "kv_heads", (1.0,)) if k] if family.has_kv_heads else []
    kinds = [kind for kind in kinds if kind in family.donors]
    own = Choice(layers, 1.0, family.own)
    wanted = {
        "depth": [own._replace(layers=d) for d in depths],
        "kv": [own._replace(kv_heads=k) for k in heads],
        "kind": [own._replace(kind=kind) for kind in kinds],
        "grain": [own._replace(grain=g) for g in cuts],
    }
    every = [Choice(d, g, k) for d, g, k in product(depths, cuts, kinds)]
    shapes, place = [base], {own: 0}
    own_heads = base.leaves["model.kv_heads"]
    place[own._replace(kv_heads=own_heads)] = 0
    tried = 0
    for choice in dict.fromkeys([c for some in wanted.values() for c in some] + every):
        if choice in place:
            continue
        tried += 1
        if (shape := family.shape(choice)) is not None:
            place[choice] = len(shapes)
            shapes.append(shape)
    members = {name: [place[c] for c in some if c in place] for name, some in wanted.items()}
    left, equal = tried - (len(shapes) - 1), len(shapes)
    ratios = sorted({1.0, *numbers(run, "sparsities", (1.0,))}) if family.is_moe else []
    members["sparse"] = []
    for ratio in ratios:
        shape = base if ratio == 1 else family.sparser(ratio)
        if shape is not None:
            members["sparse"].append(0 if shape is base else len(shapes))
            shapes += [shape] if shape is not base else []
    return shapes, members, Made(left, equal)


def dataset(facts: Facts) -> pl.DataFrame:
    """Return the rows of the live charts: the cells of each slice, beside the model as it is."""
    base = facts.cells.filter(pl.col("shape") == 0)
    keys = ("machine", "context", "floor")
    base = base.select(*keys, before=COST)
    parts = []
    for order, (name, places) in enumerate(facts.members.items()):
        if len(places) < 2:
            continue
        told = pl.DataFrame(
            {
                "shape": list(places),
                "value": [value(name, facts.shapes[i]) for i in places],
                "words": [shape_words(facts.shapes[i]) for i in places],
                "kind": [kind_words(facts.shapes[i].leaves) for i in places],
            },
            {"shape": pl.Int64, "value": pl.Float64, "words": pl.String, "kind": pl.String},
        )
        rows = facts.cells.join(told, on="shape", how="inner").join(base, on=keys, how="left")
        parts.append(rows.with_columns(slice=pl.lit(name), order=pl.lit(order)))
    if not parts:
        return pl.DataFrame()
    table = pl.concat(parts).with_columns(
        over=pl.col(COST) / pl.col("before"),
        machine=pl.col("machine").replace_strict(dict(facts.names), return_dtype=pl.String),
    )
    kept = ("slice", "value", "words", "kind", *keys, COST, "over", SPEED, "bound", "plan")
    return table.sort("order", "value").select(*kept)


def value(name: str, shape: Shape) -> float:
    """Return where a shape stands on the axis of a slice."""
    leaf = {
        "depth": "layers",
        "kv": "kv_heads",
        "grain": "experts",
        "kind": "layers",
        "sparse": "experts",
    }[name]
    return float(shape.leaves[f"model.{leaf}"])
