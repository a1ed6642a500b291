"""What the cost model says of published services: pools at a batch, closed loops, whole fleets.

Requests that come at a rate are simulated (`service_load`). All else is a steady state of
`roofrack point`, whose batch is given, sought or a fixed point:

- **Speed.** The batch B at which a sequence gains as many tokens a second as users saw.
- **Closed loop.** N clients without pauses are N requests in flight (Little's law). A request of o
  tokens waits for its first one F(B) and then o - 1 times t(B), so the batch that decodes is the B
  with B (1 + F(B) / ((o - 1) t(B))) = N, and N o / (F + (o - 1) t) tokens a second come out. F is
  the prompt's own prefill, the pass under way and what it waits for other prompts
  (`protocol.waiting_s`). Where memory holds fewer sequences than that, so many decode and the rest
  waits: F = N / B (o - 1) t - (o - 1) t. Time of the host before a first token is left out.
- **Fleet.** Nodes of each pool are its tokens of a day over what a node of it yields, always at
  work; rent is nodes times price. Errors of pools are taken as independent.

A batch that is sought has the error of the step over the elasticity of the step in the batch.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from roofrack.config import conf_dir
from roofrack.validation import protocol
from roofrack.validation.composed import together
from roofrack.validation.service import QUANTITIES

DAY_S = 86_400.0
MOST = 2.0**24
"""Largest batch that a search looks at."""
POINTS, ROUNDS = 31, 6
"""Batches looked at in each round of a search, and rounds: to 1e-7 of the batch."""
ASIDE = 1.25
"""Factor either side of a batch over which the elasticity of its step is taken: a step has small
jumps where tiles fill."""

SLACK = 0.02
"""How far from the speed asked for a sought batch may be: a step jumps where tiles fill."""
NO_BATCH = "no batch that fits has this speed"

Columns = dict[str, np.ndarray]


def predict(table: pl.DataFrame, calibration: str = "auto") -> pl.DataFrame:
    """Return a line for each figure of rows of service.csv: what was measured, what is predicted.

    Columns: `id`, `quantity`, `measured`, `predicted` and `rel_std` (null where there is none),
    `why_invalid`, `batch` (that decodes, of all chips), `chips`, `fits`, `calibration`.
    `calibration` is one name for all, or `auto`: of the machine and
    engine of each, where there is one. Raises InputError naming a row that does not compose.
    """
    pools = table.filter(pl.col("method").is_in(["steady", "closed_loop"]))
    parts = []
    for (name,), rows in pools.with_columns(_calibration(calibration)).group_by(
        "calibration", maintain_order=True
    ):
        for where, s in together(rows, [f"calibration={name}"]):
            parts.append(_pools(rows[where], s))
    found = pl.concat(parts) if parts else pl.DataFrame(schema=SCHEMA)
    fleets = [
        _fleet(row, pools.filter(pl.col("fleet") == row["fleet"]), found)
        for row in table.filter(pl.col("method") == "fleet").iter_rows(named=True)
    ]
    found = pl.concat([found, *(pl.DataFrame([f], schema=SCHEMA) for f in fleets)])
    loads = table.filter(pl.col("method") == "load").with_columns(_calibration(calibration))
    if not loads.is_empty():
        from roofrack.validation.service_load import predict_load  # compiles the simulation

        found = pl.concat([found, predict_load(loads, calibration)], how="diagonal")
    return _long(table, found)


def _calibration(asked: str) -> pl.Expr:
    if asked != "auto":
        return pl.lit(asked).alias("calibration")
    own = pl.concat_str("hardware", "engine", separator="_")
    there_are = [file.stem for file in (conf_dir() / "calibration").glob("*.yaml")]
    return pl.when(own.is_in(there_are)).then(own).otherwise(pl.lit("auto")).alias("calibration")


SCHEMA = {
    "id": pl.String,
    "why_invalid": pl.String,
    "batch": pl.Float64,
    "chips": pl.Float64,
    "fits": pl.Boolean,
    "calibration": pl.String,
    "usd_per_chip_hour": pl.Float64,
    "generates": pl.Boolean,
    **{name: pl.Float64 for quantity in QUANTITIES for name in (quantity, f"{quantity}_std")},
}
"""What is computed of a row: every quantity, and its relative standard error."""


def _pools(rows: pl.DataFrame, s: Any) -> pl.DataFrame:
    """Return SCHEMA for rows of one structure, `s` their scenario."""
    from roofrack.cost.layout import reasons

    estimate = _estimator(s)
    loops = (rows["method"] == "closed_loop").to_numpy()
    sought = rows["speed"].is_not_null().to_numpy()
    speed, clients = (rows[c].fill_null(1.0).to_numpy() for c in ("speed", "clients"))
    inside = rows["in_flight"].fill_null(rows["clients"]).fill_null(1.0).to_numpy()
    waves = (rows["requests"] / rows["clients"]).fill_null(np.inf).to_numpy()
    load = _Load(inside, clients / _ranks(s), waves, _plain(s.workload.output, rows.height))
    batch = _plain(s.workload.batch, rows.height)
    most = np.where(loops, inside, np.where(sought, MOST, batch))
    if (loops | sought).any():
        most = _largest(lambda b: estimate(b)["fits"] > 0, most)
    if loops.any():
        fixed = _largest(lambda b: load.asked(estimate(b), b) < inside, most)
        batch = np.where(loops, fixed, batch)
    if sought.any():
        slow = _largest(lambda b: estimate(b)["tpot_s"] * speed < 1.0, most)
        batch = np.where(sought, slow, batch)
    columns = estimate(batch)
    missed = sought & (np.abs(columns["tpot_s"] * speed - 1.0) > SLACK)
    why = [reasons(int(code)) for code in columns["why_invalid"]]
    why = [NO_BATCH if no else reason for reason, no in zip(why, missed, strict=True)]
    elastic = np.where(sought, _elasticity(estimate, batch), 1.0) if sought.any() else 1.0
    values = _figures(rows, s, columns, batch, np.where(loops, load.latency_s(columns, batch), 0))
    return _frame(rows, columns, batch, why, values, columns["step_s_rel_std"] / elastic)


@dataclasses.dataclass(frozen=True)
class _Load:
    """A closed loop: requests in flight, clients of a rank, requests a client, tokens each."""

    inside: np.ndarray
    clients: np.ndarray
    waves: np.ndarray
    output: np.ndarray

    def first_s(self, columns: Columns) -> np.ndarray:
        """Return the time to the first token with room for all."""
        own, step = columns["ttft_s"], columns["tpot_s"]
        life = own + self.output * step
        return own + step + protocol.waiting_s(self.clients, own, life, self.waves)

    def decoding_s(self, columns: Columns) -> np.ndarray:
        """Return the time of the tokens after the first."""
        return np.maximum(self.output - 1.0, 1.0) * columns["tpot_s"]

    def asked(self, columns: Columns, batch: np.ndarray) -> np.ndarray:
        """Return the requests in flight with which so many decode."""
        return batch * (1.0 + self.first_s(columns) / self.decoding_s(columns))

    def latency_s(self, columns: Columns, batch: np.ndarray) -> np.ndarray:
        """Return the time of a request; longer than with room for all where memory is full."""
        decoding = self.decoding_s(columns)
        return np.maximum(self.first_s(columns) + decoding, self.inside / batch * decoding)


def _figures(
    rows: pl.DataFrame, s: Any, columns: Columns, batch: np.ndarray, latency: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the quantities of pools and loops; `latency` seconds of a request, 0 if no loop."""
    loops = latency > 0
    w, count = s.workload, rows.height
    prompt, cached = _plain(w.prompt, count), _plain(w.cached, count)
    hits = prompt / np.maximum(prompt - cached, 1.0) if w.phase == "prefill" else 1.0
    inside = rows["in_flight"].fill_null(rows["clients"]).fill_null(1.0).to_numpy()
    output = _plain(w.output, count)
    of_all = np.where(
        loops,
        inside * output / np.where(loops, latency, 1.0),
        columns["tokens_per_s_per_chip"] * columns["chips"] * hits,
    )
    node = rows["node_chips"].to_numpy()
    tokens = np.where(np.isnan(node), of_all, of_all / columns["chips"] * node)
    decoding = np.maximum(output - 1.0, 1.0) * columns["tpot_s"]
    return {
        "batch_per_chip": batch / columns["chips"],
        "tokens_per_s": tokens,
        "tpot_s": columns["tpot_s"],
        "ttft_s": np.where(loops, latency - decoding, np.nan),
        "nodes": rows["per_day"].to_numpy() / DAY_S / tokens,
    }


def _frame(
    rows: pl.DataFrame,
    columns: Columns,
    batch: np.ndarray,
    why: list[str | None],
    values: dict[str, np.ndarray],
    spread: np.ndarray,
) -> pl.DataFrame:
    good = np.array([reason is None for reason in why])
    none = np.full(rows.height, np.nan)
    figures = {name: np.where(good, values.get(name, none), np.nan) for name in QUANTITIES}
    made = {
        "id": rows["id"],
        "why_invalid": why,
        "batch": batch,
        "chips": columns["chips"],
        "fits": columns["fits"] > 0,
        "calibration": rows["calibration"],
        "usd_per_chip_hour": columns["usd_per_chip_hour"],
        "generates": np.isfinite(columns["tpot_s"]),
        **figures,
        **{f"{name}_std": spread for name in QUANTITIES},
    }
    return pl.DataFrame(made, schema=SCHEMA)


def _fleet(row: dict[str, Any], pools: pl.DataFrame, found: pl.DataFrame) -> dict[str, Any]:
    """Return SCHEMA for the service that pools make up."""
    parts = found.join(pools.select("id", "per_day", "node_chips"), on="id")
    parts = parts.filter(pl.col("per_day").is_not_null())
    nodes, std = (parts[c].fill_nan(None) for c in ("nodes", "nodes_std"))
    missing = parts.is_empty() or nodes.null_count() > 0
    rents = nodes * parts["node_chips"] * 24.0 * parts["usd_per_chip_hour"]
    rent = None if missing else float(rents.sum())
    tokens = float(parts.filter("generates")["per_day"].sum())
    total = None if missing else float(nodes.sum())
    errors = None if missing or std.null_count() else (rents * std).to_numpy() / rent
    spread = None if errors is None else float(np.sqrt(np.sum(errors**2)))
    return {
        **dict.fromkeys(SCHEMA),
        "id": row["id"],
        "why_invalid": "a pool of it is not predicted" if missing else None,
        "chips": None if missing else float((nodes * parts["node_chips"]).sum()),
        "calibration": None if parts.is_empty() else parts["calibration"][0],
        "nodes": total,
        "usd_per_day": rent,
        "usd_per_mtok": rent / tokens * 1e6 if rent and tokens else None,
        **{f"{name}_std": spread for name in QUANTITIES},
    }


def _long(table: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Return a line for each figure that was measured, in the order of the table."""
    kept = ("id", "why_invalid", "batch", "chips", "fits", "calibration")
    lines = []
    for name in QUANTITIES:
        measured = table.select("id", pl.col(name).alias("measured")).drop_nulls()
        said = found.select(*kept, predicted=name, rel_std=f"{name}_std")
        lines.append(measured.join(said, on="id").with_columns(quantity=pl.lit(name)))
    order = table.select("id").with_row_index("place")
    both = pl.concat(lines).join(order, on="id").sort("place", maintain_order=True).drop("place")
    return both.with_columns(pl.col("predicted", "rel_std").fill_nan(None))


def _estimator(s: Any) -> Callable[[Any], Columns]:
    """Return what computes every column of scenario `s`, a value a row, at batches of any rank."""
    from roofrack.cost import estimate

    def at(batch: np.ndarray) -> Columns:
        workload = dataclasses.replace(s.workload, batch=np.maximum(batch, 1.0))
        with np.errstate(all="ignore"):
            columns = estimate(dataclasses.replace(s, workload=workload))
        shape = np.shape(batch)
        return {
            name: np.broadcast_to(np.asarray(value, np.float64), shape)
            for name, value in columns.items()
        }

    return at


def _plain(value: Any, count: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(value, np.float64), (count,))


def _ranks(s: Any) -> np.ndarray:
    """Return the ranks that each have sequences of their own."""
    plan = s.plan
    return np.asarray(plan.dp * np.where(np.asarray(plan.attention_dp) > 0, plan.tp, 1.0))


def _largest(holds: Callable[[np.ndarray], np.ndarray], most: np.ndarray) -> np.ndarray:
    """Return the largest batch in [1, most] at which `holds` does; 1 where it never does.

    It has to hold up to some batch and not beyond it, and is asked for POINTS batches of each row
    at once: an estimate takes as long for many as for one.
    """
    high = np.asarray(most, np.float64)
    low = np.where(holds(high), high, 1.0)
    shares = (np.arange(POINTS) + 1.0)[:, None] / (POINTS + 1.0)
    for _ in range(ROUNDS if (low < high).any() else 0):
        between = low * (high / low) ** shares
        all_of_them = np.concatenate([low[None], between, high[None]])
        held = np.cumprod(holds(between), axis=0).sum(axis=0).astype(int)[None]
        low, high = (np.take_along_axis(all_of_them, held + k, axis=0)[0] for k in (0, 1))
    return low


def _elasticity(estimate: Callable[[Any], Columns], batch: np.ndarray) -> np.ndarray:
    """Return d ln step / d ln batch, over ASIDE either side."""
    more, fewer = (estimate(b)["tpot_s"] for b in (batch * ASIDE, batch / ASIDE))
    return np.log(more / fewer) / (2.0 * np.log(ASIDE))
