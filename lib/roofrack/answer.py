"""What the Python contract returns, made for reading: at a prompt and in a notebook.

Numbers keep their names and units of the result schema; here they only get a face. Every string is
escaped, the tables bring their own few styles and need nothing from outside.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from roofrack.cost.layout import reasons
from roofrack.derivatives import Slopes
from roofrack.report.format import NOTHING, quantity
from roofrack.report.text import cell
from roofrack.results.schema import COLUMNS, KEPT_WHEN_INVALID, PARTS

if TYPE_CHECKING:
    import polars as pl

GROUPS = {
    "time": ("step_", "ttft_", "tpot_", "t_", "bound", "block_"),
    "rates": ("tokens_per_", "mfu", "hfu", "mbu"),
    "memory": ("mem_", "fits"),
    "money": ("usd_", "joule_", "context_knee", "hbm_drain"),
}
"""How the columns are grouped, by the beginnings of their names; the rest is structure."""
HEADLINE = ("step_s", "tpot_s", "ttft_s", "tokens_per_s_per_chip", "usd_per_mtok", "bound", "fits")
"""Columns shown of a scenario with axes."""
SHOWN = 0.0005
"""Elasticities below this are left out of text and tables; they are in the mapping all the same."""
ROWS = 8
"""Points shown of a scenario with axes."""
_FLAGS = ("fits", "valid")
_STYLE = "text-align:left"  # notebooks align to the right


class Estimate(dict[str, Any]):
    """The columns of a scenario by name, as a dict: units and meanings in the result schema.

    It is a JAX pytree like a dict. `repr` and the table in a notebook leave out what has no value
    or is 0, and the results of a plan that cannot run.
    """

    def __repr__(self) -> str:
        """Return the table as text."""
        if self._abstract():
            return f"Estimate({dict.__repr__(self)})"
        if self._shape():
            grid = self._grid()
            widths = [max(map(len, texts)) for texts in zip(*grid, strict=True)]
            lines = [
                "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True))
                for row in grid
            ]
            return "\n".join([self._title(), *lines])
        lines = [self._title()] if self._title() else []
        for group, rows in self._groups():
            lines += [group, *(f"  {name:<34}{value:>16}" for name, value, _ in rows)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if self._abstract():
            return f"<pre>{escape(repr(self))}</pre>"
        if self._shape():
            head, *rows = self._grid()
            return _table(self._title(), [("", rows)], head)
        return _table(self._title(), list(self._groups()))

    def _abstract(self) -> bool:
        """Whether some column is no number yet: traced by JAX, or replaced in a pytree."""
        try:
            for value in self.values():
                np.asarray(value, np.float64)
        except Exception:  # what a tracer or a stranger raises is not ours to list
            return True
        return False

    def _shape(self) -> tuple[int, ...]:
        return np.broadcast_shapes(*(np.shape(value) for value in self.values()))

    def _title(self) -> str:
        shape = self._shape()
        if shape:
            points = int(np.prod(shape))
            size = " x ".join(str(length) for length in shape)
            return f"{points:,} points ({size}), {len(self)} columns; the first {min(points, ROWS)}"
        mask = int(self.get("why_invalid", 0))
        return f"this plan cannot run: {reasons(mask)}" if mask else ""

    def _groups(self) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
        """Yield each group and its (name, value, meaning), of what has a value."""
        invalid = bool(self.get("why_invalid", 0))
        shown = {
            name: _text(name, value)
            for name, value in self.items()
            if name != "why_invalid"
            and not _empty(name, value)
            and (not invalid or name in KEPT_WHEN_INVALID)
        }
        for group in (*GROUPS, "structure"):
            rows = [(n, text, _doc(n)) for n, text in shown.items() if _group(n) == group]
            if rows:
                yield group, rows

    def _grid(self) -> list[list[str]]:
        """Return the heading and the first points of a scenario with axes."""
        shape = self._shape()
        count = min(int(np.prod(shape)), ROWS)
        names = [n for n in HEADLINE if n in self and not np.all(_missing(self[n]))]
        places = [np.unravel_index(i, shape) for i in range(count)]
        rows = [["".join(f"[{i}]" for i in place)] for place in places]
        masks = np.broadcast_to(self.get("why_invalid", 0), shape).ravel()[:count]
        for name in names:
            flat = np.broadcast_to(np.asarray(self[name]), shape).ravel()[:count]
            for row, value, mask in zip(rows, flat, masks, strict=True):
                row.append(NOTHING if mask else _text(name, value))
        return [["", *names], *rows]


def _missing(value: Any) -> Any:
    return np.isnan(np.asarray(value, np.float64))


def _empty(name: str, value: Any) -> bool:
    """Whether a number says nothing: not there, or 0 (the position of what binds may be 0)."""
    return bool(_missing(value)) or (name not in ("bound", *_FLAGS) and float(value) == 0)


def _text(name: str, value: Any) -> str:
    """Write one number of a column for people."""
    if _missing(value):
        return NOTHING
    if name == "bound":
        return PARTS[int(value)]
    return cell(name, bool(value) if name in _FLAGS else float(value))


def _doc(name: str) -> str:
    return COLUMNS[name].doc if name in COLUMNS else ""


def _group(name: str) -> str:
    return next((group for group, starts in GROUPS.items() if name.startswith(starts)), "structure")


def _table(
    title: str, groups: Sequence[tuple[str, Sequence[Sequence[str]]]], head: Sequence[str] = ()
) -> str:
    """Return a self-contained HTML table; each group of rows has a heading of its own."""
    width = max([len(head), *(len(row) for _, rows in groups for row in rows)])
    lines = [f"<caption style='{_STYLE}'>{escape(title)}</caption>"] if title else []
    if head:
        lines.append("<tr>" + "".join(_cell(text, "th") for text in head) + "</tr>")
    for group, rows in groups:
        if group:
            lines.append(f"<tr><th colspan='{width}' style='{_STYLE}'>{escape(group)}</th></tr>")
        lines += ["<tr>" + "".join(_cell(text, "td") for text in row) + "</tr>" for row in rows]
    return "<table>" + "".join(lines) + "</table>"


def _cell(text: str, kind: str) -> str:
    return f"<{kind} style='{_STYLE}'>{escape(text)}</{kind}>"


class Elasticities(Mapping[str, Any]):
    """Path of a leaf -> d log(`of`) / d log(leaf), the largest first: per cent for each per cent.

    A number for a single scenario; with axes an array in the shape of the scenario. NaN where the
    column has no value. Whole numbers are differentiated as if they were not whole.
    """

    def __init__(self, of: str, found: Slopes) -> None:
        """Hold what `roofrack.derivatives.slopes` found for column `of`."""
        self.of, self.found = of, found
        self._by_path = {s.entry.path: s.elasticity for s in found.slopes}

    def __getitem__(self, path: str) -> Any:
        """Return the elasticity to one leaf."""
        value = self._by_path[path]
        return value if np.ndim(value) else float(value)

    def __iter__(self) -> Iterator[str]:
        """Iterate over paths, the largest elasticity first."""
        return iter(self._by_path)

    def __len__(self) -> int:
        """Return the number of leaves."""
        return len(self._by_path)

    def top(self, n: int = 10) -> "Elasticities":
        """Return the n largest."""
        return Elasticities(self.of, self.found._replace(slopes=self.found.slopes[:n]))

    def frame(self) -> "pl.DataFrame":
        """Return a row for each leaf (and each point, numbered in row-major order).

        Columns: leaf, unit, value of the leaf, elasticity (null where there is none).
        """
        import polars as pl

        shape = self.found.value.shape
        count = int(np.prod(shape))
        tables = [
            pl.DataFrame(
                {
                    "leaf": [s.entry.path] * count,
                    "unit": [s.entry.leaf.unit] * count,
                    **({"point": np.arange(count)} if shape else {}),
                    "value": _spread(s.entry.value, shape),
                    "elasticity": _spread(s.elasticity, shape),
                }
            )
            for s in self.found.slopes
        ]
        if not tables:
            return pl.DataFrame(schema=["leaf", "unit", "value", "elasticity"])
        return pl.concat(tables).with_columns(pl.col("elasticity").fill_nan(None))

    def __repr__(self) -> str:
        """Return those that matter as text."""
        lines = [self._title()]
        return "\n".join(lines + [f"{r[0]:>18}  {r[1]:<42}{r[2]:>16}" for r in self._rows()])

    def _repr_html_(self) -> str:
        return _table(self._title(), [("", self._rows())], ("elasticity", "leaf", "is", "meaning"))

    def _title(self) -> str:
        value, idle = self.found.value, len(self) - len(self._rows())
        where = f" at {value.size:,} points" if value.ndim else f" = {_text(self.of, value)}"
        rest = f"; {idle} leaves below {SHOWN}" if idle else ""
        return f"elasticities of {self.of}{where}{rest}"

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [
            (_span(s.elasticity), s.entry.path, _range(s.entry.value, s.entry.leaf.unit),
             s.entry.leaf.doc)
            for s in self.found.slopes
            if np.any(np.abs(np.nan_to_num(s.elasticity)) >= SHOWN)
        ]  # fmt: skip


def _spread(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.asarray(values, np.float64), shape).ravel()


def _span(values: np.ndarray) -> str:
    """Write an elasticity; of several points the smallest and the largest."""
    known = np.ravel(values)[np.isfinite(np.ravel(values))]
    if not known.size:
        return NOTHING
    low, high = f"{known.min():+.3f}", f"{known.max():+.3f}"
    return low if low == high else f"{low} to {high}"


def _range(values: Any, unit: str) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    return (
        quantity(low, unit) if low == high else f"{quantity(low, unit)} to {quantity(high, unit)}"
    )
