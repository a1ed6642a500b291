"""What the machine costs to have and to run."""

from dataclasses import dataclass

from roofrack.fields import Leaf, amount, declare, name, positive, share
from roofrack.tables import BASES, PRICES


@dataclass(frozen=True, kw_only=True)
class Economics:
    """Terms of payment and power; the hourly prices themselves belong to the machine."""

    basis: float = name("what an hour of a chip costs", BASES, "rent")
    life_years: float = positive("years over which a bought machine is paid off", "years", 5)
    interest: float = amount("yearly interest on the capital", "", 0.08, at_most=1.0)
    upkeep: float = amount("yearly cost of housing and repair over the capital", "", 0.05)
    usd_per_kwh: float = amount("price of electricity", "USD/kWh", 0.08)
    price: float = name("which of the machine's rental prices is paid", PRICES, "typical")
    utilization: float = share("share of the paid hours in use", 1.0)
    pue: float = declare(Leaf("power of the site over power of the machine", "", 1.0, at_least=1.0))
    idle_power_fraction: float = declare(
        Leaf("power of an idle chip over power under load", "", 0.3, at_least=0.0, at_most=1.0)
    )
