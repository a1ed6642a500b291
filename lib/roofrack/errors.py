"""The one error a user meets, and the hint that goes with it."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Raised when something the user gave cannot be used; the message is one line for people."""


class InfeasibleError(InputError):
    """Raised at a single point whose plan cannot run; in a sweep that is a row, `valid` false."""


def nearest(name: object, choices: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the choice nearest to `name`, or an empty string."""
    ordered = list(choices)
    close = get_close_matches(str(name), ordered, n=1, cutoff=0.5)
    if not close:  # a last word alone often hits: "hbm" for "hardware.hbm_bytes"
        tails = {choice.rsplit(".", 1)[-1]: choice for choice in ordered}
        close = [tails[c] for c in get_close_matches(str(name).rsplit(".", 1)[-1], tails, n=1)]
    return f" Did you mean '{close[0]}'?" if close else ""
