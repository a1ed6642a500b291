"""A real trace on the own plan, played at its own pace and faster: who waits, what departs when.

A pass leaves like a train. Who arrives waits from the arrival until a pass takes the prompt on; who
is on board gets a token from each pass, so that the mean time between the tokens of a request is
the time between departures while it rode.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl

from roofrack import traffic
from roofrack.errors import InfeasibleError, InputError
from roofrack.results.run import Run
from roofrack.simulation import command

from ..common.pages import setting
from ..common.studies import Studies
from .rows import Facts, words

SHARES = (0.25, 0.5, 1.0)
"""Loads that the trace is sped up to, over the own plan's highest within the promise."""
STRETCHES = 60
"""Parts of the trace's time that charts show."""
SHARE = 0.9
"""Share of requests inside the bands of the charts."""


@dataclass(frozen=True)
class Traced:
    """A trace on the own plan: `own_rate` its requests per second, `load` the highest played.

    `rows` one for each load, with the columns of a simulation and of `departures`. `over_time`
    holds means of each load in parts of the trace's own time (`trace_s`): `aboard` sequences,
    `came_per_s` arrivals of the trace, `gap_s`, the median time between departures, and
    `gap_low_s` to `gap_high_s`, between which SHARE of the requests were. `why_not` if it cannot
    be played.
    """

    name: str
    told: str
    own_rate: float
    rows: pl.DataFrame
    over_time: pl.DataFrame
    why_not: str = ""

    @property
    def own(self) -> dict[str, Any]:
        """The row of the lowest load."""
        return self.rows.row(0, named=True)

    @property
    def busy(self) -> dict[str, Any]:
        """The row of the highest load."""
        return self.rows.row(-1, named=True)


def traced(run: Run, studies: Studies, facts: Facts) -> Traced | None:
    """Play the trace of the settings; None where none is asked for. Raises InputError."""
    count = whole(run, "trace_requests", least=2)
    if not count:
        return None
    name = words(run, "trace")
    came = traffic.read(name).first(count)
    if not 0 < came.rate < float("inf"):
        raise InputError(f"experiment.trace={name}: its first {count} requests have no rate")
    loads = sorted({came.rate, *(share * facts.most for share in SHARES)})
    speeds = ",".join(
        f"{load / came.rate:.6g}" for load in loads if load <= facts.most * (1 + 1e-9)
    )
    given = (*facts.same, *promise(facts), f"traffic={name}", f"traffic.requests={count}")
    try:
        found = command.answer((*given, f"traffic.speed={speeds}"), run.config_dir)
    except InfeasibleError as error:
        return Traced(name, "", came.rate, pl.DataFrame(), pl.DataFrame(), str(error))
    studies.note(f"roofrack simulate traffic={name} traffic.speed={speeds}", facts.same)
    if found.requests["done_s"].drop_nulls().is_empty():
        why = "none of its requests fits into memory"
        return Traced(name, "", came.rate, pl.DataFrame(), pl.DataFrame(), why)
    speed = pl.col("arrivals_per_s") / came.rate
    rows = found.rows.with_columns(speed=speed).sort("arrivals_per_s")
    told = departures(found.requests, rows)
    rows = rows.join(told, on="lane", how="left", maintain_order="left")
    return Traced(name, found.traffic, came.rate, rows, _over_time(found, rows))


def promise(facts: Facts) -> tuple[str, ...]:
    """Return the words that tell a simulation what is promised."""
    wishes = facts.settings
    return (f"limits.ttft_s={wishes.ttft_limit_s}", f"limits.tpot_s={wishes.tpot_limit_s}")


def whole(run: Run, key: str, least: int, zero: bool = True) -> int:
    """Return a setting that is a whole number of at least so many, or 0 if `zero` is one.

    Raises InputError for another.
    """
    value = setting(run, key, above=-1.0, most=1e6)
    if value != int(value) or not (value >= least or (zero and value == 0)):
        allowed = f"{'0 and ' if zero else ''}whole numbers from {least} on"
        raise InputError(f"experiment.{key}={run.experiment[key]}: allowed are {allowed}")
    return int(value)


def departures(requests: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Return what the requests of each run (`lane`) saw of its departures.

    `wait_*_s` from the arrival until a pass takes the prompt on, `gap_*_s` between departures
    (percentiles of requests), `within` the share that waited no longer than the time between two,
    and `pass_s`, the mean time of a pass.
    """
    wait = pl.col("admitted_s") - pl.col("arrival_s")
    gap = pl.col("tpot_s")
    seen = requests.filter(pl.col("done_s").is_not_null()).group_by("lane", maintain_order=True)
    quantiles = {"p5": 0.05, "p50": 0.5, "p95": 0.95, "p99": 0.99}
    made = seen.agg(
        **{f"wait_{n}_s": wait.quantile(q, "linear") for n, q in quantiles.items()},
        wait_mean_s=wait.mean(),
        wait_most_s=wait.max(),
        **{f"gap_{n}_s": gap.quantile(q, "linear") for n, q in quantiles.items()},
        within=(wait <= gap).mean(),
    )
    busy_s = pl.col("busy_share") * pl.col("duration_s")
    return made.join(
        rows.select("lane", pass_s=busy_s / pl.col("passes")), on="lane", maintain_order="left"
    )


def _over_time(found: command.Simulated, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the table of the charts over the trace's own time."""
    speeds = rows.select("lane", "arrivals_per_s", "speed")
    requests, speed = found.requests.join(speeds, on="lane"), pl.col("speed")
    last = float(requests.select((pl.col("arrival_s") * speed).max()).item())
    width, by = last / STRETCHES, ["lane", "part"]

    def parts(table: pl.DataFrame, time_s: pl.Expr) -> pl.DataFrame:
        """Return the rows of a table while requests come, with the stretch of a time of theirs."""
        place = (time_s * speed / width * (1 - 1e-9)).floor().cast(pl.Int64)
        return table.with_columns(part=place).filter(pl.col("part").is_between(0, STRETCHES - 1))

    aboard = parts(found.series.join(speeds, on="lane"), pl.col("time_s"))
    rides = parts(
        requests.drop_nulls(["tpot_s", "first_s"]), (pl.col("first_s") + pl.col("done_s")) / 2
    )
    came = parts(requests, pl.col("arrival_s"))
    gap, edge = pl.col("tpot_s"), (1 - SHARE) / 2
    gaps = rides.group_by(by).agg(
        gap_s=gap.median(),
        gap_low_s=gap.quantile(edge, "linear"),
        gap_high_s=gap.quantile(1 - edge, "linear"),
    )
    table = aboard.group_by(by).agg(aboard=pl.col("running").mean())
    table = table.join(gaps, on=by, how="left")
    table = table.join(came.group_by(by).agg(came_per_s=pl.len() / width), on=by, how="left")
    middle = (pl.col("part") + 0.5) * width
    return table.with_columns(trace_s=middle).sort("lane", "part")
