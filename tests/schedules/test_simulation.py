"""What holds of every schedule and every duration: work is conserved, and dependencies kept."""

import doctest
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules.cases import durations, pipelines, simulated

from roofrack import schedules
from roofrack.errors import InputError
from roofrack.schedules import Run, Schedule, Times, gantt, schedule, simulate
from roofrack.schedules.orders import Op

MANY = settings(max_examples=100)


@st.composite
def uneven(draw: Any, stages: int) -> Times:
    """Durations that differ between stages, and messages that take time."""

    def some(least: float) -> Any:
        return np.array([[draw(st.integers(1, 9)) + least] for _ in range(stages)])

    w = some(0.0)
    return Times(some(0.0), w + some(0.0), w, some(9.0), draw(st.sampled_from([0.0, 0.5, 4.0])))


@MANY
@given(pipelines(), st.data(), st.booleans())
def test_work_is_conserved_and_dependencies_kept(
    pipeline: dict[str, Any], data: Any, blocking: bool
) -> None:
    times = data.draw(uneven(pipeline["stages"]))
    run = simulated(pipeline, times, blocking=blocking)
    everything_once(run)
    nothing_at_one_time(run)
    nothing_too_early(run, times.hop_s)


def everything_once(run: Run) -> None:
    counts = Counter((e.op.kind, e.stage, e.op.microbatch, e.op.chunk) for e in run.events)
    assert set(counts.values()) == {1}
    for microbatch, way in enumerate(run.schedule.way):
        for stage, chunk in run.schedule.ways[way]:
            kinds = {kind for kind in "FBIW" if (kind, stage, microbatch, chunk) in counts}
            assert kinds in ({"F", "B"}, {"F", "I", "W"})
    places = sum(len(run.schedule.ways[way]) for way in run.schedule.way)
    assert sum(kind == "F" for kind, *_ in counts) == places


def nothing_at_one_time(run: Run) -> None:
    for stage in range(run.schedule.stages):
        mine = [e for e in run.events if e.stage == stage]
        slots = sorted({(e.start_s, e.end_s) for e in mine})
        assert all(end <= start for (_, end), (start, _) in pairwise(slots))
        together = Counter((e.start_s, e.end_s) for e in mine)
        for event in mine:
            assert together[event.start_s, event.end_s] == 1 + event.overlapped
        worked = sum(end - start for start, end in slots)
        assert worked == pytest.approx(run.busy_s[stage])


def nothing_too_early(run: Run, hop_s: float) -> None:
    at = {(e.op.kind, e.stage, *e.op[1:]): (e.start_s, e.end_s) for e in run.events}
    for microbatch, way in enumerate(run.schedule.way):
        places = [(stage, microbatch, chunk) for stage, chunk in run.schedule.ways[way]]
        forward = [at["F", *place] for place in places]
        backward = [at.get(("B", *p)) or at["I", *p] for p in places]
        for place, (_, end), (start, ready) in zip(places, forward, backward, strict=True):
            assert start >= end
            if ("W", *place) in at:
                assert at["W", *place][0] >= ready
        hops = [hop_s * (a[0] != b[0]) for a, b in pairwise(places)]
        for (a, b), (c, d), hop in zip(pairwise(forward), pairwise(backward), hops, strict=True):
            assert b[0] >= a[1] + hop
            assert c[0] >= d[1] + hop


@MANY
@given(pipelines(), st.data())
def test_the_slowest_stage_bounds_the_step(pipeline: dict[str, Any], data: Any) -> None:
    times = data.draw(uneven(pipeline["stages"]))
    run = simulated(pipeline, times)
    assert run.makespan_s >= run.period_s >= max(run.busy_s)
    if pipeline["name"] != "dualpipe":
        slowest = max((times.f + times.b)[:, 0]) * pipeline["microbatches"]
        assert max(run.busy_s) == pytest.approx(slowest)
    slower = times._replace(f=times.f + np.eye(pipeline["stages"])[:, :1])
    assert simulated(pipeline, slower).makespan_s >= run.makespan_s


@MANY
@given(pipelines(), durations(), st.sampled_from([0.1, 1.0, 5.0]))
def test_messages_cost_most_where_they_block(
    pipeline: dict[str, Any], times: Times, hop_s: float
) -> None:
    free = simulated(pipeline, times).makespan_s
    late = simulated(pipeline, times._replace(hop_s=hop_s)).makespan_s
    blocking = simulated(pipeline, times._replace(hop_s=hop_s), blocking=True).makespan_s
    # each micro-batch passes the boundaries on its way twice, one after the other
    stages = pipeline["stages"]
    crossed = 2 * (stages * pipeline["virtual_stages"] - 1) if stages > 1 else 0
    assert late >= free
    assert late >= crossed * hop_s
    assert blocking >= late


def test_by_hand_two_stages_two_microbatches() -> None:
    # stage 0: F0 F1 . . B0 . B1;  stage 1: . F0 B0 F1 B1, with F = 1 and B = 2
    run = simulate(schedule("1f1b", 2, 2), Times(1.0, 2.0))
    rows = [(e.stage, e.op.kind, e.op.microbatch, e.start_s, e.end_s) for e in run.events]
    assert rows == [
        (0, "F", 0, 0.0, 1.0), (0, "F", 1, 1.0, 2.0), (0, "B", 0, 4.0, 6.0), (0, "B", 1, 7.0, 9.0),
        (1, "F", 0, 1.0, 2.0), (1, "B", 0, 2.0, 4.0), (1, "F", 1, 4.0, 5.0), (1, "B", 1, 5.0, 7.0),
    ]  # fmt: skip
    assert (run.makespan_s, run.busy_s, run.idle_s) == (9.0, (6.0, 6.0), (3.0, 0.0))
    assert run.held == (2.0, 1.0)


def test_by_hand_messages_that_wait_and_that_block() -> None:
    waits = simulate(schedule("gpipe", 2, 2), Times(1.0, 2.0, hop_s=0.5))
    assert waits.makespan_s == 1.0 + 0.5 + 2.0 + 2.0 + 2.0 + 0.5 + 2.0
    blocks = simulate(schedule("gpipe", 2, 2), Times(1.0, 2.0, hop_s=0.5), blocking=True)
    # F1 leaves 0.5 later; B1 of stage 1 keeps it from B0 for 0.5
    assert blocks.makespan_s == waits.makespan_s + 1.0


def changed(one: Schedule, stage: int, order: list[Any]) -> Schedule:
    orders = list(one.orders)
    orders[stage] = tuple(order)
    return one._replace(orders=tuple(orders))


def test_an_order_that_cannot_run_is_told() -> None:
    one = schedule("1f1b", 2, 2)
    # the first stage wants its first gradient before it sends the second micro-batch, and the
    # second wants that micro-batch before it makes the gradient
    first = [(Op(*x),) for x in (("F", 0), ("B", 0), ("F", 1), ("B", 1))]
    last = [(Op(*x),) for x in (("F", 0), ("F", 1), ("B", 0), ("B", 1))]
    stuck = changed(changed(one, 0, first), 1, last)
    with pytest.raises(InputError, match=r"cannot run: stage 0 waits for ever for .* 1: I of"):
        simulate(stuck, Times(1.0, 2.0))
    assert simulate(changed(one, 0, first), Times(1.0, 2.0)).makespan_s == 12.0


@pytest.mark.parametrize("at", [0, 3])
def test_an_order_that_leaves_something_out_is_told(at: int) -> None:
    one = schedule("1f1b", 2, 2)
    order = list(one.orders[1])
    with pytest.raises(InputError, match=r"stage 1: F of micro-batch .* one forward and one"):
        simulate(changed(one, 1, order[:at] + order[at + 1 :]), Times(1.0, 2.0))
    with pytest.raises(InputError, match="comes 2 times"):
        simulate(changed(one, 1, [*order, order[at]]), Times(1.0, 2.0))


def test_an_operation_of_no_microbatch_is_told() -> None:
    one = schedule("1f1b", 2, 2)
    with pytest.raises(InputError, match=r"stage 1: F of micro-batch 2, chunk 0: .* no such"):
        simulate(changed(one, 1, [*one.orders[1], (Op("F", 2),)]), Times(1.0, 2.0))


def test_an_unknown_schedule_is_told() -> None:
    with pytest.raises(InputError, match=r"schedule=zb_h3: allowed are .*Did you mean 'zb_h"):
        schedule("zb_h3", 2, 2)


def test_rows_of_the_chart() -> None:
    run = simulate(schedule("dualpipe", 4, 8), Times(1.0, 2.0, 1.0, 3.0))
    rows = gantt(run)
    assert len(rows) == len(run.events)
    assert rows["end_s"].max() == run.makespan_s
    alone = rows.unique(["stage", "start_s"])
    assert rows["overlapped"].sum() == 2 * (len(rows) - len(alone)) > 0
    spent = alone.group_by("stage").agg((pl.col("end_s") - pl.col("start_s")).sum()).sort("stage")
    assert spent["end_s"].to_list() == list(run.busy_s)
    assert set(rows["kind"]) == {"F", "B", "I", "W"}


def test_the_example_of_the_package() -> None:
    found = doctest.testmod(schedules)
    assert found.attempted == 2 and found.failed == 0


def test_sixty_four_stages_in_seconds() -> None:
    run = simulate(schedule("zb_h2", 64, 128), Times(1.0, 2.0, 1.0))
    assert max(run.idle_s) == pytest.approx(0.0, abs=1e-6)
    assert run.held == (127.0,) * 64
