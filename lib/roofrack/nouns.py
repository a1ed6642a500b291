"""The nouns together: everything one evaluation needs, as one JAX pytree."""

from dataclasses import dataclass, field

from roofrack.calibration import Calibration
from roofrack.economics import Economics
from roofrack.fields import flag, name
from roofrack.hardware import Hardware
from roofrack.model import Model
from roofrack.plan import Plan
from roofrack.tables import OVERLAPS
from roofrack.workload import Workload


@dataclass(frozen=True)
class Cost:
    """Terms of the cost model that can be left out, to ask a source's question as it was asked."""

    attention_core: float = flag("count the FLOP of the attention core", True)
    activation_io: float = flag("count activations moved to and from memory", True)
    read_embedding: float = flag("read the whole input embedding in each pass", False)


@dataclass(frozen=True)
class Scenario:
    """A question for the cost model. Every leaf is a float or an array; all leaves broadcast.

    Names (dtypes, topologies, ...) are held as indices into `tables`, truth values as 0.0 and 1.0.
    `overlap` and `workload.phase` are static.
    """

    hardware: Hardware = field()
    model: Model = field()
    plan: Plan = field()
    workload: Workload = field()
    economics: Economics = field()
    calibration: Calibration = field()
    cost: Cost = field()
    overlap: str = name("how the parts of a pass hide behind each other", OVERLAPS, "smooth")
