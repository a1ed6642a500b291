"""Algebra on the operations of a traced function: what does nothing goes, what may wait waits.

Sums and products are ordered so that numbers of few axes meet first: of a sum over three blocks
that know the plan only and one that knows all axes, one addition is left for every point. Results
change in the last digit only, as of any other order of a sum.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import primitives

Axes = frozenset[str]
"""The axes that a value depends on."""


class Constant(NamedTuple):
    """A number known when the function was traced."""

    value: Any

    def equals(self, number: float) -> bool:
        """Tell whether it is this number."""
        return np.ndim(self.value) == 0 and bool(np.asarray(self.value) == number)


Input = int | Constant
"""The number of a value computed before, or what is known."""


class Operation(NamedTuple):
    """One primitive operation of JAX on numbers; `dtype` of its first result."""

    primitive: Any
    parameters: dict[str, Any]
    inputs: tuple[Input, ...]
    outputs: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def name(self) -> str:
        """The name of the primitive."""
        return str(self.primitive.name)

    @property
    def floating(self) -> bool:
        """Whether its result is a real number."""
        return np.issubdtype(self.dtype, np.floating)


def without_effect(operation: Operation) -> Input | None:
    """Return the input or constant that an operation comes to, if that is all it does.

    x + 0, x - 0, 1 x, x / 1, x^1; and 0 x = 0, which holds for every finite x.
    """
    if not operation.floating or len(operation.inputs) != 2:
        return None
    a, b = operation.inputs
    known = [(x, y) for x, y in ((a, b), (b, a)) if isinstance(y, Constant)]
    if operation.name in ("add", "mul"):
        neutral = 0.0 if operation.name == "add" else 1.0
        for other, constant in known:
            if constant.equals(neutral):
                return other
            if operation.name == "mul" and constant.equals(0.0):
                return constant
    if isinstance(b, Constant) and b.equals(
        {"sub": 0.0, "div": 1.0, "pow": 1.0}.get(operation.name, np.nan)
    ):
        return a
    return None


def regrouped(
    operations: Sequence[Operation],
    results: Sequence[Input],
    axes: dict[int, Axes],
    fresh: Iterator[int],
) -> list[Operation]:
    """Return the operations with sums and products in an order that puts few axes first.

    `axes` says what each value depends on and is completed for the values that come in. Divisions
    by numbers of fewer axes become products with their inverse, powers exponentials of logarithms
    (a third of the time: XLA has no vector power).
    """
    inverted = _inverted(_exponentials(operations, axes, fresh), axes, fresh)
    uses = Counter(i for one in inverted for i in one.inputs if isinstance(i, int))
    uses.update(value for value in results if isinstance(value, int))
    made = {one.outputs[0]: one for one in inverted}
    consumers = {i: one for one in inverted for i in one.inputs if isinstance(i, int)}

    def absorbed(one: Operation) -> bool:
        into = consumers.get(one.outputs[0])
        return (
            _chains(one)
            and uses[one.outputs[0]] == 1
            and into is not None
            and into.name == one.name
            and into.floating
        )

    def terms(one: Operation) -> Iterator[Input]:
        for value in one.inputs:
            inner = made.get(value) if isinstance(value, int) else None
            if inner is not None and inner.name == one.name and absorbed(inner):
                yield from terms(inner)
            else:
                yield value

    found: list[Operation] = []
    for one in inverted:
        if not _chains(one):
            found.append(one)
        elif not absorbed(one):
            found += _chain(one, list(terms(one)), axes, fresh)
    return found


def _chains(one: Operation) -> bool:
    return one.floating and one.name in ("add", "mul")


def _chain(
    one: Operation, terms: list[Input], axes: dict[int, Axes], fresh: Iterator[int]
) -> list[Operation]:
    """Return the operations that add (or multiply) terms, those of the fewest axes first."""

    def seen(value: Input) -> Axes:
        return axes[value] if isinstance(value, int) else frozenset()

    groups: dict[Axes, list[Input]] = {}
    for value in terms:
        groups.setdefault(seen(value), []).append(value)
    found: list[Operation] = []

    def pair(a: Input, b: Input) -> int:
        number = next(fresh)
        axes[number] = seen(a) | seen(b)
        found.append(one._replace(inputs=(a, b), outputs=(number,)))
        return number

    def together(values: list[Input]) -> Input:
        so_far = values[0]
        for value in values[1:]:
            so_far = pair(so_far, value)
        return so_far

    order = sorted(groups, key=lambda of: (len(of), sorted(of)))
    together([together(groups[of]) for of in order])
    found[-1] = found[-1]._replace(outputs=one.outputs)  # the last one is the whole
    return found


def _exponentials(
    operations: Sequence[Operation], axes: dict[int, Axes], fresh: Iterator[int]
) -> list[Operation]:
    """Return x^y as exp(y log x): for x >= 0 and not both 0, as the cost model has it."""
    logarithms: dict[int, int] = {}
    found: list[Operation] = []
    for one in operations:
        base = one.inputs[0]
        if one.name != "pow" or not isinstance(base, int):
            found.append(one)
            continue
        if base not in logarithms:
            logarithms[base] = next(fresh)
            axes[logarithms[base]] = axes[base]
            logarithm = one._replace(primitive=primitives.log_p, parameters={"accuracy": None})
            found.append(logarithm._replace(inputs=(base,), outputs=(logarithms[base],)))
        raised = next(fresh)
        axes[raised] = axes[one.outputs[0]]
        product = one._replace(primitive=primitives.mul_p, parameters={})
        found.append(product._replace(inputs=(logarithms[base], one.inputs[1]), outputs=(raised,)))
        found.append(
            one._replace(
                primitive=primitives.exp_p, parameters={"accuracy": None}, inputs=(raised,)
            )
        )
    return found


def _inverted(
    operations: Sequence[Operation], axes: dict[int, Axes], fresh: Iterator[int]
) -> list[Operation]:
    inverses: dict[Any, Input] = {}
    found: list[Operation] = []
    for one in operations:
        if one.name != "div" or not one.floating:
            found.append(one)
            continue
        a, b = one.inputs
        of_b = axes[b] if isinstance(b, int) else frozenset()
        if isinstance(b, int) and of_b == axes[one.outputs[0]]:
            found.append(one)
            continue
        key = b if isinstance(b, int) else np.asarray(b.value).tobytes()
        if key not in inverses:
            one_over: Callable[[Any], Any] = one.dtype.type
            if isinstance(b, Constant):
                inverses[key] = Constant(one_over(1.0) / np.asarray(b.value, one.dtype)[()])
            else:
                number = next(fresh)
                axes[number] = of_b
                found.append(one._replace(inputs=(Constant(one_over(1.0)), b), outputs=(number,)))
                inverses[key] = number
        product = one._replace(primitive=primitives.mul_p, parameters={})
        found.append(product._replace(inputs=(a, inverses[key])))
    return found


def needed(operations: Sequence[Operation], results: Sequence[Input]) -> list[Operation]:
    """Return the operations that the results come from."""
    wanted = {value for value in results if isinstance(value, int)}
    kept = []
    for operation in reversed(operations):
        if wanted.intersection(operation.outputs):
            kept.append(operation)
            wanted.update(i for i in operation.inputs if isinstance(i, int))
    return kept[::-1]


def dependent(operations: Sequence[Operation], arguments: Mapping[int, Axes]) -> dict[int, Axes]:
    """Return the axes that each value depends on, given those of the arguments."""
    axes = dict(arguments)
    for operation in operations:
        seen = [axes[i] for i in operation.inputs if isinstance(i, int)]
        axes |= dict.fromkeys(operation.outputs, frozenset().union(*seen))
    return axes
