"""How long requests wait and how fast their tokens come, as distributions in closed form.

The time to the first token is a mixture: who finds the instance idle waits for nothing; who comes
during a pass for the rest of it, a time spread evenly; who meets other prompts or full slots also
for a time that falls off exponentially. Prompts of lognormal length are a sum over strata of it.
The time per token is lognormal by its mean and variance. Quantiles are read off the distribution
at `POINTS` times, so that they have derivatives.
"""

import math
from typing import NamedTuple

import numpy as np

from roofrack.arithmetic import (
    Number,
    ceil,
    choose,
    constant,
    divide,
    exp,
    expm1,
    following,
    highest,
    least,
    log,
    log1p,
    most,
    normal_share,
    root,
    total,
)
from roofrack.cost.queues import Demand, States, spread

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
"""The quantiles of the result schema."""

POINTS = 65
"""Times at which a distribution is evaluated."""

_STRATA = np.array([-3.2, -2.0, -1.3, -0.8, -0.35, 0.1, 0.5, 0.9, 1.3, 1.7, 2.1, 2.6, 3.4])
"""Deviations between which lengths are taken together."""


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
    `shared_s` is spent in a pass that has a part of the prompt already.
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
        return self.mean - self.behind * self.shared_s


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


def beyond(t: Number, start: Number, width: Number, mean: Number) -> Number:
    """Return P(start + U + E > t), U even between 0 and `width`, E exponential with `mean`.

    `width` and `mean` above 0.
    """
    t = most(t - start, 0.0)
    inside = least(t, width)
    early = 1.0 - (inside + mean * expm1(-inside / mean)) / width
    late = -mean / width * exp(-most(t - width, 0.0) / mean) * expm1(-width / mean)
    return choose(t < width, early, late)


def strata(cv: Number, like: Number, rank: int) -> tuple[Number, Number, Number]:
    """Return shares of lognormal lengths of mean 1, and between which lengths they lie.

    Arrays (strata, 1, ...) for scenario leaves of `rank` axes.
    """
    shares = np.diff([math.erf(z / math.sqrt(2.0)) for z in _STRATA])
    shape = (len(shares), 1) + (1,) * rank
    deviation = spread(cv)

    def length(at: np.ndarray) -> Number:
        return exp(constant(at.reshape(shape), like) * deviation - deviation**2 / 2.0)

    of = constant((shares / shares.sum()).reshape(shape), like)
    return of, length(_STRATA[:-1]), length(_STRATA[1:])


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
    ends = (exp(z * deviation - deviation**2 / 2.0) for z in (_STRATA[0], 3.0))
    first, last = (prompt.seconds(x) for x in ends)
    first = 0.9999 * first
    last = last + w.pass_s + 7.0 * most(w.behind_s, w.full_s)
    t = _times(first, last, 3.0, rank)
    return _crossings(t, ttft_beyond(t, w, prompt, rank))


def _times(first: Number, last: Number, power: float, rank: int) -> Number:
    """Return POINTS times (POINTS, ...) between two, closer near the first."""
    place = (np.arange(POINTS) / (POINTS - 1.0)) ** power
    return first + (last - first) * constant(place.reshape(POINTS, *(1,) * rank), last)


def _crossings(t: Number, later: Number) -> dict[str, Number]:
    """Return the quantiles of what lies beyond times `t` with probability `later`."""
    depth = -log(most(later, 1e-6))
    step, rise = following(t) - t, following(depth) - depth
    rises = rise > 1e-7

    def reached(share: float) -> Number:
        wanted = -math.log1p(-share)
        within = least(most((wanted - depth) / choose(rises, rise, 1.0), 0.0), 1.0)
        return t[:1] + total(step * choose(rises, within, choose(depth < wanted, 1.0, 0.0)))

    return {name: total(reached(share)) for name, share in QUANTILES.items()}


class Pace(NamedTuple):
    """Seconds from token pass to token pass that requests see.

    `mean` over passes and `variance` of the states that they meet, `forgets` how often a request
    of mean length lives through the time in which a state is forgotten; `stall_s2` variance that
    others' prompts add in one pass; `once_s` and `once_s2` seconds (mean, variance) before a
    request's first pass; `passes` of a request and `cv` of their number.
    """

    mean: Number
    variance: Number
    forgets: Number
    stall_s2: Number
    once_s: Number
    once_s2: Number
    passes: Number
    cv: Number


def pace(d: Demand, law: States, slots: Number, left: Number) -> Pace:
    """Return the pace of requests; `left` prompts wait when a request has its first token.

    0 where prompts do not stop what decodes. Requests see more of the states that hold many.
    """
    here = law.n * law.share
    held = total(here) + law.full * slots
    steps = total(here / law.pass_s) + law.full * slots / law.full_s
    mean = held / steps
    square = (total(here * law.pass_s) + law.full * slots * law.full_s) / steps
    second = total(law.n**2 * law.share) + law.full * slots**2
    per_s = least(law.busy, 1.0 - 1e-4) * law.capacity
    prompts = per_s * d.prompt_s
    alone = 1.0 - prompts
    cv2 = d.prompt_cv**2
    once = d.prompt_s / alone
    # no more of them than there are free slots
    room = most(slots - held, 1.0)
    left = divide(left, 1.0 + left / room / alone)
    stops = choose(left > 0, 1.0, 0.0)
    return Pace(
        mean=mean,
        variance=most(square - mean**2, 0.0),
        forgets=divide(held, most(second - held**2, 1e-6 * second)),
        stall_s2=per_s * mean * d.prompt_s**2 * (1.0 + cv2) / alone**2,
        once_s=left * once - stops * prompts * mean,
        once_s2=(left + left**2) * once**2 + left * prompts * once**2 * (1.0 + cv2) / alone,
        passes=d.passes,
        cv=d.output_cv,
    )


def _lognormal(p: Pace, length: Number) -> tuple[Number, Number]:
    """Return mean and deviation of the logarithm, for requests of so many mean lengths.

    A request lives through changes of state: of noise that forgets itself at rate k, a mean over T
    has 2 (kT - 1 + e^-kT) / (kT)^2 of the variance.
    """
    passes = most(p.passes * length, 1.0)
    x = least(most(p.forgets * length, 1e-2), 50.0)
    kept = 2.0 * (x + expm1(-x)) / x**2
    mean = p.mean + p.once_s / passes
    mean = most(mean, 0.1 * p.mean)
    variance = p.variance * kept + p.stall_s2 / passes + p.once_s2 / passes**2
    deviation = most(root(log1p(variance / mean**2)), 1e-4)
    return log(mean) - deviation**2 / 2.0, deviation


def pace_mean(p: Pace, rank: int) -> Number:
    """Return the mean over requests of the seconds per pass."""
    of, short, long = strata(p.cv, p.mean, rank)
    return total(total(of * (p.mean + p.once_s / most(p.passes * (short + long) / 2.0, 1.0))))


def pace_beyond(t: Number, p: Pace, rank: int) -> Number:
    """Return the share of requests slower than `t` (times, ...) seconds per pass."""
    of, short, long = strata(p.cv, p.mean, rank)
    middle, deviation = _lognormal(p, root(short * long))
    return total(of * normal_share((middle - log(t)) / deviation))


def pace_quantiles(p: Pace, rank: int) -> dict[str, Number]:
    """Return quantiles of the seconds per pass; scenario leaves have `rank` axes."""
    _, short, long = strata(p.cv, p.mean, rank)
    middle, deviation = _lognormal(p, root(short * long))
    first = -total(highest(3.5 * deviation - middle))
    last = total(highest(middle + 3.5 * deviation))
    t = exp(_times(first, last, 1.0, rank))
    return _crossings(t, pace_beyond(t, p, rank))
