"""How many decode passes an output takes when tokens are drafted and checked."""

import numpy as np
import numpy.typing as npt

from roofrack.errors import InputError
from roofrack.traffic.requests import Whole


def passes(
    output: npt.ArrayLike,
    draft_tokens: int,
    acceptance: float,
    rng: int | np.random.Generator = 0,
) -> Whole:
    """Return the decode passes each request needs after its first token, drawn at random.

    A pass yields one token and each of `draft_tokens` drafted ones with probability `acceptance` if
    all before it were kept: on average (1 - a^(k + 1)) / (1 - a), Leviathan, Kalman and Matias 2023
    (arXiv:2211.17192) equation 1. What a last pass yields beyond the output is lost, so a request
    needs a little more than (output - 1) over that. Without drafts it is output - 1 exactly.
    `output` holds N whole numbers of at least 1. Raises InputError for anything else.
    """
    tokens = np.asarray(output)
    if tokens.dtype.kind not in "iu" or (tokens < 1).any():
        raise InputError("output: whole numbers of tokens, at least 1 each, are needed")
    if not (draft_tokens >= 0 and draft_tokens == int(draft_tokens)):
        raise InputError(f"draft_tokens={draft_tokens}: a whole number, 0 or more, is needed")
    if not 0 <= acceptance <= 1:
        raise InputError(f"acceptance={acceptance}: 0 to 1 is needed")
    left = tokens.astype(np.int64).ravel() - 1
    taken = np.zeros_like(left)
    if not left.size:
        return taken.reshape(tokens.shape)
    rng = np.random.default_rng(rng)
    # drafts beyond the longest output change nothing
    drafted = int(min(draft_tokens, max(int(left.max()) - 1, 0)))
    chances = acceptance ** np.arange(drafted + 1.0)
    chances[:-1] *= 1.0 - acceptance
    at = np.flatnonzero(left)
    while at.size:
        # this many are needed even if all drafts are kept, so none of them can be one too many
        sure = -(-left[at] // (drafted + 1))
        kept = rng.multinomial(sure, chances) @ np.arange(drafted + 1)
        taken[at] += sure
        left[at] -= sure + kept
        at = at[left[at] > 0]
    return taken.reshape(tokens.shape)
