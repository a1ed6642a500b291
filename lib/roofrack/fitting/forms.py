"""What is fitted, and the forms that may describe its calls: the one that misses least is taken."""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import NamedTuple

import polars as pl

from roofrack.fitting import links
from roofrack.fitting.classes import CLASSES, seconds_of
from roofrack.fitting.fit import Bound, Fit, Seconds, fit


class Subject(NamedTuple):
    """What one fit is of: a kernel class and a kind of number format, or a collective (no kind)."""

    name: str
    kind: str = ""

    @property
    def path(self) -> str:
        """Where its numbers stand in a calibration."""
        return f"kernel.{self.name}.{self.kind}" if self.kind else f"scale_up.{self.name}"

    @property
    def noted(self) -> str:
        """Where the record of its fit stands in `fits`."""
        return self.path.removeprefix("kernel.")

    @property
    def table(self) -> str:
        """The kind of table that it is fitted to."""
        return CLASSES[self.name].table if self.kind else self.name

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats of the table that it stands for; of a collective its name."""
        return CLASSES[self.name].kinds[self.kind] if self.kind else (self.name,)

    def seconds(self, given: Mapping[str, float]) -> Seconds:
        """Return the function of its calls with the numbers that are not fitted."""
        if self.kind:
            return seconds_of(self.name, **given)
        return links.seconds_of(self.name, bool(given.get("direct", False)))


SUBJECTS = (
    *(Subject(name, kind) for name, of in CLASSES.items() for kind in of.kinds),
    *(Subject(name) for name in links.NAMES),
)
"""All that a calibration has fits of, in its order."""


class Form(NamedTuple):
    """One way to describe calls: numbers that are not fitted, and the bounds of those that are."""

    given: dict[str, float]
    bounds: dict[str, Bound]

    @property
    def least(self) -> int:
        """Calls that a fit needs at least."""
        return 3 * len(self.bounds)

    def knowing(self, known: Mapping[str, float]) -> "Form":
        """Return the form with some numbers known, as from another table: given, not fitted."""
        left = {n: b for n, b in self.bounds.items() if n not in known}
        return Form(self.given | dict(known), left)


class Fitted(NamedTuple):
    """One fit: the form's numbers, and where they come from."""

    fit: Fit
    given: dict[str, float]
    chip: str
    backend: str
    version: str
    formats: tuple[str, ...]


def forms(of: Subject) -> tuple[Form, ...]:
    """Return the forms that may describe a subject, those with the most numbers first.

    Of a kernel class one for each choice from its lists of given numbers; of all-reduces one for
    each protocol.
    """
    if of.kind:
        kernel = CLASSES[of.name]
        left_out = kernel.without.get(of.kind, ())
        bounds = {n: b for n, b in kernel.bounds.items() if n not in left_out}
        chosen = product(*kernel.given.values())
        return tuple(Form(dict(zip(kernel.given, v, strict=True)), bounds) for v in chosen)
    if of.name == "all_reduce":
        ways = (False, True)
        return tuple(Form({"direct": way}, links.bounds(of.name, way)) for way in ways)
    return (Form({}, links.bounds(of.name, False)),)


def best(of: Subject, candidates: Iterable[Form], calls: pl.DataFrame, chip: str) -> Fitted | None:
    """Fit each form to the calls and return the one that misses least of those it is fitted to.

    None with too few calls for any of them; `chip` is said of the fit.
    """
    found: Fitted | None = None
    for form in candidates:
        if calls.height < form.least:
            continue
        one = fit(of.seconds(form.given), form.bounds, calls)
        if found is None or one.mean_inside < found.fit.mean_inside:
            backend, version = (
                ", ".join(sorted(calls[name].unique().to_list())) for name in ("backend", "version")
            )
            found = Fitted(one, form.given, chip, backend, version, of.formats)
    return found
