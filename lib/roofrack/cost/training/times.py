"""Seconds that one layer of each kind takes on a chip, for one micro-batch: three legs of it."""

from typing import NamedTuple

from roofrack.arithmetic import Number, divide
from roofrack.calibration import Experts
from roofrack.cost.forward import BLOCKS
from roofrack.cost.roofline import BlockTime, block_times
from roofrack.cost.site import Site
from roofrack.cost.training.works import Legs

CLASSES = ("gemm", "core", "experts")
"""Kernel classes whose errors go together."""


class Spent(BlockTime):
    """Seconds by resource, and `busy` at the roofline, of any number of blocks."""

    __slots__ = ()

    def plus(self, other: "Spent", times: Number = 1.0) -> "Spent":
        """Return this with `times` another one."""
        return Spent(*(add(a, b, times) for a, b in zip(self, other, strict=True)))


def add(a: Number, b: Number, times: Number) -> Number:
    """Return a + times b; nothing is computed where one of them is not there at all."""
    if isinstance(b, float) and b == 0.0:
        return a
    more = b if isinstance(times, float) and times == 1.0 else times * b
    return more if isinstance(a, float) and a == 0.0 else a + more


NOTHING = Spent(*[0.0] * len(Spent._fields))

Shares = tuple[Number, ...]
"""Seconds by block (forward.BLOCKS), then errors in seconds of each of CLASSES."""


class Timed(NamedTuple):
    """One layer: `forward`, the gradients of its `inputs` and `weights`; its core, forward."""

    forward: Spent
    inputs: Spent
    weights: Spent
    core: Spent


class Layers(NamedTuple):
    """One layer of each kind (`every` is what all have), and the head.

    `shares` of a layer of each kind, in the same order: of all legs, of the forward one, and of its
    core forward.
    """

    every: Timed
    dense: Timed
    experts: Timed
    head: Timed
    shares: tuple[tuple[Shares, Shares, Shares], ...]

    @property
    def kinds(self) -> tuple[Timed, ...]:
        """The four kinds."""
        return self.every, self.dense, self.experts, self.head


_KINDS = {
    "every": ("attention_projections", "attention_core", "residual"),
    "dense": ("dense_ffn",),
    "experts": ("router", "routed_experts", "shared_experts"),
    "head": ("head",),
}
"""The blocks of each kind of layer."""


def layers(at: Site, of: dict[str, Legs]) -> Layers:
    """Return the times of one layer of each kind; all works are evaluated at once."""
    m, cal, abstract = at.s.model, at.s.calibration, at.counts.abstract
    sums, shares = _summed(at, of)
    counted = (m.layers, at.counts.dense_layers, m.moe_layers, 1.0)
    once = {kind: divide(1.0, n) for kind, n in zip(_KINDS, counted, strict=True)}

    def timed(kind: str, times: Number) -> Timed:
        legs = [sum_of([sums[block, leg] for block in _KINDS[kind]], times) for leg in Legs._fields]
        return Timed._make([*legs, NOTHING])

    # given totals do not tell layers apart
    whole = [timed(kind, abstract * once["every"]) for kind in ("dense", "experts")]
    every = timed("every", once["every"])
    legs = [a.plus(b).plus(c) for a, b, c in zip(every, *whole, strict=True)]
    # small kernels of a layer, and for each of them one for each gradient
    small = [cal.layer_s, 2.0 * cal.layer_s, 0.0, 0.0]
    legs = [leg._replace(launch=leg.launch + t) for leg, t in zip(legs, small, strict=True)]
    core = NOTHING.plus(sums["attention_core", "forward"], once["every"])
    known = 1.0 - abstract
    return Layers(
        every=Timed(*legs)._replace(core=core),
        dense=timed("dense", known * once["dense"]),
        experts=timed("experts", known * once["experts"]),
        head=timed("head", once["head"]),
        shares=tuple(_shares(shares, kind, times) for kind, times in once.items()),
    )


Sums = dict[tuple[str, str], Spent]


def _summed(at: Site, of: dict[str, Legs]) -> tuple[Sums, dict[tuple[str, str], Shares]]:
    """Return what each block spends on each leg, and its errors by class."""
    flat = [
        (block, leg, work)
        for block, legs in of.items()
        for leg, each in legs._asdict().items()
        for work in each
    ]
    times = block_times([(work, at.s.hardware.hbm_bytes_per_s) for *_, work in flat])
    sums = {(block, leg): NOTHING for block in BLOCKS for leg in Legs._fields}
    errors = {place: [0.0] * len(CLASSES) for place in sums}
    for (block, leg, work), t in zip(flat, times, strict=True):
        sums[block, leg] = sums[block, leg].plus(Spent(*t))
        kind = 1 if block == "attention_core" else 2 if isinstance(work.kernel, Experts) else 0
        error = (t.busy + t.launch) * work.kernel.rel_std
        errors[block, leg][kind] = add(errors[block, leg][kind], error, 1.0)
    return sums, {
        (block, leg): (*(s.busy if name == block else 0.0 for name in BLOCKS), *errors[block, leg])
        for (block, leg), s in sums.items()
    }


def _shares(
    of: dict[tuple[str, str], Shares], kind: str, times: Number
) -> tuple[Shares, Shares, Shares]:
    def total(blocks: tuple[str, ...], legs: tuple[str, ...]) -> Shares:
        found: Shares = (0.0,) * (len(BLOCKS) + len(CLASSES))
        for block in blocks:
            for leg in legs:
                found = plus(found, of[block, leg], times)
        return found

    cores = ("attention_core",) if kind == "every" else ()
    forward = ("forward",)
    return total(_KINDS[kind], Legs._fields), total(_KINDS[kind], forward), total(cores, forward)


def plus(these: Shares, others: Shares, times: Number) -> Shares:
    """Return these with `times` the others."""
    return tuple(add(a, b, times) for a, b in zip(these, others, strict=True))


def sum_of(some: list[Spent], times: Number) -> Spent:
    """Return the sum of what several spend, `times` over."""
    found = NOTHING
    for one in some:
        found = found.plus(one)
    return NOTHING.plus(found, times)


class Counted(NamedTuple):
    """How many layers of each kind a stage has, and heads."""

    every: Number
    dense: Number
    experts: Number
    head: Number


def stage_time(of: Layers, has: Counted, start: Timed | None = None) -> Timed:
    """Return the seconds of a stage that `has` so many layers of each kind, `start` besides."""
    found = list(start) if start is not None else [NOTHING] * len(Timed._fields)
    for kind, times in zip(of.kinds, has, strict=True):
        if not (isinstance(times, float) and times == 0.0):
            found = [a.plus(b, times) for a, b in zip(found, kind, strict=True)]
    return Timed(*found)


def stage_shares(of: Layers, has: Counted, whole: Number, cores: Number) -> Shares:
    """Return the shares of a stage; `whole` of its layers and `cores` are computed again."""
    found: Shares = (0.0,) * (len(BLOCKS) + len(CLASSES))
    for kind, (every, forward, core), times in zip(Counted._fields, of.shares, has, strict=True):
        found = plus(found, every, times)
        if kind != "head":
            found = plus(plus(found, forward, times * whole), core, times * cores)
    return found
