"""What to change about one scenario, ranked by money; every claim evaluated again.

`case` is the scenario and what may be tried on it, `subjects` propose changes, `core` tries them
all, proves the best of each kind (`proof`: composed from overrides alone, with the error bar of the
ratio) and ranks them; `words` makes the sentences and `advised` tells them.
"""

from roofrack.advice.advised import Advice, Advised
from roofrack.advice.core import advise

__all__ = ["Advice", "Advised", "advise"]
