"""The one error a user meets, and the hint that goes with it."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Raised when something the user gave cannot be used; the message is one line for people."""


class InfeasibleError(InputError):
    """Raised at a single point whose plan cannot run; in a sweep that is a row, `valid` false."""


def nearest(name: object, choices: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the choice nearest to `name`, or an empty string.

    What `name` begins wins; then keys of the same group, by their last word; then whole names; then
    any last word ("hbm_bytes" for "hardware.hbm_bytes").
    """
    given, ordered = str(name), sorted(choices, key=len)
    begun = [choice for choice in ordered if given and choice.startswith(given)]
    group, _, word = given.rpartition(".")
    tails = {choice.rpartition(".")[2]: choice for choice in reversed(ordered)}
    siblings = {t: c for t, c in tails.items() if c.rpartition(".")[0] == group}
    close = (
        begun
        or [siblings[t] for t in get_close_matches(word, siblings, n=1)]
        or get_close_matches(given, ordered, n=1, cutoff=0.75)
        or [tails[t] for t in get_close_matches(word, tails, n=1)]
    )
    return f" Did you mean '{close[0]}'?" if close else ""
