"""The rows behind "what does waiting pay?": requests at a rate, on plans of several sizes.

Closed forms of a queue (columns `*_at_load`, `ttft_p95_s` and so on) at every rate, cap of the
batch and plan; a few hundred requests of a published trace, played one by one, check them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from roofrack.results.run import JobRun, Run
from roofrack.simulation import command
from roofrack.simulation.command import Simulated

from ..common.jobs import leaf_of
from ..common.pages import setting
from ..common.pairs import named, pair_jobs, serving, why_not
from ..common.studies import Studies, base

AT_LOAD, RATE, BATCH = "usd_per_mtok_at_load", "rate", "batch"
LEAVES = {RATE: "workload.arrivals_per_s", BATCH: "workload.batch"}
GROWS = 1.0
"""Utilisation from which on a queue grows without end."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """The numbers of conf/experiment/delayed_payoff.yaml."""

    train_s: float
    ttft_limit_s: float
    tpot_limit_s: float
    price_input: float
    price_output: float


@dataclass(frozen=True)
class Facts:
    """What the page is computed from, of the pair shown; `pairs` are all that can serve.

    `rows` every rate, batch and plan that serves; `home` every rate and batch of the pair's own
    plan, the one with the cheapest full batch within the limit of speed; `cap` the batch of that
    row, and `full` the row itself at its highest stable rate. `played` is the check by the trace.
    """

    settings: Settings
    pairs: tuple[str, ...]
    rows: pl.DataFrame
    home: pl.DataFrame
    cap: float
    full: Row
    played: Simulated | None
    config: Mapping[str, Any]
    left: Mapping[str, str]

    @property
    def shown(self) -> str:
        """The pair of the page."""
        return self.pairs[0]

    @property
    def curve(self) -> pl.DataFrame:
        """Rates of the own plan and cap at which its queue does not grow."""
        own = self.home.filter(pl.col(BATCH) == self.cap, pl.col("utilization") < GROWS)
        return own.sort(RATE)

    @property
    def caps(self) -> pl.DataFrame:
        """One row for each cap of the batch of the own plan: what a full batch does."""
        one = self.home.sort(RATE).group_by(BATCH, maintain_order=True).first().sort(BATCH)
        tokens = pl.col("capacity_per_s") * self.output
        return one.with_columns(full_usd=pl.col("usd_per_hour") / 3600.0 / tokens * 1e6)

    @property
    def output(self) -> float:
        """Tokens written for a request."""
        return float(self.config["workload"]["output"])

    @property
    def request_usd(self) -> float:
        """What an API asks for a request of the workload's mean lengths."""
        prompt = float(self.config["workload"]["prompt"])
        wishes = self.settings
        return (prompt * wishes.price_input + self.output * wishes.price_output) / 1e6


def facts(run: Run, studies: Studies) -> Facts | dict[str, str]:
    """Compute the tables of the page. Where nothing serves, returns only why, by pair.

    Raises InputError where the run is not one of serving requests.
    """
    wishes = Settings(**{n: setting(run, n) for n in Settings.__dataclass_fields__})
    jobs = pair_jobs(run, "delayed_payoff", "serve")
    rows = named(run, jobs, LEAVES).with_columns(pl.col(RATE, BATCH).cast(pl.Float64))
    able = serving(rows).filter(pl.col(RATE) > 0, pl.col(AT_LOAD).is_not_null())
    pairs = [p for p in jobs if p in set(able["pair"])]
    left = why_not(rows, pairs)
    if not pairs:
        return left
    mine = able.filter(pl.col("pair") == pairs[0])
    stable = mine.filter(pl.col("utilization") < GROWS)
    if stable.is_empty():
        return {pairs[0]: "more requests arrive at every rate given than any plan can serve"}
    kept = stable.filter(pl.col("tpot_p95_s") <= wishes.tpot_limit_s)
    kept = stable if kept.is_empty() else kept
    # caps beyond what is in flight change nothing: of equals the smallest
    order = (pl.col(AT_LOAD).round_sig_figs(4), "chips", BATCH)
    full = kept.sort(*order).row(0, named=True)
    home = mine.filter(pl.col("ways") == full["ways"], pl.col("chips") == full["chips"])
    return Facts(
        settings=wishes,
        pairs=tuple(pairs),
        rows=mine,
        home=home.sort(BATCH, RATE).unique([BATCH, RATE], keep="first", maintain_order=True),
        cap=full[BATCH],
        full=full,
        played=_played(run, studies, jobs[pairs[0]], full),
        config=jobs[pairs[0]].config,
        left=left,
    )


def _played(run: Run, studies: Studies, job: JobRun, full: Row) -> Simulated | None:
    """Play the first requests of a trace on the own plan, faster than they came.

    The trace is sped up to half of what the plan can serve; None where no trace is asked for.
    """
    trace, count = run.experiment.get("trace"), run.experiment.get("trace_requests")
    if not trace or not count:
        return None
    words = (
        *base(job),
        f"workload={job.config['choices']['workload']}",
        "parallelism=rack",
        *(f"parallelism.{d}={full[d]}" for d in ("tp", "dp", "ep", "pp", "cp")),
        f"batch={full[BATCH]:.0f}",
        f"workload.prefill_batch={leaf_of(job, 'workload.prefill_batch')}",
    )
    mean_gap_s = 0.28  # of the sample's first requests; only sets how fast they are played
    speed = max(1.0, 0.5 * full["capacity_per_s"] * mean_gap_s)
    asked = (*words, f"traffic={trace}", f"traffic.requests={count}", f"traffic.speed={speed:.4g}")
    found = command.answer(asked, run.config_dir)
    studies.note("trace (roofrack simulate)", words)
    return found
