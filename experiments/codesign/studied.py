"""What is asked beside the slices: every shape at home, every machine, and other number formats."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from roofrack import config
from roofrack.conversion import Study, to_study
from roofrack.errors import InputError
from roofrack.results.run import Run

from ..common.columns import COST
from ..common.files import Choices, over_typical, several
from ..common.stacks import cheapest, only_context, served, with_plan
from .shapes import Family, Shape, shape_words


def best_of(
    rows: pl.DataFrame, by: tuple[str, ...], floors: Sequence[float], machine: str
) -> pl.DataFrame:
    """Return the cheapest plan of each group and floor, in words, with its machine."""
    found = with_plan(cheapest(rows, by, floors))
    return found.with_columns(machine=pl.lit(machine))


def searched(
    found: Choices, machines: Sequence[str], shapes: Sequence[Shape], context: float, floor: float
) -> pl.DataFrame:
    """Return the cheapest plan of every shape on each machine, at home."""
    parts = []
    for machine in machines:
        asked = served(
            found.studies[machine], [s.leaves for s in shapes], only_context(context)
        ).rows
        rows = asked.with_columns(shape=pl.col("item").cast(pl.Int64))
        parts.append(best_of(rows, ("shape",), (floor,), machine))
    table = pl.concat(parts)
    told = pl.DataFrame(
        {
            "shape": range(len(shapes)),
            "words": [shape_words(s) for s in shapes],
            "attention": [s.choice.kind for s in shapes],
            "layers": [s.leaves["model.layers"] for s in shapes],
            "width": [s.leaves["model.d_model"] for s in shapes],
            "experts": [s.leaves["model.experts"] for s in shapes],
            "aspect": [s.aspect for s in shapes],
            "total": [s.total for s in shapes],
            "active": [s.active for s in shapes],
        }
    )
    base = table.filter(pl.col("shape") == 0).select("machine", before=COST)
    table = table.join(told, on="shape", how="left").join(base, on="machine", how="left")
    return table.with_columns(over=pl.col(COST) / pl.col("before")).sort("machine", COST)


def rented(found: Choices, family: Family, context: float, floor: float) -> pl.DataFrame:
    """Return the model as it is on every machine, with the ends of the dated prices."""
    parts = []
    for key, machine in found.machines.items():
        rows = served(found.studies[key], [family.base], only_context(context)).rows
        best = best_of(rows, ("item",), (floor,), key)
        ratio = {end: over_typical(machine.config["hardware"], end) for end in ("low", "high")}
        parts.append(best.with_columns(**{end: pl.col(COST) * r for end, r in ratio.items()}))
    return pl.concat(parts).sort(COST)


def formats(
    run: Run, found: Choices, machine: str, context: float, floors: Sequence[float]
) -> pl.DataFrame:
    """Return the model as it is in each format that the machine has units for."""
    given = several(run, "formats")
    if not all(isinstance(name, str) for name in given):
        raise InputError(f"experiment.formats={given}: allowed are names of files of conf/dtype")
    job = found.machines[machine].config
    parts = []
    for name in dict.fromkeys([str(job["choices"]["dtype"]), *given]):
        study = found.studies[machine]
        if name != job["choices"]["dtype"]:
            study = _in_format(run, job, name)
        rows = served(study, [{}], only_context(context)).rows
        best = best_of(rows, ("item",), floors, machine)
        parts.append(best.with_columns(format=pl.lit(name)))
    return pl.concat(parts)


def _in_format(run: Run, job: Mapping[str, Any], name: str) -> Study:
    dtype = config.compose([f"dtype={name}"], run.config_dir)["workload"]["dtype"]
    workload = {**job["workload"], "dtype": dtype}
    return to_study({**job, "workload": workload, "choices": {**job["choices"], "dtype": name}})
