"""What people ask of a sweep: the best, the frontier, and how results move with an axis or a group.

Lazy in, small out: every function takes the rows of a sweep (a LazyFrame, however many) and reduces
them by Polars' streaming engine, so that memory stays bounded. `results.run.Run` has each as a
method. Two arguments are the same everywhere:

- `within`: limits that rows have to keep, {"tpot_s": 0.03, "context": (4096, None)}. A number is a
  limit on the side that is worse (at most, or at least for speeds); a pair is (lowest, highest).
- `inputs`: the columns that tell points apart; by default the names of groups, and all columns that
  are not in the result schema.

Plans that cannot run never count; those that do not fit in memory only with `fitting=False`. A name
that does not exist, or a question that no row is left for, raises InputError and says why.
"""

from collections.abc import Mapping

import polars as pl

from roofrack.errors import InputError, nearest
from roofrack.results.schema import COLUMNS
from roofrack.results.streaming import (
    first,
    grouped,
    quantiles,
    undominated,
)
from roofrack.results.table import (
    SIMPLICITY,
    Limit,
    Names,
    Plans,
    Table,
    direction,
    kept,
    table_of,
    why_empty,
)

Within = Mapping[str, Limit]
Rows = pl.LazyFrame | pl.DataFrame
Goal = str | tuple[str, str]

_HOW = ("min", "max", "mean", "median")
CHANGE = "_change_"
"""In the names of columns that hold differences of another, in its unit."""


def best(
    rows: Rows,
    by: Names = (),
    minimise: str = "usd_per_mtok",
    *,
    maximise: str | None = None,
    within: Within | None = None,
    fitting: bool = True,
    inputs: Names | None = None,
    plans: Plans | None = None,
) -> pl.DataFrame:
    """Return the row of each group with the least `minimise` (or the most `maximise`).

    Of equals the simplest plan: fewest parallel dimensions above 1, fewest chips, lowest batch,
    then the least of each input. Each row says besides how many rows its group has, and how many
    cannot run, do not fit, are beyond a limit, or have no value. A group that nothing is left of
    keeps its line, with nulls. Raises InputError where that is so of all groups.
    """
    table = table_of(rows, inputs, plans)
    target = table.number(maximise or minimise, "maximise" if maximise else "minimise")
    groups = table.columns(by, "by")
    if target in groups:
        raise InputError(f"by={target}: what is compared itself; group by another column")
    chosen = kept(table, [target], within, fitting)
    value = pl.col(target).filter(chosen.all)
    found = grouped(
        table.rows,
        groups,
        [(value.max() if maximise else value.min()).alias(target), *chosen.counts()],
    )
    some = found.filter(pl.col(target).is_not_null())
    if some.is_empty():
        raise why_empty(table, chosen, "best")
    left = table.rows.filter(chosen.all).with_columns(table.simplicity())
    won = first(left, groups, some.select(*groups, target), table.order()).drop(SIMPLICITY)
    counts = list(chosen.conditions)
    told = list(dict.fromkeys([*groups, target, *chosen.limits, "rows", *counts, *table.inputs]))
    if groups:
        won = found.drop(target).join(won, on=groups, how="left", nulls_equal=True).sort(groups)
    else:
        won = pl.concat([found.drop(target), won], how="horizontal")
    return won.select(*told, pl.exclude(told))


def frontier(
    rows: Rows,
    *goals: Goal,
    by: Names = (),
    within: Within | None = None,
    fitting: bool = True,
    inputs: Names | None = None,
    plans: Plans | None = None,
) -> pl.DataFrame:
    """Return the Pareto-optimal rows of each group, in the order of the first goal.

    A goal is a column, or (column, "min" or "max") where the schema does not know what is better.
    A row is on the frontier if no other is at least as good in all goals and better in one; of
    rows that are equal in all of them, the simplest plan as in `best`. Exact.
    """
    table = table_of(rows, inputs, plans)
    asked = dict(_goal(table, goal) for goal in goals)
    if len(asked) < 2:
        raise InputError(f"goals={', '.join(asked)}: give two different columns, or more")
    groups = table.columns(by, "by")
    chosen = kept(table, list(asked), within, fitting)
    signed = {
        f"_{i}": pl.col(name) * (1.0 if better == "min" else -1.0)
        for i, (name, better) in enumerate(asked.items())
    }
    left = table.rows.filter(chosen.all)
    seen = left.select(*dict.fromkeys([*groups, *asked])).with_columns(**signed)
    ends = undominated(seen, groups, list(signed))
    if ends.is_empty():
        raise why_empty(table, chosen, "frontier")
    # all other columns are read of the rows on the frontier only
    told = list(dict.fromkeys([*groups, *asked]))
    won = first(left.with_columns(table.simplicity()), told, ends.select(told), table.order())
    down = [False] * len(groups) + [better == "max" for better in asked.values()]
    told = list(dict.fromkeys([*told, *table.inputs]))
    won = won.drop(SIMPLICITY).sort(*groups, *asked, descending=down)
    return won.select(*told, pl.exclude(told))


def marginal(
    rows: Rows,
    axis: Names,
    of: str,
    how: str | float = "min",
    *,
    within: Within | None = None,
    fitting: bool = True,
    inputs: Names | None = None,
) -> pl.DataFrame:
    """Return `of` for each value of an axis (or of several), all other axes reduced by `how`.

    `how`: min, max, mean, median, or the share of a quantile, such as 0.9. Quantiles are exact and
    linear between two values. `rows` of the answer is how many rows were reduced to each value. The
    line without a value of the axis is of the jobs that did not sweep it.
    """
    table = table_of(rows, inputs)
    axes = table.columns(axis, "axis")
    if not axes or table.number(of, "of") in axes:
        raise InputError(f"axis={', '.join(axes)}, of={of}: give an axis, and a result beside it")
    share = 0.5 if how == "median" else how
    if isinstance(share, str) and how not in _HOW:
        allowed = f"{', '.join(_HOW)}, or a number from 0 to 1"
        raise InputError(f"how={how}: allowed is {allowed}.{nearest(how, _HOW)}")
    chosen = kept(table, [of], within, fitting)
    left = table.rows.filter(chosen.all).select(*axes, of)
    if isinstance(share, str):
        how_much = {"min": pl.col(of).min(), "max": pl.col(of).max(), "mean": pl.col(of).mean()}
        found = grouped(left, axes, [how_much[share], pl.len().alias("rows")])
    else:
        if not 0 <= share <= 1:
            raise InputError(f"how={how}: allowed is {', '.join(_HOW)}, or a number from 0 to 1")
        found = quantiles(lambda: iter([left]), axes, of, [share]).rename(
            {"q0": of, "points": "rows"}
        )
    if found.is_empty():
        raise why_empty(table, chosen, "marginal")
    return found.select(*axes, of, "rows").sort(axes)


def units(table: pl.DataFrame) -> dict[str, str]:
    """Return the unit of each column of an answer that has one in the result schema."""
    told = {name: name.partition(CHANGE)[0] for name in table.columns}
    return {n: COLUMNS[of].unit for n, of in told.items() if of in COLUMNS and COLUMNS[of].unit}


def _goal(table: Table, goal: Goal) -> tuple[str, str]:
    if isinstance(goal, str):
        return table.number(goal, "goals"), direction(goal, "goals")
    name, better = goal if len(goal) == 2 else (str(goal), "")
    if better not in ("min", "max"):
        raise InputError(f'goals={goal}: allowed is a column, or (column, "min" or "max")')
    return table.number(name, "goals"), better
