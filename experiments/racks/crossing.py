"""What leaving the rack costs: the same sequences on each chip, experts over one rack or several.

Everything is asked of the reader's machine and model by studies beside the run.
"""

from dataclasses import dataclass, replace

import polars as pl

from roofrack.conversion import to_study
from roofrack.cost import estimate
from roofrack.errors import InputError
from roofrack.inverse import solve
from roofrack.report.controls import Control
from roofrack.results.run import Run

from ..common.columns import COST
from ..common.overrides import axis, text
from ..common.pages import setting
from ..common.studies import Studies
from .rows import Machine, Row, copies

SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Sequences on each chip that the slider offers."""
FASTER = (0.5, 1.0, 2.0, 4.0, 8.0, 18.0)
"""Bandwidth between racks over the machine's own."""
CONTEXTS = (0.25, 1.0, 4.0)
"""Context over the run's own."""
ENDLESS = 1e15  # bytes/s of a chip: no transfer takes time, latencies stay


@dataclass(frozen=True)
class Crossing:
    """Racks 1, 2, ... at the same sequences on each chip.

    `table` every setting of the sliders; columns `racks`, `sequences` (on each chip), `context`,
    `faster` (bandwidth between racks over the machine's own). `home` is where the sliders start.
    `missing` are numbers of racks that the experts do not divide over. `dedup` is the home with one
    copy of a token to each rack.
    """

    table: pl.DataFrame
    dedup: pl.DataFrame
    sequences: float
    context: float
    missing: tuple[int, ...]

    @property
    def home(self) -> pl.DataFrame:
        """One row for each number of racks, the machine as it is."""
        return self.at(self.sequences)

    def at(self, sequences: float) -> pl.DataFrame:
        """Return the rows of the machine as it is, at so many sequences on each chip."""
        return self.table.filter(
            pl.col("sequences") == sequences,
            pl.col("context") == self.context,
            pl.col("faster") == 1.0,
        ).sort("racks")

    def row(self, racks: int) -> Row | None:
        """Return the row of a number of racks where the sliders start."""
        found = self.home.filter(pl.col("racks") == racks)
        return found.row(0, named=True) if found.height else None


def crossing(run: Run, studies: Studies, machine: Machine) -> Crossing | None:
    """Ask one rack, two, ... up to the number of the question; None of a model without experts.

    Raises InputError where the question's numbers are not what they have to be.
    """
    most = int(setting(run, "racks", above=0, most=64))
    start = setting(run, "sequences_per_chip", most=1e6)
    if not machine.experts:
        return None
    held = sorted({*map(float, SEQUENCES), start})
    contexts = [machine.context * factor for factor in CONTEXTS] if machine.context else [0.0]
    found, missing = [], []
    for racks in range(1, most + 1):
        more = copies(machine.experts, racks * machine.domain)
        if more is None:
            missing.append(racks)
            continue
        rows = studies.rows(
            f"racks {racks}",
            *asked(machine, racks, more),
            axis("batch", (s * racks * machine.domain for s in held)),
            axis("context", contexts),
            axis(speed_of(machine), (f * machine.outer_bytes_per_s for f in FASTER)),
            "parallelism.dedup=[false,true]",
        )
        found.append(_told(rows, machine, racks))
    rows = pl.concat(found, how="diagonal_relaxed").filter("valid") if found else pl.DataFrame()
    if rows.is_empty():
        return None
    once = pl.col("parallelism.dedup")
    made = Crossing(rows.filter(~once), pl.DataFrame(), start, machine.context, tuple(missing))
    return replace(made, dedup=replace(made, table=rows.filter(once)).home)


def asked(machine: Machine, racks: int, more: int) -> tuple[str, ...]:
    """Return the overrides that spread the experts over whole racks."""
    return (
        "workload=decode",
        "parallelism=rack",
        f"racks={racks}",
        f"parallelism.redundant_experts={more}",
    )


def speed_of(machine: Machine) -> str:
    """Return the override path of the bandwidth between racks."""
    return f"hardware.fabric.{machine.outer}.bytes_per_s"


def _told(rows: pl.DataFrame, machine: Machine, racks: int) -> pl.DataFrame:
    """Add the columns that the sliders move."""
    chips = racks * machine.domain
    factor = pl.col(speed_of(machine)) / machine.outer_bytes_per_s
    return rows.with_columns(
        racks=pl.lit(racks),
        sequences=(pl.col("batch") / chips).round_sig_figs(7),
        faster=factor.round_sig_figs(7),
        context=pl.col("context").cast(pl.Float64),
    )


def controls(found: Crossing, machine: Machine) -> tuple[Control, ...]:
    """Return what the reader can move."""

    def values(column: str) -> tuple[float, ...]:
        return tuple(found.table[column].unique().sort().to_list())

    price = machine.chip_hour
    return (
        Control("sequences", "Sequences on each chip", values("sequences"), found.sequences),
        Control("faster", "Bandwidth between racks over today's", values("faster"), 1.0),
        Control("context", "Context", values("context"), found.context, "tokens"),
        Control("price", "Price of a chip", _prices(price), price, "USD/h"),
    )


def _prices(price: float) -> tuple[float, ...]:
    if price <= 0:
        return (price,)
    return tuple(sorted({price, *(float(f"{price * f:.3g}") for f in (0.5, 0.75, 1.5, 2.0))}))


@dataclass(frozen=True)
class Equal:
    """What would make `racks` racks cost as much as one, at the same sequences on each chip.

    `bytes_per_s` between racks, of a chip in one direction: where the cost comes within `near` of
    that of one rack, None if no bandwidth does it; `endless` is the cost over that of one rack if
    transfers between racks took no time, only their latencies.
    """

    racks: int
    now: float
    endless: float
    bytes_per_s: float | None


def equals(found: Crossing, studies: Studies, machine: Machine, near: float) -> tuple[Equal, ...]:
    """Return for 2, 4 and the most racks what bandwidth between racks makes them equal to one."""
    one = found.row(1)
    if one is None:
        return ()
    racks = found.home["racks"].to_list()
    wanted = sorted({r for r in (2, 4, max(racks)) if r in racks and r > 1})
    return tuple(_equal(r, one, found, studies, machine, near) for r in wanted)


def _equal(
    racks: int, one: Row, found: Crossing, studies: Studies, machine: Machine, near: float
) -> Equal:
    more = copies(machine.experts, racks * machine.domain) or 0
    words = (
        *asked(machine, racks, more),
        f"batch={text(found.sequences * racks * machine.domain)}",
        f"context={text(found.context)}",
    )
    free = f"{speed_of(machine)}={ENDLESS:g}"
    endless = float(estimate(to_study(studies.config(*words, free)).grid())[COST])
    row = found.row(racks)
    assert row is not None
    target = {COST: near * one[COST]}
    try:
        scenario = to_study(studies.config(*words)).grid()
        # a scenario numbers its levels from the inside
        bandwidth = solve(scenario, "hardware.fabric.1.bytes_per_s", target, 1e8, ENDLESS)[0].exact
    except InputError:  # no bandwidth gets there, or any does
        bandwidth = None
    return Equal(racks, row[COST] / one[COST], endless / one[COST], bandwidth)
