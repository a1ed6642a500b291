"""A function of numbers, taken apart by the axes that each of its operations depends on.

On a grid of plans x batches x contexts most of the cost model does not see all three: the fabric
and the layout know the plan only, products of weights do not know the context. A function traced
once falls into parts, each of which is computed as often as its own axes ask and no oftener.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from roofrack.grid.algebra import (
    Axes,
    Constant,
    Input,
    Operation,
    dependent,
    needed,
    regrouped,
    without_effect,
)

_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_CALLS = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call")


class Part(NamedTuple):
    """The operations that depend on exactly these axes: what they take from others and give them.

    Values are known by number. All are without axes: whoever runs a part maps it over its own.
    """

    axes: Axes
    takes: tuple[int, ...]
    gives: tuple[int, ...]
    operations: tuple[Operation, ...]

    def run(self, *values: Any) -> tuple[Any, ...]:
        """Return what the part gives, from what it takes."""
        known = dict(zip(self.takes, values, strict=True))
        for operation in self.operations:
            given = [i.value if isinstance(i, Constant) else known[i] for i in operation.inputs]
            found = operation.primitive.bind(*given, **operation.parameters)
            found = found if operation.primitive.multiple_results else [found]
            known |= dict(zip(operation.outputs, found, strict=True))
        return tuple(known[value] for value in self.gives)


class Parts(NamedTuple):
    """A function as parts, those of fewer axes first; a part only takes from parts before it.

    `arguments` are the numbers of the function's arguments and `results`, by name, those of its
    results (or constants); `axes` says what each value depends on.
    """

    parts: tuple[Part, ...]
    arguments: dict[str, int]
    results: dict[str, Input]
    axes: dict[int, Axes]

    def axes_of(self, value: Input) -> Axes:
        """Return the axes that a value depends on."""
        return frozenset() if isinstance(value, Constant) else self.axes[value]

    @property
    def operations(self) -> dict[Axes, int]:
        """Return how many operations there are by the axes they depend on."""
        return {part.axes: len(part.operations) for part in self.parts}


def take_apart(
    function: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    depends: Mapping[str, str | None],
    dtype: Any,
) -> Parts:
    """Trace a function of named numbers and take it apart.

    `depends` tells the axis of each argument, by name (None: one number for the whole grid); the
    function returns numbers by name. It is traced on numbers without axes, so it has to be
    elementwise.
    """
    names = list(depends)
    closed, shape = jax.make_jaxpr(
        lambda values: dict(function(dict(zip(names, values, strict=True)))), return_shape=True
    )([jax.ShapeDtypeStruct((), dtype)] * len(names))
    fresh = itertools.count()
    arguments, operations, outputs = _flattened(closed, fresh)
    results = dict(zip(sorted(shape), outputs, strict=True))  # as JAX orders a dictionary
    of = {n: _axes(depends[name]) for name, n in zip(names, arguments, strict=True)}
    operations = needed(operations, outputs)
    axes = dependent(operations, of)
    operations = needed(regrouped(operations, outputs, axes, fresh), outputs)
    return Parts(
        parts=_grouped(operations, outputs, axes),
        arguments=dict(zip(names, arguments, strict=True)),
        results=results,
        axes=axes,
    )


def _axes(axis: str | None) -> Axes:
    return frozenset() if axis is None else frozenset([axis])


def _flattened(
    closed: core.ClosedJaxpr, fresh: Iterator[int]
) -> tuple[list[int], list[Operation], list[Input]]:
    """Return arguments, operations and results of a traced function, without calls within."""
    operations: list[Operation] = []
    known: dict[Any, tuple[Input, ...]] = {}  # the same operation on the same values is done once

    def walk(inner: core.ClosedJaxpr, given: Sequence[Input]) -> list[Input]:
        jaxpr = inner.jaxpr
        values: dict[Any, Input] = dict(zip(jaxpr.invars, given, strict=True))
        values |= dict(zip(jaxpr.constvars, map(Constant, inner.consts), strict=True))
        for equation in jaxpr.eqns:
            inputs = tuple(read(values, atom) for atom in equation.invars)
            called = _called(equation)
            if called is not None:
                found: Sequence[Input] = walk(called, inputs)
            else:
                found = add(equation, inputs)
            values |= dict(zip(equation.outvars, found, strict=True))
        return [read(values, atom) for atom in jaxpr.outvars]

    def read(values: dict[Any, Input], atom: Any) -> Input:
        return Constant(atom.val) if isinstance(atom, core.Literal) else values[atom]

    def add(equation: core.JaxprEqn, inputs: tuple[Input, ...]) -> tuple[Input, ...]:
        key = (equation.primitive, str(equation.params), tuple(map(_key, inputs)))
        if key not in known:
            outputs = tuple(next(fresh) for _ in equation.outvars)
            dtype = np.dtype(equation.outvars[0].aval.dtype)  # type: ignore[attr-defined]
            one = Operation(equation.primitive, equation.params, inputs, outputs, dtype)
            same = without_effect(one)
            known[key] = outputs if same is None else (same,)
            if same is None:
                operations.append(one)
        return known[key]

    arguments = [next(fresh) for _ in closed.jaxpr.invars]
    return arguments, operations, walk(closed, arguments)


def _called(equation: core.JaxprEqn) -> core.ClosedJaxpr | None:
    """Return the function that an operation calls, if it only does that."""
    if equation.primitive.name not in _CALLS:
        return None
    inner = next(equation.params[name] for name in _INNER if name in equation.params)
    return inner if isinstance(inner, core.ClosedJaxpr) else core.ClosedJaxpr(inner, ())


def _key(value: Input) -> Any:
    if isinstance(value, int):
        return value
    known = value.value
    return (
        str(getattr(known, "dtype", type(known))),
        known.tobytes() if hasattr(known, "tobytes") else known,
    )


def _grouped(
    operations: list[Operation], outputs: Sequence[Input], axes: Mapping[int, Axes]
) -> tuple[Part, ...]:
    groups: dict[Axes, list[Operation]] = {}
    for operation in operations:
        groups.setdefault(axes[operation.outputs[0]], []).append(operation)
    made = {value: axes[value] for one in operations for value in one.outputs}
    taken: dict[Axes, list[int]] = {}
    for of, group in groups.items():
        inputs = [i for one in group for i in one.inputs if isinstance(i, int)]
        taken[of] = [i for i in dict.fromkeys(inputs) if made.get(i) != of]
    asked = {i for inputs in taken.values() for i in inputs}
    asked.update(value for value in outputs if isinstance(value, int))
    return tuple(
        Part(
            axes=of,
            takes=tuple(taken[of]),
            gives=tuple(v for one in group for v in one.outputs if v in asked),
            operations=tuple(group),
        )
        for of, group in sorted(groups.items(), key=lambda item: (len(item[0]), sorted(item[0])))
    )
