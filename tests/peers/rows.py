"""The measured serving rows that every peer is asked for: which, in what order, how they are read.

Standard library only: the scripts beside this file run in the virtual environments of the peers.
"""

import csv
import importlib.resources
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

Row = dict[str, str]

FIELDS = ("id", "tool", "version", "ttft_ms", "tpot_ms", "answered", "reason")
"""The columns of a table of predictions."""
UNREAD = ("id", "silicon_data_source")
"""Columns that name a row and its export. Rows equal in all others are one run."""
DENSE = re.compile(r"llama|qwen3-32b", re.IGNORECASE)
PLAIN = "gap-analysis/"
"""In the source of NVIDIA's own runs; the others are runs of InferenceX."""


class Layout(NamedTuple):
    """Degrees of one engine; those of the experts are 0 for a dense model."""

    tp: int
    dp: int
    moe_tp: int
    moe_ep: int
    repaired: bool = False


def sample(table: Path | None = None) -> list[Row]:
    """The rows of silicon_sample.csv, without copies of a run.

    By default that of the aiconfigurator-core installed here.
    """
    package = importlib.resources.files("aiconfigurator_core") if table is None else Path()
    with (table or Path(str(package)) / "systems/silicon_sample.csv").open(newline="") as file:
        first: dict[tuple[str, ...], Row] = {}
        for row in csv.DictReader(file):
            first.setdefault(tuple(v for k, v in row.items() if k not in UNREAD), row)
    return list(first.values())


def fair_order(rows: list[Row]) -> list[Row]:
    """Aggregated rows first, each mode round-robin over (system, model, backend).

    Within a group the rows are spread by a stride, so that any beginning is a fair sample.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["id"]):
        name = (row["mode"], row["system"], row["model_path"], row["backend"])
        groups.setdefault(name, []).append(row)
    ranked = []
    for (mode, *_), members in sorted(groups.items()):
        spread = sorted(range(len(members)), key=lambda k: (k * 0.6180339887) % 1.0)
        ranked += [(mode, turn, members[k]) for turn, k in enumerate(spread)]
    return [row for *_, row in sorted(ranked, key=lambda item: item[:2])]


def in_turns(rows: list[Row], length: int = 1000) -> Iterator[Row]:
    """The rows in chunks; within a chunk, those of one engine together, which is faster."""
    engine = (
        "system",
        "backend",
        "model_path",
        "gemm_quant_mode",
        "tp_size",
        "moe_ep_size",
        "mode",
    )
    for begin in range(0, len(rows), length):
        yield from sorted(rows[begin : begin + length], key=lambda row: [row[k] for k in engine])


def dense(row: Row) -> bool:
    """Whether the model has no experts."""
    return bool(DENSE.search(row["model_path"]))


def degree(row: Row, name: str) -> int | None:
    """A number of the row, or None where the export leaves it out or writes 0."""
    return int(float(row[name])) or None if row[name] else None


def requests(row: Row) -> int | None:
    """Clients of an aggregated run; where they are not recorded, the batches of all ranks."""
    recorded = re.search(r"silicon_concurrency=(\d+)", row["silicon_data_source"])
    if recorded:
        return int(recorded[1])
    size = degree(row, "batch_size")
    return size and size * (degree(row, "attention_dp_size") or 1)


def layout(row: Row, role: str = "") -> Layout | None:
    """How one engine is laid out; `role` is "", "prefill_" or "decode_". None: degrees missing.

    Aggregated mixtures of experts are read as roofrack.validation.silicon reads them, where the
    reasons stand: exports of InferenceX write g chips with products of g, and those of the gap
    analysis leave the data-parallel degree out.
    """
    tp, dp, moe_tp, moe_ep = (
        degree(row, f"{role}{name}")
        for name in ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    )
    if tp is None:
        return None
    if dense(row):
        return Layout(tp, dp or 1, 0, 0)
    if moe_tp is None or moe_ep is None:
        return None
    if role:
        return Layout(tp, dp or 1, moe_tp, moe_ep)
    if PLAIN in row["silicon_data_source"]:
        if dp is not None:
            return Layout(tp, dp, moe_tp, moe_ep)
        if tp > 1 and (requests(row) or 0) == tp * (degree(row, "batch_size") or 0):
            return Layout(1, tp, moe_tp, moe_ep, True)
        left = max(1, moe_tp * moe_ep // tp)
        return Layout(tp, left, moe_tp, moe_ep, left > 1)
    dp = dp or 1
    if moe_tp == moe_ep > 1 and tp * dp == moe_ep**2 and 1 in (tp, dp):
        by_data = tp == 1
        return Layout(1 if by_data else moe_ep, moe_ep if by_data else 1, 1, moe_ep, True)
    if tp == dp > 1 and (moe_tp, moe_ep) == (1, tp * tp):
        return Layout(tp, 1, 1, tp, True)
    return Layout(tp, dp, moe_tp, moe_ep)


def batch(row: Row, engine: Layout) -> int | None:
    """Sequences on one data-parallel rank of an aggregated engine; None where the file has none.

    The column holds this number already. It is made anew where the layout was read differently.
    """
    size, clients = degree(row, "batch_size"), requests(row)
    if not engine.repaired or clients is None:
        return size
    return math.ceil(clients / engine.dp)


def append(out: Path, predictions: Iterator[dict[str, object]]) -> int:
    """Write predictions to `out` one by one, so that a run cut short can go on; how many."""
    new = not out.exists()
    count = 0
    with out.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if new:
            writer.writeheader()
        for prediction in predictions:
            writer.writerow(prediction)
            file.flush()
            count += 1
    return count


def done(out: Path) -> set[tuple[str, str]]:
    """(id, tool) of the predictions that `out` holds."""
    if not out.exists():
        return set()
    with out.open(newline="") as file:
        return {(row["id"], row["tool"]) for row in csv.DictReader(file)}
