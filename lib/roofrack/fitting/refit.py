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
from roofrack.fitting.classes import CLASSES, GAIN
from roofrack.fitting.columns import SCHEMA
from roofrack.fitting.document import numbers, record
from roofrack.fitting.files import fits_of
from roofrack.fitting.fit import fit
from roofrack.hardware import Hardware
from roofrack.schema import AUTO

KINDS = {of.table: name for name, of in CLASSES.items()} | {name: name for name in links.NAMES}
"""By the kind of a table, the class or collective whose numbers are fitted to it."""

FEW = ("compute_efficiency", "hbm_efficiency", "sharpness", "launch_s")
"""Numbers that are fitted where a table has too few calls for all: what every kernel has."""


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
    fits, sources = fits_of(start, config_dir), dict(tree.get("sources") or {})
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
        for path, found in _fitted(table, kind, machine, hardware, said, tree["kernel"]).items():
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
    table: pl.DataFrame, kind: str, machine: Hardware, hardware: str, said: str, tree: Any
) -> dict[str, Fitted]:
    """Return the fits of a table, by the path of what they fill; `tree` are the base's kernels."""
    if kind in links.NAMES:
        return {f"scale_up.{kind}": _collective(table, kind, machine, said)}
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
        here = calls(table, of, inner, machine, chip).height
        numbers = [n for n in of.bounds if n not in of.without.get(inner, ())]
        few = [n for n in numbers if n in (*FEW, GAIN)]
        # too few calls for all of them: the finer ones are as in the base
        known = {n: float(tree[name][inner][n]) for n in numbers if n not in few}
        enough = here >= 3 * len(numbers)
        one = fit_kind(table, name, inner, machine, chip, {} if enough else known)
        if one is None:
            raise InputError(
                f"{said}: {here} calls of {inner} within the shapes that {kind} is fitted over, "
                f"too few; at least {3 * len(few)} for {', '.join(few)}, {3 * len(numbers)} for all"
            )
        found[f"kernel.{name}.{inner}"] = one
    return found


def _collective(table: pl.DataFrame, name: str, machine: Hardware, said: str) -> Fitted:
    """Return the fit of a collective; of all-reduces, by the better of two protocols."""
    here = links.calls(table, machine)
    least = 3 * len(links.bounds(name, False))
    if here.height < least:
        raise InputError(
            f"{said}: {here.height} calls of {name} within one scale-up domain and of a size that "
            f"serving has, too few; at least {least}"
        )
    found = {
        direct: fit(links.seconds_of(name, direct), links.bounds(name, direct), here)
        for direct in ((False, True) if name == "all_reduce" else (False,))
    }
    direct = min(found, key=lambda form: found[form].mean_inside)
    given: dict[str, float] = {"direct": direct} if name == "all_reduce" else {}
    return Fitted(found[direct], given, "", "", "", (name,))
