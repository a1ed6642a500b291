"""The fourth noun: what is asked of the model, and in which number formats."""

from dataclasses import dataclass, field

from roofrack.fields import Leaf, amount, at_least_one, declare, flag, name, positive, static
from roofrack.tables import (
    CACHE_TIERS,
    DTYPES,
    MASTER,
    OPTIMIZERS,
    OWN_MATH,
    OWN_OUTPUT,
    OWN_WEIGHTS,
    PHASES,
    SERVING,
)


@dataclass(frozen=True, kw_only=True)
class Dtypes:
    """Number format of each kind of data, and of the maths."""

    weights: float = name("weights", DTYPES, "bf16")
    attention: float = name("weights of the attention projections", OWN_WEIGHTS, "weights")
    attention_out: float = name("weights of the projection after it", OWN_OUTPUT, "attention")
    experts: float = name("weights of the routed experts", OWN_WEIGHTS, "weights")
    head: float = name("weights of head and embedding", OWN_WEIGHTS, "weights")
    activations: float = name("activations between blocks and in all-reduces", DTYPES, "bf16")
    kv: float = name("KV cache", DTYPES, "bf16")
    math: float = name("matrix units", DTYPES, "bf16")
    experts_math: float = name("matrix units of the routed experts", OWN_MATH, "math")
    dispatch: float = name("tokens on their way to the experts", DTYPES, "bf16")
    combine: float = name("tokens on their way back", DTYPES, "bf16")
    index: float = name("keys of a sparse-attention indexer", DTYPES, "fp8")
    gradients: float = name("gradients, added up and reduced over ranks", DTYPES, "bf16")
    master: float = name("copy of the weights that the optimiser updates", MASTER, "fp32")


@dataclass(frozen=True, kw_only=True)
class Failures:
    """What interrupts a training run, and what is saved against it."""

    chip_mtbf_s: float = amount("mean time between failures of one chip; 0 = none fail", "s", 0)
    restart_s: float = amount("time from a failure to the first step after it", "s", 600)
    checkpoint_bytes_per_s: float = positive(
        "bandwidth of one chip to where checkpoints are kept", "byte/s", 1e9
    )
    checkpoint_interval_s: float = amount(
        "time between checkpoints", "s", 0, words=(("best", 0.0),)
    )


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """What a model does after it is pre-trained (MODEL section 7)."""

    rl_tokens: float = amount("tokens of reinforcement learning", "tokens", 0, at_most=1e18)
    rl_flops: float = declare(
        Leaf(
            "FLOP for each active parameter and such a token",
            "FLOP",
            6.0,
            at_least=2.0,
            at_most=6.0,
        )
    )
    served_tokens: float = amount("tokens served", "tokens", 0, at_most=1e18)
    decode_efficiency: float = positive("utilisation of decoding over that of training", "", 0.3)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One kind of request in steady state. `phase` is static: it selects the compiled function."""

    phase: str = static("what one evaluation covers", PHASES, "decode")
    serving: float = name("where prompts and tokens are computed (serve)", SERVING, "aggregated")
    batch: float = at_least_one("sequences in one forward pass of the whole instance", "sequences")
    context: float = amount("tokens a decoding sequence attends to", "tokens")
    prompt: float = positive("prompt", "tokens")
    output: float = positive("generated tokens per request", "tokens")
    cached: float = amount("prompt tokens already in the cache", "tokens", 0)
    shared_prefix: float = amount(
        "tokens that all sequences share, held and read once", "tokens", 0
    )
    prefill_batch: float = at_least_one("prompts per rank and prefill pass", "sequences", 1)
    chunk: float = amount(
        "prompt tokens per rank in a pass beside decoding sequences; 0 = prompts in passes of "
        "their own",
        "tokens",
        0,
    )
    prefill_instances: float = amount(
        "prefill instances for each decode instance (disaggregated); 0 = as many as keep it full",
        "",
        0,
    )
    draft_tokens: float = amount("tokens drafted for each sequence and pass", "tokens", 0)
    acceptance: float = declare(
        Leaf(
            "share of drafted tokens kept, each if all before it are",
            "",
            0.8,
            at_least=0.0,
            at_most=1.0,
        )
    )
    draft_layers: float = amount("layers, like the model's own, that draft one token", "layers", 1)
    cache_tier: float = name("where cached prompt tokens wait", CACHE_TIERS, "hbm")
    hold_s: float = amount("time that cached prompt tokens wait for their next use", "s", 0)
    routing_skew: float = at_least_one("load of the busiest expert rank over the mean", "", 1)
    routing_spread: float = amount("deviation of the experts' popularity over its mean", "", 0)
    arrivals_per_s: float = amount(
        "requests arriving at all replicas together; 0 = not told", "1/s", 0, at_most=1e9
    )
    arrival_cv: float = amount(
        "deviation of the time between arrivals over its mean; 1 = Poisson", "", 1, at_most=100
    )
    prompt_cv: float = amount(
        "deviation of the prompts' lengths over their mean (lognormal)", "", 0, at_most=10
    )
    output_cv: float = amount(
        "deviation of the outputs' lengths over their mean (lognormal)", "", 0, at_most=10
    )
    wait_s: float = amount("longest that a request waits for others to join it", "s", 0)
    ttft_limit_s: float = positive(
        "longest time to first token that is good enough", "s", float("inf"), infinite=True
    )
    tpot_limit_s: float = positive(
        "longest time per output token that is good enough", "s", float("inf"), infinite=True
    )
    sequence: float = positive("tokens of a training sequence", "tokens", 4096)
    global_batch: float = at_least_one("sequences of a training step", "sequences", 256)
    tokens: float = amount("tokens to train on; 0 = not told", "tokens", 0, at_most=1e18)
    optimizer: float = name("optimiser", OPTIMIZERS, "adam")
    gradient_clipping: float = flag(
        "gradients are read for their norm, scaled, and set to zero, in passes of their own", False
    )
    dropout: float = flag("dropout: its masks are kept", False)
    mtp_layers: float = amount(
        "modules that predict further tokens, each a layer and the head again", "layers", 0
    )
    failures: Failures = field(default_factory=Failures)
    lifetime: Lifetime = field(default_factory=Lifetime)
    dtype: Dtypes = field()
