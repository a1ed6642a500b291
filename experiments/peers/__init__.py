"""What do other tools answer? The page of conf/experiment/peers.yaml.

Answers and rates of other tools are dated tables beside this file, so the page installs none of
them; roofrack answers the same questions while the page is made.
"""

from roofrack.report.format import listed, number, percent
from roofrack.report.page import Page, Section
from roofrack.results.run import Run

from ..common.pages import page_of_run
from . import dated, figures, tables
from .findings import answered, findings
from .questions import measured_questions
from .rows import Facts, errors, facts
from .tables import OURS


def page(run: Run) -> Page:
    """Return the page of a finished run. Raises InputError where the run cannot answer it."""
    found = facts(run)
    drawn = not found.curve.is_empty() and OURS in set(found.curve["label"])
    return page_of_run(
        run,
        answer(found),
        findings(found),
        sections(found, drawn),
        limits(found),
        facts={
            "answers of other tools": f"{number(tables.answers().height)}, {_dates()[0]}",
            "rates of other tools": f"{number(tables.rates().height)}, {_dates()[1]}",
        },
        datasets={"curve": found.curve} if drawn else {},
        reference_note=(
            "The lecture says nothing of other tools, so no finding agrees with it or contradicts"
            " it. Measured numbers are published ones; the source stands under each chart."
        ),
    )


def _dates() -> tuple[str, str]:
    return tables.day(tables.answers()), tables.day(tables.rates())


def answer(found: Facts) -> str:
    """Answer the question in a few sentences."""
    table = errors(found.said)
    own = table.filter(table["label"] == OURS).row(0, named=True)
    others = table.filter(table["tool"] != OURS)
    nearer = [row["label"] for row in others.iter_rows(named=True) if row["mean"] < row["ours"]]
    text = (
        f"They differ by factors. Over {number(own['runs'])} published measurements roofrack's"
        f" answers are {percent(own['mean'])} off on average. On the runs that both answer,"
        f" {number(others.height - len(nearer))} of {number(others.height)} ways to ask other"
        " tools are further off"
    )
    return text + (f"; nearer is {listed(nearer)}." if nearer else "; none is nearer.")


def sections(found: Facts, drawn: bool) -> tuple[Section, ...]:
    """Return the parts of the page."""
    own = "the calibration that each machine names" if found.calibration == "auto" else (
        f"calibration={found.calibration}"
    )  # fmt: skip
    made = [
        Section(
            "How near",
            (
                f"Answers of other tools were recorded on {_dates()[0]}: {answered()}. roofrack"
                f" answered while this page was made, with {own}; ideal is the same without any"
                " loss.",
            ),
            (figures.summary(found), dated.served(), dated.trained()),
        ),
        Section(
            "Question by question",
            ("What a tool could not be told stands beside its answer in the table.",),
            tuple(figures.answers(found, question) for question in measured_questions()),
        ),
    ]
    if drawn:
        made.append(
            Section(
                "Over the batch",
                ("The scenario of this run; other tools stand where they were asked the same.",),
                (figures.curve(found),),
                controls=figures.controls(found),
            )
        )
    made += [
        Section("How many a second", (), (dated.speed(),)),
        Section("What each cannot say", (), (dated.features(), dated.about())),
    ]
    return tuple(made)


def limits(found: Facts) -> tuple[str, ...]:
    """Say what the page does not know."""
    refused = found.refused.height
    return (
        f"Answers are of {_dates()[0]}, rates of {_dates()[1]}, of the versions named in the table"
        " of tools; newer versions may answer otherwise. Running make bench asks again where the"
        " tools are installed.",
        "The questions were chosen by roofrack's authors among runs that are published with all"
        " their settings, so most of them are old engines; each tool was asked as it is installed,"
        " without the fitting that its own users may do. GenZ and llm-analysis have efficiency"
        " factors, which stay at one here, and mlsysim's stays at a half.",
        "Settings were not alike everywhere: batches are whole numbers for other tools (60 for 59.5"
        " sequences); GenZ and mlsysim mix no prompts into a step; aiconfigurator's operators are"
        " of newer engines than the measured ones; Epoch chooses the layout itself; mlsysim knows"
        " no partial recomputation; Calculon leaves the vocabulary out."
        + (f" Refused for want of data or room: {number(refused)}." if refused else ""),
        "Calculon's efficiencies of the A100 are its authors' own for that machine, and they"
        " validated with these very training runs; roofrack's calibrations come from measurements"
        " of the same chips. Neither predicts here a machine that nobody has measured.",
        "An evaluation is not the same thing everywhere: roofrack's holds step, memory, fit, cost"
        " and what binds, for one plan and batch; Epoch's is one latency, of the best of many"
        " layouts where it searches; aiconfigurator's looks operators up and remembers them."
        " Compare ratios, not rates: these depend on the machine.",
        "The features are judgements from documentation, code and runs, not an audit; not found is"
        " not proved absent, and roofrack's column is its authors' own.",
    )
