"""The page of a sweep that asks no question of its own: what was swept, and what came out best.

One figure per result against the longest numeric axis; over all other axes each point is the
cheapest. Aggregated before anything is drawn, however many rows there are.
"""

from roofrack.report.format import listed
from roofrack.report.page import Page
from roofrack.results.run import Run

from ..common.pages import linked, provenance
from .figures import sections
from .findings import answer, findings
from .rows import summary, varied


def page(run: Run) -> Page:
    """Return the page of a finished run."""
    found = summary(run)
    shown = sections(run, found)
    swept = listed([*varied(run), *found.axes]) or "one scenario"
    return Page(
        title=str(run.experiment.get("title") or f"Sweep of {swept}"),
        question=str(
            run.experiment.get("question") or f"What does a change of {swept} do to cost and speed?"
        ),
        answer=answer(found),
        findings=linked(findings(found), shown),
        sections=shown,
        limits=limits(run),
        provenance=provenance(run),
    )


def limits(run: Run) -> tuple[str, ...]:
    """Say what no sweep knows."""
    calibrations = sorted({str(job.config["choices"]["calibration"]) for job in run.jobs})
    return (
        (
            f"Efficiencies and fixed costs come from calibration={','.join(calibrations)}; no error"
            " bar is given until it is fitted."
        ),
        "Waiting for a place in the batch is not counted.",
        "Prices are dated, and costs follow them in proportion.",
    )
