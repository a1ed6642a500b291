"""Layouts held while experts are added: as many chips of one rack as the experts allow, and more.

All is asked of the reader's machine and model by studies beside the run: attention divided by
sequences (tp 1), experts over all chips.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from roofrack.report.controls import Control

from ..common.moving import chip_price, values_of
from ..common.overrides import axis
from ..common.pages import setting
from ..common.studies import Studies
from .rows import Facts, Machine

SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Sequences on each chip that the slider offers."""
FASTER = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Bandwidth of the whole network over the machine's own."""
CONTEXTS = (0.25, 1.0, 4.0)
"""Context over the run's own."""
NETWORK = pl.col("t_scale_up_s") + pl.col("t_scale_out_s")
"""Time of the exchange: at tp 1 nothing else uses the network."""
WORK = pl.max_horizontal(
    "t_compute_s", pl.col("t_weights_s") + pl.col("t_kv_s") + pl.col("t_activation_s")
)
"""What a chip does itself, in seconds: arithmetic or memory, the longer one."""


@dataclass(frozen=True)
class Layouts:
    """Every ratio on `chips`: inside one rack, and on twice as many where those span two.

    `table` has every setting of the sliders; columns `ratio`, `place` (the layout in words),
    `sequences` (on each chip), `faster`, `context`. `sequences` and `context` are where the sliders
    start.
    """

    chips: tuple[int, ...]
    places: tuple[str, ...]
    table: pl.DataFrame
    sequences: float
    context: float

    @property
    def plain(self) -> pl.DataFrame:
        """The rows of the machine as it is, at the run's context."""
        return self.table.filter(pl.col("faster") == 1.0, pl.col("context") == self.context)

    @property
    def home(self) -> pl.DataFrame:
        """The rows where the sliders start, by ratio and layout."""
        return self.plain.filter(pl.col("sequences") == self.sequences).sort("racks", "ratio")


def chips_of(facts: Facts) -> tuple[int, ...]:
    """Return the chips of the layouts: the most of the run inside one rack, and twice as many.

    None where no plan of the run leaves a chip: there is no exchange then.
    """
    own = facts.all.filter(
        pl.col("valid"), pl.col("ratio").is_close(facts.machine.ratio), pl.col("tp") == "1"
    )
    inside = own.filter(pl.col("racks") == 1, pl.col("chips") > 1)["chips"]
    if inside.is_empty():
        return ()
    one = int(inside.max())  # type: ignore[arg-type]
    return (one, 2 * one) if len(facts.machine.levels) > 1 else (one,)


def layouts(facts: Facts, studies: Studies) -> Layouts | None:
    """Ask every ratio on every layout; None where there is none, or none of them can run."""
    chips = chips_of(facts)
    machine, start = facts.machine, setting(facts.run, "sequences_per_chip", most=1e6)
    if not chips:
        return None
    held = sorted({*map(float, SEQUENCES), start})
    contexts = [machine.context * factor for factor in CONTEXTS] if machine.context else [0.0]
    speeds = [
        axis(path_of(level), (f * bytes_per_s for f in FASTER))
        for level, bytes_per_s in machine.levels.items()
    ]
    rows = studies.rows(
        "experts added to one layout",
        *layout_words(chips),
        axis("sparsity", facts.ratios),
        axis("batch", sorted({s * n for s in held for n in chips})),
        axis("context", contexts),
        *speeds,
    )
    table = _told(rows, machine).filter("valid", pl.col("sequences").is_in(held))
    if table.is_empty():
        return None
    places = tuple(table.sort("chips")["place"].unique(maintain_order=True))
    return Layouts(chips, places, table, start, machine.context)


def layout_words(chips: Sequence[int]) -> tuple[str, ...]:
    """Return the overrides of layouts: no tensor parallelism, experts over all chips."""
    return (
        "workload=decode",
        "parallelism=rack",
        "parallelism.tp=1",
        axis("parallelism.dp", chips),
    )


def path_of(level: str) -> str:
    """Return the override path of the bandwidth of a level of the fabric."""
    return f"hardware.fabric.{level}.bytes_per_s"


def _told(rows: pl.DataFrame, machine: Machine) -> pl.DataFrame:
    """Add what the sliders move; keep the rows whose levels are all as much faster."""
    factors = [
        (pl.col(path_of(level)) / bytes_per_s).round_sig_figs(7) if bytes_per_s else pl.lit(1.0)
        for level, bytes_per_s in machine.levels.items()
    ]
    rows = rows.with_columns(faster=factors[0].cast(pl.Float64))
    for factor in factors[1:]:
        rows = rows.filter(factor.cast(pl.Float64).is_close(pl.col("faster"), rel_tol=1e-6))
    chips = pl.col("chips").cast(pl.Int64)
    racks = pl.col("racks").cast(pl.Int64)
    several = pl.format("{} chips in {} racks", chips, racks)
    return rows.with_columns(
        place=pl.when(racks == 1).then(pl.format("{} chips in one rack", chips)).otherwise(several),
        ratio=pl.col("sparsity").cast(pl.Float64).round_sig_figs(7),
        total=pl.col("params_total"),
        sequences=(pl.col("batch") / pl.col("chips")).cast(pl.Float64).round_sig_figs(7),
        context=pl.col("context").cast(pl.Float64),
        exchange=(NETWORK / WORK).cast(pl.Float64),
    )


def controls(found: Layouts, machine: Machine) -> tuple[Control, ...]:
    """Return what the reader can move; the price, if there is one, last."""
    moved = (
        Control("sequences", "Sequences on each chip", values_of(found.table, "sequences"),
                found.sequences),
        Control("faster", "Bandwidth of the network over today's",
                values_of(found.table, "faster"), 1.0),
        Control("context", "Context", values_of(found.table, "context"), found.context, "tokens"),
    )  # fmt: skip
    price = chip_price(machine.chip_hour)
    return (*moved, price) if price else moved


def hides(found: Layouts, place: str, ratio: float) -> float | None:
    """Return the fewest sequences on each chip from which the exchange is the shorter part.

    None if it is the longer one at every number tried.
    """
    rows = found.plain.filter(pl.col("place") == place, pl.col("ratio").is_close(ratio))
    rows = rows.sort("sequences")
    last = rows.filter(pl.col("exchange") >= 1.0)["sequences"].max()
    after = rows if last is None else rows.filter(pl.col("sequences") > last)
    return None if after.is_empty() else float(after["sequences"][0])
