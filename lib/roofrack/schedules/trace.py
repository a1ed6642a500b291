"""One simulated step as a trace that ui.perfetto.dev and chrome://tracing open.

Trace Event Format (Google, "Trace Event Format", docs.google.com/document/d/
1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU): complete events ("X") that carry their flow
("bind_id"), and metadata ("M"); times in microseconds.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from roofrack.schedules.after import After
from roofrack.schedules.orders import BACKWARD, FORWARD, INPUTS, WEIGHTS
from roofrack.schedules.simulate import Event, Run

NAMES = {
    FORWARD: "forward",
    BACKWARD: "backward",
    INPUTS: "backward, inputs",
    WEIGHTS: "backward, weights",
    "gradients": "gradients of other ranks",
    "tied": "gradients of the tied embedding",
    "update": "optimiser",
    "weights": "weights of other ranks",
    "host": "host memory",
    "fixed": "fixed time of a step",
}
"""Categories: viewers colour and filter by them."""

COLOURS = {
    FORWARD: "thread_state_running",
    BACKWARD: "thread_state_runnable",
    INPUTS: "thread_state_iowait",
    WEIGHTS: "thread_state_unknown",
    "gradients": "rail_animation",
    "tied": "rail_animation",
    "update": "rail_load",
    "weights": "rail_response",
    "host": "olive",
    "fixed": "grey",
}
"""Reserved colour names of chrome://tracing; Perfetto colours by name."""

NANOSECONDS = 1e9

PROCESS = 1
"""Process and tracks count from 1: viewers keep 0 for the idle task."""


def trace(run: Run, after: Sequence[After] = ()) -> dict[str, Any]:
    """Return one step as a JSON object: a track for each stage, an arrow for each message.

    All operations of a micro-batch share a flow, so that arrows lead through the stages and back.
    Two operations that a stage does at once lie below each other on its track. What comes `after`
    the passes lies behind them.
    """
    return {
        "traceEvents": [*_tracks(run), *_slices(run), *_ends(after)],
        "displayTimeUnit": "ms",
        "otherData": {
            "schedule": run.schedule.name,
            "stages": run.schedule.stages,
            "microbatches": len(run.schedule.way),
            "virtual_stages": run.schedule.parts,
            "makespan_s": run.makespan_s,
            "period_s": run.period_s,
        },
    }


def _tracks(run: Run) -> Iterator[dict[str, Any]]:
    """Yield the names of the process and of its tracks, in the order of the stages."""
    title = f"one training step, {run.schedule.name}"
    yield {"ph": "M", "pid": PROCESS, "name": "process_name", "args": {"name": title}}
    for stage in range(run.schedule.stages):
        track = {"ph": "M", "pid": PROCESS, "tid": stage + 1}
        yield track | {"name": "thread_name", "args": {"name": f"stage {stage}"}}
        yield track | {"name": "thread_sort_index", "args": {"sort_index": stage}}


def _slices(run: Run) -> Iterator[dict[str, Any]]:
    """Yield the operations by start, so that each flow is read in its order."""
    ends = {}  # of each flow: a forward at the first place of its way, a backward there
    for k, way in enumerate(run.schedule.way):
        ends[k] = run.schedule.ways[way][0]
    for event in sorted(run.events, key=lambda event: (event.start_s, event.end_s)):
        kind, microbatch, chunk = event.op
        found = _slice(event, kind) | {
            "name": f"{kind} {microbatch}",
            "args": {"micro-batch": microbatch, "chunk": chunk, "overlapped": event.overlapped},
        }
        if kind != WEIGHTS:
            outermost = (event.stage, chunk) == ends[microbatch]
            found |= {
                "bind_id": hex(microbatch + 1),
                "flow_in": not (outermost and kind == FORWARD),
                "flow_out": kind == FORWARD or not outermost,
            }
        yield found


def _ends(after: Sequence[After]) -> Iterator[dict[str, Any]]:
    """Yield what comes after the passes."""
    for each in after:
        yield _slice(each, each.kind) | {"name": each.kind, "args": {}}


def _slice(what: Event | After, kind: str) -> dict[str, Any]:
    # whole nanoseconds, as viewers round: a slice must not begin before the last has ended
    start, end = (round(at * NANOSECONDS) for at in (what.start_s, what.end_s))
    return {
        "ph": "X",
        "pid": PROCESS,
        "tid": what.stage + 1,
        "ts": start / 1e3,
        "dur": (end - start) / 1e3,
        "cat": NAMES[kind],
        "cname": COLOURS[kind],
    }
