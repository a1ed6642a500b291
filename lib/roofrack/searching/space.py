"""The space of a search: machines, formats and modes, every plan that can run, and the axes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np

from roofrack.axes import Axis, axis_of
from roofrack.conversion import Study
from roofrack.errors import InputError
from roofrack.fields import leaf_of
from roofrack.hardware import DEPTH
from roofrack.leaves import Levels, plain
from roofrack.nouns import Scenario
from roofrack.plan import Plan
from roofrack.planning import Plans, plans, why_none
from roofrack.planning.candidates import with_plans
from roofrack.searching.asked import Asked
from roofrack.tables import SERVING

BATCH, PREFILL_BATCH = "workload.batch", "workload.prefill_batch"
PER_OCTAVE = 8
"""Batch sizes between a size and its double, where the search chooses them."""
LARGEST = 2**16
"""The largest batch that the search tries by itself."""
PROMPTS = (1, 2, 4, 8, 16, 32, 64)
"""Prompts a rank computes together, where the search chooses them."""
MEMORY = ("zero", "recompute")
"""Leaves of a plan for training that trade time for memory, whatever else the plan is."""
LEVELS: Levels = {
    where: tuple(map(str, range(DEPTH)))
    for where in ("hardware", "prefill.hardware", "ffn.hardware")
}
"""Fabric levels by number: what they are called differs from machine to machine."""


class Choice(NamedTuple):
    """One machine, model, formats and serving mode to choose.

    `shown` tells it from the others; `checkpoint` is what commands that start an engine call its
    model.
    """

    study: Study
    shown: Mapping[str, str] = {}
    checkpoint: str = "CHECKPOINT"


@dataclass(frozen=True)
class Case:
    """A choice and its plans.

    `scenario` is one of its points, in plain numbers; `prefill` plans of the pool that computes
    prompts, where there is one.
    """

    choice: Choice
    scenario: Scenario
    plans: Plans
    prefill: Plans | None = None

    @property
    def study(self) -> Study:
        """The numbers and names that were chosen."""
        return self.choice.study

    @property
    def serving(self) -> str:
        """Where prompts and tokens are computed."""
        return SERVING[int(self.study.leaves["workload.serving"])]

    def numbered(self, path: str) -> str:
        """Return a path with the number of a fabric level in the place of its name."""
        where, _, rest = path.partition(".fabric.")
        if not rest or where not in LEVELS:
            return path
        name, _, leaf = rest.partition(".")
        return f"{where}.fabric.{self.study.levels[where].index(name)}.{leaf}"


@dataclass(frozen=True)
class Grid:
    """The product of some axes; the last one runs first."""

    axes: tuple[Axis, ...]

    def __len__(self) -> int:
        """Return the number of points."""
        return int(np.prod([len(axis) for axis in self.axes], dtype=np.int64))

    def index(self, steps: Any) -> dict[str, np.ndarray]:
        """Return the position along each axis, by path."""
        if not self.axes:
            return {}
        index = np.unravel_index(steps, [len(axis) for axis in self.axes])
        return {axis.path: i for axis, i in zip(self.axes, index, strict=True)}

    def values(self, steps: np.ndarray) -> dict[str, np.ndarray]:
        """Return the numbers of each axis, by path."""
        index = self.index(steps)
        return {axis.path: axis.values[index[axis.path]] for axis in self.axes}

    def shown(self, step: int) -> dict[str, Any]:
        """Return what the axes are at a step, as it was given, by column."""
        index = self.index(step)
        return {axis.column: axis.shown[int(index[axis.path])] for axis in self.axes}

    def without(self, path: str) -> "Grid":
        """Return the grid without one axis."""
        return Grid(tuple(axis for axis in self.axes if axis.path != path))


@dataclass(frozen=True)
class Space:
    """All points of a search: cases x their plans x a grid.

    A plan is known by the number of its case and its own there. Pools are decoded on and prefilled
    on apart: `main` is the grid of a pool that decodes and `first` that of one that prefills.
    """

    cases: tuple[Case, ...]
    grid: Grid
    chips: int

    @property
    def plans(self) -> int:
        """Plans of all cases; where there are pools, pairs of plans."""
        return sum(len(c.plans) * (len(c.prefill) if c.prefill else 1) for c in self.cases)

    @property
    def main(self) -> Grid:
        """The axes that a pool which only decodes knows of."""
        return self.grid.without(PREFILL_BATCH)

    @property
    def first(self) -> Grid:
        """The axes that a pool which only prefills knows of."""
        return self.grid.without(BATCH)

    @property
    def shared(self) -> Grid:
        """The axes that both know of."""
        return self.main.without(BATCH)


def space(choices: Sequence[Choice], question: Asked) -> Space:
    """List the plans and batch sizes of a question; InputError if no choice has a plan."""
    axes = _axes(choices[0].study, question)
    cases, refused = [], []
    for choice in choices:
        _check(choice.study)
        found = _case(choice, axes, question)
        if isinstance(found, str):
            refused.append(found)
        else:
            cases.append(found)
    if not cases:
        raise InputError(f"search: {refused[0]}")
    return Space(tuple(cases), Grid(axes), question.chips)


def _axes(study: Study, question: Asked) -> tuple[Axis, ...]:
    axes = list(study.axes)
    if study.phase == "train":
        return (*axes, *(_memory_axis(leaf, study, question.within) for leaf in MEMORY))
    if question.auto_batch:
        axes.append(_batches())
    if question.auto_prefill_batch:
        if study.phase != "serve":
            raise InputError(f"{PREFILL_BATCH}=auto: prompts are computed where phase=serve")
        axes.insert(0, Axis(PREFILL_BATCH, PREFILL_BATCH, PROMPTS, np.array(PROMPTS, float)))
    return tuple(axes)


def _memory_axis(leaf: str, study: Study, within: Mapping[str, Any]) -> Axis:
    """Return what training may do to need less memory as an axis: all plans may do all of it.

    A fused core is computed again in any case: `selective` is nothing else than `none` then.
    """
    declared = leaf_of(next(field for field in fields(Plan) if field.name == leaf))
    assert declared is not None
    fused = study.leaves["parallelism.flash_attention"] > 0
    same = ("selective",) if leaf == "recompute" and fused else ()
    every = declared.choices or range(int(declared.ceiling) + 1)
    given = within.get(leaf, "all")
    told = given if isinstance(given, list) else [given]
    values = [value for value in every if value not in same] if given == "all" else told
    return axis_of(leaf, f"parallelism.{leaf}", declared, values)


def _check(study: Study) -> None:
    for axis in study.axes:
        if axis.path.startswith(("parallelism.", "prefill.parallelism.")):
            raise InputError(f"{axis.column}: a search lists the plans; leave it out or give auto")
    for leaf in ("parallelism.replicas", "workload.prefill_instances"):
        pooled = study.leaves["workload.serving"] > 0
        if pooled and study.leaves[leaf] > (leaf == "parallelism.replicas"):
            raise InputError(f"{leaf}: a search chooses the instances of each pool; leave it out")


def _case(choice: Choice, axes: Sequence[Axis], question: Asked) -> Case | str:
    """Return a case, or why it has no plan."""
    study = choice.study
    s = plain(study.bind({axis.path: axis.values[0] for axis in axes}))
    pooled = study.phase == "serve" and s.prefill is not None
    alone = replace(s, prefill=None, workload=replace(s.workload, serving=0.0)) if pooled else s
    # machines of its own for the FFN are as many again, unless their plan says otherwise
    twice = study.leaves["workload.serving"] == SERVING.index("afd") and _own_ffn_plan(s) is None
    reach = _reach(alone, question.chips // (1 + twice))
    within = {leaf: value for leaf, value in question.within.items() if leaf not in MEMORY}
    trains = study.phase == "train"  # on all chips; what serves may take fewer
    if trains:
        reach = question.chips
    found = plans(alone, reach, within=within if trains else question.within, up_to=not trains)
    if not len(found):
        return why_none(alone, question.chips, within=within).message
    with_features = with_plans(s, found.columns)
    s = replace(s, features=with_features.features)
    if not pooled:
        return Case(choice, s, found)
    pool = s.prefill
    assert pool is not None
    first = replace(
        alone,
        hardware=pool.hardware or s.hardware,
        calibration=pool.calibration or s.calibration,
        plan=pool.plan or s.plan,
        draft=None,
        ffn=None,
    )
    reach = _reach(first, question.chips)
    if pool.plan is None:
        prefill = plans(first, reach, within=question.within_prefill, up_to=True)
    elif question.within_prefill:
        leaf = next(iter(question.within_prefill))
        raise InputError(f"prefill.parallelism.{leaf}: that pool has a plan of its own already")
    else:
        prefill = _single(pool.plan, found)
    if not len(prefill):
        return why_none(first, reach, within=question.within_prefill).message
    features = with_plans(first, prefill.columns).features
    s = replace(
        s,
        prefill=replace(pool, plan=s.plan) if pool.plan is None else pool,
        features=tuple(dict.fromkeys([*s.features, *features])),
    )
    return Case(choice, s, found, prefill)


def _reach(s: Scenario, chips: int) -> int:
    """Return the most chips of one instance: no more than the fabric connects."""
    return int(max(min(chips, s.hardware.fabric[-1].chips), 1))


def _own_ffn_plan(s: Scenario) -> Plan | None:
    return None if s.ffn is None else s.ffn.plan


def _single(plan: Plan, like: Plans) -> Plans:
    """Return one plan as a set of plans."""
    columns = {name: np.array([float(getattr(plan, name))]) for name in like.columns}
    stage = columns["tp"] * columns["cp"] * columns["dp"]
    return Plans(columns | {"ep": np.where(columns["ep"] == 0, stage, columns["ep"])})


def _batches() -> Axis:
    """Return whole batch sizes, PER_OCTAVE for each doubling, each once."""
    octaves = int(np.log2(LARGEST))
    sizes = np.unique(np.rint(2.0 ** (np.arange(octaves * PER_OCTAVE + 1) / PER_OCTAVE)))
    return Axis("batch", BATCH, tuple(int(size) for size in sizes), sizes)


def plan_leaves(found: Plans, part: str = "") -> Mapping[str, np.ndarray]:
    """Return the leaves of plans by the paths that a scenario, or a part of it, has them at."""
    return {f"{part}parallelism.{name}": column for name, column in found.columns.items()}
