"""How long prompts and outputs are: all alike, lognormal, or those of a trace."""

import math
from collections.abc import Callable

import numpy as np

from roofrack.errors import InputError
from roofrack.traffic.requests import LONGEST, Floats, Requests, Whole

Lengths = Callable[[int, np.random.Generator], tuple[Whole, Whole, Whole]]
"""Draws prompt, output and cached tokens of n requests."""

WIDEST = 100.0
"""The largest coefficient of variation; a lognormal this wide has no useful mean any more."""


def constant(prompt: int, output: int, cached: int = 0) -> Lengths:
    """Return lengths that are the same for every request."""
    for name, value, least in (("prompt", prompt, 1), ("output", output, 1), ("cached", cached, 0)):
        if not least <= value <= LONGEST or value != int(value):
            raise InputError(f"{name}={value}: whole tokens, {least} to {LONGEST:,}, are needed")
    _fewer(cached, prompt)

    def draw(n: int, rng: np.random.Generator) -> tuple[Whole, Whole, Whole]:
        return tuple(np.full(n, value, np.int64) for value in (prompt, output, cached))  # type: ignore[return-value]

    return draw


def lognormal(
    prompt: float,
    output: float,
    prompt_cv: float = 1.0,
    output_cv: float = 1.0,
    cached: float = 0.0,
) -> Lengths:
    """Return lengths with these means and coefficients of variation (deviation over mean).

    A length is 1 plus a lognormal of mean m - 1 and deviation cv m, rounded up or down at random
    in proportion: its mean is m exactly, its variance (cv m)^2 plus at most 1/4 token^2. Prompt and
    output are independent, which real ones are not: `lengths_from` keeps pairs. Of each prompt the
    share cached / prompt is cached, to the nearest token, and one token never is.
    """
    for name, mean, cv in (("prompt", prompt, prompt_cv), ("output", output, output_cv)):
        if not 1 <= mean <= LONGEST:
            raise InputError(f"{name}={mean}: a mean of 1 to {LONGEST:,} tokens is needed")
        if not 0 <= cv <= WIDEST:
            raise InputError(f"{name}_cv={cv}: 0 to {WIDEST:g} is needed")
        if mean == 1 and cv > 0:
            raise InputError(f"{name}_cv={cv}: lengths of mean 1 cannot vary, none is below 1")
    if cached < 0:
        raise InputError(f"cached={cached}: 0 or more tokens are needed")
    _fewer(cached, prompt)

    def draw(n: int, rng: np.random.Generator) -> tuple[Whole, Whole, Whole]:
        prompts = _lognormal(n, prompt, prompt_cv, rng)
        outputs = _lognormal(n, output, output_cv, rng)
        share = np.rint(prompts * (cached / prompt)).astype(np.int64)
        return prompts, outputs, np.minimum(share, prompts - 1)

    return draw


def lengths_from(requests: Requests) -> Lengths:
    """Return lengths drawn, with replacement, from those of a trace.

    Prompt, output and cached tokens of a request stay together. Prefix blocks are not drawn: a
    request drawn twice would find its whole prompt cached.
    """

    def draw(n: int, rng: np.random.Generator) -> tuple[Whole, Whole, Whole]:
        at = rng.integers(len(requests), size=n)
        return requests.prompt[at], requests.output[at], requests.cached[at]

    return draw


def _lognormal(n: int, mean: float, cv: float, rng: np.random.Generator) -> Whole:
    rest = mean - 1.0
    # both are drawn always: lengths at another mean then come from the same luck
    normal, share = rng.standard_normal(n), rng.random(n)
    if rest <= 0:
        return np.ones(n, np.int64)
    variance = math.log1p((cv * mean / rest) ** 2)
    drawn: Floats = rest * np.exp(math.sqrt(variance) * normal - variance / 2.0)
    return 1 + np.floor(np.minimum(drawn, LONGEST - 2.0) + share).astype(np.int64)


def _fewer(cached: float, prompt: float) -> None:
    if not cached < prompt:
        raise InputError(f"cached={cached}: must be less than prompt={prompt}")
