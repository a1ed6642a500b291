"""What other tools predict for the same runs, beside this one, on identical rows.

peers.csv is made on demand (peers.md says how and when); nothing of the tools is in it but answers.
"""

from pathlib import Path

import polars as pl

PATH = Path(__file__).with_name("peers.csv")

QUANTITIES = {"tpot_s": "tpot_ms", "ttft_s": "ttft_ms"}


def load(path: str | Path = PATH) -> pl.DataFrame:
    """Return the peers' answers, a line each: `id`, `tool`, `quantity`, `theirs` in seconds."""
    table = pl.read_csv(path, infer_schema_length=None).filter("answered")
    parts = [
        table.select("id", "tool", pl.lit(name).alias("quantity"), theirs=pl.col(column) / 1e3)
        for name, column in QUANTITIES.items()
    ]
    return pl.concat(parts).filter(pl.col("theirs") > 0)


def side_by_side(lines: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Return errors of ours and theirs on the lines that both answer.

    Columns: tool, quantity, mode, rows, median and mean of |error| of ours and theirs, `closer`,
    the share of rows where the logarithm of ours is nearer to the measured one.
    """
    used = lines.filter(pl.col("log_ratio").is_not_null())
    both = used.join(answers, on=["id", "quantity"]).with_columns(
        their_log=(pl.col("theirs") / pl.col("measured")).log()
    )
    ours = pl.col("error").abs()
    theirs = (pl.col("their_log").exp() - 1.0).abs()
    nearer = pl.col("log_ratio").abs() < pl.col("their_log").abs()
    return (
        both.group_by("tool", "quantity", "mode")
        .agg(
            rows=pl.len(),
            median_ours=ours.median(),
            median_theirs=theirs.median(),
            mean_ours=ours.mean(),
            mean_theirs=theirs.mean(),
            closer=nearer.mean(),
        )
        .sort("quantity", "mode", "tool")
    )
