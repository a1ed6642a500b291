"""The answer of a search as text for people: what is best, why, and what limits cost."""

from collections.abc import Mapping
from typing import Any

from roofrack.report.format import table
from roofrack.report.text import cell
from roofrack.searching import Found
from roofrack.searching.found import ALONG
from roofrack.searching.launch import Launch
from roofrack.tables import PLACEMENTS, SCHEDULES

DEGREES = ("tp", "ep", "pp", "dp", "cp")
FLAGS = ("attention_dp", "sequence_parallel", "dedup")
SHOWN = ("usd_per_mtok", "tpot_s", "ttft_s", "tokens_per_s_per_chip", "mem_total_bytes")
TRAINED = ("usd_per_mtok", "step_s", "mfu", "bubble_fraction", "mem_total_bytes")
"""The same in training."""
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
    words += _micro_words(row)
    if row["placement"]:
        words.append(f"placement={PLACEMENTS[int(row['placement'])]}")
    return " ".join(words) or "one chip"


def _micro_words(row: Mapping[str, Any]) -> list[str]:
    """Return how the sequences of a training step go through the stages."""
    words = [f"microbatches={row['microbatches']:g}"] if row["microbatches"] else []
    if row["pp"] > 1 and row["microbatches"]:
        words.append(SCHEDULES[int(row["schedule"])])
    words += [f"virtual_stages={row['virtual_stages']:g}"] if row["virtual_stages"] > 1 else []
    return words


def layout_words(row: Mapping[str, Any]) -> str:
    """Return the plan of a row, or the plans of its pools and how many instances each has."""
    if row["prefill"] is None:
        return plan_words(row)
    first, main = row["instances"]
    return f"prefill {first} x ({plan_words(row['prefill'])}), decode {main} x ({plan_words(row)})"


def _headline(found: Found) -> str:
    said = (
        f"{found.points:,} points, each evaluated: {found.plans:,} plans of "
        f"{'' if found.phase == 'train' else 'up to '}{found.question.chips:,} chips in all their "
        f"settings; {found.kept:,} keep the limits"
    )
    if found.sides:
        pairs = (
            f"{found.sides:,} of them are settings of one pool by itself; those that no other "
            "beats are paired in every ratio of instances"
        )
        if found.behind:
            pairs += f"; {found.behind:,} that decode are behind with any partner"
        said = f"{said}\n{pairs}"
    return said


def _best(found: Found) -> str:
    axes = _axes(found)
    shown = TRAINED if found.phase == "train" else SHOWN
    results = tuple(dict.fromkeys((found.question.goal, *found.question.limits, *shown)))
    results = tuple(n for n in results if any(row[n] == row[n] for row in found.best))
    lines = [
        [
            layout_words(row),
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
    x = ALONG[found.phase]
    axes = _axes(found)
    lines = [
        [
            layout_words(rows[i]),
            *(f"{rows[i][name]}" for name in axes),
            f"{rows[i]['chips']:,.0f}",
            cell(x, rows[i][x]),
            cell("usd_per_mtok", rows[i]["usd_per_mtok"]),
        ]
        for i in places
    ]
    title = f"Frontier of speed and cost, {len(places)} of {len(rows):,} points, limits aside"
    return table(title, ["plan", *axes, "chips", x, "usd_per_mtok"], lines)
