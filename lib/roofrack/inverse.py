"""Inverse questions: the value of a leaf at which a result is what is asked for.

The same cost model, run backwards: one vectorised evaluation over the allowed range brackets every
crossing, Brent's method (scipy.optimize.brentq; Brent 1973, chapter 4) closes in on each.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from roofrack.conversion import SPARSITY
from roofrack.cost import estimate
from roofrack.cost.layout import reasons
from roofrack.derivatives import check_column, refuse_invalid
from roofrack.errors import InputError, nearest
from roofrack.fields import Leaf
from roofrack.leaves import Levels, entries, plain, put
from roofrack.nouns import Scenario
from roofrack.schema import ALIASES

Target = Mapping[str, float | str] | Callable[[Mapping[str, Any]], Any]
"""{column: value}, {column: other column}, or a function of the columns that is 0 at the answer."""

SCAN = 400
"""Points of the scan: crossings closer together than one step of it may be missed."""
REACH = 1e6
"""How far from the present value the scan goes, as a factor either way, where nothing limits it."""
STEPS = 4096
"""Whole numbers tried beside a crossing, to find one whose plan can run."""
COUNTED = ("sequences", "tokens", "experts", "layers", "chips", "racks", "heads")
"""Units of what comes in whole numbers only."""
MORE_IS_BETTER = (
    "tokens_per_s", "tokens_per_s_per_chip", "tokens_per_s_per_user", "mfu", "hfu", "mbu",
)  # fmt: skip
_CLOSE = 1e-9


@dataclass(frozen=True)
class Root:
    """One answer: where the target is met.

    `exact` value of the unknown on the continuous model; `value` of the column there. `whole`, for
    what comes in whole numbers: the nearest one that keeps the target as a limit (at most; at least
    for rates and utilisations) in a plan that can run, None if there is none. `rising` if the
    column grows through the target with the unknown. `step` is set where the column jumps over the
    target (tiles, whole sequences per chip): its values just below and just above. `why_invalid`
    says why the plan cannot run at `exact` itself, None if it can.
    """

    unknown: str
    exact: float
    value: float
    whole: int | None
    rising: bool
    step: tuple[float, float] | None
    why_invalid: str | None

    def __float__(self) -> float:
        """Return the exact answer."""
        return self.exact

    def __str__(self) -> str:
        """Say the answer in a line."""
        text = f"{self.unknown} = {self.exact:.6g}"
        if self.whole is not None:
            text += f" (whole: {self.whole:,})"
        if self.step is not None:
            text += f", where it jumps from {self.step[0]:.4g} to {self.step[1]:.4g}"
        return text


class Roots(tuple[Root, ...]):
    """All answers within the range, ascending; where there is one, its fields are at hand."""

    @property
    def only(self) -> Root:
        """The one answer; InputError telling them if there are several."""
        if len(self) > 1:
            told = "; ".join(str(root) for root in self)
            raise InputError(f"{len(self)} answers: {told}; choose one, or narrow low and high")
        return self[0]

    @property
    def exact(self) -> float:
        """`exact` of the one answer."""
        return self.only.exact

    @property
    def whole(self) -> int | None:
        """`whole` of the one answer."""
        return self.only.whole

    def __repr__(self) -> str:
        """Say the answers, a line each."""
        return "\n".join(str(root) for root in self)


class _Unknown(NamedTuple):
    """What is looked for: its name, declaration, present value, and how it enters a scenario."""

    name: str
    leaf: Leaf
    value: float
    bind: Callable[[Any], Scenario]

    @property
    def counted(self) -> bool:
        return self.leaf.integer or self.leaf.unit in COUNTED

    def at(self, values: Any) -> dict[str, Any]:
        """Evaluate the model at these values of the unknown."""
        with np.errstate(all="ignore"):  # plans that cannot run may divide by zero
            return estimate(self.bind(values))


class _Asked(NamedTuple):
    """The target in words; what has to get there, in words and as a function; what to show of it.

    `difference` is 0 at an answer. `keep` is +1 where the target is a ceiling, -1 where a floor.
    """

    words: str
    measured: str
    left: Callable[[Mapping[str, Any]], Any]
    shown: Callable[[Mapping[str, Any]], Any]
    difference: Callable[[Mapping[str, Any]], Any]
    keep: float


def solve(
    s: Scenario,
    unknown: str,
    target: Target,
    low: float | None = None,
    high: float | None = None,
    levels: Levels | None = None,
) -> Roots:
    """Return every value of a leaf between `low` and `high` at which the target is met.

    `unknown` is the path of a numeric leaf or an alias (batch, context, pp, racks, sparsity), all
    else stays as in the scenario, which has no axes. Without `low` and `high` the search spans a
    factor of a million either way, within what the leaf allows. Leaves are continuous in the
    search, whatever rounds up stays exact (`calibration.quantize=false` makes it smooth). Raises
    InputError if the target is never met, with the range the column takes; InfeasibleError if the
    plan cannot run anywhere.
    """
    s = plain(s)
    wanted, asked = _unknown(s, unknown, levels), _target(target)
    if any(np.ndim(entry.value) for entry in entries(s)):
        raise InputError("solve: the scenario has axes; give one value for each leaf")
    grid = _grid(wanted, low, high)
    columns = wanted.at(grid)
    differences = np.broadcast_to(np.asarray(asked.difference(columns), np.float64), grid.shape)
    _refuse(wanted, grid)
    found = _brackets(grid, differences)
    if not found:
        raise InputError(_never(wanted, asked, grid, columns))
    return Roots(_root(wanted, asked, a, b) for a, b in found)


def _unknown(s: Scenario, name: str, levels: Levels | None) -> _Unknown:
    numbers = {e.path: e for e in entries(s, levels) if e.numeric}
    if name == "sparsity":
        visited = s.model.experts_per_token
        if visited == 0:
            raise InputError("sparsity: this model has no experts")
        return _Unknown(
            name,
            SPARSITY,
            float(s.model.experts / visited),
            lambda x: put(s, {"model.experts": x * visited}, levels),
        )
    path = "parallelism.racks" if name == "racks" else ALIASES.get(name, name)
    if path not in numbers:
        known = [*ALIASES, *numbers]
        raise InputError(f"unknown={name}: no such number of a scenario.{nearest(name, known)}")
    leaf = numbers[path].leaf
    if name == "racks":
        if s.plan.dp != 1:
            raise InputError(f"parallelism.dp={s.plan.dp:g} and racks: racks solves dp")
        leaf = replace(leaf, at_least=None, above=0.0, integer=True)
    value = float(np.ravel(numbers[path].value)[0])
    return _Unknown(name, leaf, value, lambda x: put(s, {path: x}, levels))


def _target(target: Target) -> _Asked:
    if callable(target):
        return _Asked("the target", "the function", target, target, target, 1.0)
    if not isinstance(target, Mapping) or len(target) != 1:
        raise InputError(
            f"target={target}: expected {{column: value}}, {{column: other column}} or a function "
            "of the columns"
        )
    ((column, goal),) = target.items()
    check_column("target", column)
    if isinstance(goal, str):
        check_column("target", goal)
        words, measured = f"{column}={goal}", f"{column} - {goal}"

        def apart(columns: Mapping[str, Any]) -> Any:
            return columns[column] - columns[goal]

        return _Asked(words, measured, apart, lambda c: c[column], apart, 1.0)
    if isinstance(goal, bool) or not np.ndim(goal) == 0 or not math.isfinite(goal):
        raise InputError(f"target: {column}={goal}: expected a finite number or another column")
    keep = -1.0 if column in MORE_IS_BETTER else 1.0

    def value(columns: Mapping[str, Any]) -> Any:
        return columns[column]

    words, number = f"{column}={goal:g}", float(goal)
    return _Asked(words, column, value, value, lambda c: c[column] - number, keep)


def _grid(wanted: _Unknown, low: float | None, high: float | None) -> np.ndarray:
    """Return the values to scan: geometric, the present value among them, 0 only if asked for."""
    leaf = wanted.leaf
    middle = wanted.value if 0 < wanted.value < math.inf else 1.0
    least = leaf.at_least or (1.0 if wanted.counted else 0.0)
    first = max(middle / REACH, least) if low is None else float(low)
    last = min(middle * REACH, leaf.ceiling) if high is None else float(high)
    for name, value in (("low", first), ("high", last)):
        if not math.isfinite(value) or _outside(leaf, value):
            rule = replace(leaf, integer=False).allowed()
            raise InputError(f"{name}={value:g}: {wanted.name} is {rule}")
    if first >= last:
        raise InputError(f"low={first:g} and high={last:g}: low has to be less")
    start = first if first > 0 else min(last / REACH, 1.0)
    # 10**log(x) may leave the range by rounding
    grid = np.clip(np.geomspace(start, last, SCAN), start, last)
    more = [x for x in (first, wanted.value) if first <= x <= last]
    return np.unique(np.append(grid, more))


def _outside(leaf: Leaf, value: float) -> bool:
    return (
        (leaf.above is not None and value <= leaf.above)
        or (leaf.at_least is not None and value < leaf.at_least)
        or value > leaf.ceiling
    )


def _refuse(wanted: _Unknown, grid: np.ndarray) -> None:
    """Raise if no plan runs anywhere: at the value given, in the grid, at round numbers."""
    round_numbers = 2.0 ** np.arange(0, 40)
    inside = round_numbers[(round_numbers >= grid[0]) & (round_numbers <= grid[-1])]
    tried = np.concatenate([[wanted.value], inside, grid])
    masks = np.broadcast_to(wanted.at(tried)["why_invalid"], tried.shape).astype(np.int64)
    always = int(np.bitwise_and.reduce(masks))
    if always:
        refuse_invalid(always)


def _brackets(grid: np.ndarray, differences: np.ndarray) -> list[tuple[float, float]]:
    """Return the intervals over which the difference changes sign; (x, x) where it is 0 at x."""
    known = np.isfinite(differences)
    sign = np.where(known, np.sign(differences), np.nan)
    found = []
    for i in range(len(grid)):
        if sign[i] == 0 and (i == 0 or sign[i - 1] != 0):  # of a flat stretch, its beginning
            found.append((float(grid[i]), float(grid[i])))
        elif i and sign[i] * sign[i - 1] < 0:
            found.append((float(grid[i - 1]), float(grid[i])))
    return found


def _root(wanted: _Unknown, asked: _Asked, a: float, b: float) -> Root:
    from scipy.optimize import brentq  # heavy; nobody else needs it

    def difference(x: float) -> float:
        return float(asked.difference(wanted.at(x)))

    exact = a
    if a != b:
        exact = float(brentq(difference, a, b, xtol=1e-300, rtol=1e-14, maxiter=500))
    beside = [exact * (1.0 - _CLOSE), exact * (1.0 + _CLOSE)]
    if wanted.leaf.at_least is not None:
        beside = [max(x, wanted.leaf.at_least) for x in beside]
    below, above = (difference(x) for x in beside)
    here = wanted.at(exact)
    # a jump keeps its height however close the two points are
    rise = abs(difference(b) - difference(a)) if a != b else 0.0
    jumps = below * above < 0 and abs(above - below) > 1e-5 * rise
    step = tuple(float(asked.shown(wanted.at(x))) for x in beside) if jumps else None
    rising = above > below if a == b else difference(b) > difference(a)
    return Root(
        unknown=wanted.name,
        exact=exact,
        value=float(asked.shown(here)),
        whole=_whole(wanted, asked, exact, rising) if wanted.counted else None,
        rising=rising,
        step=step,  # type: ignore[arg-type]
        why_invalid=reasons(int(here["why_invalid"])),
    )


def _whole(wanted: _Unknown, asked: _Asked, exact: float, rising: bool) -> int | None:
    """Return the nearest whole number on the side where the target is kept and the plan runs."""
    below = rising == (asked.keep > 0)
    if below:
        tried = math.floor(exact * (1.0 + _CLOSE)) - np.arange(STEPS, dtype=np.float64)
    else:
        tried = math.ceil(exact * (1.0 - _CLOSE)) + np.arange(STEPS, dtype=np.float64)
    tried = tried[[not _outside(wanted.leaf, x) for x in tried]]
    if not tried.size:
        return None
    columns = wanted.at(tried)
    difference = np.asarray(asked.difference(columns)) * asked.keep
    slack = _CLOSE * np.abs(np.asarray(asked.shown(columns)))
    fine = (difference <= slack) & (np.asarray(columns["why_invalid"]) == 0)
    places = np.flatnonzero(np.broadcast_to(fine, tried.shape))
    return int(tried[places[0]]) if places.size else None


def _never(wanted: _Unknown, asked: _Asked, grid: np.ndarray, columns: Mapping[str, Any]) -> str:
    """Say that the target is not met, and what is."""
    over = f"for {wanted.name} from {grid[0]:.4g} to {grid[-1]:.4g}"
    values = np.asarray(asked.left(columns), np.float64)
    known = values[np.isfinite(values)]
    if not known.size:
        return f"{asked.words}: {asked.measured} has no value {over}"
    low, high = known.min(), known.max()
    if low == high:
        return f"{asked.words}: {asked.measured} does not depend on {wanted.name}: it is {low:.4g}"
    return f"{asked.words} is never met: {asked.measured} is {low:.4g} to {high:.4g} {over}"
