"""Evaluate every point of a space in single precision, block by block.

Nothing is left out before it is evaluated. Cases that have the same parts share one compiled
function: what differs between them is given at run time.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from roofrack import arithmetic
from roofrack.cost import pytrees  # noqa: F401  (registers the nouns)
from roofrack.grid.factored import evaluator
from roofrack.grid.kept import kept
from roofrack.grid.parts import take_apart
from roofrack.grid.stream import known_options
from roofrack.hardware import Hardware
from roofrack.leaves import entries, put
from roofrack.nouns import Scenario
from roofrack.planning import Plans
from roofrack.searching.points import Points, placed
from roofrack.searching.space import LEVELS, Case, Grid, plan_leaves

LANES = 512
"""Plans evaluated at a time: what is made of them stays in the processor's cache."""
POINTS = 1 << 15
"""Points evaluated at a time at least: what it costs to begin with a block is small beside it."""
WORKERS = 2
BAKED = ("model", "parallelism", "draft")
"""Sections whose numbers are compiled in: they decide which parts of the cost model there are."""

T = TypeVar("T")
Function = Callable[[Scenario], Mapping[str, Any]]
"""Part of the cost model: columns of a scenario."""


class Pass(NamedTuple):
    """One way through a space: a function, the columns wanted, the axes, and whose plans.

    `part` is "" for the plans of the scenario and "prefill." for those of the pool that prefills.
    """

    function: Function
    columns: tuple[str, ...]
    grid: Grid
    part: str = ""

    def plans(self, case: Case) -> Plans:
        """Return the plans of a case that are gone through."""
        found = case.prefill if self.part else case.plans
        assert found is not None
        return found


def _dtype(column: str) -> Any:
    """Return what a column is held in: a mask has more bits than single precision."""
    return jnp.int32 if column == "why_invalid" else jnp.float32


class _Kept:
    """A reduction that keeps all of a block: a row for each step, a column for each lane."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.columns = columns

    def start(self, lanes: int, steps: int) -> dict[str, Any]:
        return {name: jnp.zeros((steps, lanes), _dtype(name)) for name in self.columns}

    def step(self, so_far: Any, columns: Mapping[str, Any], number: Any) -> dict[str, Any]:
        return {
            name: jax.lax.dynamic_update_index_in_dim(
                table, jnp.broadcast_to(columns[name], table.shape[1:]), number, 0
            )
            for name, table in so_far.items()
        }


def scan(cases: Mapping[int, Case], over: Pass) -> Iterator[Points]:
    """Return all points of some cases, block by block, with the columns of a pass.

    `cases` by their number in the space. What has to be compiled is begun at once, beside whatever
    the caller does before it asks for the first block.
    """
    groups = _alike(cases, over)
    beside = ThreadPoolExecutor(1)
    ready = [beside.submit(_compiled, group, over, _lanes(group, over)) for group in groups]
    beside.shutdown(wait=False)
    return _blocks(groups, ready, over)


def _blocks(
    groups: Sequence[Mapping[int, Case]], ready: Sequence[Future[Any]], over: Pass
) -> Iterator[Points]:
    for group, compiled in zip(groups, ready, strict=True):
        yield from _scan(group, over, *compiled.result())


def _lanes(cases: Mapping[int, Case], over: Pass) -> int:
    """Return how many plans are evaluated at a time."""
    lanes = max(LANES, POINTS // len(over.grid))
    return min(lanes, max(len(over.plans(case)) for case in cases.values()))


def _alike(cases: Mapping[int, Case], over: Pass) -> list[dict[int, Case]]:
    """Return the cases in groups that one compiled function serves."""
    groups: dict[Any, dict[int, Case]] = {}
    for number, case in cases.items():
        s = case.scenario
        parts = (s.prefill, s.ffn, s.draft)
        key = (
            case.study.phase,
            s.overlap,
            s.features,
            case.serving,
            tuple(jax.tree.structure(part) for part in parts),
            tuple(case.numbered(axis.path) for axis in over.grid.axes),
        )
        groups.setdefault(key, {})[number] = case
    return list(groups.values())


def _scan(
    cases: Mapping[int, Case], over: Pass, run: Any, given: Mapping[int, Mapping[str, np.ndarray]]
) -> Iterator[Points]:
    lanes, steps = _lanes(cases, over), len(over.grid)
    blocks = [
        (number, first)
        for number, case in cases.items()
        for first in range(0, len(over.plans(case)), lanes)
    ]

    def block(at: tuple[int, int]) -> Points:
        number, first = at
        plans = over.plans(cases[number])
        rows = np.arange(first, min(first + lanes, len(plans)))
        # all blocks have one shape: the last one is filled up
        inside = np.resize(rows, lanes)
        leaves = plan_leaves(plans.take(inside), over.part)
        own = {path: v.astype(np.float32) for path, v in leaves.items()}
        found = run(own | dict(given[number]))  # an axis wins over the leaf of a plan
        wanted = len(rows)
        return placed(
            number,
            np.broadcast_to(rows, (steps, wanted)).ravel(),
            np.broadcast_to(np.arange(steps)[:, None], (steps, wanted)).ravel(),
            {n: np.asarray(v)[:, :wanted].ravel() for n, v in found.items()},
        )

    with ThreadPoolExecutor(WORKERS) as workers:
        yield from ahead(workers, block, blocks)


def ahead(
    workers: ThreadPoolExecutor, work: Callable[[Any], T], items: Iterable[Any]
) -> Iterator[T]:
    """Yield what work makes of the items, in order, a few of them ahead of whoever asks.

    However many items there are, only a few results are held.
    """
    under_way: deque[Future[T]] = deque()
    for item in items:
        under_way.append(workers.submit(work, item))
        if len(under_way) > 2 * WORKERS:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


def _compiled(
    cases: Mapping[int, Case], over: Pass, lanes: int
) -> tuple[Any, dict[int, dict[str, np.ndarray]]]:
    """Return the compiled evaluation of a block, and the numbers that all blocks of a case have.

    Numbers of machine, calibration and prices are given at run time, so that the next question of
    the same model and shape finds its function compiled; those that are 0, 1 or infinite are
    compiled in, for they decide what is left of the formulas.
    """
    depth = max(_depth(case, over) for case in cases.values())
    scenarios = {number: _shallow(case.scenario, depth) for number, case in cases.items()}
    sample, case = next(iter(scenarios.values())), next(iter(cases.values()))
    axes = {case.numbered(axis.path): axis.values for axis in over.grid.axes}
    plans = [path for path in plan_leaves(over.plans(case), over.part) if path not in axes]
    numbers = _numbers(list(scenarios.values()), {*axes, *plans})
    names = list(numbers[0])
    depends: dict[str, str | None] = dict.fromkeys(names)
    depends |= {path: path for path in axes}
    depends |= dict.fromkeys(plans, "plan")
    grids = {path: values.astype(np.float32) for path, values in axes.items()}
    given = {
        number: {path: np.asarray(v, np.float32) for path, v in own.items()} | grids
        for number, own in zip(scenarios, numbers, strict=True)
    }

    def function(values: Mapping[str, Any]) -> dict[str, Any]:
        with arithmetic.apart(), np.errstate(all="ignore"):
            found = over.function(put(sample, values, LEVELS))
        return {name: jnp.asarray(found[name], _dtype(name)) for name in over.columns}

    def build() -> Any:
        parts = take_apart(function, depends, jnp.float32)
        evaluate = evaluator(parts, depends, (*axes, "plan"), _Kept(over.columns))

        def block_of_plans(values: Mapping[str, Any]) -> Any:
            return evaluate(values)

        values = given[next(iter(given))] | dict.fromkeys(plans, np.zeros(lanes, np.float32))
        return jax.jit(block_of_plans, compiler_options=known_options()).lower(values).compile()

    baked = [(e.path, e.value) for e in entries(sample, LEVELS) if e.path not in depends]
    named = over.function.__module__, over.function.__qualname__
    static = case.study.phase, sample.overlap, sample.features, case.serving
    shapes = {path: len(values) for path, values in axes.items()}
    made_of = repr((named, static, over.columns, depends, shapes, lanes, baked))
    return kept(made_of, build), given


def _numbers(scenarios: Sequence[Scenario], other: set[str]) -> list[dict[str, float]]:
    """Return the numbers of each scenario that are given at run time, by path."""
    found = [
        {e.path: (float(e.value), e) for e in entries(s, LEVELS) if e.path not in other}
        for s in scenarios
    ]
    given = []
    for path, (value, entry) in found[0].items():
        same = all(np.array_equal(of[path][0], value, equal_nan=True) for of in found)
        decides = value in (0.0, 1.0) or not np.isfinite(value)
        if not (same and (decides or entry.section in BAKED or not entry.numeric)):
            given.append(path)
    return [{path: of[path][0] for path in given} for of in found]


def _depth(case: Case, over: Pass) -> int:
    """Return how many fabric levels any plan of a case reaches: the others do nothing."""
    s = case.scenario
    machines = [s.hardware, *(p.hardware for p in (s.prefill, s.ffn) if p and p.hardware)]
    if case.serving == "afd":  # the pools meet beyond what either of them reaches
        return max(len(machine.fabric) for machine in machines)
    chips = over.plans(case).chips.max()
    return max(1 + int(np.sum([level.chips < chips for level in m.fabric])) for m in machines)


def _shallow(s: Scenario, depth: int) -> Scenario:
    """Return a scenario whose machines have so many fabric levels."""

    def cut(machine: Hardware | None) -> Hardware | None:
        return machine and replace(machine, fabric=machine.fabric[:depth])

    parts = {
        name: replace(pool, hardware=cut(pool.hardware))
        for name in ("prefill", "ffn")
        if (pool := getattr(s, name)) is not None
    }
    return replace(s, hardware=replace(s.hardware, fabric=s.hardware.fabric[:depth]), **parts)


__all__ = ["LANES", "WORKERS", "Pass", "ahead", "scan"]
