"""A calibration with some kernels refitted to a user's own tables, the others those of a base."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import polars as pl

from roofrack import config
from roofrack.conversion import to_study
from roofrack.errors import InputError, nearest
from roofrack.fitting import links, tables
from roofrack.fitting.calibrate import MACHINES, Fitted, calls, fit_kind
from roofrack.fitting.classes import CLASSES
from roofrack.fitting.columns import SCHEMA
from roofrack.fitting.document import numbers, record
from roofrack.fitting.fit import fit
from roofrack.hardware import Hardware
from roofrack.schema import AUTO

KINDS = {of.table: name for name, of in CLASSES.items()} | {
    kind: name for name, kind in links.TABLES.items()
}
"""By the kind of a table, the class or collective whose numbers are fitted to it."""


def refit(
    files: Sequence[str | Path],
    kinds: Sequence[str],
    hardware: str,
    *,
    name: str,
    base: str = AUTO,
    config_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Return the tree of a calibration: what the files measured refitted, the rest of the base.

    A file has the columns of `fitting.columns.SCHEMA` for its kind; one kind for all files, or one
    each. `hardware` is the machine they were measured on, by its name in conf/hardware or in
    `config_dir`. Raises InputError for bad tables and for formats with too few calls.
    """
    kinds = _kinds(kinds, len(files))
    overrides = [f"hardware={hardware}", f"calibration={base}"]
    container = config.compose(overrides, config_dir)
    machine = to_study(container).grid().hardware
    tree: dict[str, Any] = deepcopy(container["calibration"])
    start = container["choices"]["calibration"]
    fits, sources = dict(tree.get("fits") or {}), dict(tree.get("sources") or {})
    assumed = dict(tree.get("assumed") or {})
    assumed = {k: v for k, v in assumed.items() if k == "default"} | {
        k: f"as in calibration={start}" for k in tree if k not in ("name", *_NOTES)
    }
    for kind in dict.fromkeys(kinds):
        own = [Path(f) for f, k in zip(files, kinds, strict=True) if k == kind]
        table = pl.concat(tables.read(file, kind) for file in own)
        said = ", ".join(file.name for file in own)
        if not table.height:
            raise InputError(f"{said}: has a header and no rows")
        _refuse_mixed(table, said)
        for path, found in _fitted(table, kind, machine, hardware, said).items():
            section, *inner = path.split(".")
            at = tree[section]
            for part in inner[:-1]:
                at = at[part]
            leaves = dict(numbers(found))
            if section == "scale_up":  # links have theirs together: `link_rel_std`
                leaves.pop("rel_std")
            at[inner[-1]] = leaves
            fits[path.removeprefix("kernel.")] = record(found) | {"data": said}
            sources[path] = f"measured by the user: {said}"
    tree = {k: v for k, v in tree.items() if k not in ("name", *_NOTES)}
    return {"name": name, **tree, "fits": fits, "sources": sources, "assumed": assumed}


_NOTES = ("fits", "sources", "assumed")


def _refuse_mixed(table: pl.DataFrame, said: str) -> None:
    """Raise InputError for calls of several chips or engines: one calibration is of one."""
    for column in ("chip", "backend", "version"):
        found = table[column].unique().sort().to_list()
        if len(found) > 1:
            raise InputError(
                f"{said}: rows of several values of {column} ({', '.join(map(repr, found))}); "
                "one calibration is of one: split the file"
            )


def _kinds(kinds: Sequence[str], count: int) -> list[str]:
    for kind in kinds:
        if kind in SCHEMA and kind not in KINDS:
            raise InputError(f"kind={kind}: no number is fitted to it; allowed: {', '.join(KINDS)}")
        if kind not in KINDS:
            raise InputError(f"kind={kind}: allowed: {', '.join(KINDS)}.{nearest(kind, KINDS)}")
    if len(kinds) not in (1, count):
        raise InputError(f"kind={','.join(kinds)}: {len(kinds)} kinds for {count} files")
    return [*kinds] * (count if len(kinds) == 1 else 1)


def _fitted(
    table: pl.DataFrame, kind: str, machine: Hardware, hardware: str, said: str
) -> dict[str, Fitted]:
    """Return the fits of a table, by the path of what they fill."""
    if kind in links.TABLES.values():
        return {f"scale_up.{KINDS[kind]}": _collective(table, KINDS[kind], kind, machine, said)}
    name = KINDS[kind]
    of = CLASSES[name]
    chip = {m: c for c, m in MACHINES.items()}.get(hardware, hardware)
    formats = [f for kinds in of.kinds.values() for f in kinds]
    for unknown in sorted(set(table[of.format_column].to_list()) - set(formats)):
        raise InputError(
            f"{said}: {of.format_column} {unknown!r} is none that {kind} is fitted for; allowed: "
            f"{', '.join(formats)}.{nearest(unknown, formats)}"
        )
    found = {}
    for inner, inside in of.kinds.items():
        if not table.filter(pl.col(of.format_column).is_in(inside)).height:
            continue
        one = fit_kind(table, name, inner, machine, chip)
        if one is None:
            here = calls(table, of, inner, machine, chip).height
            least = 3 * len([n for n in of.bounds if n not in of.without.get(inner, ())])
            raise InputError(
                f"{said}: {here} calls of {inner} within the shapes that {kind} is fitted over, "
                f"too few for its numbers; at least {least}"
            )
        found[f"kernel.{name}.{inner}"] = one
    return found


def _collective(table: pl.DataFrame, name: str, kind: str, machine: Hardware, said: str) -> Fitted:
    """Return the fit of a collective; of all-reduces, by the better of two protocols."""
    here = links.calls(table, machine)
    best: Fitted | None = None
    for direct in (False, True) if name == "all_reduce" else (False,):
        bounds = {n: b for n, b in links.BOUNDS.items() if not (direct and n == "low_latency")}
        if here.height < 3 * len(links.BOUNDS):
            raise InputError(
                f"{said}: {here.height} calls of {kind} within one domain and 256 MiB, too few "
                f"for its numbers; at least {3 * len(links.BOUNDS)}"
            )
        found = fit(links.seconds_of(name, direct), bounds, here)
        if best is None or found.mean_inside < best.fit.mean_inside:
            given = {"direct": direct} | ({"low_latency": 0.0} if direct else {})
            best = Fitted(found, given, "", "", "", (kind,))
    assert best is not None
    return best
