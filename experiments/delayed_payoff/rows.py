"""The rows behind "what does waiting pay?": requests at a rate, on plans of several sizes.

Closed forms of a queue (columns `*_at_load`, `ttft_p95_s` and so on) at every rate, cap of the
batch and plan. `traced` plays a real trace, `planned` searches by simulation, `changing` asks again
with something changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from roofrack.errors import InputError
from roofrack.results.run import JobRun, Run

from ..common.jobs import leaf_of
from ..common.overrides import axis, text
from ..common.pages import setting
from ..common.pairs import named, pair_jobs, serving, why_not
from ..common.studies import SERVED, Studies
from .curves import LEAVES, curves
from .measures import BATCH, GROWS, RATE, error_of, highest

AT_LOAD = "usd_per_mtok_at_load"
CHUNKS = (1.0, 4.0, 16.0)
"""Times the chunk of the run that full batches are tried with, beside whole prompts."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """The numbers of conf/experiment/delayed_payoff.yaml."""

    train_s: float
    ttft_limit_s: float
    tpot_limit_s: float
    price_input: float
    price_output: float
    price_of: str
    price_source: str

    @property
    def limits(self) -> dict[str, float]:
        """What 95 % of requests are promised, by column."""
        return {"ttft_p95_s": self.ttft_limit_s, "tpot_p95_s": self.tpot_limit_s}


@dataclass(frozen=True)
class Facts:
    """What the page is computed from, of the pair shown; `pairs` are all that can serve.

    `home` every rate and batch of the pair's own plan, the one with the cheapest token within the
    promise; `cap` the batch of that row, and `full` the row itself at its highest stable rate.
    `caps` what a full batch of each size does on that plan; `curves` the plan at any load, as it is
    ("") and with something changed. `same` are the overrides that compose
    it, without its traffic.
    """

    settings: Settings
    pairs: tuple[str, ...]
    home: pl.DataFrame
    caps: pl.DataFrame
    curves: Mapping[str, pl.DataFrame]
    cap: float
    full: Row
    same: tuple[str, ...]
    job: JobRun
    left: Mapping[str, str]

    @property
    def shown(self) -> str:
        """The pair of the page."""
        return self.pairs[0]

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of the pair's job."""
        return self.job.config

    @property
    def curve(self) -> pl.DataFrame:
        """Rates of the own plan and cap at which its queue does not grow."""
        own = self.home.filter(pl.col(BATCH) == self.cap, pl.col("utilization") < GROWS)
        return own.sort(RATE)

    @property
    def error(self) -> float:
        """The relative standard error of a step of the own plan, 0 where none is known."""
        return error_of(self.full)

    @property
    def output(self) -> float:
        """Tokens written for a request."""
        return float(self.full["output"])

    @property
    def request_usd(self) -> float:
        """What an API asks for a request of the workload's mean lengths."""
        return request_usd(self.settings, float(self.full["prompt"]), self.output)

    @property
    def even(self) -> float:
        """The rate at which an API costs as much as the own plan."""
        return float(self.full["usd_per_hour"] / 3600.0 / self.request_usd)

    @property
    def most(self) -> float:
        """The highest rate of the own plan within the promise, by the closed forms."""
        return highest(self.curves[""], self.settings.limits) or float(self.full[RATE])

    @property
    def rack(self) -> int:
        """Chips that the fast network joins."""
        levels = self.config["hardware"]["fabric"]
        return int(next(iter(levels.values()))["chips"])

    @property
    def copies(self) -> int:
        """Copies of the own plan that a rack holds."""
        return max(1, int(self.rack // self.full["chips"]))


def request_usd(prices: Settings, prompt: float, output: float) -> float:
    """Return what an API asks for a request of these lengths."""
    return (prompt * prices.price_input + output * prices.price_output) / 1e6


def settings(run: Run) -> Settings:
    """Read the settings of the question; raise InputError for one that makes no sense."""
    found: dict[str, Any] = {}
    for name, kind in Settings.__annotations__.items():
        found[name] = setting(run, name) if kind is float else words(run, name)
    return Settings(**found)


def words(run: Run, key: str) -> str:
    """Return a setting that is a text. Raises InputError for another."""
    value = run.experiment.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"experiment.{key}={value}: allowed is a text")
    return value


def facts(run: Run, studies: Studies) -> Facts | dict[str, str]:
    """Compute the tables of the page. Where nothing serves, returns only why, by pair.

    Raises InputError where the run is not one of serving requests.
    """
    wishes = settings(run)
    jobs = pair_jobs(run, "delayed_payoff", "serve")
    leaves = {**LEAVES, "prompt": "workload.prompt", "output": "workload.output"}
    leaves["chunk"] = "workload.chunk"
    rows = named(run, jobs, leaves).with_columns(pl.col(*leaves).cast(pl.Float64))
    able = serving(rows).filter(pl.col(RATE) > 0, pl.col(AT_LOAD).is_not_null())
    pairs = [p for p in jobs if p in set(able["pair"])]
    left = why_not(rows, pairs)
    if not pairs:
        return left
    mine = able.filter(pl.col("pair") == pairs[0])
    stable = mine.filter(pl.col("utilization") < GROWS)
    if stable.is_empty():
        return {pairs[0]: "more requests arrive at every rate given than any plan can serve"}
    kept = stable.filter(*(pl.col(c) <= limit for c, limit in wishes.limits.items()))
    kept = stable if kept.is_empty() else kept
    # caps beyond what is in flight change nothing: of equals the smallest
    order = (pl.col(AT_LOAD).round_sig_figs(4), "chips", BATCH)
    full = kept.sort(*order).row(0, named=True)
    alike = ("ways", "chips", "prompt", "output", "chunk")
    home = mine.filter(*(pl.col(name) == full[name] for name in alike))
    job = jobs[pairs[0]]
    same = same_plan(job, full)
    return Facts(
        settings=wishes,
        pairs=tuple(pairs),
        home=home.sort(BATCH, RATE).unique([BATCH, RATE], keep="first", maintain_order=True),
        caps=_caps(studies, job, same, full),
        curves=curves(same, full, run.config_dir),
        cap=full[BATCH],
        full=full,
        same=same,
        job=job,
        left=left,
    )


def same_plan(job: JobRun, row: Row) -> tuple[str, ...]:
    """Return the overrides that compose a row of a job again, but for the rate of its requests."""
    choices, axes = job.config["choices"], job.about["axes"]
    groups = (*SERVED, "workload", "parallelism")
    left_out = {*groups, *axes, LEAVES[RATE]}
    named_by = {given: given.lstrip("+").partition("=")[0] for given in job.overrides}
    own = [
        given
        for given, key in named_by.items()
        if key not in left_out and key.partition(".")[0] != "experiment"
    ]
    values = [f"{name}={text(row[name])}" for name in axes if name != LEAVES[RATE]]
    return (*(f"{g}={choices[g]}" for g in groups if choices.get(g)), *own, *values)


def _caps(studies: Studies, job: JobRun, same: tuple[str, ...], full: Row) -> pl.DataFrame:
    """Return what a full batch of each size does on a plan, prompts in its cheapest chunks.

    Columns of the schema, `batch`, `full_usd` (USD for a million tokens) and its `error`.
    """
    batches = leaf_of(job, LEAVES[BATCH])
    batches = batches if isinstance(batches, list) else [batches]
    chunks = sorted({0.0, *(times * full["chunk"] for times in CHUNKS)})
    kept = [given for given in same if given.partition("=")[0] not in ("batch", LEAVES[BATCH])]
    kept = [given for given in kept if not given.startswith("workload.chunk=")]
    asked = (*kept, axis("batch", batches), axis("workload.chunk", chunks), f"{LEAVES[RATE]}=1")
    rows = serving(studies.rows("full batches", *asked, job=job).with_columns(
        pl.col("batch").cast(pl.Float64)
    ))  # fmt: skip
    usd_per_s = pl.col("usd_per_hour") / 3600.0
    made = rows.with_columns(
        full_usd=(usd_per_s / (pl.col("capacity_per_s") * full["output"]) * 1e6).cast(pl.Float64),
        error=pl.col("step_s_rel_std").fill_nan(None).fill_null(0.0).cast(pl.Float64),
    ).filter(pl.col("full_usd").is_finite())
    return made.sort("full_usd").group_by(BATCH, maintain_order=True).first().sort(BATCH)
