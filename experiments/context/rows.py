"""The rows behind "what does context cost?": what serves, the best of it, and prompts beside it.

A pair is one model on one machine. Tables have the columns of the result schema, `pair` (its name
in words), `plan` and `ways` (common/pairs.py), `context` and `batch`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from roofrack.results.run import JobRun, Run

from ..common.columns import COST
from ..common.jobs import leaf_of
from ..common.overrides import axis
from ..common.pages import setting
from ..common.pairs import cheapest, named, pair_jobs, serving, why_not
from ..common.studies import Studies

INPUT, CACHED = "usd_per_mtok_input", "usd_per_mtok_cached"
CONTEXT, BATCH, PROMPT = "context", "batch", "prompt"
LEAVES = {CONTEXT: "workload.context", BATCH: "workload.batch"}
TIERS = {"hbm": "chip memory (HBM)", "host": "host memory", "flash": "flash"}
"""Memories that a cache can wait in, in words."""
HOLDS = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 36000.0, 360000.0)
"""Seconds for which a cache waits, beside those of the settings."""
PLANS = (
    "parallelism=single",
    "parallelism.tp=[1,2,4,8]",
    "parallelism.dp=[1,8,64]",
    "parallelism.ep=[1,stage]",
)
"""Plans that prompts are computed with."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """The numbers of conf/experiment/context.yaml."""

    short_context: float
    price_tier: float
    surcharge: float
    lecture_kv_bytes: float
    lecture_params_active: float
    lecture_intensity: float
    output_over_input: float
    cached_prompt: float
    cached_share: float
    hold_short_s: float
    hold_long_s: float


@dataclass(frozen=True)
class Waits:
    """What a cached token costs, of the pair shown.

    `table` one row for each tier and holding time: `tier`, `hold_s`, `cost` (USD for a million
    tokens: kept, fetched and attended to); `again` what computing it again costs; `drain_s` the
    time to read each tier once; `row` any of the study's.
    """

    table: pl.DataFrame
    again: float
    drain_s: Mapping[str, float]
    row: Row


@dataclass(frozen=True)
class Facts:
    """What the page is computed from; `pairs` are names in words, the one shown first.

    `best` the cheapest row of each pair and context; `steps` every context and batch of the pair's
    own plan, the one that is cheapest at the longest context it serves; `prompts` the cheapest way
    to compute a prompt of each length (`prompt`); `changed` the cost of a token at the price tier
    with something changed, of the pair shown; `left` pairs that nothing serves, and why.
    """

    settings: Settings
    pairs: tuple[str, ...]
    best: pl.DataFrame
    steps: pl.DataFrame
    prompts: pl.DataFrame
    waits: Waits | None
    changed: Mapping[str, float]
    left: Mapping[str, str]
    configs: Mapping[str, Mapping[str, Any]]

    @property
    def shown(self) -> str:
        """The pair of the detailed charts."""
        return self.pairs[0]

    def of(self, table: pl.DataFrame, pair: str) -> pl.DataFrame:
        """Return the rows of a pair."""
        return table.filter(pl.col("pair") == pair)

    def at(self, pair: str, context: float) -> Row | None:
        """Return the cheapest row at the context nearest to one, within a factor of two of it."""
        return nearest_row(self.of(self.best, pair), CONTEXT, context)

    def prompt_at(self, pair: str, length: float) -> Row | None:
        """Return the cheapest row of the prompt nearest to a length, within a factor of two."""
        return nearest_row(self.of(self.prompts, pair), PROMPT, length)


def nearest_row(rows: pl.DataFrame, column: str, value: float) -> Row | None:
    """Return the row whose column is nearest to a value, None where it is beyond a factor of 2."""
    off = rows.with_columns(off=(pl.col(column) / value).log(2.0).abs()).filter(pl.col("off") <= 1)
    return None if off.is_empty() else off.sort("off").row(0, named=True)


def settings(run: Run) -> Settings:
    """Read the settings of the question; raise InputError for one that makes no sense."""
    most, above = {"cached_share": 0.999}, {"surcharge": 1.0, "cached_prompt": 1.0}
    names = Settings.__dataclass_fields__
    return Settings(**{n: setting(run, n, above.get(n, 0.0), most.get(n, 1e15)) for n in names})


def facts(run: Run, studies: Studies) -> Facts | dict[str, str]:
    """Compute the tables of the page. Raises InputError where the run is not one of decoding.

    Where nothing serves, returns only why, by pair.
    """
    wishes = settings(run)
    jobs = pair_jobs(run, "context", "decode")
    rows = named(run, jobs, LEAVES).with_columns(pl.col(CONTEXT, BATCH).cast(pl.Float64))
    able = serving(rows).filter(pl.col(CONTEXT) >= 1)
    pairs = [p for p in jobs if p in set(able["pair"])]
    left = why_not(rows, pairs)
    if not pairs:
        return left
    best = cheapest(able, COST, CONTEXT)
    longest = best.group_by("pair", maintain_order=True).last().select("pair", "ways")
    lengths = _few(sorted(set(able[CONTEXT])), (wishes.short_context, wishes.price_tier))
    prompts = _prompts(studies, {p: jobs[p] for p in pairs}, lengths)
    return Facts(
        settings=wishes,
        pairs=tuple(pairs),
        best=best,
        steps=able.join(longest, on=["pair", "ways"], how="semi")
        .sort("pair", BATCH, CONTEXT)
        # of a dense model, plans that spread experts or not are the same plan
        .unique(["pair", BATCH, CONTEXT], keep="first", maintain_order=True),
        prompts=prompts,
        waits=_waits(studies, jobs[pairs[0]], prompts.filter(pl.col("pair") == pairs[0]), wishes),
        changed=_changed(studies, jobs[pairs[0]], wishes),
        left=left,
        configs={p: jobs[p].config for p in pairs},
    )


def _few(values: list[float], wanted: tuple[float, ...], most: int = 8) -> list[float]:
    """Return at most so many values, spread over all, and those that are wanted."""
    step = -(-len(values) // most)
    return sorted({*values[::-1][::step], *(v for v in wanted if v in values)})


def _prompts(studies: Studies, jobs: Mapping[str, JobRun], lengths: list[float]) -> pl.DataFrame:
    """Return the cheapest way to compute a prompt of each length, nothing of it cached."""
    words = ("workload=prefill", *PLANS, axis("workload.prompt", lengths), "batch=[1,8,64]")
    parts = []
    for pair, job in jobs.items():
        rows = studies.rows(f"prompts of {pair}", *words, job=job).with_columns(
            prompt=pl.col("workload.prompt").cast(pl.Float64),
            tp=pl.col("parallelism.tp"),
            dp=pl.col("parallelism.dp"),
            ep=pl.col("parallelism.ep"),
            pair=pl.lit(pair),
            ways=pl.concat_str("parallelism.tp", "parallelism.dp", "parallelism.ep"),
        )
        parts.append(serving(rows))
    return cheapest(pl.concat(parts, how="diagonal_relaxed"), INPUT, PROMPT)


def _waits(studies: Studies, job: JobRun, prompts: pl.DataFrame, wishes: Settings) -> Waits | None:
    """Return what a cached token costs in each tier and for each holding time."""
    plan = nearest_row(prompts, PROMPT, wishes.cached_prompt)
    if plan is None:
        return None
    length = round(wishes.cached_prompt)
    cached = max(1, min(length - 1, round(length * wishes.cached_share)))
    holds = sorted({*HOLDS, wishes.hold_short_s, wishes.hold_long_s})
    rows = studies.rows(
        "caches that wait",
        "workload=prefill",
        "parallelism=single",
        *(f"parallelism.{d}={plan[d]}" for d in ("tp", "dp", "ep")),
        f"batch={plan['batch']}",
        f"workload.prompt={length}",
        f"workload.cached=[0,{cached}]",
        "workload.cache_tier=[hbm,host,flash]",
        axis("workload.hold_s", holds),
        job=job,
    ).filter(pl.col(INPUT).is_finite())
    found = rows.filter(pl.col("workload.cached") > 0, pl.col(CACHED).is_finite())
    fresh = rows.filter(pl.col("workload.cached") == 0)
    if found.is_empty() or fresh.is_empty():
        return None
    row = found.row(0, named=True)
    again = (length * fresh[INPUT][0] - (length - cached) * row[INPUT]) / cached
    hardware = job.config["hardware"]
    memories = {"hbm": (hardware["hbm_bytes"], hardware["hbm_bytes_per_s"])} | {
        name: (of["bytes"], of["bytes_per_s"]) for name, of in hardware["tiers"].items()
    }
    return Waits(
        found.select(
            tier="workload.cache_tier", hold_s=pl.col("workload.hold_s").cast(pl.Float64),
            cost=CACHED, retrieve_s="retrieve_s",
        ),
        again,
        {name: size / speed for name, (size, speed) in memories.items() if size > 0 < speed},
        row,
    )  # fmt: skip


def _asked(path: str, value: Any) -> str:
    """Return the override of what a job has at a path: an axis again where it was one."""
    return axis(path, value) if isinstance(value, list) else f"{path}={value}"


def _changed(studies: Studies, job: JobRun, wishes: Settings) -> dict[str, float]:
    """Return the cost of a token at the price tier as it is (""), and with one number changed."""
    hardware, kv = job.config["hardware"], leaf_of(job, "workload.dtype.kv")
    other = "fp8" if kv != "fp8" else "bf16"
    unit = kv if hardware["flops_per_s"].get(kv) else "bf16"  # attention computes in it
    bandwidth, maths = hardware["hbm_bytes_per_s"], hardware["flops_per_s"][unit]
    given = {d: leaf_of(job, f"parallelism.{d}") for d in ("tp", "dp", "ep")}
    batches = leaf_of(job, "workload.batch")
    if any(isinstance(value, list) or not value for value in (bandwidth, maths, kv)):
        return {}  # swept: the run itself says what they do
    rows = studies.rows(
        "something changed",
        "workload=decode",
        *(_asked(f"parallelism.{d}", value) for d, value in given.items()),
        axis("batch", batches if isinstance(batches, list) else [batches]),
        axis("context", [wishes.price_tier]),
        axis("workload.dtype.kv", (kv, other)),
        axis("hardware.hbm_bytes_per_s", (bandwidth, 2 * bandwidth)),
        axis(f"hardware.flops_per_s.{unit}", (maths, 2 * maths)),
        job=job,
    )
    format_, wide, fast = (
        pl.col("workload.dtype.kv") == other,
        pl.col("hardware.hbm_bytes_per_s") > 1.5 * bandwidth,
        pl.col(f"hardware.flops_per_s.{unit}") > 1.5 * maths,
    )
    cases = {
        "": ~format_ & ~wide & ~fast,
        f"a KV cache in {other} instead of {kv}": format_ & ~wide & ~fast,
        "twice the memory bandwidth": ~format_ & wide & ~fast,
        f"twice the {unit} arithmetic, which attention uses": ~format_ & ~wide & fast,
    }
    costs = {words: serving(rows).filter(which)[COST].min() for words, which in cases.items()}
    return {words: cost for words, cost in costs.items() if cost is not None}  # type: ignore[misc]
