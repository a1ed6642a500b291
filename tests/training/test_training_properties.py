"""Limits, what may only grow, what must not matter: over random plans, machines and models."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, settings
from hypothesis import given as forall
from hypothesis import strategies as st
from model.cases import columns, given, random_scenario, study

from roofrack.cost.training.run import goodput
from roofrack.leaves import put
from roofrack.nouns import Scenario
from roofrack.tables import OPTIMIZERS, OVERLAPS, RECOMPUTE, SCHEDULES

seeds = st.integers(0, 10_000)
SCHEDULE = {name: float(index) for index, name in enumerate(SCHEDULES)}
NONE, SELECTIVE, FULL, ALTERNATE = (float(index) for index in range(len(RECOMPUTE)))
BELOW = 1 - 1e-9
SERVING_ONLY = (
    "batch", "context", "prompt", "output", "cached", "shared_prefix", "hold_s", "chunk",
    "draft_tokens", "acceptance", "prefill_batch", "replicas", "overlap_batches", "pp_batch",
)  # fmt: skip


def one(seed: int, phase: str = "train", overlap: str = "smooth") -> Scenario:
    return random_scenario(np.random.default_rng(seed), phase, overlap)


def setting(s: Scenario, **leaves: float) -> Scenario:
    return put(s, {path: np.float64(value) for path, value in given(**leaves).items()})


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    wrong = [n for n in a if not np.array_equal(a[n], b[n], equal_nan=True)]
    assert not wrong


@example(5, "smooth", "prompt")  # its cached tokens are more than that prompt
@forall(seeds, st.sampled_from(OVERLAPS), st.sampled_from(SERVING_ONLY))
@settings(max_examples=12)
def test_what_serves_does_not_train(seed: int, overlap: str, leaf: str) -> None:
    s = one(seed, "train", overlap)
    same(columns(s), columns(setting(s, **{leaf: 3.0})))


TRAINS_ONLY = {
    "microbatches": 4.0, "schedule": 4.0, "virtual_stages": 2.0, "zero": 3.0, "recompute": FULL,
    "recompute_layers": 1.0, "flash_attention": 0.0, "context_parallel": 1.0, "data_placed": 1.0,
    "attention_kernel": 3.0, "loss_bytes": 14.0, "biases": 1.0, "calibration__host_s": 1e-3,
    "overlap_tp": 0.0, "overlap_ep": 1.0, "overlap_dp": 0.0, "overlap_pp": 0.0,
    "offload_optimizer": 1.0, "offload_weights": 1.0, "offload_activations": 1.0, "sequence": 77.0,
    "global_batch": 7.0, "tokens": 1e9, "optimizer": 2.0, "gradient_clipping": 1.0, "dropout": 1.0,
    "mtp_layers": 1.0, "workload__dtype__gradients": 0.0, "workload__dtype__master": 0.0,
    "workload__failures__chip_mtbf_s": 1e5, "workload__lifetime__rl_tokens": 1e9,
}  # fmt: skip


@forall(seeds, st.sampled_from(["decode", "prefill", "serve"]), st.sampled_from([*TRAINS_ONLY]))
@settings(max_examples=12)
def test_what_trains_does_not_serve(seed: int, phase: str, leaf: str) -> None:
    s = one(seed, phase)
    same(columns(s), columns(setting(s, **{leaf: TRAINS_ONLY[leaf]})))


@forall(seeds)
@settings(max_examples=12)
def test_memory_by_kind(seed: int) -> None:
    """Ranks that divide more hold less, and nothing that is computed again is kept."""
    s = one(seed)
    rows = [columns(setting(s, zero=float(z), recompute=NONE)) for z in range(4)]
    divided = ("mem_optimizer_bytes", "mem_gradient_bytes", "mem_weights_bytes")
    for stage, kind in enumerate(divided, 1):
        whole, part = rows[stage - 1], rows[stage]
        if whole["mem_fullest_stage"] == part["mem_fullest_stage"]:
            assert part[kind] <= whole[kind] / BELOW
            assert part[divided[stage - 2]] == whole[divided[stage - 2]] or stage == 1
    again = [columns(setting(s, recompute=r, recompute_layers=0.0)) for r in (0.0, 1.0, 2.0)]
    held = [row["mem_activation_bytes"] for row in again]
    times = [row["step_upper_s"] for row in again]
    executed = [row["hfu"] * row["step_s"] for row in again]
    assert held[0] >= held[1] * BELOW and held[0] >= held[2] * BELOW
    assert times[0] <= times[1] / BELOW and times[1] <= times[2] / BELOW
    assert executed[0] <= executed[1] / BELOW <= executed[2] / BELOW**2
    useful = [row["mfu"] * row["step_s"] for row in again]
    assert useful == pytest.approx([useful[0]] * 3)


@forall(seeds, st.sampled_from(["overlap_tp", "overlap_ep", "overlap_dp", "overlap_pp"]))
@settings(max_examples=15)
def test_overlap_helps_and_its_loss_is_all_there_is_to_lose(seed: int, flag: str) -> None:
    s = setting(one(seed), schedule=SCHEDULE["1f1b"], virtual_stages=1.0)
    off, on = (columns(setting(s, **{flag: float(x)}))["step_s"] for x in (0, 1))
    assert on <= off / BELOW
    if flag != "overlap_pp":  # hops take none of the arithmetic
        all_lost = {"hardware__overlap_loss": 1.0}
        lost = columns(setting(s, **all_lost, **{flag: 1.0}))["step_s"]
        without = columns(setting(s, **all_lost, **{flag: 0.0}))["step_s"]
        assert lost == pytest.approx(without, rel=1e-9)


@forall(seeds, st.sampled_from(["optimizer", "weights", "activations"]))
@settings(max_examples=12)
def test_offload_trades_memory_for_time(seed: int, kind: str) -> None:
    """Without an update on the chip, what is left is the traffic; at infinite bandwidth nothing."""
    s = put(one(seed), {"hardware.tiers.host.bytes_per_s": np.float64(1e9)})
    key = f"offload_{kind}"
    shares = [0.0, 0.5, 1.0]
    rows = [columns(setting(s, **{key: x})) for x in shares]
    name = {"optimizer": "optimizer", "weights": "weights", "activations": "activation"}[kind]
    stages = {float(row["mem_fullest_stage"]) for row in rows}
    if len(stages) == 1:
        held = [row[f"mem_{name}_bytes"] for row in rows]
        assert held == pytest.approx([held[0], held[0] / 2, 0])
    needs = [row["offload_bytes_per_s"] * row["step_upper_s"] for row in rows]
    assert needs[0] == 0 and (needs[1] <= needs[2] / BELOW)
    for row in rows:  # as much as is needed is enough
        enough = {"hardware.tiers.host.bytes_per_s": row["offload_bytes_per_s"] * (1 + 1e-9) + 1}
        share = shares[rows.index(row)]
        fast = columns(put(setting(s, **{key: share}), enough))
        assert fast["exposed_offload_s"] == 0


@forall(seeds, st.integers(2, 8))
@settings(max_examples=15)
def test_a_step_of_more_micro_batches(seed: int, times: int) -> None:
    """Work grows with them; what happens once a step does not; the bubble's share falls."""
    s = setting(one(seed), zero=0.0, mtp_layers=0.0)
    first = columns(s)
    m = float(first["microbatches"])
    batch = float(s.workload.global_batch) * times
    more = columns(setting(s, microbatches=m * times, global_batch=batch))
    assert more["microbatch"] == pytest.approx(first["microbatch"])
    assert more["passes_s"] == pytest.approx(times * first["passes_s"], rel=0.5)
    assert more["optimizer_s"] == first["optimizer_s"]
    assert more["bubble_fraction"] <= first["bubble_fraction"] / BELOW
    assert more["step_s"] >= first["step_s"] * BELOW
    assert more["tokens_per_s"] >= first["tokens_per_s"] * BELOW
    assert more["model_flops_per_token"] == pytest.approx(first["model_flops_per_token"])


@forall(seeds)
@settings(max_examples=12)
def test_conventions(seed: int) -> None:
    """Full recomputation adds a third but the head; attention unmasked at most doubles its core."""
    s = setting(one(seed), recompute_layers=0.0, recompute=NONE)
    plain, again = columns(s), columns(setting(s, recompute=FULL))
    for kind in ("", "_non_causal"):
        model, executed = (plain[f"{of}{kind}"] * plain["step_s"] for of in ("mfu", "hfu"))
        redone = again[f"hfu{kind}"] * again["step_s"]
        assert model <= executed / BELOW
        assert executed < redone <= executed + model / 3 / BELOW
    assert plain["mfu"] <= plain["mfu_non_causal"] / BELOW <= 2 * plain["mfu"] / BELOW**2


@forall(st.floats(1e5, 1e9), st.floats(1, 1e5), st.floats(0.1, 1e4), st.floats(1e9, 1e15))
@settings(max_examples=40)
def test_the_best_interval_is_the_best(
    mtbf: float, chips: float, restart: float, size: float
) -> None:
    """Against a search: Daly's formula is within a thousandth of the best share."""
    at = study(phase="train")
    between, writing = mtbf / chips, size / (chips * 1e9)
    path = "workload.failures"
    fails = {f"{path}.chip_mtbf_s": mtbf, f"{path}.restart_s": restart}
    tried = np.geomspace(writing / 100 + 1e-9, 20 * between + writing, 400)
    best = goodput(at.bind(fails), chips, size)
    others = goodput(at.bind(fails | {f"{path}.checkpoint_interval_s": tried}), chips, size)
    assert 0 <= best.share <= 1 and np.all((others.share >= 0) & (others.share <= 1))
    assert best.checkpoint_s == pytest.approx(writing)
    if writing < between / 4:
        assert best.share >= others.share.max() - 1e-3
    # as often, and as long for each of twice the chips
    larger = at.bind(fails | {f"{path}.chip_mtbf_s": 2 * mtbf})
    assert goodput(larger, 2 * chips, 2 * size).share == pytest.approx(float(best.share))


def test_nothing_fails() -> None:
    at = study(phase="train")
    never = goodput(at.bind({}), 1e5, 1e15)
    assert never.share == 1 and np.isnan(never.interval_s)
    rare = goodput(at.bind({"workload.failures.chip_mtbf_s": 1e20}), 1.0, 1.0)
    assert rare.share == pytest.approx(1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizer_states(optimizer: str) -> None:
    """Of a dense model on one chip, counted: states and a master copy of every parameter."""
    at = study("h200", "llama3_1_8b", "ideal", "train")
    of = OPTIMIZERS[optimizer]
    index = float(list(OPTIMIZERS).index(optimizer))
    row = columns(at.bind(given(optimizer=index, global_batch=1.0)))
    ends = 2 * 128256 * 4096
    layers = row["params_total"] - ends
    held = layers * (of.states + 4) + ends * (of.others + 4)
    assert row["mem_optimizer_bytes"] == pytest.approx(held)
    memory = (2 * held + 4 * row["params_total"]) / at.leaves["hardware.hbm_bytes_per_s"]
    assert row["optimizer_s"] >= memory * BELOW
    assert (row["optimizer_s"] > memory * 1.01) == (optimizer == "muon")
