"""The columns of a result: name, unit, meaning. A contract: renaming one breaks users."""

from typing import NamedTuple

from roofrack.cost.forward import BLOCKS, COLLECTIVES, Parts
from roofrack.hardware import DEPTH
from roofrack.tables import CACHE_TIERS

VERSION = "1"
"""Of the schema; raised when a column is renamed or changes its meaning."""


class Column(NamedTuple):
    """What one column holds."""

    unit: str
    doc: str


PARTS = tuple(Parts._fields)
"""The resources of a step, and the values of `bound`."""

_PART_DOC = {
    "compute": "arithmetic",
    "weights": "reading weights",
    "kv": "reading the KV cache",
    "activation": "moving activations to and from memory",
    "scale_up": "collectives inside the rack",
    "scale_out": "collectives between racks",
    "pipeline": "hops between pipeline stages",
    "overhead": "kernel launches and fixed costs",
}

INPUTS = {
    "hardware": Column("", "machine, by its name in conf/hardware"),
    "model": Column("", "model, by its name in conf/model"),
    "parallelism": Column("", "plan, by its name in conf/parallelism; leaves may be set besides"),
    "workload": Column("", "workload, by its name in conf/workload; likewise"),
    "dtype": Column("", "number formats, by their name in conf/dtype; likewise"),
    "economics": Column("", "terms of payment, by their name in conf/economics; likewise"),
    "calibration": Column("", "losses assumed, by their name in conf/calibration; likewise"),
    "prefill_hardware": Column("", "machine that prefills, where it is another"),
    "prefill_parallelism": Column("", "its plan, where it is another"),
    "prefill_calibration": Column("", "its losses, where they are others"),
    "ffn_hardware": Column("", "machine of the FFNs, where it is another"),
    "ffn_parallelism": Column("", "its plan, where it is another"),
    "ffn_calibration": Column("", "its losses, where they are others"),
    "draft_model": Column("", "model that drafts tokens, where it is another"),
    "overlap": Column("", "how the parts of a step hide behind each other"),
    "phase": Column("", "decode, prefill, serve or train"),
    "chips": Column("chips", "chips of all replicas"),
    "racks": Column("racks", "scale-up domains that one instance spans"),
}

RESULTS = {
    "step_s": Column("s", "time of one step: a pass; for serve with its share of prefill"),
    "step_lower_s": Column("s", "step if everything that can hide is hidden"),
    "step_upper_s": Column("s", "step if nothing is hidden: the sum of all parts"),
    "ttft_s": Column("s", "time to first token, waiting not counted"),
    "tpot_s": Column("s", "time per output token of one sequence"),
    **{f"t_{part}_s": Column("s", f"{_PART_DOC[part]}, alone") for part in PARTS},
    "bound": Column("", "what binds: the longest resource; of memory traffic, its largest part"),
    **{f"block_{b}_s": Column("s", f"{b.replace('_', ' ')}: roofline time") for b in BLOCKS},
    "tokens_per_s": Column("token/s", "tokens that the phase produces, all replicas"),
    "tokens_per_s_per_chip": Column("token/s", "the same for one chip"),
    "tokens_per_s_per_user": Column("token/s", "speed that one sequence sees"),
    "mfu": Column("", "useful FLOP over peak"),
    "hfu": Column("", "executed FLOP over peak, recomputation included"),
    "mbu": Column("", "bytes of weights and cache read over peak"),
    "mem_weights_bytes": Column("byte", "weights on the fullest chip"),
    "mem_kv_bytes": Column("byte", "KV cache on the fullest chip"),
    "mem_activation_bytes": Column("byte", "working buffers on the fullest chip"),
    "mem_optimizer_bytes": Column("byte", "optimiser state on the fullest chip"),
    "mem_total_bytes": Column("byte", "all memory on the fullest chip"),
    "mem_capacity_bytes": Column("byte", "usable memory of a chip"),
    "fits": Column("", "total within capacity"),
    "valid": Column("", "the plan can run"),
    "why_invalid": Column("", "why it cannot"),
    "usd_per_mtok": Column("USD/Mtoken", "cost per million tokens that the phase produces"),
    "usd_per_mtok_input": Column(
        "USD/Mtoken", "of a prompt token computed, cached ones paid apart"
    ),
    "usd_per_mtok_cached": Column(
        "USD/Mtoken", "of a cached prompt token: attended to, kept, fetched"
    ),
    "usd_per_mtok_output": Column("USD/Mtoken", "of a generated token, prefill left out"),
    "usd_per_hour": Column("USD/h", "rent of all replicas, used or not"),
    "joule_per_token": Column("J", "energy per token, site included"),
    "usd_per_chip_hour": Column("USD/h", "what an hour of a chip costs: rented, or owned"),
    "context_knee_tokens": Column("tokens", "context where KV reads take as long as matmuls"),
    "context_share": Column("", "tokens held per sequence over the model's longest context"),
    "hbm_drain_s": Column("s", "time to read the whole memory once"),
    **{
        f"break_even_{t}_s": Column("s", f"wait in {t} that costs as much as computing again")
        for t in CACHE_TIERS
    },
    "tokens_per_pass": Column("tokens", "that a sequence gains per pass"),
    "draft_s": Column("s", "time of drafting for one pass"),
    "prefill_share": Column("", "prefill passes per decode pass"),
    "prefill_instances": Column("", "prefill instances per decode instance; 0 = none apart"),
    "chips_prefill": Column("chips", "of all prefill instances"),
    "chips_ffn": Column("chips", "of the FFN pool"),
    "kv_transfer_s": Column("s", "a prompt's cache on its way from prefill to decode chips"),
    "retrieve_s": Column("s", "cached tokens on their way from the tier they waited in"),
    **{
        f"{what}_{q}_s": Column("s", f"{doc} that {share} of requests do not exceed, at the load")
        for what, doc in {
            "ttft": "time to first token, waits included",
            "tpot": "time per output token",
        }.items()
        for q, share in {"p50": "50 %", "p95": "95 %", "p99": "99 %"}.items()
    },
    "queue_s": Column("s", "mean wait of a request before its prompt is computed"),
    "utilization": Column("", "arrivals over the most that can be served; from 1 on queues grow"),
    "capacity_per_s": Column("1/s", "most requests served, all replicas, all slots taken"),
    "slots_at_load": Column("sequences", "that the batch and the memory for caches allow at once"),
    "batch_at_load": Column("sequences", "mean in flight in an instance while any is"),
    "usd_per_mtok_at_load": Column("USD/Mtoken", "of a generated token, idle time paid for too"),
    "train_s": Column(
        "s", "between two passes of a sequence at the load, others' prompts included"
    ),
    "train_wait_s": Column("s", "mean wait for the next pass of who comes during one"),
    "train_worst_s": Column("s", "a full pass just missed, and the ride in the next"),
    "fill_per_s": Column("1/s", "arrivals that fill workload.batch, all replicas"),
    "params_total": Column("parameters", "parameters, norms and biases left out"),
    "params_active": Column("parameters", "used per token, head in, input embedding out"),
    "params_attention": Column("parameters", "of all attention layers"),
    "params_router": Column("parameters", "of all routers"),
    "kv_bytes_per_token": Column("byte/token", "KV cache of one token in all layers"),
    "state_bytes": Column("byte", "that the linear layers keep of a sequence"),
    "attention_flops_per_context_token": Column("FLOP", "decode core per token attended to"),
    "sparsity": Column("", "experts over experts per token"),
    "critical_batch": Column("tokens", "tokens in a pass where FLOP time equals weight-read time"),
    "critical_batch_attention": Column("tokens", "the same for the attention projections"),
    "critical_batch_dense": Column("tokens", "the same for dense FFN and head"),
    "critical_batch_experts": Column("tokens", "the same for the routed experts"),
    "critical_batch_shared": Column("tokens", "the same for the shared experts"),
    "experts_touched": Column("experts", "distinct routed experts read in a layer"),
    "scale_out_fraction": Column("", "share of expert traffic that leaves the rack"),
    "domains_touched": Column("racks", "racks a token's experts lie in, its own included"),
    "copies_leaving": Column("copies", "copies of a token that leave the rack, per layer"),
    "dispatch_bytes": Column("byte", "sent by a chip to experts in a layer, kept home included"),
    "combine_bytes": Column("byte", "sent back in a layer"),
    "expert_skew": Column("", "load of the busiest expert rank over the mean"),
    "bubble_fraction": Column("", "share of a step's passes that is bubble; 0 in inference"),
    "step_s_rel_std": Column("", "relative standard error of step_s; null until calibrated"),
    **{
        f"traffic_{kind}_{level}_bytes": Column(
            "byte", f"that a chip sends in a step for {kind}, on fabric level {level}"
        )
        for kind in COLLECTIVES
        for level in range(1, DEPTH + 1)
    },
    "microbatches": Column("", "micro-batches of a training step, on each rank"),
    "microbatch": Column("sequences", "sequences of a micro-batch, on each rank"),
    "passes_s": Column("s", "forward and backward passes of the slowest stage, all micro-batches"),
    "bubble_s": Column("s", "time that stages wait while a pipeline fills and drains"),
    "optimizer_s": Column("s", "update of the weights"),
    **{
        f"exposed_{kind}_s": Column("s", f"of a step, waited for {doc}")
        for kind, doc in {
            "tp": "tensor parallelism",
            "cp": "context parallelism",
            "ep": "exchanges of experts",
            "pp": "hops between stages, but for those of a filling pipeline",
            "dp": "gradients and weights of other ranks",
            "offload": "the host's memory",
        }.items()
    },
    "offload_bytes_per_s": Column("byte/s", "bandwidth to the host that would hide its traffic"),
    "model_flops_per_token": Column("FLOP", "of training on a token, causal, nothing twice"),
    "mfu_non_causal": Column("", "mfu with attention to all tokens counted, masked ones too"),
    "hfu_non_causal": Column("", "hfu with attention to all tokens counted, masked ones too"),
    "mem_gradient_bytes": Column("byte", "gradients on the fullest chip"),
    "mem_buffer_bytes": Column(
        "byte", "working buffers in training, where activations are what is kept"
    ),
    "mem_fullest_stage": Column("", "pipeline stage of the fullest chip, from 0"),
    **{
        f"traffic_dp_{level}_bytes": Column(
            "byte", f"that a chip sends in a step for dp, on fabric level {level}"
        )
        for level in range(1, DEPTH + 1)
    },
    "goodput": Column(
        "", "share of time that failures leave (train), of requests within both limits (at a load)"
    ),
    "checkpoint_bytes": Column("byte", "size of a checkpoint"),
    "checkpoint_s": Column("s", "time to write a checkpoint"),
    "checkpoint_interval_s": Column("s", "work between two checkpoints"),
    "train_days": Column("days", "time to train on all tokens, failures included"),
    "usd_train": Column("USD", "cost of that"),
    "overtraining": Column("", "tokens trained on over 20 for each active parameter"),
    "lifetime_flops": Column("FLOP", "pre-training, reinforcement learning and serving together"),
    "lifetime_rl_flops": Column("FLOP", "of reinforcement learning, as if trained"),
    "lifetime_serve_flops": Column("FLOP", "of serving, as if trained"),
    "usd_lifetime": Column("USD", "cost of the model's whole life, at that of training"),
}

COLUMNS = INPUTS | RESULTS
"""Every column that does not depend on the sweep, in order."""

KEPT_WHEN_INVALID = ("chips", "racks", "valid", "why_invalid")
"""Columns that still mean something for a plan that cannot run; all others are null there."""
