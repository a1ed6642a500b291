"""Words and names that the text and the page of a validation share."""

import polars as pl

QUANTITIES = {"tpot_s": "TPOT", "ttft_s": "TTFT"}
"""Measured numbers of serving runs, as people write them."""

SET_WORDS = {"counted": "counted rows", "all": "all rows"}
"""Sets of rows."""

LABELS = {
    "rows": "Rows",
    "median_abs": "Median error (%)",
    "mean_abs": "Mean error (%)",
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
}
"""Columns of tables in words; shares and errors are shown in percent."""


def verdict_words(met: bool | None) -> str:
    """Return whether a target is met; None where no row could tell."""
    return "no rows" if met is None else "met" if met else "MISSED"


def tpot(lines: pl.DataFrame) -> pl.DataFrame:
    """Return the lines of the time per output token."""
    return lines.filter(pl.col("quantity") == "tpot_s")
