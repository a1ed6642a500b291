"""The trace of a step is what the viewers of the Trace Event Format read."""

import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from schedules.cases import durations, pipelines, simulated

from roofrack.schedules import Run, Times, schedule, simulate, trace

FIELDS = {"ph", "pid", "tid", "ts", "dur", "name", "cat", "cname", "args"}
FLOWS = {"bind_id", "flow_in", "flow_out"}


def slices(run: Run) -> list[dict[str, Any]]:
    document = json.loads(json.dumps(trace(run), allow_nan=False))
    assert set(document) == {"traceEvents", "displayTimeUnit", "otherData"}
    return [event for event in document["traceEvents"] if event["ph"] == "X"]


@settings(max_examples=40)
@given(pipelines(), durations())
def test_slices_are_the_operations_of_the_run(pipeline: dict[str, Any], times: Times) -> None:
    run = simulated(pipeline, times)
    found = slices(run)
    assert len(found) == len(run.events)
    for event in found:
        assert set(event) - FLOWS == FIELDS
        assert event["dur"] > 0
        assert event["ts"] >= 0
        assert 1 <= event["tid"] <= pipeline["stages"]
    ends = max(event["ts"] + event["dur"] for event in found)
    assert ends == pytest.approx(run.makespan_s * 1e6)


@settings(max_examples=40)
@given(pipelines(), durations())
def test_slices_of_a_track_are_apart_or_the_same(pipeline: dict[str, Any], times: Times) -> None:
    thirds = Times(*(x / 3.0 for x in times))  # no round numbers of nanoseconds
    tracks = defaultdict(set)
    for event in slices(simulated(pipeline, thirds)):
        start = round(event["ts"] * 1e3)
        assert event["ts"] == start / 1e3, "whole nanoseconds, as viewers round"
        tracks[event["tid"]].add((start, start + round(event["dur"] * 1e3)))
    assert len(tracks) == pipeline["stages"]
    for track in tracks.values():
        assert all(end <= start for (_, end), (start, _) in pairwise(sorted(track)))


@settings(max_examples=40)
@given(pipelines(), durations())
def test_a_flow_leads_through_the_stages_and_back(pipeline: dict[str, Any], times: Times) -> None:
    run = simulated(pipeline, times)
    flows = defaultdict(list)
    for event in slices(run):
        assert (event["cat"] == "backward, weights") == ("bind_id" not in event)
        if "bind_id" in event:
            flows[event["bind_id"]].append(event)
    assert len(flows) == pipeline["microbatches"]
    for flow in flows.values():
        way = run.schedule.ways[run.schedule.way[flow[0]["args"]["micro-batch"]]]
        out = [stage + 1 for stage, _ in way]
        assert [event["tid"] for event in flow] == out + out[::-1]
        assert [event["flow_in"] for event in flow] == [False] + [True] * (2 * len(way) - 1)
        assert [event["flow_out"] for event in flow] == [True] * (2 * len(way) - 1) + [False]
        assert all(a["ts"] + a["dur"] <= b["ts"] + 1e-3 for a, b in pairwise(flow))


def test_tracks_and_kinds_are_named() -> None:
    document = trace(simulate(schedule("dualpipe", 4, 8), Times(1.0, 2.0, 1.0, 3.0)))
    names = {e["args"]["name"] for e in document["traceEvents"] if e["name"] == "thread_name"}
    assert names == {"stage 0", "stage 1", "stage 2", "stage 3"}
    kinds = {(e["name"][0], e["cat"], e["cname"]) for e in document["traceEvents"] if "cat" in e}
    assert {(letter, category) for letter, category, _ in kinds} == {
        ("F", "forward"), ("B", "backward"), ("I", "backward, inputs"), ("W", "backward, weights"),
    }  # fmt: skip
    assert len({colour for *_, colour in kinds}) == 4
    told = document["otherData"]
    assert (told["schedule"], told["stages"], told["microbatches"]) == ("dualpipe", 4, 8)
    assert told["makespan_s"] == pytest.approx(26.0)
