"""Traces of requests read from CSV and JSONL files; docs/traces.md describes the columns."""

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import polars as pl

from roofrack.errors import InputError, nearest
from roofrack.traffic.requests import Requests
from roofrack.traffic.rows import Rows, requests_of

FOLDER = Path(__file__).with_name("samples")

SAMPLES = {
    "azure_2023_conv": "azure_2023_conv.csv",
    "azure_2023_code": "azure_2023_code.csv",
    "mooncake_conversation": "mooncake_conversation.jsonl",
}
"""Names of the traces that ship, each the beginning of a longer one, and their files."""

DATE = "TIMESTAMP"
TIMES = {"arrival_s": 1.0, "timestamp_ms": 1e3, "timestamp": 1e3, DATE: 1e9}
"""Columns of arrival times and how many of their units a second has; `timestamp` is Mooncake's, in
ms, TIMESTAMP Azure's, a date and time, which is read as ns."""

NEEDED = {
    "arrival time": tuple(TIMES),
    "prompt length": ("prompt", "input_length", "ContextTokens"),
    "output length": ("output", "output_length", "GeneratedTokens"),
}
CACHED, BLOCKS = "cached", "hash_ids"

LAYOUTS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f%z")

Fail = Callable[[str, str, int], NoReturn]


class Table(NamedTuple):
    """A file's columns: `frame` holds them as they are there, `time` to `output` say which."""

    frame: pl.DataFrame
    time: str
    prompt: str
    output: str
    fail: Fail
    """Says that a column holds, as text, what it cannot, in which row."""


def read(source: str | Path, block_tokens: int = 512) -> Requests:
    """Return the requests of a .csv or .jsonl file, or of a sample by its name (SAMPLES).

    The columns say what kind of trace it is. `block_tokens` is the size of the blocks that hash_ids
    name, if there are any. Rows that are no requests are left out and counted in `rejected`, rows
    that stand behind a later one are sorted and counted in `out_of_order`. Raises InputError, in
    one line, for a file that cannot be read, a missing column, a line that cannot be understood,
    and a file without any request.
    """
    if not (block_tokens >= 1 and block_tokens == int(block_tokens)):
        raise InputError(f"block_tokens={block_tokens}: a whole number, at least 1, is needed")
    path = _path(source)
    content = _content(path)
    table = (_csv if path.suffix.lower() == ".csv" else _jsonl)(content, str(source))
    return requests_of(_rows(table, int(block_tokens)), str(source))


def _path(source: str | Path) -> Path:
    if str(source) in SAMPLES:
        return FOLDER / SAMPLES[str(source)]
    path = Path(source)
    if path.suffix.lower() in (".csv", ".jsonl", ".ndjson"):
        return path
    if path.suffix:
        raise InputError(f"{source}: a trace is a file of kind .csv, .jsonl or .ndjson")
    raise InputError(
        f"{source}: no trace of this name; a .csv or .jsonl file is needed, or one of "
        f"{', '.join(SAMPLES)}.{nearest(source, SAMPLES)}"
    )


def _content(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # to open a pipe would wait
            raise InputError(f"{path}: not a file")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{str(path)!r}: no name of a file") from None
    content = content.removeprefix(codecs.BOM_UTF8)
    if not content.strip():
        raise InputError(f"{path}: empty")
    return content


def _named(columns: list[str], origin: str) -> tuple[str, str, str]:
    """Return which columns hold time, prompt and output."""
    chosen = []
    for role, names in NEEDED.items():
        found = [name for name in names if name in columns]
        if len(found) > 1:
            raise InputError(f"{origin}: {' and '.join(found)}: one column of {role} is needed")
        if not found:
            told = [_short(column) for column in columns]
            hint = next((h for h in (nearest(name, told) for name in names) if h), "")
            have = ", ".join(told[:8])
            raise InputError(
                f"{origin}: no column of {role} ({' or '.join(names)}); there are {have}.{hint}"
            )
        chosen.append(found[0])
    return chosen[0], chosen[1], chosen[2]


def _csv(content: bytes, origin: str) -> Table:
    def lines() -> Iterator[tuple[int, list[str]]]:
        rows = csv.reader(io.StringIO(content.decode("utf-8", "replace"), newline=""))
        with suppress(csv.Error):  # only looked for a place to name
            for row in rows:
                yield rows.line_num, row

    def fail(column: str, text: str, row: int) -> NoReturn:
        # cells in quotes may have lines of their own
        within = frame.head(row).select(pl.all().str.count_matches("\n").sum())
        before = within.sum_horizontal()[0] + sum(name.count("\n") for name in header)
        before += content[: len(content) - len(content.lstrip())].count(b"\n")
        raise InputError(_wrong(origin, row + 2 + before, column, text))

    try:
        frame = pl.read_csv(content, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        _, first = next(lines(), (1, []))
        longer = next((item for item in lines() if len(item[1]) > len(first)), None)
        if longer:
            raise InputError(
                f"{origin}: line {longer[0]}: {len(longer[1])} values for {len(first)} columns"
            ) from None
        raise InputError(f"{origin}: not a CSV table: {_first_line(error)}") from None
    header = frame.columns
    columns = [column.strip() for column in header]
    for column in columns:
        if f"{column}_duplicated_0" in columns or columns.count(column) > 1:
            raise InputError(f"{origin}: two columns are named {_short(column)}")
    frame.columns = columns
    names = _named(columns, origin)
    if BLOCKS in frame.columns:
        raise InputError(f"{origin}: {BLOCKS} are lists; they can be read from .jsonl only")
    return Table(frame, *names, fail)


def _jsonl(content: bytes, origin: str) -> Table:
    names = _named(list(next(_objects(content, origin))[1]), origin)
    schema: dict[str, Any] = {name: pl.Float64 for name in (*names, CACHED)}
    schema |= {DATE: pl.String} if DATE in names else {}
    schema |= {BLOCKS: pl.List(pl.Int64)}

    def fail(column: str, text: str, row: int) -> NoReturn:
        number, _ = next(islice(_objects(content, origin), row, None))
        raise InputError(_wrong(origin, number, column, text))

    try:
        frame = pl.read_ndjson(content, schema=schema)
        whole = not frame[BLOCKS].drop_nulls().list.eval(pl.element().is_null()).list.any().any()
    except pl.exceptions.PolarsError as error:
        whole, told = False, _first_line(error)
    else:
        told = f"{BLOCKS} holds null"
    if not whole:
        for number, row in _objects(content, origin):
            for column in schema:
                if not _fits(row.get(column), schema[column]):
                    raise InputError(_wrong(origin, number, column, json.dumps(row[column])))
        raise InputError(f"{origin}: not lines of JSON: {told}") from None
    return Table(frame, *names, fail)


def _objects(content: bytes, origin: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a JSONL file with their line numbers; InputError for another line."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=refuse)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{origin}: line {number}: not JSON: {_first_line(error)}") from None
        if not isinstance(row, dict):
            raise InputError(f"{origin}: line {number}: not a JSON object")
        yield number, row


def _fits(value: Any, dtype: Any) -> bool:
    """Whether a JSON value can stand in a column; null always can."""
    if value is None:
        return True
    if dtype == pl.String:
        return isinstance(value, str)
    if dtype == pl.Float64:
        # a number beyond the range of floats is infinite
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        return fits and abs(value) < 1e308
    return isinstance(value, list) and all(
        isinstance(block, int) and not isinstance(block, bool) and abs(block) < 2**63
        for block in value
    )


def _rows(table: Table, block_tokens: int) -> Rows:
    frame, fail = table.frame, table.fail
    time = _dates(frame[DATE], fail) if table.time == DATE else _numbers(frame[table.time], fail)
    blocks = frame[BLOCKS] if BLOCKS in frame.columns else None
    known = CACHED in frame.columns
    return Rows(
        time.to_numpy() / TIMES[table.time],
        _numbers(frame[table.prompt], fail).to_numpy(),
        _numbers(frame[table.output], fail).to_numpy(),
        _numbers(frame[CACHED], fail).fill_null(0.0).to_numpy() if known else None,
        blocks if blocks is not None and blocks.null_count() < len(blocks) else None,
        block_tokens,
    )


def _numbers(column: pl.Series, fail: Fail) -> pl.Series:
    """Return numbers; what is empty is null."""
    if column.dtype != pl.String:
        return column
    text = column.str.strip_chars()
    numbers = text.cast(pl.Float64, strict=False)
    _refuse(text, numbers, fail)
    return numbers


def _dates(column: pl.Series, fail: Fail) -> pl.Series:
    """Return nanoseconds since the first of dates with times; without a zone they are in UTC."""
    text = column.str.strip_chars()
    plain = text.str.replace("T", " ", literal=True).str.replace("Z$", "+00:00")
    dates = plain.str.to_datetime(LAYOUTS[0], time_unit="ns", strict=False)
    if dates.null_count():
        zoned = plain.str.to_datetime(LAYOUTS[1], time_unit="ns", strict=False)
        dates = dates.zip_with(dates.is_not_null(), zoned.dt.replace_time_zone(None))
    _refuse(text, dates, fail)
    # whole numbers until the difference is small
    counted = dates.cast(pl.Int64)
    return (counted - counted.min()).cast(pl.Float64)


def _refuse(text: pl.Series, values: pl.Series, fail: Fail) -> None:
    """Refuse the first text that has no value."""
    wrong = (values.is_null() & (text.fill_null("") != "")).arg_true()
    if len(wrong):
        fail(text.name, text[wrong[0]], wrong[0])


def _wrong(origin: str, number: int, column: str, text: str) -> str:
    if column == DATE:
        rule = "a date and time, as 2023-11-16 18:15:46.68, is needed"
    else:
        rule = "a list of whole numbers is needed" if column == BLOCKS else "a number is needed"
    return f"{origin}: line {number}: {column}={_short(text)}: {rule}"


def _short(text: str) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= 40 else f"{text[:37]}..."


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return _short(lines[0]) if lines else type(error).__name__
