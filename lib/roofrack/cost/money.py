"""Money, energy, and the lecture's closed forms about price, batch and context. MODEL section 8."""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, least
from roofrack.nouns import Scenario
from roofrack.units import HOUR


def usd_per_s(s: Scenario, chips: Number) -> Number:
    """Return what renting `chips` costs per second, used or not."""
    hw, price = s.hardware, s.economics.price
    hourly = choose(
        price == 0,
        hw.usd_per_chip_hour_low,
        choose(price == 1, hw.usd_per_chip_hour, hw.usd_per_chip_hour_high),
    )
    return chips * hourly / HOUR


def watts(s: Scenario, chips: Number, busy_s: Number, step_s: Number) -> Number:
    """Return mean power of `chips`, site included: idle power, and the rest while busy.

    Busy is the longer of arithmetic and memory traffic. An estimate: published power traces of
    decode lie between the two ends.
    """
    activity = least(1.0, divide(busy_s, step_s))
    idle = s.economics.idle_power_fraction
    return chips * s.hardware.power_w * (idle + (1.0 - idle) * activity) * s.economics.pue


class FastMode(NamedTuple):
    """What a price and a speed imply under t = weights + per_sequence * batch.

    `batch_ratio` slow batch over fast batch; the share of the weight read in each step.
    """

    batch_ratio: Number
    weight_share_slow: Number
    weight_share_fast: Number


def fast_mode(price_ratio: Number, speed_ratio: Number) -> FastMode:
    """Return the batches behind a "fast mode" sold at `price_ratio` for `speed_ratio` the speed.

    Cost per token is t/B, so B_slow/B_fast = price * speed; with t_slow = speed * t_fast and
    r = price * speed, the weight read W is t_fast (r - speed)/(r - 1). Needs price_ratio > 1 (at 1
    the batch is not what was bought) and speed_ratio >= 1.
    """
    ratio = price_ratio * speed_ratio
    weight_fast = divide(ratio - speed_ratio, ratio - 1.0)
    return FastMode(ratio, divide(weight_fast, speed_ratio), weight_fast)


def context_knee(params_active: Number, ridge: Number, kv_bytes_per_token: Number) -> Number:
    """Return the context where reading a sequence's cache takes as long as its matmuls.

    S = 2 N_a W / (C kv), `ridge` = C/W in FLOP per byte; weight reads and the attention
    core left out.
    """
    return divide(2.0 * params_active, ridge * kv_bytes_per_token)


def recompute_hold_s(
    params_active: Number, flops_per_s: Number, kv_bytes_per_token: Number, hbm_bytes: Number
) -> Number:
    """Return how long a cache may be held in HBM before computing it again would have cost less.

    Chip time to recompute a token, 2 N_a / C, over the share of a chip that holds it, kv / M.
    """
    return divide(2.0 * params_active / flops_per_s, kv_bytes_per_token / hbm_bytes)


def drain_s(hbm_bytes: Number, hbm_bytes_per_s: Number) -> Number:
    """Return the time to read all of the memory once: the natural cadence of full chips."""
    return hbm_bytes / hbm_bytes_per_s
