"""Closed forms of bubble and activations against the simulation, and against what authors print."""

from itertools import pairwise, permutations, product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from schedules.cases import durations, pipelines, simulated, sizes

from roofrack.cost import schedules
from roofrack.dual import Dual
from roofrack.errors import InputError
from roofrack.schedules import Schedule, Times, schedule, simulate
from roofrack.schedules.orders import Op
from roofrack.tables import SCHEDULES

MANY = settings(max_examples=150)


@MANY
@given(pipelines(), durations())
def test_the_closed_bubble_is_the_simulated(pipeline: dict[str, Any], times: Times) -> None:
    run = simulated(pipeline, times)
    work = times.f, times.b, times.w, times.fb
    assert schedules.pipeline_s(*sizes(pipeline), *work) == pytest.approx(run.period_s)
    bubble = schedules.bubble_s(*sizes(pipeline), *work)
    assert bubble == pytest.approx(run.period_s - min(run.busy_s), abs=1e-9)
    barrier = schedules.barrier_s(*sizes(pipeline)[:3], *work[:3])
    assert barrier == pytest.approx(run.makespan_s - run.period_s, abs=1e-9)


@pytest.mark.parametrize("name", ["zb_h1", "zb_h2"])
def test_few_microbatches_under_zero_bubble(name: str) -> None:
    works = [(1.0, 1.0, 1.0), (3.0, 2.0, 3.0), *permutations((1.0, 2.0, 4.0))]
    for stages in range(2, 6):
        for microbatches, (f, i, w) in product(range(1, 2 * stages + 1), works):
            run = simulate(schedule(name, stages, microbatches), Times(f, i + w, w))
            asked = schedules.INDEX[name], float(stages), float(microbatches)
            bubble = schedules.bubble_s(*asked, 1.0, f, i + w, w, 0.0)
            assert bubble == pytest.approx(max(run.idle_s)), (asked, f, i, w)
            barrier = schedules.barrier_s(*asked, f, i + w, w)
            assert bubble + barrier == pytest.approx(run.makespan_s - run.busy_s[0])


def slack(pipeline: dict[str, Any], times: Times) -> float:
    """Up to which latency of messages the closed form says that it is exact."""
    f, i, w = times.f, times.b - times.w, times.w
    if pipeline["name"] == "interleaved" and pipeline["virtual_stages"] > 1:
        return min(f, times.b) / pipeline["virtual_stages"]
    limits = {"zb_h1": w / 2.0, "zb_h2": (f + i) / 2.0, "dualpipe": min(f, i, w)}
    return limits.get(pipeline["name"], 100.0)


@MANY
@given(pipelines(), durations(), st.floats(0.0, 1.0), st.sampled_from([1.0, 5.0]))
def test_what_latency_adds_is_the_simulated(
    pipeline: dict[str, Any], times: Times, share: float, beyond: float
) -> None:
    hop_s = share * beyond * slack(pipeline, times)
    run = simulated(pipeline, times._replace(hop_s=hop_s))
    taken = run.makespan_s if pipeline["name"] == "dualpipe" else run.period_s
    work = times.f, times.b, times.w, times.fb
    closed = schedules.pipeline_s(*sizes(pipeline), *work, hop_s)
    assert closed <= taken * (1.0 + 1e-12)
    if share * beyond <= 1.0:
        assert closed == pytest.approx(taken)


def test_latency_under_1f1b_by_hand() -> None:
    # two stages: every second micro-batch goes forward only when the gradient of the one before has
    # come, so the last stage waits for both messages
    index = schedules.INDEX["1f1b"]
    asked = [(index, 2.0, m, 1.0, 1.0, 2.0, 1.0, 3.0) for m in (1.0, 2.0, 3.0, 4.0, 5.0)]
    added = [schedules.bubble_s(*x, 0.5) - schedules.bubble_s(*x) for x in asked]
    assert added == [1.0, 1.0, 2.0, 2.0, 3.0]


@MANY
@given(pipelines(), st.data())
def test_the_closed_peak_is_the_simulated(pipeline: dict[str, Any], data: Any) -> None:
    run = simulated(pipeline, Times(1.0, 2.0, 1.0, 3.0))
    stage = data.draw(st.integers(0, pipeline["stages"] - 1))
    assert schedules.held(*sizes(pipeline), float(stage)) == pytest.approx(run.held[stage])


@settings(max_examples=40)
@given(pipelines(most=4), durations())
def test_steps_without_a_barrier_repeat_after_the_period(
    pipeline: dict[str, Any], times: Times
) -> None:
    one = schedule(**pipeline)
    ends = [simulate(repeated(one, steps), times).events[-1].end_s for steps in (3, 4)]
    assert ends[1] - ends[0] == pytest.approx(simulate(one, times).period_s)


def repeated(one: Schedule, steps: int) -> Schedule:
    """A schedule after itself, with other micro-batches."""
    m = len(one.way)

    def later(op: Op, step: int) -> Op:
        return op._replace(microbatch=op.microbatch + step * m)

    orders = tuple(
        tuple(tuple(later(op, step) for op in slot) for step in range(steps) for slot in order)
        for order in one.orders
    )
    return one._replace(orders=orders, way=one.way * steps)


@pytest.mark.parametrize(
    ("name", "bubble", "held"),
    [("1f1b", 21.0, 8.0), ("zb_h1", 7.0, 8.0), ("zb_h2", 0.0, 15.0), ("dualpipe", 6.0, 9.0)],
)
def test_golden_bubbles_of_eight_stages(name: str, bubble: float, held: float) -> None:
    # DeepSeek-V3, arXiv:2412.19437 table 2, and zero bubble, arXiv:2401.10241 table 1, with
    # F = 1, B = 2, W = 1, F&B = 3
    asked = schedules.INDEX[name], 8.0, 20.0, 1.0
    assert schedules.bubble_s(*asked, 1.0, 2.0, 1.0, 3.0) == bubble
    run = simulate(schedule(name, 8, 20), Times(1.0, 2.0, 1.0, 3.0))
    assert max(run.idle_s) == pytest.approx(bubble)
    assert max(run.held) == held == schedules.held(*asked, 0.0)


def test_golden_bubbles_of_megatron() -> None:
    # Megatron, arXiv:2104.04473: (p-1)/m of the ideal time, and 1/v of that; m = 20, p = 8
    ideal = schedules.busy_s(0.0, 8.0, 20.0, 1.0, 2.0, 3.0)
    plain = schedules.bubble_s(schedules.INDEX["1f1b"], 8.0, 20.0, 1.0, 1.0, 2.0, 1.0, 3.0)
    cut = schedules.bubble_s(schedules.INDEX["interleaved"], 8.0, 20.0, 2.0, 1.0, 2.0, 1.0, 3.0)
    assert (plain / ideal, cut / ideal) == (pytest.approx(0.35), pytest.approx(0.175))


@MANY
@given(st.integers(2, 9), st.integers(0, 9), durations())
def test_where_the_authors_conditions_hold_so_do_their_formulas(
    stages: int, more: int, times: Times
) -> None:
    f, b, w, fb = times.f, times.b, times.w, times.fb
    p, pairs = float(stages), 2.0 * ((stages + 1) // 2)
    m = float(2 * (stages + 1) + 2 * more)
    assume(f >= w)

    def bubble(name: str, pp: float) -> float:
        return float(schedules.bubble_s(schedules.INDEX[name], pp, m, 1.0, f, b, w, fb))

    assert bubble("zb_h1", p) == pytest.approx((p - 1) * (f + b - 2 * w))
    published = (p - 1) * (f + b - 3 * w)
    if published >= max(0.0, (p - 1) * (b - w - f)):
        assert bubble("zb_h2", p) == pytest.approx(published)
    if f == b - w:
        assert bubble("dualpipe", pairs) == pytest.approx((pairs / 2 - 1) * (fb + b - 3 * w))


@pytest.mark.parametrize("name", SCHEDULES)
def test_what_cannot_run_is_told_by_both(name: str) -> None:
    told = 0
    for pp, m, v in np.ndindex(5, 13, 3):
        asked = {"stages": int(pp) + 1, "microbatches": int(m), "virtual_stages": int(v) + 1}
        index, *rest = schedules.INDEX[name], *(float(x) for x in asked.values())
        reasons = [reason for condition, reason in schedules.invalid(index, *rest) if condition]
        if not reasons:
            schedule(name, **asked)
            continue
        told += 1
        with pytest.raises(InputError, match="|".join(f"{key}=" for key in asked)):
            schedule(name, **asked)
    assert told


def test_part_of_a_microbatch_is_told() -> None:
    (condition, reason), *_ = schedules.invalid(0.0, 4.0, 7.5, 1.0)
    assert condition and "whole" in reason


def test_closed_forms_broadcast_in_numpy_and_jax() -> None:
    index = np.arange(6.0)[:, None]
    pp = np.array([[2.0, 4.0, 8.0]])
    one = (pp, np.full((1, 1), 32.0), np.full((1, 1), 1.0))
    work = [np.full((1, 1), x) for x in (1.0, 2.0, 0.75, 2.5)]
    found = schedules.pipeline_s(index, *one, *work)
    assert found.shape == (6, 3)
    for i, j in np.ndindex(6, 3):
        alone = schedules.pipeline_s(float(i), float(pp[0, j]), 32.0, 1.0, 1.0, 2.0, 0.75, 2.5)
        assert found[i, j] == pytest.approx(alone)
    traced = jax.jit(schedules.pipeline_s)(
        *(jnp.asarray(x, "float32") for x in (index, *one, *work))
    )
    assert np.asarray(traced) == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_derivatives_are_those_of_finite_differences(name: str) -> None:
    # f, b, w, fb and the latency, where no two ways through an order are equally long
    work = np.array([1.1, 2.3, 0.9, 3.1, 0.05])
    asked = schedules.INDEX[name], 4.0, 16.0, 2.0 if name == "interleaved" else 1.0
    seeds = [Dual(np.float64(x), seed) for x, seed in zip(work, np.eye(5), strict=True)]
    slopes = schedules.pipeline_s(*asked, *seeds).tangent
    for slope, step in zip(slopes, np.eye(5) * 1e-6, strict=True):
        low, high = (schedules.pipeline_s(*asked, *(work + s)) for s in (-step, step))
        assert slope == pytest.approx((high - low) / 2e-6, rel=1e-6, abs=1e-6)
    assert slopes[0] > 0 and slopes[1] > 0 and slopes[4] > 0


def test_copies_and_messages() -> None:
    by = schedules.INDEX
    assert [float(schedules.copies(by[name])) for name in SCHEDULES] == [1, 1, 1, 1, 1, 2]
    assert [float(schedules.messages(by[name], 4.0)) for name in SCHEDULES] == [1, 1, 4, 1, 1, 1]
    asked = (("1f1b", 1), ("interleaved", 3), ("dualpipe", 1))
    crossed = {name: crossings(schedule(name, 4, 8, v)) for name, v in asked}
    assert crossed["interleaved"] == 3 * crossed["1f1b"] == 3 * crossed["dualpipe"]


def crossings(one: Schedule) -> int:
    """How often micro-batches cross from a stage to the next, or back, in a step."""
    ways = (one.ways[way] for way in one.way)
    return sum(abs(a[0] - b[0]) == 1 for way in ways for a, b in pairwise(way))
