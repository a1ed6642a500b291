"""Published services of a validation: as text for a terminal, and on the page."""

import polars as pl

from roofrack.report import validation_charts as charts
from roofrack.report.format import NOTHING, number, percent, table
from roofrack.report.page import Finding, Section, Verdict
from roofrack.validation import service_runs
from roofrack.validation.errors import statistics
from roofrack.validation.intervals import COVERED

NAMES = {
    "batch_per_chip": "sequences in flight on a chip",
    "tokens_per_s": "tokens a second",
    "tpot_s": "TPOT",
    "ttft_s": "TTFT",
    "nodes": "nodes",
    "usd_per_day": "rent of a day",
    "usd_per_mtok": "cost of a million output tokens",
}
"""Quantities of services, as people read them."""


def parts(lines: pl.DataFrame) -> list[str]:
    """Return the parts of what `roofrack validate` prints of services."""
    return [_errors(lines), _whole(lines), _left_out(lines)]


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _errors(lines: pl.DataFrame) -> str:
    told = [
        (
            f"{_spaced(row['group'])}, {_spaced(row['mode'])}: {NAMES[row['quantity']]}",
            number(row["rows"], 9),
            *(percent(row[name], 3) for name in ("median_abs", "mean_abs")),
            f"{100 * row['bias']:+.1f} %",
            *(percent(row[name], 3) for name in ("within", "inside")),
        )
        for row in service_runs.errors(lines).iter_rows(named=True)
    ]
    headings = ("", "rows", "median", "mean", "bias", "within 20 %", "in the 80 % interval")
    title = "Services under a known load (bias: median logarithm, + is too high)"
    return table(title, headings, told)


def _whole(lines: pl.DataFrame) -> str:
    told = [
        (
            f"{_spaced(row['id'])}: {NAMES[row['quantity']]}",
            number(row["measured"], 4),
            number(row["predicted"], 4),
            NOTHING if row["error"] is None else f"{100 * row['error']:+.1f} %",
            f"{number(row['low'], 4)} to {number(row['high'], 4)}",
        )
        for row in service_runs.whole(lines).iter_rows(named=True)
    ]
    return table("Whole services", ("", "published", "predicted", "error", "80 % interval"), told)


def _left_out(lines: pl.DataFrame) -> str:
    told = [
        (f"{_spaced(row['group'])}: {row['reason']}", number(row["rows"], 9))
        for row in service_runs.left_out(lines).iter_rows(named=True)
    ]
    return table("Services: not predicted", ("", "rows"), told)


def answer(lines: pl.DataFrame) -> str:
    """Return the answer of a page in a sentence."""
    row = statistics(lines).row(0, named=True)
    return (
        f"Of {number(row['rows'], 9)} figures of services under a known load half are within"
        f" {percent(row['median_abs'], 3)}."
    )


def findings(lines: pl.DataFrame) -> tuple[Finding, ...]:
    """Return what was found of whole services, a finding a figure."""
    made = []
    for row in (
        service_runs.whole(lines).filter(pl.col("predicted").is_not_null()).iter_rows(named=True)
    ):
        tone: Verdict = (
            "neutral" if row["inside"] is None else "agrees" if row["inside"] else "contradicts"
        )
        made.append(
            Finding(
                f"{_spaced(row['id'])}: {NAMES[row['quantity']]} {number(row['predicted'], 4)}"
                f" predicted, {number(row['measured'], 4)} published.",
                tone,
                f"{percent(COVERED)} interval {number(row['low'], 4)} to {number(row['high'], 4)}",
                "service-whole",
            )
        )
    return tuple(made)


def section(lines: pl.DataFrame) -> Section:
    """Return the section of services."""
    errors = service_runs.errors(lines).with_columns(pl.col("quantity").replace(NAMES))
    return Section(
        "Services under a known load",
        (
            "Pools at the batch or the speed that their owners published, closed loops of as many"
            " clients as the load generator had, and one whole service. In a closed loop the batch"
            " is what Little's law leaves of the clients beside those that wait for their first"
            " token; where memory holds fewer, the rest queues. Requests that come at a rate are"
            " simulated, pass by pass, as `roofrack simulate` does.",
            "A pool is predicted as always at work. The average of a day has idle time in it:"
            " DeepSeek's prefill pool yields less than it could, and less than DeepSeek's own"
            " profile of the same machines.",
            *_cancelling(lines),
            "Runs of the SGLang cookbook are engines of their day started with few flags, on"
            " prompts that may be cached from the run before. Tuned engines are faster: DeepSeek-R1"
            " on 8 B200 with the same plan and clients 1.2 to 1.4 times per token (InferenceX, in"
            " the serving runs of the package). Kernels and links are calibrated to such.",
            "Time of the host before a first token is left out here: what is learnt of it comes"
            " with the serving runs of the package.",
        ),
        (
            charts.table("service-errors", "Services: errors by group", "", errors),
            charts.table(
                "service-whole",
                "Whole services",
                "With their pools.",
                _shown(service_runs.whole(lines)),
            ),
            charts.table(
                "service-rows",
                "Every figure of a service",
                "Worst first.",
                _shown(lines.sort(pl.col("error").abs(), descending=True)),
            ),
            charts.table(
                "service-left-out",
                "Services that are not predicted",
                "They stay in the table.",
                service_runs.left_out(lines),
            ),
        ),
    )


def _cancelling(lines: pl.DataFrame) -> list[str]:
    """Return a warning where pools of a service err in opposite directions."""
    pools = lines.filter(
        pl.col("mode") != "fleet", pl.col("quantity") == "nodes", pl.col("error").is_not_null()
    )
    made = []
    for (origin,), some in pools.group_by("origin", maintain_order=True):
        if some["error"].min() < 0 < some["error"].max():  # type: ignore[operator]
            told = ", ".join(
                f"{100 * error:+.0f} % for {_spaced(name)}"
                for name, error in some.select("id", "error").iter_rows()
            )
            made.append(
                f"The errors of the pools of {_spaced(str(origin))} cancel in part: the nodes"
                f" predicted are {told}. The whole is nearer than its parts."
            )
    return made


def _shown(lines: pl.DataFrame) -> pl.DataFrame:
    """Return predicted lines as a page shows them."""
    return lines.filter(pl.col("predicted").is_not_null()).select(
        pl.col("id", "origin"),
        pl.col("quantity").replace(NAMES),
        *("unit", "model", "hardware", "backend", "concurrency"),
        *(pl.col(c).map_elements(lambda v: number(v, 4), pl.String) for c in _SIZES),
        "error",
    )


_SIZES = ("measured", "predicted", "low", "high")
