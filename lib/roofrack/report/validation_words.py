"""Words and names that the text and the page of a validation share."""

import polars as pl

from roofrack.report.format import number, percent
from roofrack.validation.training_verdict import SET_WORDS as TRAINING_SETS

QUANTITIES = {"tpot_s": "TPOT", "ttft_s": "TTFT"}
"""Measured numbers of serving runs, as people write them."""

TRAINED = {
    "step_s": "time of a step",
    "peak_memory_bytes": "peak memory",
    "activation_bytes": "activations, as the source counts them",
}
"""Measured numbers of training runs; only the first two were measured."""

SET_WORDS = {"counted": "counted rows", "all": "all rows"}
"""Sets of rows."""

LABELS = {
    "rows": "Rows",
    "median_abs": "Median error (%)",
    "mean_abs": "Mean error (%)",
    "worst": "Largest error (%)",
    "bias": "Bias (%)",
    "within": "Within 20 % (%)",
    "inside": "In the 80 % interval (%)",
    "measured": "Measured",
    "predicted": "Predicted",
    "group": "Group",
    "grouping": "By",
    "set": "Rows counted",
    "quantity": "What",
    "mode": "Mode",
    "reason": "Likely reason",
    "log_ratio": "ln(predicted / measured)",
    "covered": "Covered",
    "share": "Share (%)",
    "rule": "Rule",
    "says": "What it says",
    "tool": "Tool",
    "median_ours": "Median error, roofrack (%)",
    "median_theirs": "Median error, theirs (%)",
    "mean_ours": "Mean error, roofrack (%)",
    "mean_theirs": "Mean error, theirs (%)",
    "closer": "Roofrack is closer (%)",
    "target": "Target",
    "limit": "Limit (%)",
    "found": "Found (%)",
    "met": "Met",
    "which": "Where",
    "over": "Missed by (points)",
    "worst_id": "Run furthest off",
    "too_large": "Said not to fit",
    "key": "Assumed",
    "value": "Value",
    "why": "Why",
    "source": "Source",
    "software": "Software",
    "flops": "FLOP counted as",
    "notes": "Notes",
    "mean": "Mean error, theirs (%)",
    "worst_ours": "Largest error, roofrack (%)",
    "worst_theirs": "Largest error, theirs (%)",
    "rows_ours": "Runs, roofrack",
    "id": "Run",
    "origin": "Group",
    "model": "Model",
    "hardware": "Machine",
    "chips": "Chips",
    "precision": "Precision",
    "error": "Error (%)",
    "fits": "Said to fit",
}
"""Columns of tables in words; shares and errors are shown in percent."""


def verdict_words(met: bool | None) -> str:
    """Return whether a target is met; None where no row could tell."""
    return "no rows" if met is None else "met" if met else "MISSED"


def tpot(lines: pl.DataFrame) -> pl.DataFrame:
    """Return the lines of the time per output token."""
    return lines.filter(pl.col("quantity") == "tpot_s")


def limit_words(limit: float, least: bool = False) -> str:
    """Return what a target asks for."""
    return f"{'at least' if least else 'at most'} {percent(limit, 3)}"


def over_words(over: float | None) -> str:
    """Return by how much a target is missed, in percentage points; nothing where it is met."""
    return "" if over is None else f" by {number(100.0 * over, 3)} points"


def set_or_group(by: str, name: str) -> str:
    """Return the name of a set or of a group of training runs as people read it."""
    return TRAINING_SETS[name] if by == "set" else name.replace("_", " ")
