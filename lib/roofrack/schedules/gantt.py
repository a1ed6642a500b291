"""Rows of a Gantt chart of one simulated step."""

from collections.abc import Sequence

import polars as pl

from roofrack.schedules.after import After
from roofrack.schedules.simulate import Run

COLUMNS = {
    "stage": pl.Int32,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
    "kind": pl.String,
    "microbatch": pl.Int32,
    "chunk": pl.Int32,
    "overlapped": pl.Boolean,
}
"""What a row says: an operation of orders.KINDS as it ran, or what follows them, of after.AFTER
(without micro-batch and chunk); seconds from the start of the step."""


def gantt(run: Run, after: Sequence[After] = ()) -> pl.DataFrame:
    """Return a row for each operation, by stage and start; those `after` them last.

    An `overlapped` operation has the stage and the times of another row.
    """
    rows: list[tuple[int, float, float, str, int | None, int | None, bool]] = [
        (e.stage, e.start_s, e.end_s, e.op.kind, e.op.microbatch, e.op.chunk, e.overlapped)
        for e in run.events
    ]
    rows += [(a.stage, a.start_s, a.end_s, a.kind, None, None, False) for a in after]
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")
