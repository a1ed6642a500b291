"""The cheapest plan, batch and setting of a whole space: every valid plan is evaluated.

`asked` reads the question, `space` lists the plans, `scan` evaluates all points and keeps what may
matter, `found` decides in double precision and says why the others lost.
"""

from roofrack.searching.asked import Asked, asked
from roofrack.searching.found import Found, search

__all__ = ["Asked", "Found", "asked", "search"]
