"""Where a topology meets a shape: domain and experts, KV heads and TP, torus and all-to-all."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from roofrack.tables import TOPOLOGIES

from ..common.columns import COST
from ..common.files import numbers
from ..common.stacks import best_at, cheapest, with_plan
from .rows import Facts

_NAMES = list(TOPOLOGIES)
MOST_LINES = 6


def moe_models(facts: Facts) -> list[str]:
    """Return the models with experts, the one shown first."""
    found = [m for m, c in facts.choices.models.items() if c.leaves["model.experts"] > 1]
    return sorted(found, key=lambda model: model != facts.shown[1])


def domains(facts: Facts) -> pl.DataFrame:
    """Return the cheapest plan of each model with experts, by size of the scale-up domain.

    Chips, links and price are those of the machine shown; `over` is the cost over the least of all
    sizes. Empty for a machine without a network beyond its domain, and for a torus.
    """
    machine = facts.shown[0]
    study = facts.choices.studies[machine]
    levels = study.levels["hardware"]
    models = moe_models(facts)[:MOST_LINES]
    path = f"hardware.fabric.{levels[0]}.chips"
    if len(levels) < 2 or not models or topology(facts, machine) not in ("switched", "full_mesh"):
        return pl.DataFrame()
    reach = study.leaves[f"hardware.fabric.{levels[1]}.chips"]
    sizes = sorted({s for s in numbers(facts.run, "domains", (8, 72)) if 1 <= s <= reach}
                   | {study.leaves[path]})  # fmt: skip
    keys = [(model, size) for model in models for size in sizes]
    items = [{**facts.choices.models[model].leaves, path: size} for model, size in keys]
    rows = best_at(study, items, facts.context, facts.floor)
    told = pl.DataFrame(
        {
            "item": list(range(len(keys))),
            "model": [model for model, _ in keys],
            "domain": [size for _, size in keys],
        }
    )
    table = told.join(rows.drop("model", strict=False), on="item", how="inner")
    experts = {m: facts.choices.models[m].leaves["model.experts"] for m in models}
    return table.with_columns(
        over=pl.col(COST) / pl.col(COST).min().over("model"),
        name=pl.col("model").replace_strict(dict(facts.models), return_dtype=pl.String),
        experts=pl.col("model").replace_strict(experts, return_dtype=pl.Float64),
    )


def topology(facts: Facts, machine: str) -> str:
    """Return how the chips of a machine's innermost level are wired."""
    study = facts.choices.studies[machine]
    return _NAMES[int(study.leaves[f"hardware.fabric.{study.levels['hardware'][0]}.topology"])]


def cache_heads(leaves: Mapping[str, float]) -> float:
    """Return the heads that a cache can be divided by; 1 for a latent, 0 where nothing is known."""
    if leaves["model.params_total"]:
        return 0.0
    return 1.0 if leaves["model.kv_lora"] else leaves["model.kv_heads"]


def by_tp(facts: Facts) -> pl.DataFrame:
    """Return the cheapest plan of each model at each TP on the machine shown.

    `over` is its cost over that of the model's best TP, `copies` how often each entry of the cache
    is held where TP exceeds the heads that it can be divided by.
    """
    if facts.own.is_empty():
        return pl.DataFrame()
    rows = facts.own.filter(pl.col("context") == facts.context)
    best = with_plan(cheapest(rows, ("model", "tp"), (facts.floor,)))
    heads = {m: cache_heads(c.leaves) for m, c in facts.choices.models.items()}
    table = best.with_columns(
        over=pl.col(COST) / pl.col(COST).min().over("model"),
        heads=pl.col("model").replace_strict(heads, return_dtype=pl.Float64),
        name=pl.col("model").replace_strict(dict(facts.models), return_dtype=pl.String),
    ).with_columns(copies=pl.max_horizontal(1.0, pl.col("tp") / pl.col("heads")))
    several = pl.len().over("model") > 1
    table = table.filter(several, pl.col("heads") > 0)
    spread = table.group_by("model", maintain_order=True).agg(pl.col("over").max())
    first = pl.col("model") == facts.shown[1]
    chosen = spread.sort(first, "over", descending=True)["model"].head(MOST_LINES).to_list()
    return table.filter(pl.col("model").is_in(chosen)).sort("model", "tp")


def wired(facts: Facts) -> pl.DataFrame:
    """Return what each torus of the map costs beside switches of the same bandwidth, by model.

    `over` is the cost on the torus over that behind switches, plan and batch chosen for each.
    """
    tori = [
        m for m in facts.machines if "torus" in topology(facts, m) or topology(facts, m) == "ring"
    ]
    models = moe_models(facts)
    parts: list[dict[str, Any]] = []
    for machine in tori if models else []:
        study = facts.choices.studies[machine]
        path = f"hardware.fabric.{study.levels['hardware'][0]}.topology"
        switched = float(_NAMES.index("switched"))
        items = [{**facts.choices.models[m].leaves, path: switched} for m in models]
        best = best_at(study, items, facts.context, facts.floor)
        for row in best.iter_rows(named=True):
            model = models[row["item"]]
            own = facts.row(machine, model)
            if own is None:
                continue
            parts.append(
                {
                    "machine": facts.machines[machine],
                    "topology": topology(facts, machine).replace("_", " "),
                    "model": facts.models[model],
                    "torus": own[COST],
                    "torus_plan": own["plan"],
                    "switched": row[COST],
                    "switched_plan": row["plan"],
                    "over": own[COST] / row[COST],
                    "network": own["t_scale_up_s"] / own["step_s"],
                }
            )
    return pl.DataFrame(parts).sort("over", descending=True) if parts else pl.DataFrame()
