"""The rows of a sweep as its aggregations see them: what columns are, and which rows count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from roofrack.errors import InputError, nearest
from roofrack.results.directions import LESS, MORE
from roofrack.results.schema import COLUMNS, INPUTS

DEGREES = ("tp", "ep", "pp", "dp", "cp", "replicas")
"""Parallel dimensions of a plan: the fewer of them are above 1, the simpler it is."""

Names = str | Sequence[str]
Range = tuple[float | None, float | None]
Limit = float | Range
Plans = Mapping[str, Mapping[str, float | str]]
"""Degrees that were not swept, by the name in the column `parallelism`."""

USABLE = ("cannot_run", "do_not_fit")
"""Reasons after which no other is counted."""

SIMPLICITY = "_dimensions"
_ONE = ("1", "1.0")
_ALIASES = {"pp": ("pp",), "dp": ("racks",)}
_GROUPS = tuple(name for name in INPUTS if name not in ("chips", "racks"))


def names_of(names: Names) -> tuple[str, ...]:
    """Return one name or several as a tuple."""
    return (names,) if isinstance(names, str) else tuple(names)


@dataclass(frozen=True)
class Table:
    """Rows of results, lazy, with the columns that tell points apart (`inputs`)."""

    rows: pl.LazyFrame
    dtypes: Mapping[str, pl.DataType]
    inputs: tuple[str, ...]
    plans: Plans

    def of(self, condition: pl.Expr) -> "Table":
        """Return the rows that meet a condition."""
        return replace(self, rows=self.rows.filter(condition))

    def column(self, name: str, key: str) -> str:
        """Return the name of a column; raise InputError, with the nearest one, if there is none."""
        if name not in self.dtypes:
            leaves = [column for column in self.dtypes if column.endswith(f".{name}")]
            hint = nearest(leaves[0] if leaves else name, self.dtypes)
            raise InputError(f"{key}={name}: no such column.{hint}")
        return name

    def columns(self, names: Names, key: str) -> tuple[str, ...]:
        """Return several columns, each of which has to exist."""
        return tuple(dict.fromkeys(self.column(name, key) for name in names_of(names)))

    def number(self, name: str, key: str) -> str:
        """Return the name of a column of numbers; raise InputError for another."""
        if not self.dtypes[self.column(name, key)].is_numeric():
            numbers = [n for n, dtype in self.dtypes.items() if dtype.is_numeric()]
            raise InputError(f"{key}={name}: holds no numbers.{nearest(name, numbers)}")
        return name

    def input(self, name: str, key: str) -> str:
        """Return the name of a column that tells points apart; raise InputError for another."""
        if self.column(name, key) not in (*self.inputs, *_GROUPS):
            known = ", ".join(self.inputs) or "nothing"
            raise InputError(f"{key}={name}: a result; what tells points apart is {known}")
        return name

    def known(self, name: str) -> pl.Expr:
        """Tell where a column of numbers holds one: neither null nor NaN."""
        column = pl.col(name)
        known = column.is_not_null()
        return known & column.is_not_nan() if self.dtypes[name].is_float() else known

    def simplicity(self) -> pl.Expr:
        """Count the parallel dimensions of a plan that are above 1."""
        label = pl.col("parallelism") if "parallelism" in self.dtypes else pl.lit(None, pl.String)
        used = []
        for degree in DEGREES:
            columns = [
                name
                for name in (f"parallelism.{degree}", *_ALIASES.get(degree, ()))
                if name in self.inputs
            ]
            # a degree is a number, or a word such as `stage` for all that there are
            told = [pl.col(name).cast(pl.String).is_in(_ONE).not_() for name in columns]
            # not by replace_strict: it gathers the whole column, past any stream
            known = {p: str(d[degree]) not in _ONE for p, d in self.plans.items() if degree in d}
            if known:
                above = label.is_in([plan for plan, more in known.items() if more])
                told.append(pl.when(label.is_in(list(known))).then(above))
            used += [pl.coalesce(*told, pl.lit(False))]
        return pl.sum_horizontal(u.cast(pl.UInt8) for u in used).alias(SIMPLICITY)

    def order(self) -> tuple[str, ...]:
        """Return what decides between equals, all least first: the simplest plan wins.

        Parallel dimensions, chips, batch; then each input, so that the answer is always the same.
        """
        batch = [name for name in ("batch", "workload.batch") if name in self.inputs]
        chips = ["chips"] if "chips" in self.dtypes else []
        return tuple(dict.fromkeys([SIMPLICITY, *chips, *batch, *self.inputs]))


def table_of(
    rows: pl.LazyFrame | pl.DataFrame, inputs: Names | None = None, plans: Plans | None = None
) -> Table:
    """Return rows with the meaning of their columns; raise InputError if one is not there.

    Without `inputs` these are the names of groups and every column that is not in the schema.
    """
    lazy = rows.lazy()
    dtypes = dict(lazy.collect_schema())
    table = Table(lazy, dtypes, (), plans or {})
    for name in ("valid", "fits"):
        if name not in dtypes:
            raise InputError(f"rows: column {name} is missing; it says which rows can run")
    if inputs is not None:
        return Table(lazy, dtypes, table.columns(inputs, "inputs"), plans or {})
    listed = list(dtypes)
    # the alias `racks` may be swept: axes stand before the first result
    swept = (
        "racks" in dtypes and "chips" in dtypes and listed.index("racks") < listed.index("chips")
    )
    found = [name for name in listed if name in _GROUPS or name not in COLUMNS]
    return Table(lazy, dtypes, (*found, "racks") if swept else tuple(found), plans or {})


def direction(name: str, key: str) -> str:
    """Return `min` or `max`: what is better of a column; raise InputError if nobody knows."""
    if name in LESS or name in MORE:
        return "min" if name in LESS else "max"
    raise InputError(f'{key}={name}: more may be better or worse; give ("{name}", "min") or "max"')


@dataclass(frozen=True)
class Kept:
    """Which rows count: those that meet all `conditions`, named as exclusions are counted."""

    conditions: Mapping[str, pl.Expr]
    limits: Mapping[str, Range]

    @property
    def all(self) -> pl.Expr:
        """The rows that count."""
        return pl.all_horizontal(c.fill_null(False) for c in self.conditions.values())

    @property
    def usable(self) -> pl.Expr:
        """The rows that run and, where that is asked, fit."""
        return pl.all_horizontal(
            self.conditions[name].fill_null(False) for name in USABLE if name in self.conditions
        )

    def counts(self) -> list[pl.Expr]:
        """Count all rows, and those that each condition excludes.

        A row that cannot run is counted as that only, one that does not fit likewise; of limits a
        row may break several.
        """
        found = [pl.len().alias("rows")]
        left = pl.lit(True)
        for name, condition in self.conditions.items():
            holds = condition.fill_null(False)
            found.append((left & ~holds).sum().alias(name))
            left = left & holds if name in USABLE else left
        return found


def kept(
    table: Table, values: Sequence[str], within: Mapping[str, Limit] | None, fitting: bool
) -> Kept:
    """Return which rows count: they run, fit (if `fitting`), keep the limits and have the values.

    A limit is one number, on the side that is worse, or (lowest, highest), None where there is no
    limit.
    """
    conditions = {"cannot_run": pl.col("valid")}
    if fitting:
        conditions["do_not_fit"] = pl.col("fits")
    limits = {n: _range(table.number(n, "within"), limit) for n, limit in (within or {}).items()}
    for name, (low, high) in limits.items():
        holds = table.known(name)
        holds = holds if low is None else holds & (pl.col(name) >= low)
        conditions[f"beyond_{name}"] = holds if high is None else holds & (pl.col(name) <= high)
    for name in dict.fromkeys(values):
        conditions[f"without_{name}"] = table.known(name)
    return Kept(conditions, limits)


def _range(name: str, limit: Limit) -> Range:
    if isinstance(limit, int | float) and not isinstance(limit, bool):
        if name not in LESS and name not in MORE:
            raise InputError(f"within.{name}={limit}: lowest or highest? Give (lowest, highest)")
        return (None, limit) if name in LESS else (limit, None)
    if not isinstance(limit, tuple | list) or len(limit) != 2:
        raise InputError(f"within.{name}={limit}: allowed is a number or (lowest, highest)")
    return limit[0], limit[1]


def why_empty(table: Table, chosen: Kept, what: str) -> InputError:
    """Return the error of a question that no row is left for: how many each reason excluded."""
    usable = {
        name: pl.col(name).filter(chosen.usable & table.known(name)) for name in chosen.limits
    }
    told = table.rows.select(
        *chosen.counts(),
        *(column.min().alias(f"least {name}") for name, column in usable.items()),
        *(column.max().alias(f"most {name}") for name, column in usable.items()),
    )
    found = told.collect(engine="streaming").row(0, named=True)
    if not found["rows"]:
        return InputError(f"{what}: there are no rows")
    reasons = [
        f"{found[name]:,} {_words(chosen, name, found)}{_detail(table, name, found)}"
        for name in chosen.conditions
        if found[name]
    ]
    return InputError(f"{what}: none of {found['rows']:,} rows is left: {'; '.join(reasons)}")


def _words(chosen: Kept, name: str, found: Mapping[str, float | None]) -> str:
    if name in USABLE:
        return name.replace("_", " ")
    kind, _, column = name.partition("_")
    if kind == "without" or found[f"least {column}"] is None:
        return f"without {column}"
    low, high = chosen.limits[column]
    if low is None or high is None:
        return f"with {column} " + (f"above {high}" if low is None else f"below {low}")
    return f"with {column} outside {low} to {high}"


def _detail(table: Table, name: str, found: Mapping[str, float | None]) -> str:
    if name == "cannot_run" and "why_invalid" in table.dtypes:
        told = table.rows.filter(~pl.col("valid"), pl.col("why_invalid").is_not_null())
        reasons = told.group_by("why_invalid").len().collect(engine="streaming")
        common = reasons.sort("len", "why_invalid", descending=[True, False])["why_invalid"]
        return f" (most often: {common[0]})" if len(common) else ""
    column = name.removeprefix("beyond_")
    least, most = found.get(f"least {column}"), found.get(f"most {column}")
    return "" if least is None else f" (it is {least:.4g} to {most:.4g})"
