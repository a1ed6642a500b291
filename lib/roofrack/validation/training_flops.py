"""Which FLOPs a source counts: what turns its TFLOP/s or MFU into seconds, as it computed them.

A published MFU says nothing without its count: whether what is computed again is in it, whether
pairs of tokens that causal masks hide are, whether the embedding is. Each convention is a function
of the shape that a run trained, and of nothing that it measured.
"""

from collections.abc import Callable
from typing import NamedTuple

from roofrack.errors import InputError, nearest


class Shape(NamedTuple):
    """What a FLOP count takes from a model and a batch.

    `parameters` are all of them with both embeddings, `active` those of one token without the
    input embedding; `attended` the width of all heads together.
    """

    layers: float
    d_model: float
    attended: float
    vocab: float
    parameters: float
    active: float
    sequence: float
    batch: float

    @property
    def tokens(self) -> float:
        """Tokens of a step."""
        return self.batch * self.sequence


def megatron_2021(s: Shape) -> float:
    """Return 96 B s l h^2 (1 + s/(6h) + V/(16 l h)) (arXiv:2104.04473 equation 3).

    The layers' forward pass counts twice: a full recomputation is in it. All pairs count.
    """
    layers = s.layers * s.d_model**2
    share = 1 + s.sequence / (6 * s.d_model) + s.vocab / (16 * s.layers * s.d_model)
    return 96 * s.tokens * layers * share


def korthikanti_2022(s: Shape) -> float:
    """Return 72 B L s h^2 (1 + s/(6h) + v/(12 h L)) (arXiv:2205.05198 appendix A), the model FLOPs.

    Megatron-Core and NeMo counted so up to 2024. Nothing computed again; all pairs count.
    """
    layers = s.layers * s.d_model**2
    share = 1 + s.sequence / (6 * s.d_model) + s.vocab / (12 * s.layers * s.d_model)
    return 72 * s.tokens * layers * share


def palm_2022(s: Shape) -> float:
    """Return 6N + 12 L H Q T for each token (arXiv:2204.02311 appendix B), N every parameter."""
    return s.tokens * (6 * s.parameters + 12 * s.layers * s.attended * s.sequence)


def mosaic(s: Shape) -> float:
    """Return 3 (2 n s + 4 L d s^2) for each sequence (llm-foundry's README): PaLM's count."""
    sequence = 2 * s.parameters * s.sequence + 4 * s.layers * s.d_model * s.sequence**2
    return 3 * s.batch * sequence


def maxtext_2023(s: Shape) -> float:
    """Return 6N + 6 L H Q T for each token, N every parameter: masked pairs do not count.

    AI-Hypercomputer/maxtext@76bd53b0f:MaxText/train.py `calculate_training_tflops`.
    """
    return s.tokens * (6 * s.parameters + 6 * s.layers * s.attended * s.sequence)


def causal(s: Shape) -> float:
    """Return 6 N_a + 6 L H Q T for each token: matrices a token visits, masked pairs left out.

    Megatron-Core and Megatron-Bridge since 2025.
    """
    return s.tokens * (6 * s.active + 6 * s.layers * s.attended * s.sequence)


def printed_time(s: Shape) -> float:
    """Raise: this source prints times or tokens, and its FLOPs are not used."""
    raise InputError("flops=printed_time: the group prints no FLOP/s that could be converted")


CONVENTIONS: dict[str, Callable[[Shape], float]] = {
    count.__name__: count
    for count in (
        megatron_2021,
        korthikanti_2022,
        palm_2022,
        mosaic,
        maxtext_2023,
        causal,
        printed_time,
    )
}
"""Every count by name: FLOP of one training step."""


class Quantity(NamedTuple):
    """What a source prints: what it is compared with, its unit, and its conversion.

    `convert` takes the printed number, the tokens of a step, the chips, the FLOP of a step by the
    group's convention (a function: not every group has one), and the chip's 16-bit peak.
    """

    compared: str
    unit: str
    convert: Callable[[float, float, float, Callable[[], float], float], float]


GIB = 2.0**30
HOUR = 3600.0

QUANTITIES = {
    "step_s": Quantity("step_s", "s", lambda x, tokens, n, flop, peak: x),
    "tokens_per_s": Quantity("step_s", "token/s", lambda x, tokens, n, flop, peak: tokens / x),
    "tokens_per_s_per_chip": Quantity(
        "step_s", "token/s", lambda x, tokens, n, flop, peak: tokens / (x * n)
    ),
    "tflops_per_chip": Quantity(
        "step_s", "TFLOP/s", lambda x, tokens, n, flop, peak: flop() / (x * 1e12 * n)
    ),
    "mfu": Quantity("step_s", "", lambda x, tokens, n, flop, peak: flop() / (x * peak * n)),
    "chip_hours_per_trillion_tokens": Quantity(
        "step_s", "h", lambda x, tokens, n, flop, peak: x * HOUR * tokens / (1e12 * n)
    ),
    "peak_memory_gib": Quantity(
        "peak_memory_bytes", "GiB", lambda x, tokens, n, flop, peak: x * GIB
    ),
    "activation_gib": Quantity("activation_bytes", "GiB", lambda x, tokens, n, flop, peak: x * GIB),
    "state_gib": Quantity("state_bytes", "GiB", lambda x, tokens, n, flop, peak: x * GIB),
}
"""Every printed quantity; what it is compared with is in seconds or bytes."""


def convention(name: str) -> Callable[[Shape], float]:
    """Return a FLOP count by its name."""
    if name not in CONVENTIONS:
        raise InputError(
            f"flops={name}: no such convention; allowed: {', '.join(CONVENTIONS)}."
            f"{nearest(name, CONVENTIONS)}"
        )
    return CONVENTIONS[name]
