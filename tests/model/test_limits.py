"""Where cost models become absurd: idle copies, impossible shapes, split levels, caches."""

import numpy as np
import pytest
from model.cases import lay, result, study

from roofrack import config
from roofrack.cost.routing import route
from roofrack.errors import InputError
from roofrack.point import point

MIXTRAL = "hardware=h100_sxm model=mixtral_8x7b parallelism=single"
V3 = "hardware=b200 model=deepseek_v3 parallelism=single dtype=fp8_block"


def row(text: str) -> dict:
    answer = point(config.compose(text.split()))
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize("phase", ["decode", "prefill", "serve"])
@pytest.mark.parametrize("copies", [2, 8, 64])
def test_idle_copies_do_not_help_one_sequence(phase: str, copies: int) -> None:
    asked = f"{MIXTRAL} batch=1 workload.phase={phase}"
    one, many = row(asked), row(f"{asked} parallelism.dp={copies}")
    for name in ("step_s", "ttft_s", "experts_touched", "mem_activation_bytes"):
        assert many[name] == (one[name] and pytest.approx(one[name])), name


@pytest.mark.parametrize("phase", ["decode", "prefill", "serve"])
def test_copies_serve_as_many_times_the_sequences(phase: str) -> None:
    asked = f"{MIXTRAL} workload.phase={phase}"
    one, many = row(f"{asked} batch=8"), row(f"{asked} batch=64 parallelism.dp=8")
    assert many["step_s"] == pytest.approx(one["step_s"])
    assert many["usd_per_mtok"] == pytest.approx(one["usd_per_mtok"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model=gemma3_27b model.layers=20", "window_layers"),
        ("model=deepseek_v3 model.layers=20", "moe_layers"),
        ("model.kv_heads=128", "kv_heads"),
        ("model=llama3_1_70b model.window_layers=4", "window"),
        ("model=blackboard model.params_active=1e12", "params_active"),
        ("model=mixtral_8x7b parallelism.tp=4 parallelism.dp=3 parallelism.ep=2", "groups"),
    ],
)
def test_shapes_that_cannot_be(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        row(text)


@pytest.mark.parametrize("batch", [1, 32, 300, 400, 4000])
@pytest.mark.parametrize("context", [0, 512, 1024, 65536])
def test_what_binds_is_what_an_ideal_step_takes(batch: int, context: int) -> None:
    at = study("h100_sxm", "llama3_1_70b", "ideal", overlap="ideal")
    got = result(at, batch=float(batch), context=float(context), tp=8.0)
    memory = got["t_weights_s"] + got["t_kv_s"] + got["t_activation_s"]
    resources = {
        "compute": got["t_compute_s"], "scale_up": got["t_scale_up_s"],
        "weights": memory, "kv": memory, "activation": memory,
    }  # fmt: skip
    name = ("compute", "weights", "kv", "activation", "scale_up")[int(got["bound"])]
    assert resources[name] == pytest.approx(got["step_s"])


@pytest.mark.parametrize("dedup", ["false", "true"])
def test_a_level_split_in_two_changes_nothing(dedup: str) -> None:
    asked = f"{V3} batch=8192 parallelism.dp=128 parallelism.ep=128 parallelism.dedup={dedup}"
    level = "bytes_per_s:5.0e10,latency_s:0.0,topology:switched,in_network_reduction:false"
    two = row(f"{asked} hardware.fabric.scale_out={{chips:1000000,{level}}}")
    three = row(
        f"{asked} hardware.fabric.scale_out={{chips:64,{level}}} "
        f"+hardware.fabric.spine={{chips:1000000,{level}}}"
    )
    assert three["copies_leaving"] == pytest.approx(two["copies_leaving"])
    # the launch of a second level, one per exchange, is all that is added
    assert three["step_s"] >= two["step_s"] * (1 - 1e-9)
    assert three["step_s"] <= two["step_s"] + 2 * 58 * 2.5e-5


def test_every_outer_level_carries_all_that_leaves_the_one_below() -> None:
    laid = lay(study("b200", "deepseek_v3").grid(), (64.0, 1.0))
    inside, *outside = route(laid, 8.0, 1.0, 0.0, 0.0).copies
    assert inside == pytest.approx(8 * 7 / 64)
    assert outside == pytest.approx([8 * 56 / 64, 0.0, 0.0])


@pytest.mark.parametrize("overlap", ["none", "ideal", "matmul", "smooth"])
@pytest.mark.parametrize("plan", ["tp=1", "tp=8", "cp=8"])
def test_a_cached_token_costs_what_it_adds(overlap: str, plan: str) -> None:
    asked = (
        f"hardware=h100_sxm model=llama2_13b parallelism=single parallelism.{plan} batch=4 "
        f"workload.phase=prefill overlap={overlap} calibration.quantize=false"
    )
    alone = row(f"{asked} workload.prompt=8192")
    behind = row(f"{asked} workload.prompt=16384 workload.cached=8192")
    added = (behind["step_s"] - alone["step_s"]) / (4 * 8192)
    rent = alone["usd_per_hour"] / 3600
    assert alone["usd_per_mtok_cached"] == pytest.approx(added * rent * 1e6, rel=1e-6, abs=1e-9)


def test_a_prompt_batch_is_never_larger_than_what_is_in_flight() -> None:
    asked = f"{MIXTRAL} workload=chat batch=8"
    steps = [row(f"{asked} workload.prefill_batch={n}")["tpot_s"] for n in (8, 64, 512)]
    assert steps[0] == steps[1] == steps[2]


def test_torus_exchange_by_counting_links() -> None:
    # four chips of a square, both ways open: each sends 1/4 of its tokens over 1, 1 and 2 hops
    at = study("tpu_v5e", "mixtral_8x7b", "ideal", overlap="none")
    got = result(at, batch=4096.0, context=1.0, dp=4.0, ep=4.0)
    one_copy = 1024 * 2 / 4 * 4096 * 2.0  # tokens, k/g of them to each chip, D, bytes
    links = 2 * 4.5e10  # an open square: two of the four links lead somewhere
    moved = 2 * 32 * one_copy * (1 + 1 + 2) / links
    assert got["t_scale_up_s"] == pytest.approx(moved + 2 * 32 * 2 * 1e-6, rel=0.05)


@pytest.mark.parametrize(
    "text",
    [
        "workload.phase=serve context=[1,2]",
        "workload.phase=serve context=7",
        "workload.prompt=[1,2]",
        "workload.phase=prefill workload.output=[5,6]",
    ],
)
def test_an_axis_without_effect_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="has no effect on"):
        point(config.compose(text.split()))


def test_no_negative_time_or_memory_over_shapes_of_models() -> None:
    rng, at = np.random.default_rng(0), study("h100_sxm", "deepseek_v3")
    for _ in range(60):
        layers = int(rng.integers(1, 100))
        asked = {
            "model.layers": layers * 1.0,
            "model.moe_layers": float(rng.integers(0, layers + 1)),
            "model.window_layers": float(rng.integers(0, layers + 1)),
            "model.window": 512.0,
        }
        context, batch = float(rng.integers(0, 100_000)), float(rng.integers(1, 5000))
        got = result(at, asked, context=context, batch=batch)
        low = {n: v for n, v in got.items() if v < 0}
        assert not low, (asked, low)


@pytest.mark.parametrize("phase", ["prefill", "serve"])
def test_token_prices_add_up_to_the_bill(phase: str) -> None:
    got = row(
        f"hardware=h100_sxm model=llama3_1_70b parallelism=tp8 batch=8 workload.phase={phase} "
        "workload.prompt=10000 workload.cached=9000 workload.output=500 calibration=default"
    )
    bill = got["usd_per_mtok"] * (1000 if phase == "prefill" else 500)
    parts = 1000 * got["usd_per_mtok_input"] + 9000 * got["usd_per_mtok_cached"]
    parts += 500 * (got["usd_per_mtok_output"] or 0)
    assert parts == pytest.approx(bill)


def test_one_prompt_is_not_divided_over_ranks_even_ideally() -> None:
    asked = "hardware=b200 model=llama2_13b parallelism=single calibration=ideal batch=1 "
    one, many = (
        row(asked + "workload.phase=prefill"),
        row(asked + "workload.phase=prefill parallelism.dp=8"),
    )
    for name in ("ttft_s", "mem_kv_bytes"):
        assert many[name] == pytest.approx(one[name])
