"""Options that say nothing change nothing, and what a limit has to come to."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st
from model.cases import (
    AFD,
    AGGREGATED,
    COLLECTIVES,
    DISAGGREGATED,
    HARDWARE,
    PLACEMENT,
    columns,
    from_file,
    given,
    random_scenario,
    result,
    study,
)

from roofrack import config
from roofrack.conversion import to_study
from roofrack.cost.layout import layout
from roofrack.leaves import put
from roofrack.nouns import Draft, Pool, Scenario
from roofrack.tables import OVERLAPS, PHASES, PLACEMENTS

seeds = st.integers(0, 2**32 - 1)
phases = st.sampled_from(PHASES)
overlaps = st.sampled_from(OVERLAPS)


def scenario_of(seed: int, phase: str, overlap: str = "smooth") -> Scenario:
    return random_scenario(np.random.default_rng(seed), phase, overlap)


def same(one: dict, other: dict, but: tuple[str, ...] = ()) -> None:
    wrong = [
        (name, value, other[name])
        for name, value in one.items()
        if name not in but and not np.isclose(value, other[name], rtol=1e-9, atol=0, equal_nan=True)
    ]
    assert not wrong


def setting(s: Scenario, **leaves: float) -> Scenario:
    return put(s, {path: np.float64(value) for path, value in given(**leaves).items()})


@forall(seeds, phases, overlaps)
@settings(max_examples=60)
def test_parts_that_are_not_used_change_nothing(seed: int, phase: str, overlap: str) -> None:
    """A scenario made with pools and a drafting model, none in use, is one made without."""
    off = {"serving": AGGREGATED, "draft_tokens": 0.0, "chunk": 0.0, "tp_rows": 1.0}
    whole = setting(scenario_of(seed, phase, overlap), **off)
    before = columns(whole)
    if before["why_invalid"] == 0:
        bare = replace(whole, prefill=None, ffn=None, draft=None, features=())
        same(columns(bare), before)


@forall(seeds, phases, overlaps, st.sampled_from([2, 3, 4]))
@settings(max_examples=60)
def test_levels_that_join_nothing_change_nothing(seed, phase, overlap, depth) -> None:
    """Idle levels may be as wide, slow or fast as they like."""
    scenario = replace(scenario_of(seed, phase, overlap), prefill=None, ffn=None)
    scenario = setting(scenario, serving=AGGREGATED)
    fabric = scenario.hardware.fabric
    if layout(scenario).chips > fabric[depth - 2].chips:
        return  # the level is in use
    wide = [
        replace(level, chips=1e9, bytes_per_s=3e9, latency_s=1e-3, topology=2.0)
        for level in fabric[depth - 1 :]
    ]
    hardware = replace(scenario.hardware, fabric=(*fabric[: depth - 1], *wide))
    same(columns(scenario), columns(replace(scenario, hardware=hardware)))


@pytest.mark.parametrize("hardware", ["h100_sxm", "tpu_v5p", "mi300x", "gb200_superpod"])
def test_a_fabric_is_the_same_with_more_levels(hardware: str) -> None:
    """Two levels, and the same two with the outer one given again and again, larger."""
    plan = {"tp": 8.0, "dp": 4.0, "ep": 32.0, "batch": 512.0, "dedup": 1.0}
    at = study(hardware, "deepseek_v3")
    base = at.bind(given(**plan))
    two = base.hardware.fabric[:2]
    joined = replace(two[1], chips=1e6)
    outer = [replace(joined, chips=1e6 * 10**i) for i in range(2)]
    fabrics = [
        (two[0], joined, *([replace(joined, bytes_per_s=1.0)] * 2)),
        (two[0], joined, *outer),
    ]
    one, other = (
        columns(replace(base, hardware=replace(base.hardware, fabric=tuple(f)))) for f in fabrics
    )
    same(one, other)


@forall(seeds, phases, overlaps)
@settings(max_examples=60)
def test_neutral_settings(seed: int, phase: str, overlap: str) -> None:
    """Each of these says nothing: leaving any other value in its companions changes nothing."""
    scenario = scenario_of(seed, phase, overlap)
    silent = {
        "draft_tokens=0": ({"draft_tokens": 0.0}, {"acceptance": 0.1, "draft_layers": 3.0}),
        "cached=0": ({"cached": 0.0}, {"hold_s": 0.0}),
        "no chunks apart": ({"serving": DISAGGREGATED}, {"chunk": 77.0}),
        "even experts": (
            {"routing_spread": 0.0, "cost__routing_noise": 0.0, "redundant_experts": 0.0},
            {"routing_skew": float(scenario.workload.routing_skew)},
        ),
    }
    for name, (quiet, companions) in silent.items():
        if name == "no chunks apart" and phase != "serve":
            continue
        first = columns(setting(scenario, **quiet))
        if first["why_invalid"] != 0:
            continue
        second = columns(setting(scenario, **quiet, **companions))
        but = ("usd_per_mtok_cached",) if name == "cached=0" else ()
        same(first, second, but)
        if name == "draft_tokens=0":
            drafts = phase in ("decode", "serve")
            assert first["tokens_per_pass"] in (1.0,) or not drafts
            assert not drafts or first["draft_s"] == 0
        if name == "even experts" and scenario.model.experts > 0:
            assert first["expert_skew"] == scenario.workload.routing_skew


@pytest.mark.parametrize("order", PLACEMENTS[::5])
@pytest.mark.parametrize("phase", PHASES)
def test_placement_is_irrelevant_on_one_level(order: str, phase: str) -> None:
    at = study("gb200_nvl72", "deepseek_v3", phase=phase)
    plan = {"tp": 2.0, "cp": 2.0, "dp": 4.0, "ep": 16.0, "pp": 4.0, "batch": 64.0}
    same(
        result(at, **plan, placement=PLACEMENT[PLACEMENTS[0]]),
        result(at, **plan, placement=PLACEMENT[order]),
    )


def test_oversubscription_divides_the_bandwidth() -> None:
    at = study("h100_sxm", "llama3_1_70b")
    plan = {"tp": 16.0, "batch": 64.0}
    path = "hardware.fabric.scale_out"
    halved = result(at, {f"{path}.bytes_per_s": 2.5e10}, **plan)
    same(result(at, {f"{path}.oversubscription": 2.0}, **plan), halved)
    same(result(at, {f"{path}.oversubscription": 1.0}, **plan), result(at, **plan))


@pytest.mark.parametrize("model", ["llama3_1_70b", "deepseek_v3", "qwen3_next_80b_a3b"])
def test_chunks_larger_than_any_prompt(model: str) -> None:
    """A chunk of several prompts is a pass over them: as many as fit it."""
    at = study("h200", model, "ideal", "serve", "none")
    lengths = {"workload.prompt": 1_000.0, "workload.output": 1_000.0}
    rows = [result(at, lengths, batch=512.0, tp=8.0, chunk=c) for c in (1_000.0, 4_000.0, 1e9)]
    shares = [float(row["prefill_share"]) for row in rows]
    assert shares[0] == pytest.approx(4 * shares[1])
    assert shares[2] == pytest.approx(1 / 1_000)  # all prompts of the batch at once
    own = result(at, lengths, batch=512.0, tp=8.0, prefill_batch=4.0)
    assert own["prefill_share"] == pytest.approx(shares[1])
    # one pass in which decoding sequences ride along saves reading the weights again
    saved = own["t_weights_s"] - rows[1]["t_weights_s"]
    assert saved >= 0
    assert own["t_compute_s"] == pytest.approx(rows[1]["t_compute_s"])


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize(
    ("hardware", "model"), [("h100_sxm", "llama3_1_8b"), ("b200", "gpt_oss_20b")]
)
def test_the_same_work_on_two_pools_costs_the_same(hardware, model, overlap) -> None:
    """Where moving the cache is free, disaggregation on equal machines is only a division.

    Chip-seconds per token: decode passes, and prompts in passes of their own.
    """
    at = study(hardware, model, "default", "serve", overlap)
    free = {
        f"hardware.fabric.{level}.{leaf}": value
        for level in ("scale_up", "scale_out")
        for leaf, value in (("bytes_per_s", 1e30), ("latency_s", 0.0))
    } | {
        f"calibration.{link}.{kind}.launch_s": 0.0
        for link in ("scale_up", "scale_out")
        for kind in COLLECTIVES
    }
    lengths = {"workload.prompt": 2_000.0, "workload.output": 300.0}
    one, two = (
        result(at, free | lengths, batch=32.0, serving=serving)
        for serving in (AGGREGATED, DISAGGREGATED)
    )
    for name in ("usd_per_mtok", "usd_per_mtok_input", "usd_per_mtok_output", "prefill_share"):
        assert two[name] == pytest.approx(one[name], rel=1e-9), name
    assert two["tokens_per_s_per_chip"] == pytest.approx(one["tokens_per_s_per_chip"])
    assert two["mfu"] == pytest.approx(one["mfu"])
    assert two["tpot_s"] < one["tpot_s"]


@forall(seeds, overlaps)
@settings(max_examples=60)
def test_bills_add_up_however_it_is_served(seed: int, overlap: str) -> None:
    """Input, cached and output tokens at their prices are the bill of a request."""
    scenario = setting(
        scenario_of(seed, "serve", overlap), prefill_instances=0.0, hold_s=0.0, cache_tier=0.0
    )
    row, w = columns(scenario), scenario.workload
    if row["why_invalid"] != 0:
        return
    bill = row["usd_per_mtok"] * w.output
    parts = (w.prompt - w.cached) * row["usd_per_mtok_input"] + w.cached * row[
        "usd_per_mtok_cached"
    ]
    assert parts + w.output * row["usd_per_mtok_output"] == pytest.approx(bill, rel=1e-6)


@pytest.mark.parametrize("serving", [AGGREGATED, DISAGGREGATED, AFD])
def test_large_batches_cost_compute_and_cache_however_served(serving: float) -> None:
    """B -> infinity: per token its arithmetic and its cache; weights cost nothing."""
    at = study("h200", "llama3_1_70b", "ideal", "serve", "none")
    lengths = {"workload.prompt": 1_000.0, "workload.output": 500.0}
    io = {"cost.activation_io": 0.0}
    row = result(at, lengths | io, batch=1e12, serving=serving, prefill_batch=1e9)
    counts_active = float(row["params_active"])
    core = 80 * 4 * 64 * 128
    flops = 2 * counts_active + core * 1_250
    head = 2 * 128_256 * 8_192
    prompt = 1_000 * (2 * counts_active - head + core * 500) + head
    cache = (1_250 + 1_000 / 500) * 327_680 / 4.8e12
    # twice the chips where FFNs are on others: they wait for each other, one batch at a time
    chip_s = (flops + prompt / 500) / 9.89e14 + cache
    usd = row["usd_per_mtok"] / 1e6 / (row["usd_per_chip_hour"] / 3600)
    if serving == AFD:
        assert usd > chip_s
    else:
        assert usd == pytest.approx(chip_s, rel=1e-3)


@forall(seeds, st.floats(0.0, 0.95), st.floats(0.01, 0.05))
@settings(max_examples=40)
def test_better_drafts_are_never_dearer(seed: int, kept: float, more: float) -> None:
    scenario = setting(scenario_of(seed, "decode"), draft_tokens=3.0)
    if columns(scenario)["why_invalid"] != 0:
        return
    low, high = (columns(setting(scenario, acceptance=a)) for a in (kept, kept + more))
    assert high["usd_per_mtok"] < low["usd_per_mtok"]
    assert high["step_s"] == low["step_s"] and low["tokens_per_pass"] >= 1


@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("phase", PHASES)
def test_one_chip_of_any_machine(hardware: str, phase: str) -> None:
    at = study(hardware, "llama3_1_8b", phase=phase)
    row = columns(at.bind(given(batch=1.0)))
    bf16 = at.leaves["hardware.flops_per_s.bf16"] > 0
    assert (row["why_invalid"] == 0) == bf16
    assert row["t_scale_up_s"] == row["t_scale_out_s"] == row["t_pipeline_s"] == 0
    assert sum(v for n, v in row.items() if n.startswith("traffic_")) == 0


def test_pools_and_drafts_are_taken_from_what_is_composed() -> None:
    """Through the configuration: another machine, another plan, another model."""
    asked = config.compose(
        [
            "hardware=h200", "model=llama3_1_70b", "parallelism=tp8", "workload=chat",
            "workload.serving=disaggregated", "hardware@prefill.hardware=h20",
            "parallelism@prefill.parallelism=tp8", "workload.draft_tokens=2",
            "model@draft.model=llama3_1_8b",
        ]
    )  # fmt: skip
    composed = to_study(asked).grid()
    assert isinstance(composed.prefill, Pool) and isinstance(composed.draft, Draft)
    assert composed.prefill.hardware == study("h20").grid().hardware
    assert composed.draft.model == study(model="llama3_1_8b").grid().model
    assert composed.hardware == study("h200").grid().hardware
    assert columns(composed)["why_invalid"] == 0


@pytest.mark.parametrize(
    "chosen", ["hardware=gb200_superpod", "hardware=tpu_v7", "model=deepseek_v3_2", "model=step3"]
)
def test_files_put_in_by_hand_are_what_is_composed(chosen: str) -> None:
    group, name = chosen.split("=")
    whole = to_study(config.compose(["parallelism=single", chosen])).grid()
    assert from_file(group, name)["name"]
    assert getattr(whole, group) == getattr(study(**{group: name}).grid(), group)
