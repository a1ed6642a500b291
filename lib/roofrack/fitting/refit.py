"""A calibration with some kernels refitted to a user's own tables, the others those of a base."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import polars as pl

from roofrack import config
from roofrack.conversion import to_study
from roofrack.errors import InputError, nearest
from roofrack.fitting import links, tables
from roofrack.fitting.calibrate import MACHINES, calls
from roofrack.fitting.classes import CLASSES, GAIN
from roofrack.fitting.columns import SCHEMA
from roofrack.fitting.document import link_numbers, numbers, record
from roofrack.fitting.files import fits_of
from roofrack.fitting.forms import Fitted, Subject, best, forms
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
        for of, found in _fitted(table, kind, machine, hardware, said, tree["kernel"]).items():
            if of.kind:
                tree["kernel"][of.name][of.kind] = numbers(found)
            else:
                tree["scale_up"][of.name] = link_numbers(found)
            fits[of.noted] = record(found) | {"data": said}
            sources[of.path] = f"measured by the user: {said}"
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
) -> dict[Subject, Fitted]:
    """Return the fits of a table, by what they are of; `tree` are the base's kernels."""
    if kind in links.NAMES:
        of = Subject(kind)
        return {of: _collective(table, of, machine, said)}
    kernel = CLASSES[KINDS[kind]]
    formats = [f for kinds in kernel.kinds.values() for f in kinds]
    for unknown in sorted(set(table[kernel.format_column].to_list()) - set(formats)):
        raise InputError(
            f"{said}: {kernel.format_column} {unknown!r} is none that {kind} is fitted for; "
            f"allowed: {', '.join(formats)}.{nearest(unknown, formats)}"
        )
    chip = {m: c for c, m in MACHINES.items()}.get(hardware, hardware)
    subjects = [Subject(KINDS[kind], inner) for inner in kernel.kinds]
    return {
        of: _kernel(calls(of, table, machine, chip), of, said, tree[of.name][of.kind])
        for of in subjects
        if table.filter(pl.col(kernel.format_column).is_in(of.formats)).height
    }


def _kernel(here: pl.DataFrame, of: Subject, said: str, base: Mapping[str, float]) -> Fitted:
    """Return the fit of a kind of format of a class; the finer numbers as in the base if few."""
    every = forms(of)
    # too few calls for all numbers: the finer ones are as in the base
    finer = {n: float(base[n]) for n in every[0].bounds if n not in (*FEW, GAIN)}
    coarse = [form.knowing(finer) for form in every]
    found = best(of, every if here.height >= every[0].least else coarse, here, "")
    if found is None:
        raise InputError(
            f"{said}: {here.height} calls of {of.kind} within the shapes that {of.table} is fitted "
            f"over, too few; at least {coarse[0].least} for {', '.join(coarse[0].bounds)}, "
            f"{every[0].least} for all"
        )
    return found


def _collective(table: pl.DataFrame, of: Subject, machine: Hardware, said: str) -> Fitted:
    """Return the fit of a collective."""
    here = calls(of, table, machine, "")
    every = forms(of)
    found = best(of, every, here, "") if here.height >= every[0].least else None
    if found is None:
        raise InputError(
            f"{said}: {here.height} calls of {of.name} within one scale-up domain and of a size "
            f"that serving has, too few; at least {every[0].least}"
        )
    return found
