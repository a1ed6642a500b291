"""What is kept of a grid is what NumPy finds among all of its points."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofrack.errors import InputError
from roofrack.grid.factored import evaluator
from roofrack.grid.parts import take_apart
from roofrack.grid.reductions import (
    ALL,
    NOWHERE,
    Allowed,
    Best,
    Frontier,
    Histogram,
    Several,
    Tally,
    Top,
    log_edges,
)

ODD = [0.0, 0.25, 1.0, 1.5, 2.0, 7.0, -3.0, np.inf, -np.inf, np.nan]
"""Few values, so that many are equal; all are exact in single precision."""
EDGES = (0.25, 1.0, 1.75, 4.0)


STEPS, LANES = 9, 2
SOME = (
    Allowed(),
    ALL,
    Allowed(most={"along": 1.5}),
    Allowed((), {"along": np.nan, "goal": 2.0}),
    Allowed(("fits", "kind"), {"along": 2.0}),
)


@st.composite
def columns(draw):
    """Columns of some steps (rows) and lanes."""

    def column(values):
        drawn = draw(st.lists(st.sampled_from(values), min_size=size, max_size=size))
        return np.array(drawn, np.float32).reshape(STEPS, LANES)

    size = STEPS * LANES
    return {"goal": column(ODD), "along": column(ODD), "fits": column([0.0, 1.0, np.nan]),
            "kind": column([0.0, 1.0, 2.0])}  # fmt: skip


def cases(*, sides=(False, True)):
    """All of SOME, with the least and with the largest."""
    return st.sampled_from([(allowed, largest) for allowed in SOME for largest in sides])


_COMPILED = {}


def reduced(reduction, points):
    """Give a reduction all points, step by step; compiled once for each."""

    def run(points):
        def step(number, kept):
            return reduction.step(kept, {n: points[n][number] for n in reduction.columns}, number)

        return jax.lax.fori_loop(0, STEPS, step, reduction.start(LANES, STEPS))

    return _COMPILED.setdefault(repr(reduction), jax.jit(run))(points)


def counting(allowed, points):
    counts = np.ones(points["goal"].shape, bool)
    for name in allowed.yes:
        counts &= points[name] > 0
    for name, limit in allowed.most.items():
        counts &= (points[name] <= limit) | np.isnan(limit)
    return counts


def cost_of(points, counts, largest):
    cost = np.where(counts, points["goal"] * (-1 if largest else 1), np.inf)
    return np.where(np.isnan(cost), np.inf, cost)


@settings(max_examples=80)
@given(points=columns(), case=cases())
def test_the_best_of_a_lane_are_the_first_of_all_sorted(points, case):
    (allowed, largest), k = case, 4
    top = Top("goal", k, largest, allowed)
    kept = top.told(reduced(top, points))
    best = Best("goal", largest, allowed)
    alone = best.told(reduced(best, points))
    cost = cost_of(points, counting(allowed, points), largest)
    for lane in range(cost.shape[1]):
        order = np.argsort(cost[:, lane], kind="stable")
        wanted = [int(i) for i in order if cost[i, lane] < np.inf][:k]
        missing = k - len(wanted)
        assert kept.place[:, lane].tolist() == wanted + [NOWHERE] * missing
        assert kept.there[:, lane].tolist() == [True] * len(wanted) + [False] * missing
        worst = -np.inf if largest else np.inf
        values = [float(points["goal"][i, lane]) for i in wanted] + [worst] * missing
        assert kept.value[:, lane].tolist() == values
        assert (alone.place[lane], alone.value[lane]) == (kept.place[0, lane], values[0])


@settings(max_examples=60)
@given(points=columns(), case=cases(sides=(False,)))
def test_every_point_is_counted_once(points, case):
    allowed, _ = case
    histogram = Histogram("along", EDGES, allowed)
    bins = histogram.told(reduced(histogram, points), STEPS)
    counts = counting(allowed, points)
    tally = Tally("kind", 3, allowed)
    kinds = tally.told(reduced(tally, points))
    for lane in range(counts.shape[1]):
        x = points["along"][counts[:, lane], lane]
        assert bins.inside[:, lane].tolist() == [
            int(np.sum((low <= x) & (x < high))) for low, high in itertools.pairwise(EDGES)
        ]
        assert bins.above[lane] == np.sum(x >= EDGES[-1])
        assert bins.below[lane] == np.sum(~(x >= EDGES[0]))
        assert bins.excluded[lane] == np.sum(~counts[:, lane])
        everything = bins.inside[:, lane].sum() + bins.above[lane] + bins.below[lane]
        assert everything + bins.excluded[lane] == STEPS
        seen = points["kind"][counts[:, lane], lane].astype(int)
        assert kinds[:, lane].tolist() == np.bincount(seen, minlength=3).tolist()


def frontier_of(x, cost):
    """Tell which points no other one beats in one of the two while it equals it in the other."""
    finite = cost < np.inf
    beaten = [
        bool(np.any(finite & (x <= x[i]) & (cost <= cost[i]) & ((x < x[i]) | (cost < cost[i]))))
        for i in range(len(x))
    ]
    return np.flatnonzero(finite & ~np.isnan(x) & ~np.array(beaten))


@settings(max_examples=80)
@given(points=columns(), case=cases(), less=st.booleans())
def test_no_point_of_the_frontier_is_lost(points, case, less):
    """Each is kept, or one that is kept is no worse in `goal` and in the same cell of `along`."""
    allowed, largest = case
    frontier = Frontier("along", "goal", EDGES, largest, allowed)
    kept = frontier.told(reduced(frontier, points))
    cost = cost_of(points, counting(allowed, points), largest)
    sign = -1 if largest else 1
    for lane in range(cost.shape[1]):
        x, c = points["along"][:, lane], cost[:, lane]
        there = kept.there[:, lane]
        places, values = kept.place[there, lane], kept.value[there, lane] * sign
        assert (c[places] == values).all()  # what is kept are points, with their places
        assert (np.digitize(x[places], EDGES) == np.flatnonzero(there)).all()  # in their cells
        for i in frontier_of(x if less else -x, c):
            [cell] = np.digitize(x[[i]], EDGES)
            kept_here = int(kept.place[cell, lane])
            assert kept_here != NOWHERE and c[kept_here] <= c[i]
            if 0 < cell < len(EDGES):
                assert abs(x[kept_here] - x[i]) < EDGES[cell] - EDGES[cell - 1]
        for cell in np.flatnonzero(there):  # and nothing in the cell is better than what is kept
            inside = np.digitize(np.nan_to_num(x, nan=-np.inf), EDGES) == cell
            assert kept.value[cell, lane] * sign == np.min(c[inside & ~np.isnan(x)])


def odd(v):
    a, b, c = v["a"], v["b"], v["c"]
    return {
        "goal": a * b + c,
        "along": c / (a - b),
        "fits": jnp.where(a + c > 2.0, 1.0, 0.0),
        "kind": a,
        "same": jnp.float32(1.0),
    }


DEPENDS = {"a": "x", "b": "y", "c": "z"}
TOGETHER = Several(
    (
        Best("goal", allowed=Allowed(most={"along": 3.0})),
        Top("goal", 3, largest=True),
        Histogram("along", EDGES),
        Histogram("same", EDGES, ALL),
        Tally("kind", 4),
        Frontier("along", "goal", EDGES, allowed=ALL),
    )
)


def eagerly(reduction, points):
    kept = reduction.start(3, 8)
    for number in range(8):
        seen = {name: jnp.asarray(points[name][number]) for name in reduction.columns}
        kept = reduction.step(kept, seen, number)
    return kept


def run():
    parts = take_apart(odd, DEPENDS, jnp.float32)
    return evaluator(parts, DEPENDS, ("x", "y", "z"), TOGETHER)


def test_several_at_once_inside_the_compiled_step():
    values = {"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 2.0], "c": [0.0, 1.0, 1.5]}
    values = {name: np.array(v, np.float32) for name, v in values.items()}
    grids = dict(zip("abc", np.meshgrid(*values.values(), indexing="ij"), strict=True))
    with np.errstate(all="ignore"):
        points = {n: np.asarray(v) for n, v in odd(grids).items()}
    points = {n: np.broadcast_to(v, (4, 2, 3)).reshape(8, 3) for n, v in points.items()}
    kept = jax.jit(run())(values)
    alone = [eagerly(one, points) for one in TOGETHER.reductions]
    assert len(jax.tree.leaves(kept)) == len(jax.tree.leaves(alone)) == 11
    for one, other in zip(jax.tree.leaves(kept), jax.tree.leaves(alone), strict=True):
        np.testing.assert_array_equal(one, other)
    constant = TOGETHER.reductions[3].told(kept[3], steps=8)
    assert constant.inside.tolist() == [[0] * 3, [8] * 3, [0] * 3]


def test_what_is_kept_does_not_grow_with_the_points():
    def shapes(steps):
        given = {"a": (steps,), "b": (2,), "c": (5,)}
        return jax.eval_shape(
            run(), {n: jax.ShapeDtypeStruct(shape, jnp.float32) for n, shape in given.items()}
        )

    assert shapes(3) == shapes(3000)
    assert {leaf.shape[-1] for leaf in jax.tree.leaves(shapes(3))} == {5}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Histogram("x", (1.0, 1.0)), r"edges: \[1.0, 1.0\] must ascend"),
        (lambda: Frontier("x", "y", ()), "edges: .* at least one"),
        (lambda: Histogram("x", (1.0, np.nan)), "edges: .* must ascend"),
        (lambda: log_edges(0.0, 1.0, 3), "edges: 0.0 to 1.0 must be positive"),
        (lambda: log_edges(1.0, 2.0, 0), "bins: 0 must be at least 1"),
        (lambda: Top("x", 0).start(1, 1), "top: 0 must be at least 1"),
        (lambda: Best("x").start(1, 2**31), "steps: 2147483648 of a block; at most 2147483647"),
    ],
)
def test_what_cannot_be_is_refused(make, told):
    with pytest.raises(InputError, match=told):
        make()


def test_edges_have_one_ratio():
    edges = log_edges(1e-3, 10.0, 4)
    np.testing.assert_allclose(edges, [1e-3, 1e-2, 1e-1, 1.0, 10.0])
