"""What simulations plan: the traffic from which machines pay, and what waiting for others saves.

`roofrack plan own` finds the least copies that keep the promise at each rate, with random requests
played one by one; `roofrack plan wait` holds requests back for others to join.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from roofrack.errors import InfeasibleError
from roofrack.results.run import Run
from roofrack.simulation.planning import answer
from roofrack.simulation.planning.owning import Owned
from roofrack.simulation.planning.waits import Waited

from ..common.studies import Studies
from .rows import Facts
from .traced import promise, whole

RATES = 6
"""Rates that `plan own` is asked for, beside those at which copies just break even."""
LOADS = (0.1, 0.8)
"""Loads at which waiting is tried, over the highest within the promise."""
WAIT = 0.5
"""Seconds that requests wait for others, over the time to a first token that is promised."""


@dataclass(frozen=True)
class Planned:
    """Both plans. `copies` were allowed, `requests` random ones a run; `short` runs are said."""

    owned: Owned
    points: pl.DataFrame
    waits: pl.DataFrame
    copies: int
    requests: int
    short: bool

    @property
    def served(self) -> pl.DataFrame:
        """Rates that some number of copies serves within the promise."""
        return self.points.filter(pl.col("copies").is_not_null())


def planned(run: Run, studies: Studies, facts: Facts) -> Planned | str | None:
    """Return both plans, why there are none, or None where none is asked for."""
    count = whole(run, "plan_requests", least=100)
    if not count:
        return None
    # each number of copies and of waits is compiled anew, which takes longer than all runs of it
    copies = min(facts.copies, whole(run, "plan_copies", least=1, zero=False))
    prices = facts.settings.price_input, facts.settings.price_output
    drawn = f"traffic.requests={count}"
    top = copies * facts.most
    rates = np.geomspace(min(facts.even, facts.most) / 4.0, top, RATES)
    own = (
        *promise(facts),
        f"price.input={prices[0]}",
        f"price.output={prices[1]}",
        f"max_chips={copies * int(facts.full['chips'])}",
        rates_of(rates.tolist()),
    )
    wait = (
        f"workload.wait_s={WAIT * facts.settings.ttft_limit_s:.6g}",
        rates_of([share * facts.most for share in LOADS]),
    )
    try:
        found = answer(("own", *facts.same, drawn, *own), run.config_dir)
        slower = answer(("wait", *facts.same, drawn, *wait), run.config_dir)
    except InfeasibleError as error:
        return str(error)
    studies.note(f"roofrack plan own {' '.join(own)}", facts.same)
    studies.note(f"roofrack plan wait {' '.join(wait)}", facts.same)
    assert isinstance(found.answer, list) and isinstance(slower.answer, list)
    (owned,) = (one for one in found.answer if isinstance(one, Owned))
    waited = [one for one in slower.answer if isinstance(one, Waited)]
    return Planned(
        owned=owned,
        points=_points(owned),
        waits=_waits(waited),
        copies=copies,
        requests=count,
        short=found.short or slower.short,
    )


def rates_of(rates: list[float]) -> str:
    """Return the word that asks for rates."""
    return f"workload.arrivals_per_s={','.join(f'{rate:.6g}' for rate in rates)}"


def _points(owned: Owned) -> pl.DataFrame:
    """Return a row for each rate: `copies` needed (null: more than allowed), both bills, speed."""
    rows = []
    for point in owned.points:
        run = point.fleet.run
        rows.append(
            {
                "rate": point.rate,
                "copies": point.fleet.replicas,
                "own_usd": point.own_usd_per_hour,
                "api_usd": point.api_usd_per_hour,
                "ttft_p95_s": None if run is None else run["ttft_p95_s"],
                "tpot_p95_s": None if run is None else run["tpot_p95_s"],
            }
        )
    names = {"rate": float, "copies": int, "own_usd": float, "api_usd": float,
             "ttft_p95_s": float, "tpot_p95_s": float}  # fmt: skip
    return pl.DataFrame(rows, schema=names).sort("rate")


def _waits(waited: list[Waited]) -> pl.DataFrame:
    """Return a row for each load and wait: what it saves of the busy time, and costs in time."""
    return pl.DataFrame(
        [
            {
                "rate": one.rate,
                "wait_s": one.wait_s,
                "saved": one.saved,
                "most": one.most,
                "batch": one.run["batch_at_load"],
                "ttft_p95_s": one.run["ttft_p95_s"],
                "tpot_p95_s": one.run["tpot_p95_s"],
            }
            for one in waited
        ],
        infer_schema_length=None,
    )
