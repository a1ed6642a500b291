"""Money, energy, and the lecture's closed forms about price, batch and context. MODEL section 8."""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, expm1, least, log1p
from roofrack.hardware import Tier
from roofrack.nouns import Scenario
from roofrack.units import HOUR, KILOWATT_HOUR, YEAR


def usd_per_s(s: Scenario, chips: Number) -> Number:
    """Return what `chips` cost per second, used or not: rent, or what owning them costs."""
    return chips * choose(s.economics.basis > 0, owning_usd_per_s(s), renting_usd_per_s(s))


def renting_usd_per_s(s: Scenario) -> Number:
    """Return the rent of one chip per second."""
    hw, price = s.hardware, s.economics.price
    hourly = choose(
        price == 0,
        hw.usd_per_chip_hour_low,
        choose(price == 1, hw.usd_per_chip_hour, hw.usd_per_chip_hour_high),
    )
    return hourly / HOUR


def owning_usd_per_s(s: Scenario) -> Number:
    """Return what a bought chip costs per second: capital, upkeep, and the power it draws.

    Capital is paid off in equal yearly parts with interest r over n years: r / (1 - (1+r)^-n) of
    it a year (1/n without interest); power is that under load, site included (`pue`).
    """
    e, hw = s.economics, s.hardware
    grown = log1p(e.interest) * e.life_years
    free = e.interest <= 0
    paid = choose(free, 1.0 / e.life_years, divide(e.interest, -expm1(-choose(free, 1.0, grown))))
    capital = hw.capex_usd * (paid + e.upkeep) / YEAR
    return capital + hw.power_w * e.pue * e.usd_per_kwh / KILOWATT_HOUR


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


def tiers(s: Scenario) -> dict[str, Tier]:
    """Return the memories that a cache can wait in; HBM at the price of the chip."""
    hw = s.hardware
    chip = usd_per_s(s, 1.0) * HOUR
    hbm = Tier(bytes=hw.hbm_bytes, bytes_per_s=hw.hbm_bytes_per_s, usd_per_hour=chip)
    return {"hbm": hbm, "host": hw.tiers.host, "flash": hw.tiers.flash}


def tier(s: Scenario) -> Tier:
    """Return the memory of `workload.cache_tier`."""
    where = s.workload.cache_tier
    hbm, host, flash = (vars(of) for of in tiers(s).values())
    return Tier(
        **{n: choose(where == 0, hbm[n], choose(where == 1, host[n], flash[n])) for n in hbm}
    )


def hold_usd(tier: Tier, kv_bytes: Number, seconds: Number) -> Number:
    """Return what it costs to keep `kv_bytes` for some time: their share of the tier's price."""
    return tier.usd_per_hour / HOUR * divide(kv_bytes, tier.bytes) * seconds


def retrieve_usd(tier: Tier, kv_bytes: Number) -> Number:
    """Return what it costs to fetch `kv_bytes`: the tier for as long as its bandwidth is taken.

    The sum of both, price * (kv/M T + kv/W), is least in the tier where M/W is near T.
    """
    return tier.usd_per_hour / HOUR * divide(kv_bytes, tier.bytes_per_s)


def break_even_s(tier: Tier, kv_bytes: Number, recompute_usd: Number) -> Number:
    """Return how long a token's cache may wait before computing it again would have cost less.

    0 where fetching alone costs more; infinite where waiting is free.
    """
    left = recompute_usd - retrieve_usd(tier, kv_bytes)
    per_second = hold_usd(tier, kv_bytes, 1.0)
    return choose(left > 0, divide(left, per_second, float("inf")), 0.0)


def drain_s(hbm_bytes: Number, hbm_bytes_per_s: Number) -> Number:
    """Return the time to read all of the memory once: the natural cadence of full chips."""
    return hbm_bytes / hbm_bytes_per_s
