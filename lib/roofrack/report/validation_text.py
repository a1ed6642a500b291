"""A validation as text for a terminal: targets, errors by group, what was left out."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from roofrack.report import validation_service, validation_training_text
from roofrack.report.format import NOTHING, number, percent, table
from roofrack.report.validation_words import QUANTITIES, SET_WORDS, limit_words, verdict_words
from roofrack.validation.verdict import Verdict

SHOWN = ("model", "machine", "backend", "origin")
"""Groupings of the counted rows that are printed; errors.csv has all."""


def text(found: Verdict) -> str:
    """Return what `roofrack validate` prints."""
    parts = []
    if not found.runs.is_empty():
        parts += [_targets(found), _overall(found), _groups(found), _left_out(found)]
        parts += [_learnt(found), _peers(found)]
    if not found.facts.is_empty():
        parts.append(_facts(found))
    if found.training is not None:
        parts += validation_training_text.parts(found.training)
    if not found.services.is_empty():
        parts += validation_service.parts(found.services)
    return "\n\n".join(parts)


def _signed(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:+.1f} %"


def _shares(row: Mapping[str, Any], *names: str) -> list[str]:
    return [percent(row[name], 3) for name in names]


def _errors(row: Mapping[str, Any]) -> list[str]:
    return [
        number(row["rows"], 9),
        *_shares(row, "median_abs", "mean_abs"),
        _signed(row["bias"]),
        *_shares(row, "within", "inside"),
    ]


_HEADINGS = ("rows", "median", "mean", "bias", "within 20 %", "in the 80 % interval")


def _targets(found: Verdict) -> str:
    lines = [
        (
            row["target"] + (f" ({row['which']})" if row["which"] else ""),
            percent(row["found"], 3),
            limit_words(row["limit"], row["least"]),
            verdict_words(row["met"]),
            number(row["rows"], 9),
        )
        for row in found.targets.iter_rows(named=True)
    ]
    return table("Targets", ("", "found", "target", "", "rows"), lines)


def _overall(found: Verdict) -> str:
    chosen = found.groups.filter(pl.col("grouping") == "all", pl.col("mode") != "published")
    chosen = chosen.sort("quantity", "mode", "set", descending=[False, False, True])
    lines = [
        (
            f"{QUANTITIES.get(row['quantity'], row['quantity'])}, {row['mode']},"
            f" {SET_WORDS[row['set']]}",
            *_errors(row),
        )
        for row in chosen.iter_rows(named=True)
    ]
    return table("Errors (bias: median logarithm, + is too slow)", ("", *_HEADINGS), lines)


def _groups(found: Verdict) -> str:
    chosen = found.groups.filter(
        pl.col("set") == "counted",
        pl.col("quantity") == "tpot_s",
        pl.col("mode") == "aggregated",
        pl.col("grouping").is_in(SHOWN),
    )
    lines = [
        (f"{row['grouping']} {row['group']}", *_errors(row)) for row in chosen.iter_rows(named=True)
    ]
    return table("TPOT of counted aggregated runs by group", ("", *_HEADINGS), lines)


def _left_out(found: Verdict) -> str:
    lines = [
        (f"{row['mode']}, {row['rule'].replace('_', ' ')}", number(row["rows"], 9))
        for row in found.excluded.iter_rows(named=True)
    ]
    covered = [
        (f"covered of medium and high confidence, {r['mode']}", percent(r["share"], 3))
        for r in found.coverage.iter_rows(named=True)
    ]
    return table("Rows", ("", "rows"), [*lines, *covered])


def _learnt(found: Verdict) -> str:
    lines = [
        (
            f"{QUANTITIES[row['quantity']]}, {row['mode']}",
            number(row["step_rel_std"], 3),
            *_shares(row, "covered_learnt", "covered_tested", "covered_now"),
        )
        for row in found.learnt.iter_rows(named=True)
    ]
    title = "Discrepancy learnt on one half: least step_rel_std that puts 80 % inside the interval"
    hosts = [
        f"  host before a first token, {name}: {1e3 * host.request_s:.1f} ms and"
        f" {1e6 * host.token_s:.1f} us a prompt token, learnt on one half; TTFT is judged on the"
        " other"
        for name, host in found.hosts.items()
    ]
    headings = ("", "discrepancy", "inside (learnt)", "inside (tested)", "inside now")
    return "\n".join([table(title, headings, lines), *hosts])


def _peers(found: Verdict) -> str:
    lines = [
        (
            f"{row['tool']}, {QUANTITIES[row['quantity']]}, {row['mode']}",
            number(row["rows"], 9),
            *_shares(row, "median_ours", "median_theirs", "mean_ours", "mean_theirs", "closer"),
        )
        for row in found.peers.iter_rows(named=True)
    ]
    headings = ("", "rows", "median ours", "theirs", "mean ours", "theirs", "ours is closer")
    return table("Other tools on identical rows", headings, lines)


def _facts(found: Verdict) -> str:
    chosen = found.groups.filter(
        pl.col("set") == "counted", pl.col("mode") == "published", pl.col("grouping") == "origin"
    ).sort("group", "quantity")
    lines = [
        (f"{row['group'].replace('_', ' ')}, {row['quantity']}", *_errors(row)[:5])
        for row in chosen.iter_rows(named=True)
    ]
    return table("Published facts", ("", *_HEADINGS[:5]), lines)
