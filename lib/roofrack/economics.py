"""What the machine costs to have and to run."""

from dataclasses import dataclass

from roofrack.fields import Leaf, declare, name, share
from roofrack.tables import PRICES


@dataclass(frozen=True)
class Economics:
    """Terms of payment and power; the hourly prices themselves belong to the machine."""

    price: float = name("which of the machine's rental prices is paid", PRICES, "typical")
    utilization: float = share("share of the paid hours in use", 1.0)
    pue: float = declare(Leaf("power of the site over power of the machine", "", 1.0, at_least=1.0))
    idle_power_fraction: float = declare(
        Leaf("power of an idle chip over power under load", "", 0.3, at_least=0.0, at_most=1.0)
    )
