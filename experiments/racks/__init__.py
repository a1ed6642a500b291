"""What does a rack buy, and what does leaving it cost? The page of conf/experiment/racks.yaml.

Reiner Pope's blackboard lecture says that a rack, one scale-up domain, bounds one layer of experts:
all-to-all traffic fits the fast network inside, and half of it meets a network eight times slower
as soon as a second rack is used.
"""

from roofrack.report.format import number, percent, times, usd
from roofrack.report.page import Page, Section
from roofrack.results.run import Run

from ..common.columns import COST
from ..common.pages import chips, page_of_run
from ..common.studies import Studies
from . import figures, travel
from .crossing import controls, crossing, equals
from .findings import findings
from .found import Found
from .room import room, systems
from .rows import facts


def page(run: Run) -> Page:
    """Return the page of a finished run. Raises InputError where the run cannot answer it."""
    found, studies = gather(run)
    kept = {"plans that can serve": number(found.facts.table.height, 9)}
    datasets = {"crossing": travel.dataset(found.crossing)} if found.crossing else {}
    return page_of_run(
        run,
        answer(found),
        findings(found),
        sections(found),
        limits(found),
        extra=studies.jobs,
        facts=kept,
        datasets=datasets,
        reference_note=words(found),
    )


def gather(run: Run) -> tuple[Found, Studies]:
    """Compute all that the page shows."""
    studies = Studies(run)
    told = facts(run, studies)
    crossed = crossing(run, studies, told.machine)
    return (
        Found(
            facts=told,
            crossing=crossed,
            equals=equals(crossed, studies, told.machine, told.near) if crossed else (),
            room=room(told, studies, crossed.sequences if crossed else 1.0),
            systems=systems(told.machine),
        ),
        studies,
    )


def answer(found: Found) -> str:
    """Answer the question in a few sentences."""
    f = found.facts
    own = f.row(f.best, f.machine.domain)
    text = ""
    if own is not None:
        text = (
            f"{f.machine.pair}, at {number(f.speed)} tokens/s for each user: a rack of"
            f" {chips(f.machine.domain)} serves a million tokens for {usd(own[COST])}"
        )
        others = [
            f"{chips(d)} for {usd(row[COST])}"
            for d in f.domains
            if d != f.machine.domain and (row := f.row(f.best, d))
        ]
        text += f" (racks of {', of '.join(others)}). " if others else ". "
    else:
        text = (
            f"{f.machine.pair}: no plan tried gives each user {number(f.speed)} tokens/s in racks"
            f" of {chips(f.machine.domain)}. "
        )
    if found.crossing and (one := found.crossing.row(1)) and (two := found.crossing.row(2)):
        ratio = two[COST] / one[COST]
        text += (
            f"Spread over two racks, {percent(two['scale_out_fraction'])} of the experts' traffic"
            f" leaves the rack, and the same work costs {times(ratio, 3)} what it costs in one."
        )
    return text.strip()


def words(found: Found) -> str:
    """Say what the terms mean."""
    return (
        "A rack is here the group of chips that the fast network joins (the scale-up domain), and"
        f" {found.facts.machine.name} has {chips(found.facts.machine.domain)} in one; other sizes"
        " are the same chips and links, joined otherwise. Experts are parts of a model of which"
        " each token visits a few; they are divided over chips, so each token travels to them and"
        ' back (all-to-all). "The lecture" is Reiner Pope\'s blackboard talk (Dwarkesh Podcast, 29'
        " April 2026)."
    )


def sections(found: Found) -> tuple[Section, ...]:
    """Return the parts of the page."""
    f = found.facts
    made = [
        Section(
            "How large a rack should be",
            (
                "At every size of the rack plans over parts of a rack and over whole racks are"
                f" tried, {number(f.tried, 9)} points; each line keeps the best of them.",
            ),
            (figures.frontier(f), figures.domains(f), figures.floor(f)),
        )
    ]
    if found.crossing is not None:
        live = controls(found.crossing, f.machine)
        made += [
            Section(
                "Leaving the rack",
                (
                    "The experts of one copy of the model over one rack, two, or more; attention is"
                    " divided by sequences. All else is equal: each chip holds as many sequences.",
                ),
                (travel.cost(found), travel.parts(found)),
                controls=live,
            ),
            Section(
                "What travels, and on which network",
                (),
                (
                    travel.leaving(found.crossing),
                    travel.levels(found.crossing),
                    *((travel.equal(found),) if found.equals else ()),
                ),
            ),
        ]
    if found.room.height:
        made.append(Section("What fits into one rack", (), (figures.room(f, found.room),)))
    if found.systems.height:
        text = (
            "Racks stop growing for reasons that no roofline shows: how many cables fit behind the"
            " trays, what the floor carries, how much power arrives and how the heat leaves."
        )
        made.append(Section("What limits the rack itself", (text,),
                            (figures.systems(found.systems),)))  # fmt: skip
    return tuple(made)


def limits(found: Found) -> tuple[str, ...]:
    """Say what the page does not know."""
    f = found.facts
    calibration = f.machine.config["choices"]["calibration"]
    rows = [
        "Other sizes of the rack keep this machine's bandwidth, latency and price of a chip. A"
        " larger switch network would have a longer latency and cost more; neither is known.",
        f"The error bar (calibration={calibration}) is that of a step. Most of it is common to"
        " both sides of a comparison; how much is not known.",
        "Tokens are routed evenly over racks. Routing that prefers experts near a token would send"
        " less, popular experts would send more.",
        f"One context, {number(f.machine.context)} tokens, for all sequences, and decoding only.",
        "What is published about systems comes from data sheets, guides and reports of a launch;"
        " switches, optics and cables are not priced apart.",
    ]
    if found.crossing and f.machine.experts % f.machine.domain:
        rows.append(
            f"{number(f.machine.experts)} experts do not divide over {chips(f.machine.domain)}:"
            " some are held twice, as many as it takes. How many differs between numbers of racks,"
            " so the curves over racks are not smooth."
        )
    return tuple(rows)
