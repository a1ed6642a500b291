"""A change composed and evaluated again from its overrides, and how sure its gain is.

Both sides of a comparison rest on the same fitted numbers, so most of what is wrong with one is
wrong with the other. Each kernel class, and the links, are wrong by one factor over all their calls
(MODEL section 10): the logarithm of a step's time moves by the share of the step that the class
has, so that of the ratio of two steps moves by the difference of its two shares. What no class
explains (`calibration.step_rel_std`) counts for both sides, as if they shared nothing of it; so do
classes of different calibrations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp, sqrt
from pathlib import Path

import numpy as np

from roofrack import config
from roofrack.advice.case import Row
from roofrack.conversion import Study, to_study
from roofrack.cost import estimate
from roofrack.point import point
from roofrack.report.text import EIGHTY_PERCENT

_PARTS = ("prefill", "ffn")
_WHOLE = "step_rel_std"
_SAME = ("step_s", "ttft_s", "tpot_s", "prefill_instances", "tokens_per_s_per_chip")
"""Columns that are equal where nothing but a price changes."""


@dataclass(frozen=True)
class Proven:
    """A scenario composed from scratch: its study and its row."""

    study: Study
    row: Row

    @cached_property
    def errors(self) -> Mapping[tuple[str | None, str], float]:
        """Relative error of a step by what is wrong: a calibration's name and a class of it."""
        leaves = self.study.leaves
        paths = [p for p in leaves if _calibrated(p) and p.endswith("rel_std") and leaves[p] > 0]
        paths = [p for p in paths if not p.endswith(_WHOLE)]
        if not paths:
            return {}
        alone = np.eye(len(paths))
        zeros = {p: np.zeros(len(paths)) for p in leaves if _calibrated(p) and p.endswith(_WHOLE)}
        seeds = {p: alone[i] for i, p in enumerate(paths)} | zeros
        with np.errstate(all="ignore"):
            # the error of a step of which only one class is wrong, by all of it: its share
            shares = np.broadcast_to(
                estimate(self.study.bind(seeds))["step_s_rel_std"], (len(paths),)
            )
        found: dict[tuple[str | None, str], float] = {}
        for path, share in zip(paths, np.nan_to_num(shares), strict=True):
            key = self._named(path)
            found[key] = found.get(key, 0.0) + float(share) * leaves[path]
        return found

    @property
    def unexplained(self) -> float:
        """Relative error of a step that no class explains."""
        return float(self.study.leaves[f"calibration.{_WHOLE}"])

    def _named(self, path: str) -> tuple[str | None, str]:
        part, _, rest = path.partition(".")
        if part in _PARTS:
            return self.study.labels[f"{part}_calibration"], rest
        return self.study.labels["calibration"], path


def _calibrated(path: str) -> bool:
    return "calibration." in path


def prove(words: Sequence[str], config_dir: str | Path | None) -> Proven:
    """Compose and evaluate overrides; InputError for what the configuration refuses."""
    container = config.compose(words, config_dir)
    row = point(container, strict=False)
    assert isinstance(row, dict)  # the case has no axes, and a change adds none
    return Proven(to_study(container), row)


def ratio_rel_std(before: Proven, after: Proven) -> float | None:
    """Return the standard error of log(after / before) of a step; None without a calibration.

    0 where both are the same pass: a price is not measured in seconds.
    """
    if before.row["step_s_rel_std"] is None or after.row["step_s_rel_std"] is None:
        return None
    mine, theirs = before.errors, after.errors
    if mine == theirs and all(before.row[n] == after.row[n] for n in _SAME):
        return 0.0
    classes = sum((mine.get(k, 0.0) - theirs.get(k, 0.0)) ** 2 for k in mine.keys() | theirs.keys())
    return sqrt(classes + before.unexplained**2 + after.unexplained**2)


def interval(ratio: float, rel_std: float) -> tuple[float, float]:
    """Return between which values a ratio lies four times out of five."""
    return ratio * exp(-EIGHTY_PERCENT * rel_std), ratio * exp(EIGHTY_PERCENT * rel_std)
