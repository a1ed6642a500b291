"""From a training scenario to the result columns: those of every phase, and those of training."""

from roofrack.arithmetic import Number, choose, divide, most, root
from roofrack.cost import money
from roofrack.cost.collectives import repeated, together
from roofrack.cost.forward import BLOCKS, COLLECTIVES
from roofrack.cost.layout import why_invalid
from roofrack.cost.serving import NONE
from roofrack.cost.site import site
from roofrack.cost.structure import bound, racks, structure, waiting
from roofrack.cost.training.exchanges import seconds
from roofrack.cost.training.flops import Flops, flops
from roofrack.cost.training.memory import Memory, fullest, memory
from roofrack.cost.training.optimizer import kept
from roofrack.cost.training.pace import Setting, setting
from roofrack.cost.training.ranks import all_updates
from roofrack.cost.training.readings import exposed, recomputed
from roofrack.cost.training.run import CHINCHILLA, DAY, goodput, lifetime
from roofrack.cost.training.step import Step, computed, step
from roofrack.hardware import DEPTH
from roofrack.nouns import Scenario
from roofrack.units import HOUR, MILLION

COLUMNS = (
    "microbatches", "microbatch", "passes_s", "bubble_s", "optimizer_s",
    *(f"exposed_{kind}_s" for kind in (*COLLECTIVES, "dp", "offload")),
    "offload_bytes_per_s", "model_flops_per_token", "mfu_non_causal", "hfu_non_causal",
    "mem_gradient_bytes", "mem_buffer_bytes", "mem_fullest_stage",
    *(f"traffic_dp_{level}_bytes" for level in range(1, DEPTH + 1)),
    "goodput", "checkpoint_bytes", "checkpoint_s", "checkpoint_interval_s",
    "train_days", "usd_train", "overtraining", "lifetime_flops", "lifetime_rl_flops",
    "lifetime_serve_flops", "usd_lifetime",
)  # fmt: skip
"""Columns that only training has."""

UNTRAINED = {name: 0.0 if name.startswith("traffic_") else NONE for name in COLUMNS}
"""What they are in inference."""


def estimate(s: Scenario) -> dict[str, Number]:
    """Return every column of the result schema for a training step; pure, and traceable."""
    at = site(s)
    of = setting(at)
    found = step(of)
    chips, tokens = at.plan.chips, s.workload.global_batch * s.workload.sequence
    useful = flops(at, of.p, of.m, of.full_layers)
    return (
        {"chips": chips, "racks": racks(at)}
        | _absent()
        | times(of, found)
        | rates(of, found, useful, tokens)
        | residents(of)
        | dollars(of, found, tokens)
        | structure(at, of.mine, of.exchange)
        | {"bubble_fraction": found.passes.bubble / found.passes.total}
        | {"context_share": divide(s.workload.sequence, s.model.max_context, NONE)}
        | traffic(of, found)
        | run(of, found, tokens)
        | {"why_invalid": why_invalid(s, at.plan, at.formats.least_peak)}
    )


def _absent() -> dict[str, Number]:
    """Return the columns that only inference has."""
    return dict.fromkeys(
        (
            "ttft_s", "tpot_s", "tokens_per_s_per_user", "usd_per_mtok_input",
            "usd_per_mtok_cached", "usd_per_mtok_output", "tokens_per_pass", "draft_s",
            "prefill_share", "kv_transfer_s", "retrieve_s",
        ),
        NONE,
    ) | dict.fromkeys(("prefill_instances", "chips_prefill", "chips_ffn"), 0.0)  # fmt: skip


def times(of: Setting, found: Step) -> dict[str, Number]:
    """Return the columns of time."""
    parts = {f"t_{name}_s": value for name, value in found.parts._asdict().items()}
    overlap, load = of.at.s.overlap, found.load
    waits = exposed(of.at, overlap, load.stage, load.body, of.full_layers)
    count = len(BLOCKS)
    blocks, errors = found.shares[:count], found.shares[count:]
    cal, t = of.at.s.calibration, computed(of, load)
    # blocks and exchanges one after the other; a class is wrong by one factor, in the bubble too
    sent = found.parts.scale_up + found.parts.scale_out
    squares = sum((of.m * error) ** 2 for error in errors) + (sent * cal.link_rel_std) ** 2
    serial = of.m * (t.busy + t.launch) + sent
    whole = root(squares / serial**2 + cal.step_rel_std**2)
    return {
        "step_s": found.estimate,
        "step_lower_s": found.lower,
        "step_upper_s": found.upper,
        **parts,
        "bound": bound(found.parts),
        **{f"block_{n}_s": of.m * v for n, v in zip(BLOCKS, blocks, strict=True)},
        "microbatches": of.m,
        "microbatch": of.at.plan.microbatch / of.at.plan.dp,
        "passes_s": found.passes.busy,
        "bubble_s": found.passes.bubble,
        "optimizer_s": found.ends.update,
        **{f"exposed_{kind}_s": of.m * value for kind, value in waits.items()},
        "exposed_pp_s": found.passes.hops,
        "exposed_dp_s": found.ends.ranks_s + seconds(found.ends.tied),
        "exposed_offload_s": found.ends.host_s,
        "offload_bytes_per_s": most(found.ends.host.out_bytes, found.ends.host.in_bytes)
        / found.passes.total,
        "step_s_rel_std": choose(whole > 0, whole, NONE),
    }


def rates(of: Setting, found: Step, useful: Flops, tokens: Number) -> dict[str, Number]:
    """Return the columns of throughput and utilisation, in both conventions of attention.

    Weights are read forward, for the gradients of inputs, and where they are computed again.
    """
    at = of.at
    again, _ = recomputed(at, of.full_layers)
    has = fullest(at, of.stages, of.ranks)
    read = of.m * (2.0 + again) * sum(has.weight_bytes) / at.s.hardware.hbm_bytes_per_s
    peak = at.plan.chips * at.formats.peak * found.estimate
    return {
        "tokens_per_s": tokens / found.estimate,
        "tokens_per_s_per_chip": tokens / found.estimate / at.plan.chips,
        "mbu": read / found.estimate,
        "mfu": divide(useful.model, peak),
        "hfu": divide(useful.executed, peak),
        "mfu_non_causal": divide(useful.model_full, peak),
        "hfu_non_causal": divide(useful.executed_full, peak),
        "model_flops_per_token": useful.model / tokens,
    }


def residents(of: Setting) -> dict[str, Number]:
    """Return the columns of memory, all of the fullest chip."""
    s = of.at.s
    m: Memory = memory(of.at, of.mine, of.stages, of.ranks, of.full_layers, of.exchange)
    capacity = s.hardware.hbm_bytes * s.calibration.hbm_usable
    return {
        "mem_weights_bytes": m.weights,
        "mem_kv_bytes": 0.0,
        "mem_activation_bytes": m.activation,
        "mem_optimizer_bytes": m.optimizer,
        "mem_gradient_bytes": m.gradients,
        "mem_buffer_bytes": m.buffers,
        "mem_fullest_stage": m.stage,
        "mem_total_bytes": m.total,
        "mem_capacity_bytes": capacity,
        "fits": m.total <= capacity,
    }


def dollars(of: Setting, found: Step, tokens: Number) -> dict[str, Number]:
    """Return the columns of money and energy of a step."""
    s, chips, t = of.at.s, of.at.plan.chips, found.parts
    rent = money.usd_per_s(s, chips)
    busy = most(t.compute, t.weights + t.kv + t.activation)
    power = money.watts(s, chips, busy, found.estimate)
    return {
        "usd_per_mtok": rent / s.economics.utilization * found.estimate / tokens * MILLION,
        "usd_per_hour": rent * HOUR,
        "usd_per_chip_hour": money.usd_per_s(s, 1.0) * HOUR,
        "joule_per_token": power * found.estimate / tokens,
        **waiting(of.at),
    }


def traffic(of: Setting, found: Step) -> dict[str, Number]:
    """Return bytes that a chip of the slowest stage sends in a step, by cause and by level.

    Of hops between stages it sends one forward and one backward for each micro-batch.
    """
    sent = {kind: repeated(moved, of.m) for kind, moved in found.moved.items()}
    sent["pp"] = repeated(found.hop, 2.0 * of.m * found.messages)
    sent["dp"] = together(all_updates(found.ends.moved), found.ends.tied)
    return {
        f"traffic_{kind}_{level}_bytes": size
        for kind, moved in sent.items()
        for level, size in enumerate(moved.sent_bytes, 1)
    }


def run(of: Setting, found: Step, tokens: Number) -> dict[str, Number]:
    """Return the columns of a whole run, and of the life of its model.

    A checkpoint holds what the optimiser keeps, once; and the weights where it has no copy of them.
    """
    s, counts, plan = of.at.s, of.at.counts, of.at.plan
    each = kept(of.at)
    weights = choose(each.master > 0, 0.0, of.at.formats.weights.bytes)
    saved = counts.total * (each.layers + weights)
    left = goodput(s, plan.chips, saved)
    trained = s.workload.tokens > 0
    days = s.workload.tokens / tokens * found.estimate / left.share / DAY
    rent = money.usd_per_s(s, plan.chips) / s.economics.utilization
    usd = days * DAY * rent
    life = lifetime(s, counts.active)
    each_flop = divide(usd, life.pretrain)
    return {
        "goodput": left.share,
        "checkpoint_bytes": saved,
        "checkpoint_s": left.checkpoint_s,
        "checkpoint_interval_s": left.interval_s,
        "train_days": choose(trained, days, NONE),
        "usd_train": choose(trained, usd, NONE),
        "overtraining": choose(trained, s.workload.tokens / (CHINCHILLA * counts.active), NONE),
        "lifetime_flops": choose(trained, life.total, NONE),
        "lifetime_rl_flops": choose(trained, life.rl, NONE),
        "lifetime_serve_flops": choose(trained, life.serve, NONE),
        "usd_lifetime": choose(trained, each_flop * life.total, NONE),
    }
