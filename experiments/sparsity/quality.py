"""What capacity is worth, by published laws of loss: the dense model that would be as good.

Both laws count the experts of layers in which a token visits one, as large as the FFN they replace.
A model whose tokens visit several is taken as its expansion: parameters of all experts of a layer
over those that a token uses, shared ones counted in both.
"""

from collections.abc import Callable, Sequence
from math import exp, log, log10
from typing import NamedTuple

import polars as pl
from scipy.optimize import brentq

from ..common.pages import setting
from .rows import Facts, Machine


class Saturation(NamedTuple):
    """Experts E enter a law as E', which grows from `start` (E = 1) to `most`.

    1 / E' = 1 / (E - 1 + 1 / (1 / start - 1 / most)) + 1 / most, in both laws.
    """

    start: float
    most: float

    def at(self, experts: float) -> float:
        """Return E' of a number of experts."""
        return 1 / (1 / (experts - 1 + 1 / (1 / self.start - 1 / self.most)) + 1 / self.most)


class Law(NamedTuple):
    """A law: `effective(params, experts, tokens)` are the parameters of the dense model as good.

    `params`, `experts` and `tokens` are the most that it was fitted to.
    """

    name: str
    effective: Callable[[float, float, float], float]
    params: float
    experts: float
    tokens: float


_ROUTED = Saturation(1.847, 314.478)
_A, _B, _C = -0.082, -0.108, 0.009


def routed(params: float, experts: float, tokens: float) -> float:
    """Clark et al. 2022, "Unified Scaling Laws for Routed Language Models", arXiv:2202.01169.

    Equation 1, log10 L = a log10 N + b log10 E' + c log10 N log10 E' + d, with table 3 (S-BASE),
    solved for the N of a dense model of the same loss (equation 11). All its models were trained on
    as many tokens, which therefore do not enter.
    """
    some, dense = log10(_ROUTED.at(experts)), log10(_ROUTED.start)
    same = (_A + _C * some) * log10(params) + _B * (some - dense)
    return float(10 ** (same / (_A + _C * dense)))


_JOINT = Saturation(2.0732, 290.4521)


def joint_loss(params: float, experts: float, tokens: float) -> float:
    """Ludziejewski et al. 2025, "Joint MoE Scaling Laws", arXiv:2502.05172, equation 6, table 3.

    L = a E'^delta N^(alpha + gamma ln E') + b E'^omega D^(beta + zeta ln E') + c, in nats a token.
    """
    some = log(_JOINT.at(experts))
    size = 35.91 * exp(-0.2285 * some) * params ** (-0.1889 + 0.0098 * some)
    data = 35.98 * exp(0.5529 * some) * tokens ** (-0.1775 - 0.0259 * some)
    return float(size + data + 1.3637)


def joint(params: float, experts: float, tokens: float) -> float:
    """Return the N of the dense model whose joint loss on as many tokens is the same."""
    wanted = joint_loss(params, experts, tokens)
    if wanted <= joint_loss(1e40, 1.0, tokens):
        return float("inf")  # no dense model learns as much from so few tokens

    def over(size: float) -> float:
        return joint_loss(exp(size), 1.0, tokens) - wanted

    return float(exp(brentq(over, log(params) - 20.0, log(1e40))))


LAWS = (
    Law("Ludziejewski et al. 2025", joint, 2.7e9, 32, 8e10),
    Law("Clark et al. 2022", routed, 1.31e9, 512, 1.3e11),
)


def expansion(machine: Machine, ratio: float) -> float:
    """Return the parameters of all experts of a layer over those that a token uses."""
    model = machine.config["model"]
    each = float(model["d_ff_expert"])
    shared = float(model["shared_experts"]) * float(model["d_ff_shared"])
    return (ratio * machine.per_token * each + shared) / (machine.per_token * each + shared)


def quality(facts: Facts, laws: Sequence[Law] = LAWS) -> pl.DataFrame:
    """Return the cheapest way to serve each ratio beside the dense model as good.

    A row for each law; columns `law`, `expansion`, `effective` (parameters).
    """
    tokens = setting(facts.run, "training_tokens", most=1e18)
    rows = facts.all.filter(pl.col("ratio").is_close(facts.machine.ratio))
    active = float(rows["active"][0])
    wide = {ratio: expansion(facts.machine, ratio) for ratio in facts.ratios}
    found = facts.least.with_columns(
        expansion=pl.col("ratio").replace_strict(wide, return_dtype=pl.Float64)
    )
    parts = []
    for law in laws:
        worth = {ratio: law.effective(active, many, tokens) for ratio, many in wide.items()}
        sizes = pl.col("ratio").replace_strict(worth, return_dtype=pl.Float64)
        parts.append(found.with_columns(law=pl.lit(law.name), effective=sizes))
    return pl.concat(parts).filter(pl.col("effective").is_finite())
