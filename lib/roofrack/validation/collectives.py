"""Published times of single collectives: no column of a result is one, so they are a table apart.

`published_collectives.csv` is kept by hand, as `published.csv` is. Its rows are exchanges of tokens
with their experts; each is predicted with the links of its machine's calibration and the functions
that the cost model has for them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from roofrack.arithmetic import least
from roofrack.conversion import to_study
from roofrack.cost.fabric import trunks, wires
from roofrack.cost.routing import all_to_all, route
from roofrack.validation.composed import options_of
from roofrack.validation.published import Field, check_origin, one_of, positive, read

PATH = Path(__file__).with_name("published_collectives.csv")
"""The table that ships."""

OPERATIONS = ("dispatch", "combine")
"""Tokens to their experts, and back: fields of calibration.Links."""

FIELDS = {
    "id": Field(pl.String, "name of the row, unique and lasting"),
    "operation": Field(pl.String, "one of OPERATIONS"),
    "hardware": Field(pl.String, "machine, by its name in conf/hardware"),
    "ranks": Field(pl.Int64, "chips that take part"),
    "tokens": Field(pl.Int64, "tokens of one rank"),
    "hidden": Field(pl.Int64, "elements of a token"),
    "topk": Field(pl.Int64, "experts that a token is sent to"),
    "experts": Field(pl.Int64, "routed experts of all ranks together"),
    "dtype": Field(pl.String, "number format on the wire"),
    "bytes": Field(pl.Int64, "sent by one rank, copies to itself included"),
    "microseconds": Field(pl.Float64, "time of one call"),
    "source": Field(pl.String, "public: repository@commit:path"),
    "how": Field(pl.String, "one of published.HOW"),
    "confidence": Field(pl.String, "one of published.CONFIDENCE"),
    "notes": Field(pl.String, "what was derived or assumed"),
}
"""The columns of the table, in order."""

SHAPE = ("ranks", "tokens", "topk", "experts", "bytes")
"""The columns that a prediction is made from, beside machine and operation."""


def load(path: str | Path = PATH) -> pl.DataFrame:
    """Return published times of collectives, one row each, with the columns of FIELDS.

    Raises InputError naming the row for a file that does not keep to them.
    """
    table = read(Path(path), FIELDS)
    for row in table.iter_rows(named=True):
        where = f"{Path(path).name}: row {row['id']}"
        one_of(where, "operation", row["operation"], OPERATIONS)
        check_origin(where, row)
        for key, field in FIELDS.items():
            if field.dtype.is_numeric():
                positive(where, key, row[key])
    return table


def predict(table: pl.DataFrame, overrides: Sequence[str] = ()) -> pl.DataFrame:
    """Return the rows with `predicted`, the seconds of one call.

    Every rank has as many tokens, which visit experts at random, on chips side by side; a copy of a
    token goes to each of its experts by itself, once to a rank at most, as kernels of low latency
    send it. `overrides` are set besides, `calibration=ideal` for example.
    """
    options = options_of({"hardware": table["hardware"].to_list()}, overrides)
    parts = []
    for (hardware, operation), rows in table.group_by("hardware", "operation"):
        s = to_study(options["hardware", str(hardware)]).grid()
        of = {name: rows[name].cast(pl.Float64).to_numpy() for name in SHAPE}
        laid = wires(trunks(s.hardware, s.calibration), s.calibration.quantize, (of["ranks"], 1.0))
        way = route(laid, least(of["topk"], of["ranks"]), 1.0, 0.0, 0.0)
        copy_bytes = of["bytes"] / of["tokens"] / of["topk"]
        held = of["experts"] / of["ranks"]
        kinds = (str(operation), "all_to_all")
        seconds = all_to_all(laid, way, copy_bytes, of["tokens"], kinds, held).longest
        parts.append(rows.select("id", predicted=pl.Series(np.asarray(seconds))))
    return table.join(pl.concat(parts), on="id", maintain_order="left")
