"""The nouns together: everything one evaluation needs, as one JAX pytree."""

from dataclasses import dataclass, field

from roofrack.calibration import Calibration
from roofrack.economics import Economics
from roofrack.fields import flag, static
from roofrack.hardware import Hardware
from roofrack.model import Model
from roofrack.plan import Plan
from roofrack.tables import OVERLAPS
from roofrack.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Terms of the cost model that can be left out, to ask a source's question as it was asked."""

    attention_core: float = flag("count the FLOP of the attention core", True)
    activation_io: float = flag("count activations moved to and from memory", True)
    routing_noise: float = flag("tokens reach experts at random, not in equal numbers", False)
    read_embedding: float = flag("read the whole input embedding in each pass", False)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Machines that do a part of the work; None = of the same kind, divided in the same way."""

    hardware: Hardware | None = None
    plan: Plan | None = None
    calibration: Calibration | None = None


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What drafts tokens for the model to check; None = `draft_layers` like the model's own."""

    model: Model | None = None


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A question for the cost model. Every leaf is a float or an array; all leaves broadcast.

    Names (dtypes, topologies, ...) are held as indices into `tables`, truth values as 0.0 and 1.0.
    `overlap`, `workload.phase` and `features` are static. `prefill` and `ffn` are the pools of
    disaggregated serving and `draft` what drafts tokens; None where no point of the scenario has
    such a part: it is then not computed at all. So are `features` (`tables.FEATURES`) that are not
    named.
    """

    hardware: Hardware = field()
    model: Model = field()
    plan: Plan = field()
    workload: Workload = field()
    economics: Economics = field()
    calibration: Calibration = field()
    cost: Cost = field()
    prefill: Pool | None = None
    ffn: Pool | None = None
    draft: Draft | None = None
    features: tuple[str, ...] = ()
    overlap: str = static("how the parts of a pass hide behind each other", OVERLAPS, "smooth")
