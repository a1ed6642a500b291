"""Rows of a Gantt chart of one simulated step."""

import polars as pl

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
"""What a row says: an operation of orders.KINDS as it ran; seconds from the start of the step."""


def gantt(run: Run) -> pl.DataFrame:
    """Return a row for each operation, by stage and start.

    An `overlapped` operation has the stage and the times of another row.
    """
    rows = [
        (e.stage, e.start_s, e.end_s, e.op.kind, e.op.microbatch, e.op.chunk, e.overlapped)
        for e in run.events
    ]
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")
