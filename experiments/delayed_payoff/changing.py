"""What would change the answer: the break-even and what the plan serves, one thing changed.

The plan and its batch stay as they are. Prices and promises are read off the same curve; what is
physical has been evaluated again (`curves`).
"""

from dataclasses import dataclass, replace

import polars as pl

from roofrack.report.format import quantity, usd

from ..common.files import PRICES, over_typical
from ..common.studies import Studies
from .curves import LEAVES, TIMES
from .measures import RATE, error_of, highest
from .rows import Facts, request_usd


@dataclass(frozen=True)
class Change:
    """The answer with something changed (`words`; empty: as it is).

    `even` requests/s at which owner and API pay the same, `most` that the plan serves within the
    promise (None: none), `low` and `high` the same with passes slower and faster by the error of a
    step; `usd_per_mtok` what a token costs at `most`.
    """

    words: str
    even: float
    most: float | None
    low: float | None
    high: float | None
    usd_per_mtok: float | None

    @property
    def pays(self) -> bool:
        """Whether the machine serves as much traffic as it takes to break even."""
        return self.most is not None and self.even <= self.most


def changes(studies: Studies, facts: Facts) -> tuple[Change, ...]:
    """Return the answer as it is, first, and with single things changed."""
    curves = facts.curves
    now, bill = curves[""], float(facts.full["usd_per_hour"])
    found = [_change("", facts, now, bill)]
    for words, factor in _prices(facts).items():
        found.append(_change(words, facts, now, bill * factor))
    bought = _bought(studies, facts)
    if bought is not None:
        found.append(_change("chips bought, not rented", facts, now, bought))
    for words, factor in (("an API at half the price", 0.5), ("an API at twice the price", 2.0)):
        wishes = facts.settings
        dearer = replace(wishes, price_input=wishes.price_input * factor,
                         price_output=wishes.price_output * factor)  # fmt: skip
        found.append(_change(words, replace(facts, settings=dearer), now, bill))
    for factor in (0.5, TIMES):
        limit = facts.settings.tpot_limit_s * factor
        other = replace(facts, settings=replace(facts.settings, tpot_limit_s=limit))
        found.append(_change(f"a token promised within {quantity(limit, 's')}", other, now, bill))
    found += [_change(words, facts, curve, bill) for words, curve in curves.items() if words]
    return tuple(found)


def _change(words: str, facts: Facts, curve: pl.DataFrame, usd_per_hour: float) -> Change:
    wishes, error = facts.settings, error_of(facts.full)
    row = curve.row(0, named=True)
    asked = request_usd(wishes, row["prompt"], row["output"])
    most = highest(curve, wishes.limits)
    return Change(
        words=words,
        even=usd_per_hour / 3600.0 / asked,
        most=most,
        low=highest(curve, wishes.limits, 1 + error),
        high=highest(curve, wishes.limits, 1 - error),
        usd_per_mtok=None if most is None else usd_per_hour / 3600 / (most * row["output"]) * 1e6,
    )


def _prices(facts: Facts) -> dict[str, float]:
    """Return the other dated prices of a chip over the run's, in words; none if chips are owned."""
    economics, hardware = facts.config["economics"], facts.config["hardware"]
    if economics.get("basis", "rent") != "rent" or not hardware[PRICES["typical"]]:
        return {}
    now = over_typical(hardware, str(economics["price"]))
    words = {"low": "lowest", "typical": "typical", "high": "highest"}
    found = {}
    for price, word in words.items():
        ratio = over_typical(hardware, price) / now
        if abs(ratio - 1.0) > 1e-6:
            each = usd(facts.full["usd_per_chip_hour"] * ratio)
            found[f"chips at {each} an hour, the {word} price published"] = ratio
    return found


def _bought(studies: Studies, facts: Facts) -> float | None:
    """Return what the own plan costs an hour if chips are bought; None where that is not known."""
    if facts.config["economics"].get("basis") == "own" or not facts.config["hardware"].get(
        "capex_usd"
    ):
        return None
    kept = [w for w in facts.same if not w.startswith(("economics=", "economics."))]
    rows = studies.rows("chips bought", *kept, f"{LEAVES[RATE]}=1", "economics=own", job=facts.job)
    return float(rows["usd_per_hour"][0])
