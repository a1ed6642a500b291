"""What to buy next: which number of a machine a cost depends on most, and what it is worth."""

from typing import Any, NamedTuple

import numpy as np
import polars as pl

from roofrack.derivatives import Slopes, slopes

from ..common.columns import COST
from ..common.files import Leaves
from ..common.pages import setting
from ..common.stacks import best_at, scenario
from .rows import Facts

_NOT_BOUGHT = ("usd_", "capex", "power", "tiers.", "attention_kernels", "overlap_loss", "sms")
MATTERS = 0.005
"""Smaller elasticities are left out: 1 % of the number changes the cost by less than 0.005 %."""


def words(path: str, levels: tuple[str, ...]) -> str:
    """Return a number of a machine or model in words."""
    parts = path.split(".")
    if parts[0] != "hardware":
        return _MODEL.get(parts[-1], f"model: {parts[-1].replace('_', ' ')}")
    if parts[1] == "flops_per_s":
        return f"{parts[2].upper()} arithmetic"
    if parts[1] == "fabric":
        where = _where(parts[2], levels)
        what = {"bytes_per_s": "bandwidth", "latency_s": "latency", "chips": "chips"}
        return f"{what.get(parts[3], parts[3].replace('_', ' '))} {where}"
    return _MACHINE.get(parts[1], parts[1].replace("_", " "))


def _where(level: str, levels: tuple[str, ...]) -> str:
    if level == levels[0]:
        return "inside a rack"
    return "between racks" if level == levels[-1] else f"of level {level}"


_MACHINE = {
    "hbm_bytes_per_s": "memory bandwidth",
    "hbm_bytes": "memory size",
    "usd_per_chip_hour": "price of a chip",
    "sms": "multiprocessors",
}
_MODEL = {
    "layers": "layers",
    "d_model": "model width",
    "heads": "query heads",
    "kv_heads": "KV heads",
    "head_dim": "size of a head",
    "kv_lora": "KV latent",
    "d_ff": "width of the dense FFN",
    "d_ff_expert": "width of an expert",
    "experts": "experts",
    "experts_per_token": "experts per token",
    "vocab": "vocabulary",
}


def tornado(facts: Facts) -> pl.DataFrame:
    """Return the elasticity of the cost of the pair shown to each number, the largest first."""
    row = facts.row(*facts.shown)
    if row is None:
        return pl.DataFrame()
    found = _slopes(facts, facts.shown[0], [row], ("hardware", "model"))
    levels = facts.choices.studies[facts.shown[0]].levels["hardware"]
    lines = [
        {"what": words(s.entry.path, levels), "kind": _kind(s.entry.path), "path": s.entry.path,
         "elasticity": float(s.elasticity[0])}
        for s in found.slopes
        if not s.entry.path.endswith("oversubscription")  # the bandwidth again, upside down
    ]  # fmt: skip
    table = pl.DataFrame(lines, infer_schema_length=None)
    return table.filter(
        pl.col("elasticity").is_finite(), pl.col("elasticity").abs() >= MATTERS
    ).unique("what", keep="first", maintain_order=True)


def _kind(path: str) -> str:
    return "machine" if path.startswith("hardware.") else "model"


def _slopes(facts: Facts, machine: str, rows: list[dict[str, Any]], within: Any) -> Slopes:
    study = facts.choices.studies[machine]
    items = [facts.choices.models[row["model"]].leaves for row in rows]
    return slopes(scenario(study, rows, items), COST, within, levels=study.levels)


def next_numbers(facts: Facts) -> pl.DataFrame:
    """Return for each cell at home the number of the machine that 1 % more (or less) saves most."""
    lines = []
    for machine in facts.machines:
        rows = facts.home.filter(pl.col("machine") == machine).rows(named=True)
        if not rows:
            continue
        levels = facts.choices.studies[machine].levels["hardware"]
        found = [
            s
            for s in _slopes(facts, machine, rows, ("hardware",)).slopes
            if not s.entry.path.removeprefix("hardware.").startswith(_NOT_BOUGHT)
            and not s.entry.path.endswith("oversubscription")
        ]
        price = facts.price(machine)
        for i, row in enumerate(rows):
            each = {s.entry.path: float(s.elasticity[i]) for s in found}
            finite = {p: e for p, e in each.items() if np.isfinite(e)}
            if not finite:
                continue
            path = max(finite, key=lambda p: abs(finite[p]))
            lines.append(
                {"machine": machine, "model": row["model"], "what": words(path, levels),
                 "elasticity": finite[path], "worth": abs(finite[path]) / 100 * price}
            )  # fmt: skip
    return pl.DataFrame(lines)


class Change(NamedTuple):
    """A number of the machine changed: in words, and the leaves that change."""

    what: str
    leaves: Leaves


def changes(facts: Facts) -> list[Change]:
    """Return what a buyer might ask for, each by the same factor."""
    study = facts.choices.studies[facts.shown[0]]
    factor = setting(facts.run, "factor", above=1.0)
    at, levels = study.leaves, study.levels["hardware"]

    def times(*ends: str) -> Leaves:
        return {p: at[p] * factor for p in at if p.startswith("hardware.") and p.endswith(ends)}

    inner = f"hardware.fabric.{levels[0]}"
    outer = [f"hardware.fabric.{level}" for level in levels[1:]]
    losses = {p: v / factor for p, v in at.items() if p.startswith("calibration.") and
              p.endswith("_s") and v}  # fmt: skip
    arithmetic = {p: at[p] * factor for p in at if p.startswith("hardware.flops_per_s.")}
    found = [
        Change("arithmetic", arithmetic),
        Change("memory bandwidth", times(".hbm_bytes_per_s")),
        Change("memory size", times(".hbm_bytes")),
        Change("bandwidth inside a rack", times(f"fabric.{levels[0]}.bytes_per_s")),
        Change("launches and fixed times, shorter", losses),
    ]  # fmt: skip
    if outer:
        found.append(
            Change(
                "bandwidth between racks",
                {f"{o}.bytes_per_s": at[f"{o}.bytes_per_s"] * factor for o in outer},
            )
        )
        reach = min(at[f"{o}.chips"] for o in outer)
        chips = min(at[f"{inner}.chips"] * factor, reach)
        found.append(Change("chips in a rack", {f"{inner}.chips": float(round(chips))}))
    return [change for change in found if change.leaves]


def bought(facts: Facts) -> pl.DataFrame:
    """Return what each change saves of the pair shown, plan and batch chosen again.

    `worth` is what an hour of a chip may cost more until nothing is saved, in USD.
    """
    machine, model = facts.shown
    if facts.row(machine, model) is None:
        return pl.DataFrame()
    study = facts.choices.studies[machine]
    base, asked = facts.choices.models[model].leaves, changes(facts)
    items = [base, *({**base, **change.leaves} for change in asked)]
    best = best_at(study, items, facts.context, facts.floor)
    before = best.row(0, named=True)[COST]
    names = dict(enumerate(["as it is", *(change.what for change in asked)]))
    saved = pl.lit(before) / pl.col(COST)
    return (
        best.with_columns(
            what=pl.col("item").replace_strict(names, return_dtype=pl.String),
            saving=1 - pl.col(COST) / before,
            worth=(saved - 1) * facts.price(machine),
        )
        .filter(pl.col("item") > 0)
        .sort("saving", descending=True)
    )
