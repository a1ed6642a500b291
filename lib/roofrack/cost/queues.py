"""Queueing in closed form: how many sequences are in flight, and how long requests wait.

An instance that decodes n sequences makes a pass in tau(n); each sequence needs a number of passes,
and each prompt takes `prompt_s` of the machine from all others. So n rises with each arrival and
falls at n (1 - arrivals * prompt_s) / (passes * tau(n)): a birth-death process, processor sharing
with a rate that depends on the state, whose law depends on lengths by their mean only while
arrivals are Poisson (Cohen, Acta Informatica 12, 1979). With all slots taken it is a queue of one
server, 1 / (prompt_s + passes tau(c) / c) requests a second, whose wait is that of Poisson arrivals
and exponential work times (c_a^2 + c_s^2) / 2 (Allen and Cunneen; for one slot and Poisson arrivals
the formula of Pollaczek and Khinchine).

Arrays have the states on axes put before those of the scenario. All of it is arithmetic: sums over
states are sums over a grid of at most `STATES` of them, exact where so many hold all that have a
probability above e^-20 of the most likely one, else by the trapezoid rule of Euler and Maclaurin.
"""

from typing import NamedTuple

import numpy as np

from roofrack.arithmetic import (
    Number,
    choose,
    constant,
    divide,
    exp,
    floor,
    following,
    highest,
    least,
    log,
    log1p,
    most,
    normal_share,
    previous,
    root,
    running,
    total,
)

NODES = 20
"""Batches for which the cost model says what a pass takes; linear between them."""

STATES = 65
_NEGLIGIBLE = 20.0

PLACES = (np.arange(NODES) / (NODES - 1.0)) ** 2
"""Where between 1 and all slots the nodes are: closer where passes are short."""


class Demand(NamedTuple):
    """What one instance is asked: requests per s, their decode passes, and how both spread.

    The variation coefficients are deviation over mean: of the times between arrivals, and of
    `prompt_s` and `passes`, both lognormal. `prompt_s` is what a prompt takes from all others.
    """

    per_s: Number
    passes: Number
    prompt_s: Number
    arrival_cv: Number = 1.0
    prompt_cv: Number = 0.0
    output_cv: Number = 0.0


class Passes(NamedTuple):
    """Seconds of a decode pass: `seconds` (NODES, 1, ...) for the batches of `nodes(slots)`."""

    seconds: Number
    slots: Number

    @property
    def full_s(self) -> Number:
        """Seconds of a pass with all slots taken."""
        return total(self.at(self.slots))

    def at(self, n: Number) -> Number:
        """Return the seconds of a pass of n sequences (states or 1, ...); below one as of one."""
        s = least(most(divide(n - 1.0, self.slots - 1.0), 0.0), 1.0)
        left, right = np.roll(PLACES, 1), np.roll(PLACES, -1)
        left[0], right[-1] = -1.0, 2.0

        shape = (NODES,) + (1,) * (_rank(self.seconds) - 1)
        low, here, high = (constant(v.reshape(shape), s) for v in (left, PLACES, right))
        hat = most(least((s - low) / (here - low), (high - s) / (high - here)), 0.0)
        return total(self.seconds * hat)


def _value(x: Number) -> Number:
    return getattr(x, "value", x)


def _rank(x: Number) -> int:
    return len(np.shape(_value(x)))


def nodes(slots: Number, rank: int) -> Number:
    """Return the batches between 1 and `slots` to evaluate: (NODES, 1, ...), `rank` axes more."""
    return 1.0 + (slots - 1.0) * constant(PLACES.reshape(NODES, 1, *(1,) * rank), slots)


class States(NamedTuple):
    """How many sequences are in flight, as shares of time.

    `n` (STATES, ...) and `share`, of states below all slots; `full` share of time with all slots
    taken and `queued` mean requests that wait then; `busy` is arrivals over capacity.
    `pass_s` and `full_s`: from one token of a sequence to its next pass's, prompts of others
    included; `tau` the pass alone.
    """

    n: Number
    share: Number
    tau: Number
    pass_s: Number
    full: Number
    full_s: Number
    queued: Number
    busy: Number
    capacity: Number


def capacity(d: Demand, passes: Passes) -> Number:
    """Return the most requests per s that an instance ends, all its slots taken."""
    return 1.0 / (d.prompt_s + d.passes * passes.full_s / passes.slots)


def spread(cv: Number) -> Number:
    """Return the deviation of the logarithm of what is lognormal with this coefficient."""
    return root(log1p(cv * cv))


def inflation(d: Demand, prompts: Number) -> Number:
    """Return the variance of the number in flight over that of Poisson arrivals, each alone.

    Arrivals in bunches, and prompts that stop what runs while others come: the peakedness of a
    group of servers, 1 + (a^2 - 1) E[min(L, L')] / E[L] with lengths L (Whitt, Management Science
    50, 2004; the ratio is 1 for constant and 1/2 for exponential lengths).
    """
    alone = 1.0 - prompts
    bunched = (d.arrival_cv**2 + (prompts * d.prompt_cv) ** 2) / alone**2
    overlap = 2.0 * normal_share(-spread(d.output_cv) / 2.0**0.5)
    return most(1.0 + (bunched - 1.0) * overlap, 0.05)


def states(d: Demand, passes: Passes) -> States:
    """Return the stationary law of the number in flight."""
    slots, rate = passes.slots, capacity(d, passes)
    busy = d.per_s / rate
    steady = least(busy, 1.0 - 1e-4)  # beyond, there is no stationary law
    per_s = steady * rate
    prompts = per_s * d.prompt_s
    alone = 1.0 - prompts
    wider = inflation(d, prompts)

    def growth(n: Number, tau: Number) -> Number:
        return log(per_s * d.passes / alone * tau / most(n, 1.0)) / wider

    at_nodes = nodes(slots, _rank(passes.seconds) - 2)
    # the axis of the nodes is gone, that of the states has length 1
    low, high = (total(x) for x in _window(at_nodes, growth(at_nodes, passes.seconds), slots, 0.0))
    # twice: between two nodes there may be all that is likely, and much more
    n = _grid(low, high)
    low, high = _window(n, growth(n, passes.at(n)), slots, low)
    n = _grid(low, high)
    tau = passes.at(n)
    slope = growth(n, tau)
    rise = _summed(n, slope)
    p = exp(rise - highest(rise))
    first, last = _mask(n, 0), _mask(n, -1)
    wide = following(n) - previous(n)
    ends = (first + last) / 2.0 + most(wide**2 - 1.0, 0.0) / 12.0 * (first - last) * slope
    weight = wide / 2.0 + ends
    # with all slots taken prompts come no faster than sequences leave
    throttled = (d.passes * passes.full_s / slots / alone * rate) ** (-1.0 / wider)
    at_cap = total(p * last) * choose(n[-1] >= slots, 1.0, 0.0)
    below = p * weight - at_cap * last
    at_cap = at_cap * throttled / (1.0 - steady)
    norm = total(below) + at_cap
    full = at_cap / norm
    return States(
        n=n,
        share=below / norm,
        tau=tau,
        pass_s=tau / alone,
        full=full,
        full_s=passes.full_s + d.prompt_s * (slots - 1.0) / d.passes,
        queued=full * steady / (1.0 - steady) * _bunching(d, passes, prompts),
        busy=busy,
        capacity=rate,
    )


def _summed(n: Number, f: Number) -> Number:
    """Return the sums of f over all states up to each of `n`, by Euler and Maclaurin."""
    wide, before = n - previous(n), previous(f)
    return running(wide * (f + before) / 2.0 + least(wide, 1.0) * (f - before) / 2.0)


def _bunching(d: Demand, passes: Passes, prompts: Number) -> Number:
    """Return the wait for a slot over that of Poisson arrivals and exponential work.

    Prompts that stop all others let sequences end in bunches; `prompts`, the share of time that
    they take, is what simulations of 4 to 256 slots ask for besides (an estimate).
    """
    bunched = prompts * (1.0 - 1.0 / passes.slots)
    return (d.arrival_cv**2 + work_cv2(d, passes) + bunched) / 2.0


def work_cv2(d: Demand, passes: Passes) -> Number:
    """Return the squared variation coefficient of the work of a request, all slots taken."""
    decoding = d.passes * passes.full_s / passes.slots
    spread2 = (d.prompt_s * d.prompt_cv) ** 2 + (decoding * d.output_cv) ** 2
    return spread2 / (d.prompt_s + decoding) ** 2


def _window(n: Number, growth: Number, slots: Number, least_of: Number) -> tuple[Number, Number]:
    """Return between which of the states n all that is likely lies, given the growth there.

    `least_of` where the first of them is likely; the first axis has length 1.
    """
    rise = _summed(n, growth)
    unlikely = rise < most(highest(rise), 0.0) - _NEGLIGIBLE
    low = highest(choose(unlikely & (growth > 0), n, least_of))
    high = -highest(choose(unlikely & (growth < 0), -n, -2.0 * slots))
    return floor(low), choose(high < slots, high, slots)


def _grid(low: Number, high: Number) -> Number:
    """Return the states to sum over (STATES, ...): each one, or so many at equal distances."""
    step = most((high - low) / (STATES - 1.0), 1.0)
    count = np.arange(float(STATES)).reshape(STATES, *(1,) * (_rank(low) - 1))
    return least(low + step * constant(count, low), high)


def _mask(like: Number, place: int) -> Number:
    """Return an array with 1 at one place along the first axis, else 0."""
    found = np.zeros(STATES)
    found[place] = 1.0
    return constant(found.reshape(STATES, *(1,) * (_rank(like) - 1)), like)
