"""Training runs of a validation as text for a terminal."""

import polars as pl

from roofrack.report.format import NOTHING, number, percent, table
from roofrack.report.validation_words import (
    TRAINED,
    limit_words,
    over_words,
    set_or_group,
    verdict_words,
)
from roofrack.validation.training_verdict import SET_WORDS, Training


def parts(found: Training) -> list[str]:
    """Return the parts of what `roofrack validate` prints of training runs."""
    return [_targets(found), *_errors(found), _peers(found), _left_out(found), _assumed(found)]


def _targets(found: Training) -> str:
    lines = [
        (
            row["target"],
            percent(row["found"], 3),
            limit_words(row["limit"]),
            f"{verdict_words(row['met'])}{over_words(row['over'])}",
            number(row["rows"], 9),
        )
        for row in found.targets.iter_rows(named=True)
    ]
    beyond = [
        f"  beyond, {row['target']}: {row['which']}"
        for row in found.targets.iter_rows(named=True)
        if row["which"]
    ]
    head = table("Training runs: targets", ("", "found", "target", "", "runs"), lines)
    return "\n".join([head, *beyond])


def _errors(found: Training) -> list[str]:
    headings = ("", "runs", "median", "mean", "largest", "bias", "within 20 %", "said not to fit")
    made = []
    for quantity, words in TRAINED.items():
        rows = found.errors.filter(pl.col("quantity") == quantity)
        if rows.is_empty():
            continue
        lines = [
            (
                set_or_group(row["by"], row["group"]),
                number(row["rows"], 9),
                *(percent(row[name], 3) for name in ("median_abs", "mean_abs", "worst")),
                f"{100 * row['bias']:+.1f} %",
                percent(row["within"], 3),
                NOTHING if row["too_large"] is None else number(row["too_large"], 9),
            )
            for row in rows.iter_rows(named=True)
        ]
        made.append(table(f"Training runs: {words} (bias: + is too high)", headings, lines))
    return made


def _peers(found: Training) -> str:
    lines = [
        (
            f"{row['tool']}, {TRAINED[row['quantity']]},"
            f" {SET_WORDS.get(row['set'] or '', 'runs of its own')}",
            *(percent(row[name], 3) for name in ("mean_ours", "mean", "worst_ours", "worst")),
        )
        for row in found.peers.iter_rows(named=True)
    ]
    title = "Training runs: errors that other tools published of themselves"
    headings = ("", "mean ours", "theirs", "largest ours", "theirs")
    sources = dict.fromkeys(
        f"  {row['tool']}: {row['notes']} ({row['source']})"
        for row in found.peers.iter_rows(named=True)
    )
    return "\n".join([table(title, headings, lines), *sources])


def _left_out(found: Training) -> str:
    lines = [
        (f"{row['group'].replace('_', ' ')}: {row['reason']}", number(row["rows"], 9))
        for row in found.left_out.iter_rows(named=True)
    ]
    return table("Training runs: not predicted", ("", "runs"), lines)


def _assumed(found: Training) -> str:
    used = found.assumed.filter(pl.col("key") != "").with_columns(
        said=pl.concat_str("key", pl.lit("="), "value")
    )
    groups = used.group_by("group", maintain_order=True).agg(pl.col("said").str.join(", "))
    lines = [f"  {name.replace('_', ' ')}: {said}" for name, said in groups.iter_rows()]
    return "\n".join(["Training runs: assumed, for every run of a group alike", *lines])
