"""Published training runs: each with the scenario that reproduces it and what was measured.

`training.csv` has a run a line as its source prints it, `training_vtrain.csv` the many runs that
vTrain was validated with, `training_groups.yaml` what holds for all runs of a source: which FLOPs
it counts, settings it gives, and what had to be assumed, for the whole group alike. A run that
lacks something necessary stays in the table with the reason (`why_not`) and is not predicted.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import yaml

from roofrack.config import conf_dir
from roofrack.errors import InputError
from roofrack.model import Model, count
from roofrack.validation.published import CONFIDENCE, HOW, one_of, options, positive
from roofrack.validation.training_flops import QUANTITIES, Shape, convention
from roofrack.validation.training_table import (
    DEGREES,
    FIELDS,
    MATHS,
    NEEDED,
    RUNS,
    SHAPES,
    groups,
    runs,
    vtrain,
)


class TrainingRow(NamedTuple):
    """A published run as roofrack can reproduce it.

    `overrides` are those of `roofrack point`; `measured` is in seconds a step or bytes a chip, as
    `compared` says (step_s, peak_memory_bytes, activation_bytes, state_bytes), converted from
    `printed` of `quantity` by the count `flops`. `assumed` names what the source does not say,
    with the reason in `groups()`. Where `why_not` says something, `overrides` are empty.
    """

    id: str
    group: str
    hardware: str
    model: str
    overrides: tuple[str, ...]
    compared: str
    measured: float | None
    quantity: str
    printed: float
    flops: str
    assumed: tuple[str, ...]
    why_not: str
    source: str
    software: str
    how: str
    confidence: str
    notes: str


def training_rows() -> list[TrainingRow]:
    """Return every published run, those that are not predicted with the reason.

    Raises InputError naming the run for an unknown group, machine, model or quantity, a number that
    is not positive, degrees that do not make the chips, and a necessary column that is neither
    printed nor assumed where no reason is given.
    """
    return [_row(line) for line in (*runs(), *vtrain())]


def _row(line: Mapping[str, Any]) -> TrainingRow:
    where = f"{RUNS.name}: row {line['id']}"
    one_of(where, "group", line["group"], tuple(groups()))
    one_of(where, "quantity", line["quantity"], tuple(QUANTITIES))
    one_of(where, "how", line["how"], HOW)
    one_of(where, "confidence", line["confidence"], CONFIDENCE)
    positive(where, "measured", line["measured"])
    group = groups()[line["group"]]
    filled, assumed = _filled(line, group["assumed"])
    predicted = not line["why_not"]
    if predicted:
        _check(where, filled)
    return TrainingRow(
        id=line["id"],
        group=line["group"],
        hardware=line["hardware"],
        model=line["model"],
        overrides=tuple(_overrides(filled, group)) if predicted else (),
        compared=QUANTITIES[line["quantity"]].compared,
        measured=_converted(filled, group["flops"]) if predicted else None,
        quantity=line["quantity"],
        printed=line["measured"],
        flops=group["flops"],
        assumed=assumed if predicted else (),
        why_not=line["why_not"],
        source=f"{group['source']}, {line['where']}",
        software=group["software"],
        how=line["how"],
        confidence=line["confidence"],
        notes=line["notes"],
    )


def _filled(
    line: Mapping[str, Any], assumed: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the run with what its group assumes where it prints nothing, and names of that."""
    filled, names = dict(line), [key for key in assumed if key not in FIELDS]
    for key, entry in assumed.items():
        if key in FIELDS and line[key] == "":
            filled[key] = str(entry["value"]).lower()
            names.append(key)
    if filled["virtual_stages"] == "fewest":
        layers = int(filled["layers"] or _shape_file(filled["model"])["layers"])
        filled["virtual_stages"] = str(_fewest(layers, int(filled["pp"])))
    return filled, tuple(names)


def _fewest(layers: int, stages: int) -> int:
    """Return the fewest virtual stages that interleave: they divide a stage's layers if any can."""
    held, rest = divmod(layers, stages)
    return 2 if rest else next((n for n in range(2, held + 1) if held % n == 0), 2)


def _check(where: str, line: Mapping[str, Any]) -> None:
    for key in NEEDED:
        if line[key] == "":
            raise InputError(
                f"{where}: {key} is empty: give it, assume it in the group, or why_not"
            )
    for key in ("hardware", "model"):
        one_of(where, key, line[key], options(key))
    tp, pp, cp, dp = (int(line[key]) for key in ("tp", "pp", "cp", "dp"))
    if tp * pp * cp * dp != int(line["chips"]):
        made = f"tp*pp*cp*dp = {tp * pp * cp * dp}"
        raise InputError(f"{where}: chips={line['chips']}: the degrees make {made}")
    if int(line["global_batch"]) % (dp * int(line["micro_batch"])):
        batch = f"{line['micro_batch']} sequences on {dp} ranks"
        raise InputError(f"{where}: global_batch={line['global_batch']}: no multiple of {batch}")


def _overrides(line: Mapping[str, Any], group: Mapping[str, Any]) -> Iterator[str]:
    """Yield the overrides of a run: files, shape, plan, batch, then what holds for its group."""
    yield f"hardware={line['hardware']}"
    if line["slice"]:
        yield f"hardware.fabric.scale_up.chips={line['slice']}"
    yield f"model={line['model']}"
    for column, leaf in SHAPES.items():
        if line[column]:
            yield f"model.{leaf}={line[column]}"
    if line["heads"]:
        yield f"model.kv_heads={line['heads']}"
    yield from ("parallelism=single", *(f"parallelism.{key}={line[key]}" for key in DEGREES))
    yield f"parallelism.sequence_parallel={line['sp'] if int(line['tp']) > 1 else 'false'}"
    yield f"parallelism.schedule={line['schedule']}"
    micro = int(line["global_batch"]) // (int(line["dp"]) * int(line["micro_batch"]))
    yield f"parallelism.microbatches={micro}"
    yield f"parallelism.recompute={line['recompute']}"
    yield from ("workload=train", f"workload.sequence={line['sequence']}")
    yield f"workload.global_batch={line['global_batch']}"
    narrow = MATHS.get(line["precision"])
    yield f"dtype={'bf16' if narrow else line['precision']}"
    if narrow:
        # recipes in 8 and 4 bits leave the head in 16 (Transformer Engine, torchtitan's filter)
        yield f"workload.dtype.math={narrow}"
        yield "workload.dtype.head=bf16"
    if line["gradients"]:
        yield f"workload.dtype.gradients={line['gradients']}"
    for column in ("overlap_ep", "dedup"):
        if line[column]:
            yield f"parallelism.{column}={line[column]}"
    if line["optimizer"]:
        yield f"workload.optimizer={line['optimizer']}"
    if line["mtp"]:
        yield f"workload.mtp_layers={line['mtp']}"
    leaves = {k: e["value"] for k, e in group["assumed"].items() if "." in k} | group["settings"]
    for leaf, value in leaves.items():
        yield f"{leaf}={str(value).lower() if isinstance(value, bool) else value}"


def _converted(line: Mapping[str, Any], flops: str) -> float:
    """Return what was measured in seconds a step or bytes, by the group's own FLOP count."""
    tokens = float(line["global_batch"]) * float(line["sequence"])
    return QUANTITIES[line["quantity"]].convert(
        line["measured"],
        tokens,
        float(line["chips"]),
        lambda: convention(flops)(shape(line)),
        float(_yaml("hardware", line["hardware"])["flops_per_s"]["bf16"]),
    )


def shape(line: Mapping[str, Any]) -> Shape:
    """Return what a FLOP count takes from a run, in the columns of training.csv."""
    leaves = _shape_file(line["model"]) | {
        leaf: int(line[column]) for column, leaf in SHAPES.items() if line[column]
    }
    for leaf, value in groups()[line["group"]]["settings"].items():
        if leaf.startswith("model."):
            leaves[leaf.removeprefix("model.")] = value
    if line["heads"]:
        leaves["kv_heads"] = leaves["heads"]
    model = Model(**leaves)
    counts = count(model)
    return Shape(
        layers=model.layers,
        d_model=model.d_model,
        attended=model.heads * model.head_dim,
        vocab=model.vocab,
        parameters=float(counts.total),
        active=float(counts.active),
        sequence=float(line["sequence"]),
        batch=float(line["global_batch"]),
    )


@cache
def _shape_file(model: str) -> dict[str, Any]:
    """Return the leaves of a model's file."""
    content = _yaml("model", model)
    return {name: content[name] for name in Model.__dataclass_fields__ if name in content}


@cache
def _yaml(group: str, name: str) -> dict[str, Any]:
    """Return a file of conf with the files it is made of."""
    content = yaml.safe_load((conf_dir() / group / f"{name}.yaml").read_text(encoding="utf-8"))
    made: dict[str, Any] = {}
    for base in content.pop("defaults", []):
        made |= content if base == "_self_" else _yaml(group, base)
    return made or content
