"""The page of a simulation: what the load does to cost and waiting, and what to trust of it."""

import dataclasses
import shlex
from collections.abc import Sequence

from roofrack.report import simulation_figures as figures
from roofrack.report import simulation_runs as inside
from roofrack.report import simulation_words as words
from roofrack.report.format import number
from roofrack.report.page import Figure, Finding, Job, Page, Provenance, Section, Verdict
from roofrack.report.simulation_loads import Curve, chosen, comparison, curves, limited
from roofrack.results import store
from roofrack.simulation.asked import Engine
from roofrack.simulation.command import Simulated

LIMITS = (
    "The clock is the cost model: each pass takes what it predicts for the batch at its mean"
    " context, error bars aside.",
    "Prompt tokens of a pass are spread evenly over attention ranks; micro-batches of a pipeline go"
    " in lock-step.",
    "Prefix hits are looked up in order of arrival, before anything is timed, and preemption drops"
    " none of them.",
    "Tokens of speculative decoding come evenly, each pass of a sequence gains the same.",
    "Rates and cost are over the whole run, from the first arrival to the last token: a short run"
    " ends with a machine that empties, which costs a little more a token.",
    "In an overloaded run the queue grows until the last arrival: its times measure how long the"
    " run was, not the service.",
    "What is simulated, rule by rule, is in docs/simulation.md.",
)


def page(found: Simulated, words_given: Sequence[str]) -> Page:
    """Return the page of a simulation that was asked for in these words."""
    of = curves(found)
    best = chosen(of)
    return Page(
        title=_title(found, of),
        question=_question(found, of),
        answer=_answer(found, of, best),
        findings=_findings(found, of, best),
        sections=_sections(found, of, best),
        limits=(*(line for line in (words.behind(of),) if line), *LIMITS),
        provenance=Provenance(
            command=f"roofrack simulate {shlex.join(words_given)}",
            jobs=(Job("simulate", tuple(words_given)),),
            versions=store.versions(),
            facts=_facts(found, of),
        ),
        reference="the lecture",
        reference_note="The lecture's claim: efficiency comes from waiting for a full batch.",
    )


def _title(found: Simulated, of: tuple[Curve, ...]) -> str:
    name = of[0].name if len(of) == 1 else found.labels.get("model", f"{len(of)} deployments")
    return f"{name} under load"


def _question(found: Simulated, of: tuple[Curve, ...]) -> str:
    who = "each deployment" if len(of) > 1 else "it"
    if limited(found):
        asked = f"How much load does {who} bear with {words.promise(found.asked.limits)}"
        return f"{asked}, and what does a token cost there? Traffic: {found.traffic}."
    return f"What does a token cost, and who waits how long, at a load? Traffic: {found.traffic}."


def _answer(found: Simulated, of: tuple[Curve, ...], best: Curve | None) -> str:
    if best is None:
        return f"No request was served. {words.rejected(of)}".strip()
    if limited(found):
        return words.cheapest(found, of) or words.highest(found, best)
    return words.payoff(best) or words.plain((best.steady or best.served)[-1])


def _findings(found: Simulated, of: tuple[Curve, ...], best: Curve | None) -> tuple[Finding, ...]:
    """Return what the rows show; what they do not show is left out."""
    told: list[tuple[str, Verdict, str, str]] = []
    compared = comparison(of)
    several = any(len(c.served) > 1 for c in of)
    if best is not None:
        pays = words.pays_off(best)
        verdict: Verdict = {True: "agrees", False: "contradicts", None: "neutral"}[pays]  # type: ignore[assignment]
        at = best.name if len(of) > 1 else ""
        told += [
            (words.payoff(best), verdict, _basis(at, "loads before the queue takes over"), "cost"),
            (words.idle(best), "neutral", _basis(at, words.capacity(best)), "cost"),
            (words.queue(best), "neutral", _basis(at, "mean queue_s over mean ttft"), "queue"),
            (words.cheapest(found, of), "neutral", "highest load under the limits", "most"),
            (words.highest(found, best), "neutral", _basis(at, "goodput of each load"), "goodput"),
            (words.one_more(found, best), "neutral", _basis(at, "requests, one by one"), "goodput"),
        ]
    told += [
        (words.preempted(of), "neutral", "preemptions, recomputed_tokens", "runs"),
        (words.rejected(of), "neutral", "rejected", "runs"),
        (words.compared(compared), "neutral", "every load of every deployment", "closed"),
    ]
    if not several:
        told = [(t, v, b, "runs" if f in ("cost", "goodput") else f) for t, v, b, f in told]
    anchors = {f.key for section in _sections(found, of, best) for f in section.figures}
    return tuple(Finding(t, v, b, f if f in anchors else "") for t, v, b, f in told if t)


def _basis(name: str, what: str) -> str:
    return ", ".join(part for part in (name, what) if part)


def _sections(found: Simulated, of: tuple[Curve, ...], best: Curve | None) -> tuple[Section, ...]:
    several = best is not None and any(len(c.served) > 1 for c in of)
    made = []
    if several:
        payoff: tuple[Figure, ...] = (figures.cost(found, of), figures.batch(found, of))
        made.append(Section("What load does to cost", (), payoff))
        waits = [figures.latency(found, of, "ttft")]
        if any(p["tpot_p95_s"] is not None for c in of for p in c.served):
            waits.append(figures.latency(found, of, "tpot"))
        waits += [figures.goodput(found, of)] * limited(found)
        made.append(Section("What load does to waiting", (), tuple(waits)))
    if best is not None:
        each = [inside.distribution(found, of, best)]
        if not found.series.is_empty():
            queue = [inside.queues(found, of, best)] if (found.series["waiting"] > 0).any() else []
            each += [*queue, inside.over_time(found, best), inside.batches(found, of, best)]
        made.append(Section("Inside the runs", (), tuple(each)))
    tables = [figures.most(found)] if not found.most.is_empty() else []
    tables += [figures.closed(of)] if best is not None else []
    made.append(Section("All numbers", (), (*tables, figures.runs(found))))
    return tuple(made)


def _facts(found: Simulated, of: tuple[Curve, ...]) -> dict[str, str]:
    facts = dict(found.labels) | {"traffic": found.traffic}
    usual = Engine()
    for field in dataclasses.fields(Engine):
        value = getattr(found.asked.engine, field.name)
        if value != getattr(usual, field.name):
            told = ", ".join(map(str, value)) if isinstance(value, tuple) else f"{value}"
            facts[f"engine.{field.name}"] = told
    if limited(found):
        facts["limits"] = words.promise(found.asked.limits)
    facts["runs"] = number(found.rows.height, 9)
    facts["passes simulated"] = number(sum(p["passes"] for c in of for p in c.points), 9)
    facts |= {f"left out {i}": note for i, note in enumerate(found.notes, 1)}
    return facts
