"""Published statistics of whole services: what was measured, at which load, in `service.csv`.

A row is one measured run or pool, with what is known of machine, model, engine, plan and lengths,
its load, and every figure that its source gives. `method` says how it is predicted:

- `steady`: a pool at a known batch, or at a known speed of a user (`speed`: the batch is sought).
- `closed_loop`: `clients`, each of which sends its next request when the last one has ended.
- `fleet`: the pools that name the same `fleet`, each with its load (`per_day`), as one service.
- `load`: requests come at `rate_per_s` whatever has become of earlier ones: simulated.

Figures stand as printed; `notes` say what was derived or assumed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from roofrack.errors import InputError
from roofrack.validation.published import (
    Field,
    check_origin,
    check_overrides,
    one_of,
    options,
    positive,
    read,
)

PATH = Path(__file__).with_name("service.csv")
"""The table that ships."""

METHODS = ("steady", "closed_loop", "fleet", "load")
STATISTICS = ("mean", "day")
"""What a figure is: the mean over a run, or the average of a day."""


class Quantity(NamedTuple):
    """A figure that a row may have: its unit and meaning, and the methods that predict it."""

    unit: str
    doc: str
    methods: tuple[str, ...]


QUANTITIES = {
    "batch_per_chip": Quantity("sequences", "sequences in flight, of one chip", ("steady",)),
    "tokens_per_s": Quantity(
        "token/s",
        "output tokens, or prompt tokens with cached ones, of `node_chips` chips or of all",
        ("steady", "closed_loop", "load"),
    ),
    "tpot_s": Quantity(
        "s", "time per output token after the first", ("steady", "closed_loop", "load")
    ),
    "ttft_s": Quantity("s", "time to first token", ("closed_loop", "load")),
    "nodes": Quantity("nodes", "nodes of `node_chips` chips that the load takes", METHODS),
    "usd_per_day": Quantity("USD", "rent of a day", ("fleet",)),
    "usd_per_mtok": Quantity("USD/Mtoken", "that over the output tokens of the day", ("fleet",)),
}
"""The figures; all of them columns of the table."""

_TEXT = {
    "id": "name of the row, unique and lasting",
    "group": "where it comes from; errors are reported by it",
    "method": "one of METHODS",
    "hardware": "machine, by its name in conf/hardware",
    "model": "model, by its name in conf/model",
    "engine": "vllm, sglang or trtllm, of the calibration; empty where there is none of it",
    "version": "of the engine",
    "overrides": "of `roofrack point`: the scenario; its batch counts only where none is sought",
}
_NUMBERS = {
    "speed": "tokens per second of a user",
    "clients": "requests in flight at most, of a closed loop",
    "in_flight": "requests in flight on average, where printed: fewer while a run fills and drains",
    "requests": "that were sent",
    "rate_per_s": "requests per second that arrive, in a Poisson process",
    "per_day": "tokens of a pool in a day: generated, or of prompts with cached ones",
}
_LAST = {
    "statistic": "one of STATISTICS",
    "source": "public: title and address, or repository@commit:path",
    "how": "one of published.HOW: of the figure that the least is printed of",
    "confidence": "one of published.CONFIDENCE",
    "notes": "what was derived or assumed",
}
FIELDS = {
    name: Field(pl.String, doc)
    for name, doc in {
        **_TEXT,
        **_NUMBERS,
        "fleet": "the service that a pool belongs to",
        "node_chips": "chips of a node",
        **{name: quantity.doc for name, quantity in QUANTITIES.items()},
        **_LAST,
    }.items()
}
"""The columns of service.csv, in order; numbers may be empty, so all are read as text."""

NUMBERS = (*_NUMBERS, "node_chips", *QUANTITIES)
"""Columns that `load` returns as numbers, null where empty."""

LOADS = {"closed_loop": "clients", "fleet": "fleet", "load": "rate_per_s"}
"""What a method cannot do without."""


def load(path: str | Path = PATH) -> pl.DataFrame:
    """Return the rows of service.csv; NUMBERS are floats, null where empty, the rest text.

    Raises InputError naming the row for a machine, model, key or word that roofrack does not have,
    what is no positive number, no figure at all, one that its method does not predict, a load that
    is missing, no source, an id twice.
    """
    table = read(Path(path), FIELDS)
    for row in table.iter_rows(named=True):
        _check(f"{Path(path).name}: row {row['id']}", row)
    return table.with_columns(pl.col(name).cast(pl.Float64, strict=False) for name in NUMBERS)


def _check(where: str, row: Mapping[str, Any]) -> None:
    one_of(where, "method", row["method"], METHODS)
    one_of(where, "model", row["model"], options("model"))
    one_of(where, "statistic", row["statistic"], STATISTICS)
    check_origin(where, row)
    for name in NUMBERS:
        if row[name] != "":
            positive(where, name, number(where, name, row[name]))
    known = LOADS.get(row["method"])
    if known and row[known] == "":
        raise InputError(f"{where}: {known} is empty: method={row['method']} needs it")
    figures = [name for name in QUANTITIES if row[name] != ""]
    if not figures:
        raise InputError(f"{where}: no figure: give one of {', '.join(QUANTITIES)}")
    for name in figures:
        if row["method"] not in QUANTITIES[name].methods:
            raise InputError(f"{where}: {name}: method={row['method']} does not predict it")
    for name, needs in {"nodes": "node_chips", "per_day": "node_chips"}.items():
        if row[name] != "" and row[needs] == "":
            raise InputError(f"{where}: {needs} is empty: {name} needs it")
    if row["method"] != "fleet":
        check_overrides(where, row)


def number(where: str, key: str, text: str) -> float:
    """Return the number that a cell holds; raise InputError for other text."""
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{where}: {key}={text}: no number") from None
