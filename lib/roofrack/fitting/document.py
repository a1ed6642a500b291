"""A calibration as a YAML file: the fitted numbers, and what they are worth."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from roofrack.fitting.classes import GAIN
from roofrack.fitting.forms import Fitted

DIGITS = 4
"""Significant digits: the numbers are known to two or three."""


class _Flow(dict[str, Any]):
    """A map written on one line."""


class _Dumper(yaml.SafeDumper):
    """Writes the innermost maps on one line each, and never an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal values each time anew."""
        return True


_Dumper.add_representer(
    _Flow, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, True)
)


def rounded(value: float) -> float:
    """Return a number with the digits that are written; a truth value as it is."""
    return value if isinstance(value, bool) else float(f"{value:.{DIGITS}g}")


def on_one_line(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Return a map of numbers as it is written: on one line."""
    return _Flow(leaves)


def numbers(found: Fitted) -> dict[str, Any]:
    """Return the leaves of one kernel class and kind."""
    return _Flow(link_numbers(found) | {"rel_std": rounded(found.fit.rel_std)})


def link_numbers(found: Fitted) -> dict[str, Any]:
    """Return the leaves of one collective: all have their error together, `link_rel_std`."""
    both = found.given | {n: v for n, v in found.fit.numbers.items() if n != GAIN}
    return _Flow({n: rounded(v) for n, v in both.items()})


def record(found: Fitted) -> dict[str, Any]:
    """Return what one fit is worth: data, calls, errors, covariance of the logarithms."""
    fit = found.fit
    return _Flow(
        data=f"{found.chip} {found.backend} {found.version}: {', '.join(found.formats)}",
        points=fit.points,
        mean_inside=rounded(fit.mean_inside),
        mean_held_out=rounded(fit.mean_held_out),
        median_held_out=rounded(fit.median_held_out),
        fitted=" ".join(fit.numbers),
        covariance=triangle(fit.covariance),
    )


def triangle(covariance: np.ndarray) -> str:
    """Return the lower triangle of a symmetric matrix, row by row."""
    return " ".join(f"{v:.2e}" for i, row in enumerate(covariance) for v in row[: i + 1])


def matrix(text: str) -> np.ndarray:
    """Return the symmetric matrix that `triangle` wrote."""
    values = np.array([float(word) for word in text.split()])
    size = int((np.sqrt(8 * len(values) + 1) - 1) / 2)
    lower = np.zeros((size, size))
    lower[np.tril_indices(size)] = values
    return lower + np.tril(lower, -1).T


def document(tree: Mapping[str, Any], comment: str) -> str:
    """Return the text of the file, `comment` on top."""
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    return lines + yaml.dump(dict(tree), Dumper=_Dumper, sort_keys=False, width=160)
