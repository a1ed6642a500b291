"""How a noun declares its leaves: the unit, the meaning, the default and the allowed range, once.

The composed configuration is checked against these declarations (`conversion`), the empty
configuration tree is made of them (`schema`), and tables and axes take their units from them.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

REQUIRED = "???"
"""What a configuration holds where a file has to give the value (OmegaConf's own mark)."""


@dataclass(frozen=True)
class Leaf:
    """What one leaf accepts: a name (`choices`), a truth value (`flag`), or else a number."""

    doc: str
    unit: str = ""
    default: float | str | bool | None = None
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    integer: bool = False
    infinite: bool = False  # the limit of large values is meant to be asked
    flag: bool = False
    choices: tuple[str, ...] = ()
    words: tuple[tuple[str, float], ...] = ()  # names a number may also be given by

    @property
    def ceiling(self) -> float:
        """Largest value taken: single-precision sweeps stay finite below it."""
        if self.at_most is not None:
            return self.at_most
        if self.infinite:
            return float("inf")
        return 1e12 if self.integer or self.unit in ("tokens", "sequences") else 1e24

    def allowed(self) -> str:
        """Say in words what the leaf accepts."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.flag:
            return "true or false"
        kind = "a whole number" if self.integer else "a number"
        if self.above is not None:
            kind += f" above {self.above:g}"
        if self.at_least is not None:
            kind += f" of at least {self.at_least:g}"
        if self.at_most is not None:
            kind += f" and at most {self.at_most:g}"
        return kind + "".join(f", or '{word}'" for word, _ in self.words)


def declare(leaf: Leaf) -> Any:
    """Declare a field by its Leaf; its default, as the cost model holds it, is the field's."""
    if leaf.default is None:
        return dataclasses.field(metadata={"leaf": leaf})
    held = leaf.choices.index(str(leaf.default)) if leaf.choices else leaf.default
    return dataclasses.field(default=float(held), metadata={"leaf": leaf})


def positive(doc: str, unit: str = "", default: float | None = None, **rule: Any) -> Any:
    """Declare a number above zero."""
    return declare(Leaf(doc, unit, default, above=0.0, **rule))


def amount(doc: str, unit: str = "", default: float | None = None, **rule: Any) -> Any:
    """Declare a number of zero or more."""
    return declare(Leaf(doc, unit, default, at_least=0.0, **rule))


def at_least_one(doc: str, unit: str = "", default: float | None = None) -> Any:
    """Declare a number of 1 or more."""
    return declare(Leaf(doc, unit, default, at_least=1.0))


def share(doc: str, default: float | None = None) -> Any:
    """Declare a fraction above 0 and at most 1."""
    return declare(Leaf(doc, "", default, above=0.0, at_most=1.0))


def flag(doc: str, default: bool | None = None) -> Any:
    """Declare a truth value (held as 0.0 or 1.0)."""
    return declare(Leaf(doc, "", default, flag=True))


def name(doc: str, choices: Any, default: str | None = None) -> Any:
    """Declare a name out of `choices` (held as its index)."""
    return declare(Leaf(doc, "", default, choices=tuple(choices)))


def static(doc: str, choices: Any, default: str) -> Any:
    """Declare a name that selects the compiled function (held as it is)."""
    return dataclasses.field(
        default=default, metadata={"leaf": Leaf(doc, "", default, choices=tuple(choices))}
    )


def leaf_of(field: dataclasses.Field[Any]) -> Leaf | None:
    """Return the declaration of a dataclass field, or None if the field is itself a noun."""
    return field.metadata.get("leaf")
