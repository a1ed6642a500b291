"""Calls of one kind of kernel on several chips, fitted at once; what a chip left out is missed by.

The fitted numbers are shares, exponents and times: each chip brings its own data sheet.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
import polars as pl

from roofrack.errors import InputError
from roofrack.fitting import links, tables
from roofrack.fitting.build import quantizing
from roofrack.fitting.calibrate import MACHINES, Fitted, calls, machine
from roofrack.fitting.classes import CLASSES, seconds_of
from roofrack.fitting.fit import HELD_OUT, MOST, SEED, Bound, Seconds, fit
from roofrack.hardware import Hardware

NARROWED = {
    "attention_decode": {
        "compute_efficiency": Bound(0.5, 0.7, 1.0),
        "sharpness": Bound(3.0, 5.0, 10.0),
    }
}
"""Bounds of numbers that chips of one family do not see, but others like them may.

Decoding is bound by memory wherever it was measured. Fitted to two chips at once, a low share of
the FLOP/s (or a dull maximum) would stand for what else keeps the faster memory from being used,
and would make it bound by arithmetic on a chip that has less of that. About half of the FLOP/s is
what MLA reaches in decoding, which is bound by arithmetic.
"""


class Left(NamedTuple):
    """What a fit misses of calls it did not see: mean absolute error, deviation of the log."""

    mean: float
    rel_std: float
    points: int


class Pool(NamedTuple):
    """Calls of one kind of kernel on several chips, by chip, and what may describe them.

    `forms` are the candidates: numbers that are not fitted, and the bounds of those that are;
    `known` the numbers that a chip has from another table of its own.
    """

    name: str
    calls: dict[str, pl.DataFrame]
    forms: tuple[tuple[dict[str, float], dict[str, Bound]], ...]
    formats: tuple[str, ...]
    known: dict[str, dict[str, float]]

    def seconds(self, given: dict[str, float]) -> Seconds:
        """Return the function of these calls with the numbers that are not fitted."""
        if self.name in CLASSES:
            return seconds_of(self.name, **given)
        return links.seconds_of(self.name, bool(given.get("direct", False)))


PoolOf = Callable[[Sequence[str]], Pool]
"""Reads the calls of chips."""


def joint(pool: Pool, chips: Sequence[str]) -> Fitted | None:
    """Return the best form fitted to the calls of `chips`, as many of each; None with too few."""
    chips = [c for c in chips if c in pool.calls]
    if not chips:
        return None
    chosen = _even([pool.calls[c] for c in chips])
    known = _means([pool.known[c] for c in chips if c in pool.known])
    best: Fitted | None = None
    for form, all_bounds in pool.forms:
        given = form | known
        bounds = {n: b for n, b in all_bounds.items() if n not in known}
        if chosen.height < 3 * len(bounds):
            continue
        found = fit(pool.seconds(given), bounds, chosen)
        if best is None or found.mean_inside < best.fit.mean_inside:
            backend, version = (
                ", ".join(sorted(chosen[name].unique().to_list()))
                for name in ("backend", "version")
            )
            best = Fitted(found, given, ", ".join(chips), backend, version, pool.formats)
    return best


def _even(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return calls drawn at random, at most as many of each table as a fit has room for."""
    room = int(MOST / (1.0 - HELD_OUT) / len(frames))
    drawn = [t if t.height <= room else t.sample(room, seed=SEED) for t in frames]
    return pl.concat(drawn, how="vertical_relaxed")


def _means(known: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the means of numbers that some chips have from tables of their own."""
    return {n: float(np.mean([one[n] for one in known])) for n in known[0]} if known else {}


def missed(pool: Pool, found: Fitted, chip: str) -> Left:
    """Return what a fit misses of all calls of a chip."""
    columns = {c.name: c.to_numpy() for c in pool.calls[chip].get_columns() if c.dtype.is_numeric()}
    predicted = np.asarray(pool.seconds(found.given)(found.fit.numbers, columns), np.float64)
    log = np.log(predicted / columns["seconds"])
    return Left(
        float(np.abs(np.expm1(log)).mean()),
        float(np.sqrt(np.mean(np.minimum(np.abs(log), 1.0) ** 2))),
        len(log),
    )


def left_out(pool: Pool, groups: Sequence[Sequence[str]]) -> dict[str, Left]:
    """Return, by chip that has calls, what a fit to all groups but its own misses of it."""
    have = [[c for c in group if c in pool.calls] for group in groups]
    errors: dict[str, Left] = {}
    for group in have:
        found = joint(pool, [c for other in have if other is not group for c in other])
        if found is not None:
            errors |= {chip: missed(pool, found, chip) for chip in group}
    return errors


def kernel_pool(name: str, kind: str, chips: Sequence[str], backend: str) -> Pool:
    """Return the calls of a kernel class and kind of format on the chips that have tables of it."""
    of = CLASSES[name]
    bounds = of.bounds | NARROWED.get(name, {})
    bounds = {n: b for n, b in bounds.items() if n not in of.without.get(kind, ())}
    forms = [(dict(zip(of.given, v, strict=True)), bounds) for v in product(*of.given.values())]
    read = {chip: _table(chip, backend, of.table) for chip in chips}
    of_chip = {chip: t for chip, t in read.items() if t is not None}
    if of.one_kernel:
        of_chip = _one_kernel(of_chip, pl.col(of.format_column).is_in(of.kinds[kind]) & of.domain)
    found, known = {}, {}
    for chip, table in of_chip.items():
        chosen = calls(table, of, kind, _machine(chip), chip)
        if chosen.height < 3 * len(bounds):
            continue
        found[chip] = chosen
        passes = {}
        if (name, kind) == ("gemm", "fp8"):
            passes = quantizing(chip, backend, _machine(chip))
        if passes:
            known[chip] = passes
    return Pool(name, found, tuple(forms), of.kinds[kind], known)


def _one_kernel(of_chip: dict[str, pl.DataFrame], where: pl.Expr) -> dict[str, pl.DataFrame]:
    """Return the calls of the kernel that most chips have; of a chip that lacks it, all calls.

    Of two chips of one family an engine may take other kernels for most shapes, which are two
    classes: together they would be neither.
    """
    counts = {
        chip: dict(t.filter(where)["kernel"].value_counts().iter_rows())
        for chip, t in of_chip.items()
    }
    names = sorted({kernel for one in counts.values() for kernel in one})
    shared = {k: sorted(one[k] for one in counts.values() if k in one) for k in names}
    if not shared:
        return of_chip
    common = max(shared, key=lambda k: (len(shared[k]), shared[k][0]))
    return {
        chip: t.filter(pl.col("kernel") == common) if common in counts[chip] else t
        for chip, t in of_chip.items()
    }


def link_pool(name: str, chips: Sequence[str], backend: str) -> Pool:
    """Return the calls of a collective inside a scale-up domain on the chips."""
    forms: list[tuple[dict[str, float], dict[str, Bound]]] = []
    for direct in (False, True) if name == "all_reduce" else (False,):
        given: dict[str, float] = {"direct": direct} if name == "all_reduce" else {}
        forms.append((given, links.bounds(name, direct)))
    found = {}
    for chip in chips:
        table = _table(chip, backend, name)
        chosen = None if table is None else links.calls(table, _machine(chip))
        if chosen is not None and chosen.height >= 3 * len(forms[0][1]):
            found[chip] = chosen
    return Pool(name, found, tuple(forms), (name,), {})


@cache
def _machine(chip: str) -> Hardware:
    return machine(MACHINES[chip])


@cache
def _table(chip: str, backend: str, kind: str) -> pl.DataFrame | None:
    try:
        return tables.silicon(chip, backend, kind)
    except InputError:
        return None
