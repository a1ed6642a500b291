"""Public price sheets of language models: dated, each row with its source (prices.csv).

Prices are USD for a million tokens: `input` (read), `cached` (read before and found in a cache),
`output` (written); null where a sheet has none. `storage_hour` is what keeping a million cached
tokens for an hour costs. `above_tokens` is the prompt length above which a row counts.
"""

from functools import cache
from importlib.resources import files

import polars as pl

_TYPES = {
    "vendor": pl.String,
    "model": pl.String,
    "above_tokens": pl.Float64,
    "input": pl.Float64,
    "cached": pl.Float64,
    "output": pl.Float64,
    "storage_hour": pl.Float64,
    "date": pl.String,
    "source": pl.String,
}


@cache
def sheets() -> pl.DataFrame:
    """Return the table of the file, with the ratios that the page compares."""
    path = files(__package__).joinpath("prices.csv")
    table = pl.read_csv(path.read_bytes(), schema_overrides=_TYPES)
    return table.with_columns(
        output_over_input=pl.col("output") / pl.col("input"),
        cached_over_input=pl.col("cached") / pl.col("input"),
    )


def base() -> pl.DataFrame:
    """Return the prices of short prompts, one row a model."""
    return sheets().filter(pl.col("above_tokens") == 0)


def tiers() -> pl.DataFrame:
    """Return the models with a second price for long prompts, and how much dearer it is.

    `input_rise` and `output_rise`: the price above `above_tokens` over the one below.
    """
    above = sheets().filter(pl.col("above_tokens") > 0)
    below = base().select("model", below_input="input", below_output="output")
    return above.join(below, on="model", maintain_order="left").with_columns(
        input_rise=pl.col("input") / pl.col("below_input"),
        output_rise=pl.col("output") / pl.col("below_output"),
    )
