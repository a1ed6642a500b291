"""The answer of a search as text for people: what is best, why, and what limits cost."""

from collections.abc import Mapping
from typing import Any

from roofrack.report.text import cell
from roofrack.report.validation_text import table
from roofrack.searching import Found
from roofrack.searching.launch import Launch
from roofrack.tables import PLACEMENTS

DEGREES = ("tp", "ep", "pp", "dp", "cp")
FLAGS = ("attention_dp", "sequence_parallel", "dedup")
SHOWN = ("usd_per_mtok", "tpot_s", "ttft_s", "tokens_per_s_per_chip", "mem_total_bytes")
FRONTIER_ROWS = 8
"""Points of the frontier that are printed."""


def text(found: Found) -> str:
    """Return what a search found, section by section."""
    sections = [_headline(found), _best(found), *_runner_up(found), _limits(found)]
    sections += [_frontier(found), *(_launch(one) for one in found.launches)]
    return "\n\n".join(section for section in sections if section)


def plan_words(row: Mapping[str, Any]) -> str:
    """Return a plan in the words of a command line, without what is 1, off or usual."""
    words = [f"{name}={row[name]:g}" for name in DEGREES if row[name] != 1]
    words += [name for name in FLAGS if row[name]]
    words += [f"tp_rows={row['tp_rows']:g}"] if row["tp_rows"] != 1 else []
    if row["redundant_experts"]:
        words.append(f"redundant_experts={row['redundant_experts']:g}")
    if row["overlap_batches"] != 1:
        words.append(f"overlap_batches={row['overlap_batches']:g}")
    if row["placement"]:
        words.append(f"placement={PLACEMENTS[int(row['placement'])]}")
    return " ".join(words) or "one chip"


def _headline(found: Found) -> str:
    settings = found.points // found.plans
    return (
        f"{found.points:,} points, each evaluated: {found.plans:,} plans of up to "
        f"{found.question.chips:,} chips, {settings:,} settings of each; "
        f"{found.kept:,} keep the limits"
    )


def _best(found: Found) -> str:
    axes = _axes(found)
    results = tuple(dict.fromkeys((found.question.goal, *found.question.limits, *SHOWN)))
    results = tuple(n for n in results if any(row[n] == row[n] for row in found.best))
    lines = [
        [
            plan_words(row),
            *(f"{row[name]}" for name in axes),
            f"{row['chips']:,.0f}",
            *(cell(name, row[name]) for name in results),
        ]
        for row in found.best
    ]
    return table("Best plans", ["plan", *axes, "chips", *results], lines)


def _axes(found: Found) -> list[str]:
    """Return the columns of what was varied beside the plan: they stand before the results."""
    return list(found.axes)


def _runner_up(found: Found) -> list[str]:
    lines = []
    if len(found.best) > 1:
        lines.append(f"The second: {found.why_not()}")
    if found.close:
        lines.append(f"{found.close:,} other plans lie within the error bars of the best (80 %)")
    return ["\n".join(lines)] if lines else []


def _limits(found: Found) -> str:
    counted = [f"{reason} {count:,}" for reason, count in found.excluded.items() if count]
    said = [f"Left out: {', '.join(counted)}"] if counted else []
    goal = found.question.goal
    for name, values in found.relaxed.items():
        now = found.best[0][goal]
        words = []
        for label, value in values.items():
            what = "without it" if label == "none" else f"{label} times as wide"
            if value is not None:
                words.append(f"{cell(goal, value)} {what} ({value / now - 1.0:+.1%})")
        limit = cell(name, found.question.limits[name])
        said.append(f"{goal} with the limit {name} = {limit} relaxed: {', '.join(words)}")
    return "\n".join(said)


def _launch(one: Launch) -> str:
    if one.refused:
        return f"On {one.engine} the best plan cannot be started: {one.refused}"
    return "\n".join([f"The best plan on {one.engine}", *(f"  {line}" for line in one.lines)])


def _frontier(found: Found) -> str:
    rows = found.frontier
    if len(rows) < 2:
        return ""
    step = max((len(rows) - 1) / (FRONTIER_ROWS - 1), 1.0)
    places = sorted({round(i * step) for i in range(FRONTIER_ROWS) if round(i * step) < len(rows)})
    x = "tpot_s" if rows[0]["tpot_s"] == rows[0]["tpot_s"] else "ttft_s"
    axes = _axes(found)
    lines = [
        [
            plan_words(rows[i]),
            *(f"{rows[i][name]}" for name in axes),
            f"{rows[i]['chips']:,.0f}",
            cell(x, rows[i][x]),
            cell("usd_per_mtok", rows[i]["usd_per_mtok"]),
        ]
        for i in places
    ]
    title = f"Frontier of speed and cost, {len(places)} of {len(rows):,} points, limits aside"
    return table(title, ["plan", *axes, "chips", x, "usd_per_mtok"], lines)
