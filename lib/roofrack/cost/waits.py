"""How long requests wait for their first token, as a distribution in closed form.

It is a mixture: who finds the instance idle waits for nothing; who comes during a pass for the rest
of it, a time spread evenly; who meets other prompts or full slots also for a time that falls off
exponentially. Prompts of lognormal length are a sum over strata of it.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, ceil, choose, divide, exp, least, most, root, total
from roofrack.cost.quantiles import STRATA, beyond, crossings, strata, times
from roofrack.cost.queues import Demand, States, spread


class Prompt(NamedTuple):
    """A prompt of x mean lengths takes fixed_s + length_s * x + pass_s * ceil(chunks x).

    `chunks` (0: whole prompts in passes of their own) of a mean prompt, each in a pass that takes
    `pass_s` without it. `server_s` is how long a mean prompt keeps others from starting, of which
    `server_cv` is the variation coefficient, and `cv` that of the length. `later_s` are spent
    after it, and `gate_s` before it, waiting for others; `chunk_s` of `server_s` are the decoding
    beside it.
    """

    fixed_s: Number
    length_s: Number
    pass_s: Number
    chunks: Number
    server_s: Number
    server_cv: Number
    cv: Number
    later_s: Number = 0.0
    gate_s: Number = 0.0
    chunk_s: Number = 0.0

    def seconds(self, x: Number) -> Number:
        """Return the time from the start of its first pass to the first token."""
        passes = choose(self.chunks > 0, most(ceil(self.chunks * x), 1.0), 0.0)
        return self.fixed_s + self.length_s * x + self.pass_s * passes + self.later_s + self.gate_s


class Waits(NamedTuple):
    """Where arrivals wait before their prompt is computed: shares of them, and seconds.

    `idle` wait for nothing; `passing` for the rest of a pass, spread evenly over `pass_s`; `behind`
    besides for others' prompts, exponentially with mean `behind_s`; `full` for a slot,
    exponentially with mean `full_s`, and for the rest of a pass. Of the wait behind others
    `shared_s` is spent in a pass that has a part of the prompt already; `after_s` of the mean wait
    comes after the prompt, until a pool that decodes takes it over.
    """

    idle: Number
    passing: Number
    behind: Number
    full: Number
    pass_s: Number
    behind_pass_s: Number
    behind_s: Number
    full_s: Number
    shared_s: Number
    after_s: Number = 0.0

    @property
    def mean(self) -> Number:
        """Return the mean wait in seconds, to where the whole of a prompt could start."""
        return (
            self.passing * self.pass_s / 2.0
            + self.behind * (self.behind_pass_s / 2.0 + self.behind_s)
            + self.full * (self.pass_s / 2.0 + self.full_s)
        )

    @property
    def queue_s(self) -> Number:
        """Return the mean wait for admission."""
        return self.mean - self.behind * self.shared_s - self.after_s


def waits(d: Demand, law: States, slots: Number, prompt: Prompt, together: Number) -> Waits:
    """Return where arrivals wait: for the running pass, for prompts before them, for a slot.

    Prompts are a queue of one server that goes on vacation for a decode pass whenever it is empty:
    its wait is that without vacations and the rest of one (Fuhrmann and Cooper, Operations Research
    33, 1985). `together` prompts are computed in one pass.
    """
    per_s = least(law.busy, 1.0 - 1e-4) * law.capacity
    load = least(per_s * prompt.server_s, 0.999)
    decoding = law.share * choose(law.n > 0, 1.0, 0.0)
    opened = 1.0 - law.full
    runs = divide(total(decoding), opened)
    pass_s = divide(total(decoding * law.tau**2), total(decoding * law.tau))
    met = load * (1.0 - 1.0 / slots)
    variable = (d.arrival_cv**2 + prompt.server_cv**2) / 2.0
    # a prompt that is computed with others waits for the pass before it, not for each of them
    queued_s = prompt.server_s * variable * (together + load / (1.0 - load) / together)
    return Waits(
        idle=opened * (1.0 - met) * (1.0 - runs),
        passing=opened * (1.0 - met) * runs,
        behind=opened * met,
        full=law.full,
        pass_s=pass_s,
        behind_pass_s=runs * pass_s,
        behind_s=queued_s,
        full_s=divide(law.queued, per_s * law.full),
        shared_s=least(prompt.pass_s / 2.0, queued_s / 2.0),
    )


def ttft_beyond(t: Number, w: Waits, prompt: Prompt, rank: int) -> Number:
    """Return the share of first tokens that come later than `t` (times, ...)."""
    of, short, long = strata(prompt.cv, w.full, rank)
    low, high = prompt.seconds(short), prompt.seconds(long)
    scale = 1e-4 * (prompt.seconds(1.0) + w.pass_s)
    found: Number = 0.0
    for share, width, mean in (
        (w.idle, 0.0, scale),
        (w.passing, w.pass_s, scale),
        (w.behind, w.behind_pass_s, w.behind_s),
        (w.full, w.pass_s, w.full_s),
    ):
        # two even spreads as one of the same mean and variance
        wide = root(width**2 + (high - low) ** 2)
        start = (low + high + width - wide) / 2.0
        found = found + share * beyond(t, start, most(wide, scale), most(mean, scale))
    return total(of * found)


def ttft_mean(w: Waits, prompt: Prompt, rank: int) -> Number:
    """Return the mean time to the first token; scenario leaves have `rank` axes."""
    of, short, long = strata(prompt.cv, w.full, rank)
    own = total(total(of * (prompt.seconds(short) + prompt.seconds(long)) / 2.0))
    return w.mean + own


def ttft_quantiles(w: Waits, prompt: Prompt, rank: int) -> dict[str, Number]:
    """Return quantiles of the time to the first token; scenario leaves have `rank` axes."""
    deviation = spread(prompt.cv)
    ends = (exp(z * deviation - deviation**2 / 2.0) for z in (STRATA[0], 3.0))
    first, last = (prompt.seconds(x) for x in ends)
    first = 0.9999 * first
    last = last + w.pass_s + 7.0 * most(w.behind_s, w.full_s)
    t = times(first, last, 3.0, rank)
    return crossings(t, ttft_beyond(t, w, prompt, rank))
