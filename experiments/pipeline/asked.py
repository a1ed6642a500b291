"""Studies beside the run: larger weights, other links, and the training of the same model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from roofrack.errors import InputError
from roofrack.report.format import number
from roofrack.tables import SCHEDULES
from roofrack.timelines import timeline

from ..common.overrides import axis, text
from ..common.pages import setting
from ..common.studies import Studies, base
from .facts import Facts

FACTORS = (1, 2, 4, 8, 16, 32, 64)
"""How many times the weights of the model are set against depth."""
DEPTHS = (1, 2, 4, 8, 16, 32, 64)
LINKS = (0.25, 1.0, 4.0)
"""Times the bandwidth between racks."""
CONTEXTS = (0.25, 1.0, 4.0, 16.0)
"""Times the context of the run."""
MICROBATCHES = (8, 16, 32, 64, 128, 256)
TRAINED_DEPTHS = (2, 4, 8, 16)
SCHEDULE_NAMES = {
    "gpipe": "GPipe",
    "1f1b": "1F1B",
    "interleaved": "Interleaved",
    "zb_h1": "ZB-H1",
    "zb_h2": "ZB-H2",
    "dualpipe": "DualPipe",
}
"""Schedules as their authors write them, from the first published to the last."""

assert set(SCHEDULE_NAMES) == set(SCHEDULES)


@dataclass(frozen=True)
class Need:
    """How large weights may be before a stage of one rack is too small.

    `rows` one per size and batch: `params_total`, `pp` the least depth that fits (null: none),
    `batch`. `grown` says what was made larger. `limit` parameters that still fit one stage at the
    batch shown, `limit_alone` at the least batch (`alone`); None where sizes do not tell.
    """

    rows: pl.DataFrame
    grown: str
    limit: float | None
    limit_alone: float | None
    alone: float


def grown_leaf(config: Mapping[str, Any]) -> tuple[str, str]:
    """Return the leaf of a model that makes its weights larger, and what that is in words."""
    model = config["model"]
    if model.get("params_total"):
        return "model.params_total", "parameters"
    return ("model.experts", "experts") if model["experts"] else ("model.layers", "layers")


def need(found: Facts, studies: Studies) -> Need:
    """Ask how deep a pipeline of home stages must be for the model with larger weights."""
    leaf, words = grown_leaf(found.job.config)
    size = found.job.config["model"][leaf.split(".")[1]]
    alone = min(found.ladder["batch"].to_list())
    full = found.ladder.filter("fits", pp=found.base)["batch"].max()
    batches = sorted({alone, found.batch, *([full] if full else [])})
    rows = studies.rows(
        "larger weights",
        *_decode(found),
        f"workload.batch={batches}",
        axis(leaf, (size * factor for factor in FACTORS)),
        f"parallelism.pp={list(DEPTHS)}",
        job=found.job,
    ).filter("valid")
    named = {"batch": pl.col("workload.batch").cast(pl.Float64), "pp": pl.col("parallelism.pp")}
    rows = rows.with_columns(**named)
    first = pl.col("pp").filter(pl.col("fits")).min()
    told = rows.group_by("params_total", "batch").agg(pp=first).sort("batch", "params_total")
    return Need(
        told, words, _limit(rows.filter(batch=found.batch)), _limit(rows.filter(batch=alone)), alone
    )


def _limit(rows: pl.DataFrame) -> float | None:
    """Return the parameters at which one stage is full: memory is linear in them."""
    one = rows.filter(pp=1).sort("params_total").head(2)
    if one.height < 2:
        return None
    (p, q), (a, b) = one["params_total"].to_list(), one["mem_total_bytes"].to_list()
    if q <= p or b <= a:
        return None
    found = p + (one["mem_capacity_bytes"][0] - a) * (q - p) / (b - a)
    return float(found) if found > 0 else None


def _decode(found: Facts) -> tuple[str, ...]:
    return (
        "workload=decode",
        f"context={text(found.context)}",
        *found.plan,
        f"parallelism.pp_batch={found.reading}",
    )


def outer_level(config: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return the name and the bandwidth of the level outside the rack, if there is one."""
    levels = list(config["hardware"]["fabric"].items())
    return (str(levels[1][0]), float(levels[1][1]["bytes_per_s"])) if len(levels) > 1 else None


def moved(found: Facts, studies: Studies) -> pl.DataFrame:
    """Ask the rows that the controls choose from: context, batch, reading, links between racks.

    Columns: `context`, `batch`, `reading`, `links` (B/s between racks; 0 where there are none),
    `depth`, and bytes, seconds and money of one chip, pass or million tokens.
    """
    outer = outer_level(found.job.config)
    words = ["workload=decode", *found.plan, "parallelism.pp_batch=[grow,fixed]"]
    contexts = [round(found.context * f) for f in CONTEXTS if round(found.context * f) >= 1]
    batches = sorted(set(found.ladder["batch"].to_list()))
    words += [
        f"context={sorted({*contexts, found.context})}",
        f"workload.batch={[int(b) for b in batches]}",
        f"parallelism.pp={list(found.depths)}",
    ]
    if outer:
        words.append(f"hardware.fabric.{outer[0]}.bytes_per_s={[outer[1] * f for f in LINKS]}")
    rows = studies.rows("what the controls move", *words, job=found.job).filter("valid")
    links = pl.col(f"hardware.fabric.{outer[0]}.bytes_per_s") if outer else pl.lit(0.0)
    return rows.select(
        context=pl.col("context").cast(pl.Float64),
        batch=pl.col("workload.batch").cast(pl.Float64),
        reading=pl.col("parallelism.pp_batch"),
        links=links.cast(pl.Float64),
        depth=pl.col("parallelism.pp"),
        weights=pl.col("mem_weights_bytes"),
        kv=pl.col("mem_kv_bytes"),
        other=pl.col("mem_total_bytes") - pl.col("mem_weights_bytes") - pl.col("mem_kv_bytes"),
        tpot_s=pl.col("tpot_s"),
        hops_s=pl.col("t_pipeline_s"),
        usd=pl.col("usd_per_mtok"),
        fits=pl.col("fits"),
    ).sort("context", "batch", "reading", "links", "depth")


def schedules(found: Facts, studies: Studies) -> pl.DataFrame:
    """Ask what each schedule costs in training, by depth and micro-batches of a step.

    The home layout of a stage; layers computed again from their inputs. Columns: `schedule` (as its
    authors write it), `key`, `depth`, `m`, and those of the result schema.
    """
    parts = setting(found.run, "virtual_stages", above=1)
    asked = sorted({*MICROBATCHES, int(setting(found.run, "gantt_microbatches"))})
    depths = sorted({*TRAINED_DEPTHS, int(setting(found.run, "gantt_stages", above=1))})
    ranks = int(found.home["dp"])
    words = (
        *_train(found),
        f"workload.global_batch={[m * ranks for m in asked]}",
        f"parallelism.pp={depths}",
    )
    plain = ",".join(name for name in SCHEDULE_NAMES if name != "interleaved")
    tables = [
        studies.rows(name, *words, *more, job=found.job)
        for name, more in (
            ("schedules in training", (f"parallelism.schedule=[{plain}]",)),
            (
                "the interleaved schedule",
                (
                    "parallelism.schedule=[interleaved]",
                    f"parallelism.virtual_stages={number(parts)}",
                ),
            ),
        )
    ]
    rows = pl.concat(tables, how="diagonal_relaxed").filter("valid")
    key = pl.col("parallelism.schedule")
    return rows.with_columns(
        key=key,
        schedule=key.replace_strict(SCHEDULE_NAMES, return_dtype=pl.String),
        depth=pl.col("parallelism.pp").cast(pl.Int64),
        m=(pl.col("workload.global_batch") / ranks).round().cast(pl.Float64),
    ).sort("depth", "m", "schedule")


def _train(found: Facts) -> tuple[str, ...]:
    again = "parallelism.recompute=full"
    return ("workload=train", *found.plan, again, "parallelism.zero=1")


def gantts(found: Facts, studies: Studies, trained: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Play one step of each schedule that can run, in the event simulation; rows by schedule."""
    pp = int(setting(found.run, "gantt_stages", above=1))
    m = int(setting(found.run, "gantt_microbatches"))
    can = set(trained.filter(depth=pp, m=float(m))["key"].to_list())
    parts = number(setting(found.run, "virtual_stages", above=1))
    made = {}
    for name in SCHEDULE_NAMES:
        if name not in can:
            continue
        words = [
            *_train(found),
            f"workload.global_batch={m * int(found.home['dp'])}",
            f"parallelism.pp={pp}",
            f"parallelism.schedule={name}",
        ]
        if name == "interleaved":
            words.append(f"parallelism.virtual_stages={parts}")
        try:
            rows = timeline((*base(found.job), *words), found.run.config_dir).rows
        except InputError:  # too many passes to draw: the table of schedules still has it
            continue
        studies.note(f"one step of {SCHEDULE_NAMES[name]}", (*base(found.job), *words))
        made[name] = rows
    return made
