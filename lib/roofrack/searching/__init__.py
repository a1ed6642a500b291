"""The cheapest plan, batch and setting of a whole space: every valid plan is evaluated.

`command` takes the words of a question, which `asked` reads; `space` lists machines, modes and
plans, `scan` evaluates all points and `pairs` puts the two pools of disaggregated serving together
(`meeting`), `candidates` keeps what may matter, `rows` ranks it in double precision, and `found` is
the answer.
"""

from roofrack.searching.asked import Asked, asked, told_apart
from roofrack.searching.command import answer
from roofrack.searching.found import Found, search
from roofrack.searching.space import Choice

__all__ = ["Asked", "Choice", "Found", "answer", "asked", "search", "told_apart"]
