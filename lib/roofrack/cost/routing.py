"""The experts' all-to-all: where the copies of a token go, and how evenly. MODEL section 4."""

from typing import NamedTuple

from roofrack.arithmetic import (
    Number,
    choose,
    divide,
    expm1,
    least,
    log1p,
    most,
    normal_quantile,
    normal_share,
    root,
)
from roofrack.cost.collectives import Transfer
from roofrack.cost.fabric import Wire, Wires, link


class Routing(NamedTuple):
    """Where the copies of one token go when it visits `k` experts spread over a group.

    `copies` sent on each level per token; `domains` of the innermost level that a token touches,
    its own included; `leaving` copies that leave the innermost level over copies needed, those for
    experts at home included.
    """

    copies: list[Number]
    domains: Number
    leaving: Number


def route(laid: Wires, k: Number, fan_out: Number, node_limit: Number, dedup: Number) -> Routing:
    """Count the copies of a token by level under uniform routing to `k` places of `fan_out` chips.

    Without de-duplication k/g of the copies stay home; the innermost level carries those for its
    own chips, every other one all that leave the domain below it. With de-duplication a token sends
    one copy to each remote domain that holds any of its experts (M(1-(1-1/M)^k) touched, M the
    domains or the node limit) and the rest is forwarded inside.
    """
    size = laid[-1].reach
    inner = laid[0].reach
    domains = size / inner
    reachable = choose(node_limit > 0, least(domains, node_limit), domains)
    # (1-1/M)^k through log1p: exact for many domains; one domain is touched once
    one = reachable <= 1.0
    log_miss = log1p(-1.0 / choose(one, 2.0, reachable))
    touched = choose(one, 1.0, -reachable * expm1(k * log_miss))
    forwarded = k * fan_out * (1.0 - 1.0 / inner)
    plain = k * fan_out * (inner - 1.0) / size
    copies = [choose((dedup > 0) & (domains > 1.0), forwarded, plain)]
    sent = choose(dedup > 0, touched, k * fan_out)
    for below in laid[:-1]:
        copies.append(sent * (size - below.reach) / size)
    out = copies[1] if len(copies) > 1 else 0.0
    return Routing(copies, touched, divide(out, k * fan_out))


class Exchanged(NamedTuple):
    """An all-to-all: its transfer by level, each level alone, and the longest: they run at once."""

    transfer: Transfer
    longest: Number


def all_to_all(
    laid: Wires,
    routing: Routing,
    token_bytes: Number,
    tokens: Number,
    kinds: tuple[str, ...] = ("all_to_all",),
    experts: Number = 0.0,
) -> Exchanged:
    """Return the transfer of sending each of a chip's `tokens` to its experts' chips.

    `kinds` are the fields of Links that say how fast; the fastest on each level counts, as engines
    have several kernels. `experts` are those of one chip, whose counts are sent first. Levels run
    at once: the exchange takes the longest of them. On a torus every copy travels several hops, so
    links carry that many times more.
    """
    seconds: list[Number] = []
    sent: list[Number] = []
    longest: Number = 0.0
    for wire, copies in zip(laid, routing.copies, strict=True):
        rows = choose(wire.active, tokens * copies, 0.0)
        time = _exchange_s(wire, kinds[0], rows, token_bytes, experts)
        for kind in kinds[1:]:
            time = least(time, _exchange_s(wire, kind, rows, token_bytes, experts))
        seconds.append(time)
        sent.append(rows * token_bytes)
        longest = most(longest, time)
    return Exchanged(Transfer(seconds, sent), longest)


def _exchange_s(
    wire: Wire, kind: str, rows: Number, token_bytes: Number, experts: Number
) -> Number:
    """Return the seconds of sending `rows` copies over one level by one kind of kernel."""
    via = link(wire, kind)
    fixed = wire.exchange_steps * wire.latency_s + via.launch_s + via.expert_s * experts
    sending = rows * token_bytes * wire.load / via.bytes_per_s
    large, small = sending + via.staged_s, sending * via.low_latency
    return fixed + rows * via.row_s + choose(via.low_latency > 0, least(large, small), large)


class Unevenness(NamedTuple):
    """How unevenly experts are dealt to ranks, whatever the tokens of a pass.

    `dealt` squared deviation over mean of the ranks' loads; `above` deviations that the busiest of
    them lies above the mean.
    """

    dealt: Number
    above: Number


def unevenness(experts: Number, redundant: Number, ranks: Number, spread: Number) -> Unevenness:
    """Return how unevenly popular experts load `ranks` expert ranks.

    Popularity of experts is lognormal with mean 1 and deviation `spread`; the `redundant` busiest
    have a second copy and halve their load; slots are dealt to ranks at random. The busiest of n
    normal numbers lies z(n) deviations above the mean, z after Blom (1958).
    """
    slots = experts + redundant
    each = divide(slots, ranks, 1.0)
    uneven = _slot_variance(spread, divide(redundant, experts))
    dealt = divide(uneven, each) * divide(slots - each, slots - 1.0)
    return Unevenness(dealt, normal_quantile((ranks - 0.375) / (ranks + 0.25)))


def expected_skew(
    of: Unevenness, experts: Number, per_token: Number, ranks: Number, tokens: Number, noise: Number
) -> Number:
    """Return the expected load of the busiest of `ranks` expert ranks over the mean.

    Popularity has a long tail: the busiest of lognormal loads with the variance of the ranks'.
    With `noise` also the counts of `tokens` that each choose `per_token` different experts vary
    (hypergeometric, nearly normal); independent excesses add as squares. An approximation: within a
    sixth of the excess of what is drawn at random, up to a spread of 2.
    """
    counted = divide((ranks - 1.0) * (experts - per_token), (experts - 1.0) * tokens * per_token)
    sigma = log1p(of.dealt)
    popular = expm1(of.above * root(sigma) - sigma / 2.0)
    chance = of.above * of.above * choose(noise > 0, counted, 0.0)
    # nobody has more than everything, nor a place for it without experts
    busiest = least(1.0 + root(popular * popular + chance), most(ranks, 1.0))
    return choose(experts > 0, busiest, 1.0)


def _slot_variance(spread: Number, copied: Number) -> Number:
    """Return the squared deviation over mean of slots' loads when the busiest share is copied.

    Partial moments of a lognormal X with mean 1: E[X^2; X > q] = e^(s^2) Phi(2s - z), z the
    deviation of the quantile q. A copied expert makes two slots of half its load.
    """
    square = log1p(spread * spread)  # s^2
    some = (copied > 0) & (copied < 1.0)
    z = -normal_quantile(choose(some, copied, 0.5))
    above = choose(some, normal_share(2.0 * root(square) - z), choose(copied > 0, 1.0, 0.0))
    second = (1.0 + spread * spread) * (1.0 - above / 2.0)
    # slots per expert 1 + copied: their mean is the inverse, their number divides the moment
    return most(second * (1.0 + copied) - 1.0, 0.0)
