"""How fast the tokens of requests come at a load: lognormal by its mean and variance."""

from typing import NamedTuple

from roofrack.arithmetic import (
    Number,
    choose,
    divide,
    exp,
    expm1,
    highest,
    least,
    log,
    log1p,
    most,
    normal_share,
    root,
    total,
)
from roofrack.cost.quantiles import crossings, strata, times
from roofrack.cost.queues import Demand, States


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
    t = exp(times(first, last, 1.0, rank))
    return crossings(t, pace_beyond(t, p, rank))
