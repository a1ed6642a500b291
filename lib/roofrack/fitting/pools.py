"""Calls of one kind of kernel on several chips, fitted at once; what a chip left out is missed by.

The fitted numbers are shares, exponents and times: each chip brings its own data sheet.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from roofrack.fitting.calibrate import calls, known, machine, table
from roofrack.fitting.classes import CLASSES
from roofrack.fitting.fit import HELD_OUT, MOST, SEED
from roofrack.fitting.forms import Fitted, Form, Subject, best, forms


class Left(NamedTuple):
    """What a fit misses of calls it did not see: mean absolute error, deviation of the log."""

    mean: float
    rel_std: float
    points: int


class Pool(NamedTuple):
    """Calls of one subject by chip, and the forms that may describe them.

    `known` are the numbers that a chip has from another table of its own.
    """

    of: Subject
    calls: dict[str, pl.DataFrame]
    forms: tuple[Form, ...]
    known: dict[str, dict[str, float]]


def gather(of: Subject, chips: Sequence[str], backend: str) -> Pool:
    """Return the calls of a subject on the chips that have enough of them."""
    ways = forms(of)
    read = {chip: t for chip in chips if (t := table(chip, backend, of.table)) is not None}
    if of.kind and CLASSES[of.name].one_kernel:
        read = _one_kernel(read, of)
    found = {chip: calls(of, t, machine(chip), chip) for chip, t in read.items()}
    found = {chip: t for chip, t in found.items() if t.height >= ways[0].least}
    told = {chip: numbers for chip in found if (numbers := known(of, chip, backend))}
    return Pool(of, found, ways, told)


def _one_kernel(of_chip: dict[str, pl.DataFrame], of: Subject) -> dict[str, pl.DataFrame]:
    """Return the calls of the kernel that most chips have; of a chip that lacks it, all calls.

    Of two chips of one family an engine may take other kernels for most shapes, which are two
    classes: together they would be neither.
    """
    kernel = CLASSES[of.name]
    fitted = pl.col(kernel.format_column).is_in(of.formats) & kernel.domain
    counts = {
        chip: dict(t.filter(fitted)["kernel"].value_counts().iter_rows())
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


def alone(pool: Pool, chip: str) -> Fitted | None:
    """Return the best form fitted to all calls of one chip; None where it has too few."""
    return _best(pool, [chip], pool.calls[chip]) if chip in pool.calls else None


def joint(pool: Pool, chips: Sequence[str]) -> Fitted | None:
    """Return the best form fitted to the calls of `chips`, as many of each; None with too few."""
    chips = [c for c in chips if c in pool.calls]
    return _best(pool, chips, _even([pool.calls[c] for c in chips])) if chips else None


def _best(pool: Pool, chips: Sequence[str], chosen: pl.DataFrame) -> Fitted | None:
    told = _means([pool.known[c] for c in chips if c in pool.known])
    return best(pool.of, [f.knowing(told) for f in pool.forms], chosen, ", ".join(chips))


def _even(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return calls drawn at random, at most as many of each table as a fit has room for."""
    room = int(MOST / (1.0 - HELD_OUT) / len(frames))
    drawn = [t if t.height <= room else t.sample(room, seed=SEED) for t in frames]
    return pl.concat(drawn, how="vertical_relaxed")


def _means(told: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the means of numbers that some chips have from tables of their own."""
    return {n: float(np.mean([one[n] for one in told])) for n in told[0]} if told else {}


def missed(pool: Pool, found: Fitted, chip: str) -> Left:
    """Return what a fit misses of all calls of a chip."""
    columns = {c.name: c.to_numpy() for c in pool.calls[chip].get_columns() if c.dtype.is_numeric()}
    seconds = pool.of.seconds(found.given)
    predicted = np.asarray(seconds(found.fit.numbers, columns), np.float64)
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
