"""The verb `calibrate`: which of three things is asked, and the answer as text for people."""

import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from roofrack.errors import InputError, nearest
from roofrack.fitting.calibrate import BACKENDS, MACHINES
from roofrack.fitting.calibrated import calibrate
from roofrack.fitting.factors import FACTORS
from roofrack.fitting.families import FAMILIES
from roofrack.fitting.files import GROUP, check_name, name_of, save
from roofrack.fitting.own import OwnFit
from roofrack.fitting.silicon import check, data_of, pooled, silicon

SILICON = "silicon"
KEYS = ("name", "base", "out", "kind")
USAGE = """\
usage: roofrack calibrate FILE [key=value ...] [name=NAME] [base=NAME] [out=DIR]
       roofrack calibrate FILE ... kind=KIND hardware=NAME [name=NAME] [base=NAME] [out=DIR]
       roofrack calibrate silicon [chip=NAME] [backend=NAME] [out=DIR]
       roofrack calibrate silicon family=NAME [out=DIR]

Fit a calibration to measurements and write it as NAME.yaml, with what it is worth.

  FILE        runs of your own engine, CSV or Parquet: columns are keys of `roofrack point`
              (hardware, model, parallelism.tp, batch, context, ...) and what was measured (tpot_ms,
              ttft_ms, tokens_per_s, ...). A few factors on the calibration of the machine, or on
              base=NAME, are fitted. key=value sets a key for all rows.
  kind=KIND   FILE holds times of single kernels, in the columns of that kind (gemm, moe,
              all_reduce, ...): these kernels are fitted anew, the others taken from the base
  silicon     the tables of the package aiconfigurator-core (pip install 'roofrack[silicon]'):
              one chip or all; family=NAME pools the chips of an architecture, for those without
              tables, and says what is missed of a chip that is left out

The file goes to DIR/calibration (of silicon: to DIR), DIR being the current folder. Use it with
`roofrack point --config-dir DIR calibration=NAME`.\
"""
WORST = 5
"""Rows shown of those that the fit misses most."""


def run(arguments: Sequence[str], config_dir: str | None = None) -> str:
    """Do what the arguments ask and return the answer; progress goes to stderr."""
    files = [text for text in arguments if "=" not in text]
    given = dict(text.split("=", 1) for text in arguments if "=" in text)
    for key, value in given.items():
        if not value:
            raise InputError(f"{key}=: no value")
    command = " ".join(["roofrack calibrate", *arguments])
    if not files:
        raise InputError("calibrate takes a file of measurements, or `silicon`; see --help")
    if files == [SILICON]:
        return _silicon(given, command)
    out = Path(given.pop("out", "."))
    kinds = given["kind"].split(",") if "kind" in given else []
    if kinds:
        _refuse_others(given, ("name", "base", "kind", "hardware"))
    elif len(files) > 1:
        raise InputError(f"{len(files)} files: one file of runs at a time, or kind= of kernels")
    name = check_name(given.pop("name", "") or name_of([Path(f) for f in files]))
    base = given.pop("base", "auto")
    given.pop("kind", None)
    common = [f"{key}={value}" for key, value in given.items()]
    done = calibrate(
        files if kinds else files[0],
        *common,
        kind=kinds or None,
        name=name,
        base=base,
        config_dir=config_dir,
    )
    path = done.write(out, command)
    on = f"hardware={given['hardware']} " if kinds else ""
    where = f"roofrack point --config-dir {out} {on}{GROUP}={name}"
    body = _own(done.own) if done.own is not None else _table(done.errors.to_dicts())
    return f"{body}\n\n{path} is written; use it with\n  {where}"


def _refuse_others(given: dict[str, str], allowed: Sequence[str]) -> None:
    for key in given:
        if key not in allowed:
            raise InputError(
                f"{key}={given[key]}: allowed: {', '.join(allowed)}.{nearest(key, allowed)}"
            )


def _silicon(given: dict[str, str], command: str) -> str:
    """Write the calibrations of one or all chips and backends; those without tables are told."""
    if "family" in given:
        return _family(given)
    _refuse_others(given, ("chip", "backend", "out"))
    chips = [given["chip"]] if "chip" in given else list(MACHINES)
    backends = [given["backend"]] if "backend" in given else list(BACKENDS)
    out = Path(given.get("out", "."))
    pairs = list(product(chips, backends))
    check(*pairs[0])
    texts: list[str] = []
    for chip, backend in pairs:
        try:
            tree = silicon(chip, backend)
        except InputError as error:
            if (chip, backend) == pairs[-1] and not texts:
                raise
            print(f"{chip} {backend}: left out: {error}", file=sys.stderr)
            continue
        own = f"roofrack calibrate {SILICON} chip={chip} backend={backend}"
        path = save(out / f"{tree['name']}.yaml", tree, own, data_of(tree))
        print(f"{path}", file=sys.stderr)
        texts.append(f"{path}\n{_table([{'kernel': k} | v for k, v in tree['fits'].items()])}")
    return "\n\n".join(texts)


def _family(given: dict[str, str]) -> str:
    """Write the calibration of an architecture, for its chips without tables."""
    _refuse_others(given, ("family", "out"))
    name = given["family"]
    if name not in FAMILIES:
        raise InputError(f"family={name}: allowed: {', '.join(FAMILIES)}.{nearest(name, FAMILIES)}")
    tree = pooled(name)
    notes = [
        *data_of(tree),
        "For chips of this family without tables: rel_std is what a fit to the",
    ]
    notes.append("others misses of a chip that is left out.")
    own = f"roofrack calibrate {SILICON} family={name}"
    path = save(Path(given.get("out", ".")) / f"{name}.yaml", tree, own, notes)
    return f"{path}\n{_table([{'kernel': k} | v for k, v in tree['fits'].items()])}"


def _table(fits: Sequence[dict[str, Any]]) -> str:
    """Return what each fit of kernels missed, as a table."""
    rows = [("kernel", "data", "calls", "inside", "held out", "median")]
    for fit in fits:
        errors = (fit["mean_inside"], fit["mean_held_out"], fit["median_held_out"])
        shown = [f"{100 * e:.1f} %" for e in errors]
        rows.append((fit["kernel"], fit["data"].split(":")[0], f"{fit['points']:,}", *shown))
    return "absolute errors: mean of calls fitted to, mean and median of calls held out\n" + _grid(
        rows, left=2
    )


def _own(found: OwnFit) -> str:
    """Return errors before and after, the factors, and the rows that are missed most."""
    errors = found.errors
    signed = {n: errors[n].to_numpy() for n in ("before", "after", "left_out")}
    summary = [("error", "before", "after", "left out")] + [
        (label, *(f"{100 * of(values):+.1f} %" for values in signed.values()))
        if label == "bias"
        else (label, *(f"{100 * of(np.abs(values)):.1f} %" for values in signed.values()))
        for label, of in (("median", np.median), ("mean", np.mean), ("bias", np.median))
    ]
    factors = [("factor", "is", "error", "learnt", "")]
    for name, value in found.factors.items():
        learnt = f"{100 * (1 - (value.std / value.prior_std) ** 2):.0f} %"
        if FACTORS[name].added:
            numbers = (f"{1e3 * value.value:+.2f} ms", f"{1e3 * value.std:.2f} ms")
        else:
            numbers = (f"{value.value:.2f}", f"{100 * value.std:.0f} %")
        factors.append((name, *numbers, learnt, value.doc))
    worst = errors.sort(errors["after"].abs(), descending=True).head(WORST)
    rows = [("worst rows", "", "measured", "before", "after")]
    for row, column, measured, before, after, _ in worst.iter_rows():
        number = (
            f"{1e3 * measured:.4g} ms"
            if column.endswith("_s") and "per_s" not in column
            else (f"{measured:.4g}")
        )
        rows.append(
            (f"row {row}", column, number, f"{100 * before:+.1f} %", f"{100 * after:+.1f} %")
        )
    head = f"{errors.height} measurements of {found.data}, starting from calibration={found.base}"
    parts = [head, _grid(summary, left=1), _grid(factors, left=1), _grid(rows, left=2)]
    if found.unfit:
        shown = ", ".join(map(str, found.unfit[:WORST])) + (" ..." if found.unfit[WORST:] else "")
        parts.append(f"by the model's count these rows do not fit in memory: {shown}")
    return "\n\n".join(parts)


def _grid(rows: Sequence[Sequence[str]], left: int) -> str:
    """Return rows as aligned text: `left` columns and the last, if a remark, to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    remark = rows[0][-1] == ""
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i < left or (remark and i == len(row) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
