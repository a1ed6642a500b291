"""Is every key of a composed configuration known, and every value that a file has to give, given?

What a value may be is checked where it becomes part of a scenario.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from roofrack import schema
from roofrack.errors import InputError, nearest
from roofrack.fields import REQUIRED

TOP = (
    *schema.SECTIONS,
    *schema.PARTS,
    *schema.ALIASES,
    "overlap",
    "precision",
    "format",
    "columns",
    "experiment",
)
"""Every key of the top level."""


def check(tree: Mapping[str, Any], choices: Mapping[str, Any]) -> None:
    """Raise InputError for an unknown, missing or misshapen key, naming the file it comes from."""
    for key in tree:
        if key not in TOP:
            raise InputError(f"{key}: no such key; allowed: {', '.join(TOP)}.{nearest(key, TOP)}")
    if not isinstance(tree.get("experiment"), Mapping):
        raise InputError(f"experiment={tree.get('experiment')}: no such experiment")
    for section in schema.SECTIONS:
        notes = schema.NOTES if section in schema.GROUPS else ()
        origin = f" ({section}={choices[section]})" if choices.get(section) else ""
        _compare(schema.defaults(section), tree.get(section), section, origin, notes)
    for part, groups in schema.PARTS.items():
        for group in groups:
            found, where = (tree.get(part) or {}).get(group), f"{part}.{group}"
            if found is not None:
                origin = f" ({group}@{where}={choices.get(f'{group}@{where}')})"
                expected = schema.defaults(group)
                _compare(expected, _filled(expected, found), where, origin, schema.NOTES)


def _filled(expected: Mapping[str, Any], found: Any) -> Any:
    """Return a file's tree with the defaults of what it leaves out."""
    if not isinstance(found, Mapping):
        return found
    inner = {k: _filled(v, found.get(k, {})) for k, v in expected.items() if isinstance(v, Mapping)}
    return {**expected, **found, **inner}


def keys_of(tree: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of each leaf."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from keys_of(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _compare(
    expected: Mapping[str, Any], found: Any, path: str, origin: str, notes: tuple[str, ...]
) -> None:
    if not isinstance(found, Mapping):
        known = ", ".join(expected) or "names of your own"
        raise InputError(f"{path}={found}: a map is needed here, with the keys {known}{origin}")
    if not expected:  # an open map: levels of a fabric, sources
        return
    for key in found:
        if key not in expected and key not in notes:
            names = [f"{path}.{name}" for name in expected]
            raise InputError(
                f"{path}.{key}: no such field{origin}; allowed: {', '.join(expected)}."
                f"{nearest(f'{path}.{key}', names)}"
            )
    for key, default in expected.items():
        value = found.get(key)
        if isinstance(default, Mapping):
            _compare(default, value, f"{path}.{key}", origin, ())
        elif value == REQUIRED or (value is None and default is not None):
            raise InputError(f"{path}.{key}: has no value{origin}; it must be given")
        elif isinstance(value, Mapping):
            raise InputError(f"{path}.{key}: a single value or a list is needed, not a map{origin}")
