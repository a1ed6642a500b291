"""The fourth noun: what is asked of the model, and in which number formats."""

from dataclasses import dataclass, field

from roofrack.fields import amount, at_least_one, name, positive
from roofrack.tables import DTYPES, PHASES


@dataclass(frozen=True)
class Dtypes:
    """Number format of each kind of data, and of the maths."""

    weights: float = name("weights", DTYPES, "bf16")
    activations: float = name("activations between blocks and in all-reduces", DTYPES, "bf16")
    kv: float = name("KV cache", DTYPES, "bf16")
    math: float = name("matrix units", DTYPES, "bf16")
    dispatch: float = name("tokens on their way to the experts", DTYPES, "bf16")
    combine: float = name("tokens on their way back", DTYPES, "bf16")


@dataclass(frozen=True)
class Workload:
    """One kind of request in steady state. `phase` is static: it selects the compiled function."""

    phase: str = name("what one evaluation covers", PHASES, "decode")
    batch: float = at_least_one("sequences in one forward pass of the whole instance", "sequences")
    context: float = amount("tokens a decoding sequence attends to", "tokens")
    prompt: float = positive("prompt", "tokens")
    output: float = positive("generated tokens per request", "tokens")
    cached: float = amount("prompt tokens already in the cache", "tokens", 0)
    prefill_batch: float = at_least_one("prompts per rank and prefill pass", "sequences", 1)
    routing_skew: float = at_least_one("load of the busiest expert rank over the mean", "", 1)
    dtype: Dtypes = field()
