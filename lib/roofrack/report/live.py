"""Charts that follow the controls of a page, in the reader's browser, without a server.

A control is a parameter of every chart that names it. The table behind the charts holds all values
that the control can take, each computed, none interpolated; a chart shows the rows that agree with
the controls. What is proportional to a control is multiplied instead of tabulated.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from roofrack.errors import InputError
from roofrack.report.controls import Control

ALL = "all"
"""The value of a choice that chooses nothing."""
DIGITS = 7  # of the numbers in a shared dataset


def parameter(control: Control) -> str:
    """Return the name of the parameter that a control sets."""
    return f"ctl_{control.key}"


def parameters(controls: Sequence[Control]) -> list[alt.Parameter]:
    """Return the parameters of controls, with the values they start with, for `add_params`."""
    return [alt.param(name=parameter(control), value=control.start) for control in controls]


def chart(dataset: str, controls: Sequence[Control] = ()) -> alt.Chart:
    """Return a chart of the rows of a page's dataset that agree with the controls.

    Each control's column is `control.column`, or its key. A choice that may be ALL keeps all rows.
    Add `parameters(controls)` once, to the outermost chart.
    """
    made = alt.Chart(alt.NamedData(dataset))
    for control in controls:
        made = made.transform_filter(agrees(control))
    return made


def agrees(control: Control) -> str:
    """Return the expression that a row has the control's value."""
    column = f"datum[{json.dumps(control.column or control.key)}]"
    name = parameter(control)
    if isinstance(control.start, str):
        same = f"{column} == {name}"
        return f"{name} == {json.dumps(ALL)} || {same}" if ALL in control.values else same
    # a value went through seven digits, in the table and in the address
    return f"abs({column} - {name}) <= 1e-6 * abs({name})"


def faded(control: Control, full: float = 1.0, faint: float = 0.15) -> Any:
    """Return an opacity that sets off what a choice names."""
    return alt.condition(agrees(control), alt.value(full), alt.value(faint))


def scaled(made: alt.Chart, column: str, control: Control) -> alt.Chart:
    """Multiply a column that is proportional to the control: it holds its value at the start."""
    ratio = f"{parameter(control)} / {json.dumps(control.start)}"
    return made.transform_calculate(**{column: f"datum[{json.dumps(column)}] * {ratio}"})


def rows_at_start(table: pl.DataFrame, controls: Sequence[Control]) -> pl.DataFrame:
    """Return the rows that agree with the controls as the page opens: what its table shows."""
    for control in controls:
        column = control.column or control.key
        if control.start != ALL and column in table.columns:
            table = table.filter(pl.col(column) == control.start)
    return table


def columnar(table: pl.DataFrame) -> Mapping[str, list[Any]]:
    """Return a table as JSON of its columns, numbers with seven digits."""
    return {
        name: [_digits(value) if isinstance(value, float) else value for value in table[name]]
        for name in table.columns
    }


def records(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as a chart reads them, numbers with seven digits."""
    columns = columnar(table)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _digits(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if value == value and abs(value) != float("inf") else None


def check(controls: Sequence[Control]) -> None:
    """Refuse controls of a page that could not work: two of one key, or a start out of range."""
    seen: dict[str, Control] = {}
    for control in controls:
        if seen.setdefault(control.key, control) != control:
            raise InputError(f"control {control.key}: two controls have this key")
        if control.start not in control.values:
            raise InputError(f"control {control.key}: starts at {control.start}, not a value")
