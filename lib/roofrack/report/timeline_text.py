"""The summary of a timeline as text for people: how long, why, and where stages wait."""

from roofrack.report.format import number, quantity, table
from roofrack.timelines import MESSAGES, Stage, Summary

SAME = 5e-4
"""Shares below this are no difference."""


def text(found: Summary) -> str:
    """Return what a timeline shows, section by section."""
    labels = found.labels
    parts = f", {found.virtual_stages} parts of each" if found.virtual_stages > 1 else ""
    title = (
        f"{labels['model']} on {labels['hardware']}, one training step: {found.schedule}, "
        f"stages: {found.pp}{parts}, micro-batches: {found.microbatches}"
    )
    sections = [title, _parts(found), _why(found), _stages(found)]
    if not found.fits:
        sections.append("DOES NOT FIT in memory: this is how long it would take if it did")
    return "\n\n".join(sections)


def _parts(found: Summary) -> str:
    every = [*found.parts, ("step", found.step_s, found.makespan_s)]
    lines = [
        [part, quantity(closed_s, "s", 4), quantity(seconds, "s", 4)]
        for part, closed_s, seconds in every
        if closed_s or seconds
    ]
    return table(
        "the step by the closed form, and on the timeline", ["", "closed form", "timeline"], lines
    )


def _why(found: Summary) -> str:
    """Say how far both are apart, and which stage and what else is to blame."""
    apart = found.makespan_s / found.step_s - 1.0
    more = "longer" if apart > 0 else "shorter"
    said = [
        "the timeline is as long as the closed form"
        if abs(apart) < SAME
        else f"the timeline is {abs(apart):.1%} {more} than the closed form"
    ]
    takes = [one.forward_s + one.backward_s for one in found.stages]
    mean, slowest = sum(takes) / len(takes), max(range(len(takes)), key=takes.__getitem__)
    if takes[slowest] < (1.0 + SAME) * mean:
        said.append("all stages are alike")
    else:
        said += [
            f"slowest stage: {slowest} ({_has(found.stages[slowest])}), "
            f"{takes[slowest] / mean - 1.0:.1%} above the mean of {quantity(mean, 's')} a "
            "micro-batch",
            "the closed form has it set the pace, and takes all others for alike",
        ]
    for part, closed_s, seconds in found.parts:
        if part == MESSAGES and seconds - closed_s > SAME * found.step_s:
            said.append(
                "the closed form hides messages in the steady state; in this order some are "
                "waited for"
            )
    return "\n".join(said)


def _has(stage: Stage) -> str:
    heads = f"{number(stage.heads)} heads" if stage.heads > 1 else "the head"
    return f"{number(stage.layers)} layers" + (f" and {heads}" if stage.heads else "")


def _stages(found: Summary) -> str:
    headings = ["stage", "layers", "heads", "forward", "backward", "idle", "held", "closed form"]
    lines = [
        [
            str(one.stage),
            number(one.layers),
            number(one.heads),
            quantity(one.forward_s, "s"),
            quantity(one.backward_s, "s"),
            f"{max(one.idle, 0.0):.1%}",
            number(one.held),
            number(one.closed_held),
        ]
        for one in found.stages
    ]
    return table(
        "by stage: a micro-batch, idle share of the passes, most micro-batches held",
        headings,
        lines,
    )
