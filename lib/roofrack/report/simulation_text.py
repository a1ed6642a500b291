"""What a simulation found as text for people: a line a run, then what it means."""

from roofrack.report import simulation_words as words
from roofrack.report.format import number, percent, quantity, table, usd
from roofrack.report.simulation_loads import (
    COST,
    RATE,
    Curve,
    Row,
    chosen,
    comparison,
    curves,
    limited,
)
from roofrack.simulation.command import Simulated

LINES = 40
"""Loads that are printed; the tables beside the page have all."""
TIMES = ("ttft_p50_s", "ttft_p95_s", "ttft_p99_s", "tpot_p50_s", "tpot_p95_s")


def text(found: Simulated) -> str:
    """Return what a simulation found, section by section."""
    of = curves(found)
    sections = [_traffic(found), _loads(found, of), _most(found, of), _trust(of), _notes(found)]
    return "\n\n".join(section for section in sections if section)


def _traffic(found: Simulated) -> str:
    labels = found.labels
    named = " on ".join(labels[n] for n in ("model", "hardware") if n in labels)
    return f"{named}: {found.traffic}" if named else found.traffic


def _loads(found: Simulated, of: tuple[Curve, ...]) -> str:
    limits = limited(found)
    every = [(curve, point) for curve in of for point in curve.points]
    counts = [n for n in ("preemptions", "rejected") if any(p[n] for _, p in every)]
    heads = [*(["deployment"] if len(of) > 1 else []), "requests/s", "used", "batch"]
    heads += [f"{name[:4].upper()} {name[5:8]}" for name in TIMES]
    heads += ["within limits"] * limits + ["$/Mtok", *counts]
    lines = []
    for curve, p in every[:LINES]:
        line = [curve.name] if len(of) > 1 else []
        line += [number(p[RATE]), percent(curve.used(p[RATE])), number(p["batch_at_load"])]
        line += [quantity(p[name], "s") for name in TIMES]
        line += [percent(p["goodput"], 3)] * limits + [usd(p[COST]), *_counts(p, counts)]
        lines.append(line)
    runs = max(p["runs"] for _, p in every)
    title = "Loads" + (f", means over {runs} seeds, counts over all of them" if runs > 1 else "")
    told = table(title, heads, lines)
    if len(every) > LINES:
        told += f"\n  and {len(every) - LINES:,} more"
    return told


def _counts(point: Row, names: list[str]) -> list[str]:
    return [number(point[n], 9) for n in names]


def _most(found: Simulated, of: tuple[Curve, ...]) -> str:
    """Return what each deployment bears under the limits, and where queues begin."""
    best = chosen(of)
    said = [words.cheapest(found, of)]
    if len(of) == 1 or not limited(found):
        said += [words.highest(found, c) for c in of[:1]]
    if best is not None:
        said.append(words.one_more(found, best))
    if len(of) == 1:
        said += [words.payoff(of[0]), words.idle(of[0]), words.queue(of[0])]
    said += [words.preempted(of), words.rejected(of)]
    told = "\n".join(line for line in said if line)
    return "\n\n".join(part for part in (_ranked(found, of), told) if part)


def _ranked(found: Simulated, of: tuple[Curve, ...]) -> str:
    """Return the highest load of each of several deployments under the limits, cheapest first."""
    some = [(c, c.most) for c in of if c.most is not None]
    if len(of) < 2 or not some:
        return ""
    some.sort(key=lambda pair: (pair[1][COST] is None, pair[1][COST]))
    lines = [
        [
            curve.name,
            f"{most['chips']:,g}",
            number(most["most_per_s"]),
            number(most["most_per_s_per_chip"]),
            usd(most[COST]),
            most["told"],
        ]
        for curve, most in some[:LINES]
    ]
    heads = ["deployment", "chips", "requests/s", "for each chip", "$/Mtok", ""]
    return table(f"Highest load with {words.promise(found.asked.limits)}", heads, lines)


def _trust(of: tuple[Curve, ...]) -> str:
    said = [words.compared(comparison(of)), words.behind(of)]
    if len(of) == 1 and (known := words.capacity(of[0])):
        said.append(f"`used` is the load over the {known}.")
    return "\n".join(line for line in said if line)


def _notes(found: Simulated) -> str:
    return "\n".join(f"Left out: {note}" for note in found.notes)
