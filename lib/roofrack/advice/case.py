"""A scenario that asks for advice, the changes that may be tried on it, and what comes of them.

A change is a set of numbers by the paths that overrides use, and of groups chosen anew. Numbers are
tried many at a time, as arrays in the place of leaves; what is told in the end is composed again
from its overrides alone (`proof`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from roofrack.conversion import Study
from roofrack.cost import estimate
from roofrack.cost.layout import Layout, layout
from roofrack.fields import Leaf
from roofrack.leaves import entries, plain
from roofrack.nouns import Scenario
from roofrack.schema import ALIASES

Row = Mapping[str, Any]
"""One point as `roofrack point` tells it: every result column, None where it has no value."""

WAITS = {"decode": ("tpot_s",), "serve": ("tpot_s", "ttft_s"), "prefill": ("ttft_s",),
         "train": ("step_s",)}  # fmt: skip
"""What somebody waits for, in each phase."""
LIMITED = {"workload.tpot_limit_s": "tpot", "workload.ttft_limit_s": "ttft"}
"""Leaves that limit a time; at a load it is that of 95 % of requests."""
AT_LOAD, TOKEN, CHIP = "usd_per_mtok_at_load", "usd_per_mtok", "chip_hours_per_mtok"
_ALIASED = {path: alias for alias, path in ALIASES.items() if alias in ("batch", "context", "pp")}


@dataclass(frozen=True)
class Change:
    """Something to try: `subject`, of which only the best of each `key` is told.

    `values` are leaves by path, as a scenario holds them; `words` are further overrides, those of
    groups; `lead` begins the sentence, given the rows before and after; `assumes` says what the
    cost model does not know of it. `least` is the saving from which on it is worth a word; `cost`
    what a token costs then, where it is known already.
    """

    subject: str
    key: str
    values: Mapping[str, float]
    lead: Callable[[Row, Row], str]
    words: tuple[str, ...] = ()
    assumes: str = ""
    least: float = 0.02
    cost: float | None = None


@dataclass(frozen=True)
class Case:
    """One scenario: the overrides it came from, its numbers, and its row.

    `goal` is the column (or CHIP, where the machine has no price) that less of is better.
    """

    words: tuple[str, ...]
    config_dir: str | Path | None
    study: Study
    row: Row
    goal: str
    machines: tuple[str, ...] | None

    @cached_property
    def s(self) -> Scenario:
        """The scenario, every number in double precision."""
        return plain(self.study.grid())

    @cached_property
    def at(self) -> Layout:
        """The plan in effect: `racks` and `ep=stage` solved."""
        return layout(self.s)

    @cached_property
    def declared(self) -> dict[str, Leaf]:
        """What each leaf of the scenario accepts, by path."""
        return {entry.path: entry.leaf for entry in entries(self.s, self.study.levels)}

    @property
    def phase(self) -> str:
        """What the scenario is about: decode, prefill, serve or train."""
        return self.study.phase

    @property
    def runs(self) -> bool:
        """Whether it can be run as it is: in memory, at its load, and within its limits."""
        return bool(self.row["fits"]) and not self.overloaded and not self.missed

    @property
    def missed(self) -> dict[str, float]:
        """Limits of the scenario's own that it does not keep, by column."""
        return late(self.row, self.limits)

    @property
    def overloaded(self) -> bool:
        """Whether more requests arrive than can be served."""
        return (self.row["utilization"] or 0.0) >= 1.0

    @property
    def waits(self) -> tuple[str, ...]:
        """Columns of what somebody waits for, the most often first; at a load of 95 % of them."""
        if self.row["utilization"] is not None:
            return ("tpot_p95_s", "ttft_p95_s")
        return WAITS[self.phase]

    @property
    def limits(self) -> dict[str, float]:
        """Limits of the scenario's own, by column."""
        which = "_s" if self.row["utilization"] is None else "_p95_s"
        found = {name + which: self.now(path) for path, name in LIMITED.items()}
        return {column: limit for column, limit in found.items() if np.isfinite(limit)}

    def now(self, path: str) -> float:
        """Return a leaf as it is."""
        return float(self.study.leaves[path])

    def given(self, start: str) -> bool:
        """Tell whether an override sets a key that begins so."""
        return any(word.lstrip("+~").startswith(start) for word in self.words)

    def overrides(self, change: Change) -> tuple[str, ...]:
        """Return a change as overrides, in the words of a command line."""
        told = [word for word in change.words]
        if self.now("parallelism.racks") and _moved(change.values):
            told.append("racks=null")  # it would solve dp anew
        return (*told, *(self.written(path, value) for path, value in change.values.items()))

    def written(self, path: str, value: float) -> str:
        """Return one leaf as an override; by its alias, which would win over the leaf."""
        leaf, value = self.declared.get(path), float(value)
        if leaf is not None and leaf.choices:
            text = leaf.choices[int(value)]
        elif leaf is not None and leaf.flag:
            text = "true" if value else "false"
        else:
            text = f"{int(value)}" if value == int(value) else repr(value)
        return f"{_ALIASED.get(path, path)}={text}"

    def columns(self, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Evaluate the scenario with leaves replaced by arrays of one shape; columns of that shape.

        Besides them `goal`; `kept`, where it can run, fits, bears its load and keeps the limits;
        and `quick`, where nobody waits longer than now either.
        """
        shape = np.broadcast_shapes(*(np.shape(v) for v in values.values()))
        moved = {**values}
        if _moved(values):
            degrees = self.at._asdict()
            moved = {
                "parallelism.racks": 0.0,
                **{f"parallelism.{n}": float(degrees[n]) for n in ("dp", "ep")},
                **moved,
            }
        with np.errstate(all="ignore"):
            found = estimate(self.study.bind(moved))
            found = {n: np.broadcast_to(np.asarray(v), shape) for n, v in found.items()}
            goal = found[TOKEN] if self.goal != AT_LOAD else found[AT_LOAD]
            if self.goal == CHIP:
                goal = chip_hours(found["chips"], found["tokens_per_s"])
            able = (found["why_invalid"] == 0) & found["fits"].astype(bool) & np.isfinite(goal)
            able &= ~(found["utilization"] >= 1.0)
            kept = able & np.all([found[c] <= x for c, x in self.limits.items()], axis=0)
            still = np.all([found[c] <= (self.row[c] or 0.0) for c in self.waits], axis=0)
        return {**found, "goal": goal, "kept": kept, "quick": kept & still}

    def tried(self, changes: Sequence[Change]) -> dict[str, np.ndarray]:
        """Evaluate changes of numbers at once: columns with an element for each."""
        paths = dict.fromkeys(path for change in changes for path in change.values)
        return self.columns(
            {p: np.array([c.values.get(p, self._base(p)) for c in changes]) for p in paths}
        )

    def _base(self, path: str) -> float:
        """Return a leaf as it is in effect: `racks` solved."""
        name = path.removeprefix("parallelism.")
        return float(getattr(self.at, name)) if name in ("dp", "ep") else self.now(path)


def _moved(values: Mapping[str, Any]) -> bool:
    """Tell whether a change moves a degree: dp is then told, and no longer solved from racks."""
    return any(f"parallelism.{name}" in values for name in ("tp", "pp", "dp", "cp", "ep"))


def chip_hours(chips: Any, tokens_per_s: Any) -> Any:
    """Return the hours of chips that a million tokens take: their cost where no price is known."""
    return chips / tokens_per_s * 1e6 / 3600.0


def late(row: Row, limits: Mapping[str, float]) -> dict[str, float]:
    """Return the limits that a row does not keep: what has no value is never there."""
    return {c: x for c, x in limits.items() if not (row[c] is not None and row[c] <= x)}


def cost_of(goal: str, row: Row) -> float | None:
    """Return what a million tokens cost, in the terms of a case's goal."""
    if goal == CHIP:
        return float(chip_hours(row["chips"], row["tokens_per_s"])) if row["tokens_per_s"] else None
    value = row[goal]
    return None if value is None else float(value)
