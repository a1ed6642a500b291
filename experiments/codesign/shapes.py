"""Shapes of a model that have as many parameters as it has, total and active.

What is chosen of a shape: its layers, how finely its experts are cut, its KV heads, and its kind of
attention (that of another model, in this one's place). What follows: the width D and the hidden
width F of experts (of the FFN where there are none). For every D of a grid F is solved so that the
total comes out, which is linear in F; the D taken is the one whose active parameters are nearest to
the model's. A dense model has no second number to hold: its D is the one whose F / D is nearest to
the model's. Counts are those of `roofrack.model.count`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from roofrack.conversion import Study
from roofrack.model import Counts, count

from ..common.files import Leaves

ATTENTION = (
    "heads", "kv_heads", "head_dim", "q_lora", "kv_lora", "qk_nope_dim", "qk_rope_dim",
    "v_head_dim", "attention_gate", "qk_norm_all_heads", "window", "window_layers",
    "linear_layers", "linear_key_heads", "linear_key_dim", "linear_value_heads",
    "linear_value_dim", "linear_gates", "linear_head_gates", "linear_gate_rank",
    "linear_state_bytes", "sparse_layers", "sparse_tokens", "index_heads", "index_dim",
    "shared_kv_layers",
)  # fmt: skip
"""Leaves of a model that say how tokens are mixed."""
_OF_LAYERS = ("window_layers", "linear_layers", "sparse_layers", "shared_kv_layers")
_HEADS = 8
"""Heads come in multiples of this, so that they can be divided over a node."""
_WIDTHS = (0.2, 5.0)
"""Widths tried, over the model's own."""


class Choice(NamedTuple):
    """What is chosen of a shape; `kind` is the model whose attention it has, `kv_heads` 0: its."""

    layers: float
    grain: float
    kind: str
    kv_heads: float = 0.0


class Rules(NamedTuple):
    """How a shape is made: widths are multiples of `step`; how far parameters may be off."""

    step: float
    tolerance: float
    active_tolerance: float


@dataclass(frozen=True)
class Shape:
    """A shape: what was chosen, the leaves that follow, and what it counts to."""

    choice: Choice
    leaves: Leaves
    total: float
    active: float

    @property
    def aspect(self) -> float:
        """Width over layers."""
        return self.leaves["model.d_model"] / self.leaves["model.layers"]


class Family:
    """The shapes of one model; `donors` are the leaves of the models whose attention is tried."""

    def __init__(self, study: Study, own: str, donors: Mapping[str, Leaves], rules: Rules) -> None:
        """Take the study of the model, its own name among the donors, and the rules."""
        self.study, self.own, self.rules = study, own, rules
        self.donors = dict(donors)
        self.base = {p: v for p, v in study.leaves.items() if p.startswith("model.")}
        counts = self.counted({})
        self.total, self.active = float(counts.total), float(counts.active)

    @property
    def is_moe(self) -> bool:
        """Whether the model has experts."""
        return self._of("experts") > 1 and self._of("moe_layers") > 0

    @property
    def has_kv_heads(self) -> bool:
        """Whether the model's own attention has KV heads."""
        return self._of("kv_lora") == 0 and self._of("kv_heads") > 0

    def _of(self, name: str) -> float:
        return self.base[f"model.{name}"]

    def counted(self, values: Mapping[str, np.ndarray | float]) -> Counts:
        """Count the model with some leaves replaced."""
        return count(self.study.bind({**self.base, **values}).model)

    def as_it_is(self) -> Shape:
        """Return the model itself as a shape."""
        choice = Choice(self._of("layers"), 1.0, self.own)
        return Shape(choice, self.base, self.total, self.active)

    def sparser(self, ratio: float) -> Shape | None:
        """Return the model with `ratio` times the experts, a token still visiting as many.

        The active parameters stay (but for the router), the total does not. None where the experts
        would be no whole number, or fewer than a token visits.
        """
        experts = self._of("experts") * ratio
        if experts != round(experts) or experts < self._of("experts_per_token"):
            return None
        leaves = {**self.base, "model.experts": experts}
        counts = self.counted({"model.experts": experts})
        choice = self.as_it_is().choice
        return Shape(choice, leaves, float(counts.total), float(counts.active))

    def shape(self, choice: Choice) -> Shape | None:
        """Return the shape of a choice, None where no width keeps the parameters."""
        step = self.rules.step
        low, high = (self._of("d_model") * ratio for ratio in _WIDTHS)
        width = np.arange(max(1.0, np.ceil(low / step)), max(2.0, high // step + 1)) * step
        leaves: dict[str, np.ndarray] = self._chosen(choice, width)
        hidden = "model.d_ff_expert" if self.is_moe else "model.d_ff"
        none = self.counted({**leaves, hidden: np.zeros_like(width)}).total
        slope = (self.counted({**leaves, hidden: np.full_like(width, step)}).total - none) / step
        with np.errstate(all="ignore"):
            free = (self.total - none) / slope
        leaves[hidden] = np.round(free / (step / 2)) * (step / 2)
        if not self.is_moe:
            free = leaves[hidden] / width
        counts = self.counted(leaves)
        off = np.abs(counts.total / self.total - 1)
        worse = np.abs(counts.active / self.active - 1)
        aim = worse if self.is_moe else np.abs(free / (self._of("d_ff") / self._of("d_model")) - 1)
        good = (leaves[hidden] > 0) & (off <= self.rules.tolerance)
        good &= worse <= self.rules.active_tolerance
        good &= leaves["model.heads"] >= leaves["model.kv_heads"]
        if not good.any():
            return None
        at = int(np.argmin(np.where(good, aim, np.inf)))
        made = {p: float(np.broadcast_to(v, width.shape)[at]) for p, v in leaves.items()}
        total = float(np.broadcast_to(counts.total, width.shape)[at])
        active = float(np.broadcast_to(counts.active, width.shape)[at])
        return Shape(choice, {**self.base, **made}, total, active)

    def _chosen(self, choice: Choice, width: np.ndarray) -> dict[str, np.ndarray]:
        """Return the leaves that follow from a choice at each width, the hidden width left open."""
        layers, step = round(choice.layers), self.rules.step / 2
        leaves = self._attention(choice, width, layers)
        leaves |= {"model.layers": np.full_like(width, layers), "model.d_model": width}
        if not self.is_moe:
            return leaves
        ratio = width / self._of("d_model")
        moe = round(layers * self._of("moe_layers") / self._of("layers"))
        fixed = {
            "moe_layers": max(1, moe),
            "experts": round(self._of("experts") * choice.grain),
            "experts_per_token": max(1, round(self._of("experts_per_token") * choice.grain)),
        }
        leaves |= {f"model.{n}": np.full_like(width, v) for n, v in fixed.items()}
        for name in ("d_ff", "d_ff_shared"):
            leaves[f"model.{name}"] = np.round(self._of(name) * ratio / step) * step
        return leaves

    def _attention(self, choice: Choice, width: np.ndarray, layers: int) -> dict[str, np.ndarray]:
        """Return the attention of a kind, grown with the width, its layers in proportion."""
        donor = self.donors[choice.kind]
        ratio = width / donor["model.d_model"]
        leaves = {f"model.{n}": np.full_like(width, donor[f"model.{n}"]) for n in ATTENTION}
        kv = choice.kv_heads or (0.0 if donor["model.kv_lora"] else donor["model.kv_heads"])
        each = max(_HEADS, kv)
        heads = np.maximum(each, np.round(donor["model.heads"] * ratio / each) * each)
        leaves["model.heads"] = heads
        leaves["model.kv_heads"] = heads if donor["model.kv_lora"] else np.full_like(width, kv)
        leaves["model.q_lora"] = np.round(donor["model.q_lora"] * ratio / 64) * 64
        for name in _OF_LAYERS:
            share = donor[f"model.{name}"] / donor["model.layers"]
            leaves[f"model.{name}"] = np.full_like(width, round(layers * share))
        if keys := donor["model.linear_key_heads"]:
            grown = np.maximum(_HEADS, np.round(keys * ratio / _HEADS) * _HEADS)
            leaves["model.linear_key_heads"] = grown
            leaves["model.linear_value_heads"] = grown * donor["model.linear_value_heads"] / keys
        return leaves


def kind_words(leaves: Leaves) -> str:
    """Say what kind of attention a model has."""
    layers = leaves["model.layers"]
    for name, what in (("linear_layers", "linear"), ("sparse_layers", "sparse")):
        if n := leaves[f"model.{name}"]:
            return f"{what} in {n:.0f} of {layers:.0f} layers"
    if n := leaves["model.window_layers"]:
        return f"window of {leaves['model.window']:.0f} in {n:.0f} of {layers:.0f} layers"
    if leaves["model.kv_lora"]:
        return "latent (MLA)"
    heads = leaves["model.kv_heads"]
    return f"{heads:.0f} KV head" + "s" * (heads != 1)


def shape_words(shape: Shape) -> str:
    """Say what a shape is, in a few words."""
    at = shape.leaves
    text = f"{at['model.layers']:.0f} layers x {at['model.d_model']:,.0f}"
    if at["model.moe_layers"]:
        text += f", {at['model.experts_per_token']:.0f} of {at['model.experts']:.0f} experts"
    return f"{text}, {kind_words(at)}"


def grains(family: Family, wanted: Sequence[float]) -> list[float]:
    """Return the cuts of experts that leave whole numbers of them; 1 alone without experts."""
    if not family.is_moe:
        return [1.0]
    sizes = (family._of("experts"), family._of("experts_per_token"))
    kept = [g for g in wanted if all(s * g >= 1 and s * g == round(s * g) for s in sizes)]
    return sorted({1.0, *kept})
