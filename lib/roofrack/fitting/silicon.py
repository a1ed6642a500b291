"""The calibrations that ship: fitted to the measured tables of an installed package."""

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from roofrack import config
from roofrack.errors import InputError, nearest
from roofrack.fitting import tables
from roofrack.fitting.build import build
from roofrack.fitting.calibrate import BACKENDS, MACHINES
from roofrack.fitting.families import FAMILIES, family
from roofrack.schema import FALLBACK

PACKAGE = "aiconfigurator-core"
LICENCE = "Apache-2.0"


def silicon(chip: str, backend: str) -> dict[str, Any]:
    """Return the tree of `<machine>_<backend>.yaml`, with name, sources and what is assumed.

    The numbers are the same each time: which calls are held out is drawn from a fixed seed. Raises
    InputError for an unknown chip or backend, without the package, or where it has no tables.
    """
    check(chip, backend)
    tree = build(chip, backend)
    name = f"{MACHINES[chip]}_{backend}"
    return {"name": name, **_explained({k: v for k, v in tree.items() if k != "name"})}


def pooled(name: str) -> dict[str, Any]:
    """Return the tree of `<name>.yaml`, the calibration of a family (`families.FAMILIES`)."""
    return {"name": name, **_explained(family(FAMILIES[name], BACKENDS[0]))}


def check(chip: str, backend: str) -> None:
    """Raise InputError for an unknown chip or backend, or without the package of tables."""
    for key, value, allowed in (("chip", chip, MACHINES), ("backend", backend, BACKENDS)):
        if value not in allowed:
            names = ", ".join(allowed)
            raise InputError(f"{key}={value}: allowed: {names}.{nearest(value, allowed)}")
    tables.chips()


def data_of(tree: Mapping[str, Any]) -> list[str]:
    """Return lines that say what a calibration was fitted to."""
    points = sum(record["points"] for record in tree["fits"].values())
    return [
        f"to {points:,} calls of the tables of {source()}, read where they are",
        "installed: nothing of them is copied. A fifth of the calls is held out of each fit.",
    ]


def source() -> str:
    """Return the name of the data set with its version."""
    try:
        return f"{PACKAGE} {version(PACKAGE)} (PyPI, {LICENCE})"
    except PackageNotFoundError:
        return f"{PACKAGE} (PyPI, {LICENCE})"


def _explained(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the tree with a source or an assumption for every number."""
    fits = tree["fits"]
    sources = {
        f"{'' if name.startswith('scale_up') else 'kernel.'}{name}": f"{source()}, {record['data']}"
        for name, record in fits.items()
    } | {
        "link_rel_std": "root mean square over the collectives of what they miss held out",
        "fits": "errors as shares; covariance of the logarithms, lower triangle row by row",
    } | (tree.get("sources") or {})  # fmt: skip
    assumed = dict(tree.get("assumed") or {})
    base = config.compose([f"calibration={FALLBACK}"])["calibration"]
    notes = {**(base.get("sources") or {}), **(base.get("assumed") or {})}
    for path in _uncovered(tree, {*sources, *assumed}):
        top = path.split(".")[0]
        said = [f"{key}: {text}" for key, text in notes.items() if key.split(".")[0] == top]
        assumed[top] = " ".join("; ".join([f"as in calibration={FALLBACK}", *said]).split())
    order = [k for k in tree if k not in ("sources", "assumed", "fits")]
    return {k: tree[k] for k in order} | {"fits": fits, "sources": sources, "assumed": assumed}


def _uncovered(tree: Mapping[str, Any], explained: set[str]) -> Iterator[str]:
    """Yield the paths of numbers that no entry, of their own or of a map above, explains."""

    def walk(at: Any, parts: tuple[str, ...]) -> Iterator[str]:
        if isinstance(at, Mapping):
            for key, value in at.items():
                yield from walk(value, (*parts, str(key)))
        elif isinstance(at, int | float) and not isinstance(at, bool):
            if not {".".join(parts[:n]) for n in range(1, len(parts) + 1)} & explained:
                yield ".".join(parts)

    values = {k: v for k, v in tree.items() if k not in ("sources", "assumed", "fits")}
    return walk(values, ())
