"""Collectives and expert exchanges over one switched level. MODEL section 10.

Libraries have a protocol for small messages and one for large ones and take the faster; either is
linear in the size. Measured times are the smaller of two such lines, to 12 %; a smooth maximum adds
nothing to that (fitted, its exponent is 1). Lines are what `cost.ways` adds up over levels.
"""

from typing import Any, NamedTuple

from roofrack.arithmetic import Number, choose, divide, least, most
from roofrack.cost.roofline import smooth_max


class Line(NamedTuple):
    """One protocol: seconds = `fixed_s + sent * size / bandwidth`, all of the chip's links."""

    fixed_s: Number
    sent: Number


Lines = tuple[Line, Line]
"""The protocol for small messages, and the one for large ones."""


def all_reduce(members: Number, fit: Any, in_network: Number = 0.0) -> Lines:
    """Return the protocols of summing a buffer that each of `members` chips holds.

    Large: `2 (n-1)/n` of the buffer (reduce-scatter, all-gather: Patarasuk and Yuan 2009), or
    `(n+1)/n` where switches add up, the smaller. Small: where `direct` is set (kernels of the
    engines) every chip reads the whole buffer of all others, `n-1` of it, at once; else
    (NCCL) `low_latency` times what the large one sends, each word with its own flag.
    """
    sent = 2.0 * (members - 1.0) / members
    added = least(sent, (members + 1.0) / members)
    return _two(members, choose(in_network > 0, added, sent), fit, members - 1.0)


def all_gather(members: Number, fit: Any) -> Lines:
    """Return the protocols until each chip has the whole buffer; a reduce-scatter takes as long.

    `(n-1)/n` of the buffer, and `own` of it to copy the chip's own part.
    """
    return _two(members, (members - 1.0) / members, fit, (members - 1.0) / members)


def all_to_all(members: Number, fit: Any) -> Lines:
    """Return the protocols of sending each other chip its `1/n` of the buffer; as a gather."""
    return all_gather(members, fit)


def _two(members: Number, sent: Number, fit: Any, direct: Number) -> Lines:
    """Return both protocols: the large one waits for `staged_s` more, and sends less.

    Either waits for `launch_s`, and `step_s` for each other member. Where chips share the way
    through a host, each gets less the more there are: a `crowding` power of the pairs.
    """
    active = choose(members > 1, 1.0, 0.0)
    slower = active * most(members / 2.0, 1.0) ** fit.crowding
    sent = slower * (sent + fit.own)
    fixed = active * (fit.launch_s + fit.step_s * (members - 1.0))
    small = choose(fit.direct > 0, slower * (direct + fit.own), sent * fit.low_latency)
    return Line(fixed, small), Line(fixed + active * fit.staged_s, sent)


def seconds(lines: Lines, size_bytes: Number, bytes_per_s: Number) -> Number:
    """Return the time of the faster protocol; `bytes_per_s` is what of the links is reachable."""
    small, large = (line.fixed_s + line.sent * size_bytes / bytes_per_s for line in lines)
    return least(small, large)


class Routed(NamedTuple):
    """Tokens on their way to experts, or back, on one chip.

    `tokens` of the chip, each to `top_k` of `experts`, which `members` chips share;
    `token_bytes` of one token as sent; `sms` multiprocessors that the kernel may use, 0 for all.
    """

    tokens: Number
    top_k: Number
    experts: Number
    members: Number
    token_bytes: Number
    sms: Number = 0.0


class Exchange(NamedTuple):
    """Seconds of an exchange: what is sent, what is fixed or goes with the rows, and all of it."""

    sending: Number
    fixed: Number
    seconds: Number


def copies(routed: Routed, fit: Any) -> Number:
    """Return how many copies of a token a chip sends, the one it keeps included.

    `per_chip` set: one for each chip that holds any of the token's experts (balanced routing:
    `n (1 - (1 - 1/n)^k)`); else one for each expert (low-latency kernels of DeepEP).
    """
    n = most(routed.members, 1.0)
    missed = choose(n > 1, 1.0 - 1.0 / choose(n > 1, n, 2.0), 0.5) ** routed.top_k
    chips = choose(n > 1, n * (1.0 - missed), 1.0)
    return choose(fit.per_chip > 0, chips, routed.top_k)


def expert_exchange(routed: Routed, bytes_per_s: Number, fit: Any) -> Exchange:
    """Return the time of one dispatch or combine over links of `bytes_per_s`.

    `smooth_max(fixed, sending) + rows`: `launch_s` and `expert_s` for each expert of a chip (their
    counts are sent first) hide what is sent; each copy costs `row_s` besides. A kernel bounded to
    some multiprocessors moves at most `sm_bytes_per_s` with each.
    """
    n = most(routed.members, 1.0)
    rows = routed.tokens * copies(routed, fit)
    sent = rows * (n - 1.0) / n * routed.token_bytes
    bounded = choose(routed.sms > 0, divide(sent, routed.sms * fit.sm_bytes_per_s), 0.0)
    sending = most(sent / (bytes_per_s * fit.efficiency), bounded)
    fixed = fit.launch_s + fit.step_s * (n - 1.0) + fit.expert_s * routed.experts / n
    waiting = smooth_max(fixed, sending, fit.sharpness)
    return Exchange(sending, fixed + fit.row_s * rows, waiting + fit.row_s * rows)
