"""The page of a validation: what was promised, what was found, and where predictions go wrong."""

import shlex

import polars as pl

from roofrack.report import validation_sections as sections
from roofrack.report import validation_service as services
from roofrack.report import validation_training as training
from roofrack.report.format import number, percent
from roofrack.report.page import Finding, Job, Page, Provenance
from roofrack.report.validation_words import tpot, verdict_words
from roofrack.results import store
from roofrack.validation import protocol, reasons
from roofrack.validation.errors import statistics
from roofrack.validation.targets import NOISE_FLOOR
from roofrack.validation.verdict import Verdict

TITLE = "Predictions against measurements"


def page(found: Verdict) -> Page:
    """Return the page of a validation."""
    serving = not found.runs.is_empty()
    parts = [*(sections.serving(found) if serving else ()), *sections.published(found)]
    if found.training is not None:
        parts.append(training.section(found.training, found.trained))
    if not found.services.is_empty():
        parts.append(services.section(found.services))
    return Page(
        title=TITLE,
        question="How far are predictions from what others measured, and in which direction?",
        answer=_answer(found),
        findings=_findings(found),
        sections=tuple(parts),
        limits=_limits(found),
        provenance=Provenance(
            command=f"roofrack validate rows={shlex.quote(found.rows)}"
            f" calibration={shlex.quote(found.calibration)}",
            jobs=(Job("validate", (f"rows={found.rows}", f"calibration={found.calibration}")),),
            versions=store.versions(),
            sources=_sources(found),
            facts={
                "measured numbers": number(found.lines.height, 9),
                "counted runs": number(tpot(found.counted).height, 9),
                "training runs": number(found.trained.height, 9),
            },
        ),
        reference="the target",
        reference_note="Targets were set before the first comparison; counted rows are judged.",
    )


def _answer(found: Verdict) -> str:
    parts = []
    if not found.runs.is_empty():
        total = statistics(tpot(found.counted).filter(pl.col("mode") == "aggregated"))
        row = total.row(0, named=True)
        met = found.targets["met"]
        parts.append(
            f"Half of {number(row['rows'], 9)} aggregated serving runs are predicted within"
            f" {percent(row['median_abs'], 3)} of their time per output token (mean error"
            f" {percent(row['mean_abs'], 3)}). {met.sum()} of {len(met)} targets are met."
        )
    if not found.facts.is_empty():
        row = statistics(found.facts).row(0, named=True)
        parts.append(
            f"Of {number(row['rows'], 9)} published facts half are within"
            f" {percent(row['median_abs'], 3)}."
        )
    if found.training is not None:
        parts.append(training.answer(found.training))
    if not found.services.is_empty():
        parts.append(services.answer(found.services))
    return " ".join(parts)


def _findings(found: Verdict) -> tuple[Finding, ...]:
    trained = training.findings(found.training) if found.training is not None else ()
    whole = () if found.services.is_empty() else services.findings(found.services)
    return (*_served(found), *trained, *whole)


def _served(found: Verdict) -> tuple[Finding, ...]:
    if found.runs.is_empty():
        return ()
    made = []
    for row in found.targets.iter_rows(named=True):
        where = f" ({row['which']})" if row["which"] else ""
        bound = "at least" if row["least"] else "at most"
        made.append(
            Finding(
                f"{row['target']}{where}: {percent(row['found'], 3)}, {bound}"
                f" {percent(row['limit'], 3)}: {verdict_words(row['met'])}.",
                "neutral" if row["met"] is None else "agrees" if row["met"] else "contradicts",
                f"{number(row['rows'], 9)} rows",
            )
        )
    return (*made, _floor(found), _drafted(found))


def _floor(found: Verdict) -> Finding:
    total = statistics(tpot(found.counted).filter(pl.col("mode") == "aggregated"))
    median = total["median_abs"][0]
    below = median is not None and float(median) < NOISE_FLOOR
    text = (
        f"A median error of TPOT below {percent(NOISE_FLOOR)} would be below the noise: the same"
        " setting in two versions of an engine differs by more. The median found is"
        f" {percent(median, 3)}" + (": suspect overfitting." if below else ".")
    )
    return Finding(text, "contradicts" if below else "neutral", "repeats across engine versions")


def _drafted(found: Verdict) -> Finding:
    drafted = tpot(found.counted).filter("drafting")
    rest = statistics(tpot(found.counted).filter(~pl.col("drafting"))).row(0, named=True)
    engines = drafted.select(reasons.CURVE).unique().height
    text = (
        f"{number(drafted.height, 9)} counted runs of {engines} engines look like speculative"
        " decoding or prefix hits: faster than predicted by 1.3 or more at every number of clients."
        f" They are counted above. Without them the median error would be"
        f" {percent(rest['median_abs'], 3)} and the mean {percent(rest['mean_abs'], 3)}."
    )
    return Finding(text, "neutral", "whether tokens were drafted is not recorded", "drafting")


_PUBLISHED = (
    "Papers, read-mes and reports rarely say all: where software, clocks or the routing of tokens"
    " are not told, what is usual is taken, and part of an error may be that."
)
_LEFT_OUT = (
    "The serving runs that NVIDIA measured are not on this page: `roofrack validate` compares with"
    " them where the extra `silicon` is installed."
)


def _limits(found: Verdict) -> tuple[str, ...]:
    if found.runs.is_empty():
        return (_PUBLISHED, _LEFT_OUT)
    waves = "; ".join(
        f"{name}: {client.waves:g} requests a client ({client.known})"
        for name, client in protocol.CLIENTS.items()
    )
    hosts = "; ".join(
        f"{name}: {1e3 * host.request_s:.1f} ms a request and {1e6 * host.token_s:.1f} us a prompt"
        " token"
        for name, host in found.hosts.items()
    )
    return (
        "Predictions are made with speculative decoding off and no prefix cached: neither is"
        " recorded.",
        f"TTFT is that of a closed loop. Requests for each client: {waves}.",
        f"Time of the host before a first token is learnt on one half of the rows of vLLM and"
        f" TensorRT-LLM without DeepSeek ({hosts}), and TTFT targets are judged on the other half.",
        "TTFT of disaggregated runs leaves out moving the cache between pools.",
    )


def _sources(found: Verdict) -> tuple[tuple[str, str], ...]:
    given = []
    if not found.runs.is_empty():
        given.append(
            ("Serving runs", "PyPI package aiconfigurator-core, systems/silicon_sample.csv")
        )
        given.append(("Answers of other tools", "lib/roofrack/validation/peers.md"))
    if not found.facts.is_empty():
        folder = "lib/roofrack/validation"
        given.append(("Published facts", f"{folder}/published.csv, row by row"))
        given.append(("Published collectives", f"{folder}/published_collectives.csv, row by row"))
    if found.training is not None:
        folder = "lib/roofrack/validation"
        given.append(("Training runs", f"{folder}/training.csv and training_vtrain.csv"))
        given.append(("What holds for a group of them", f"{folder}/training_groups.yaml"))
        given.append(("Errors published by other tools", f"{folder}/training_peers.csv"))
    if not found.services.is_empty():
        given.append(("Services", "lib/roofrack/validation/service.csv, row by row"))
    return tuple(given)
