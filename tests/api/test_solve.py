"""Inverse questions: the model at the answer gives the target, and closed forms agree."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.cases import columns

import roofrack
from roofrack.errors import InfeasibleError, InputError
from roofrack.inverse import Roots
from roofrack.leaves import put
from roofrack.nouns import Scenario

LLAMA = "hardware=h100_sxm model=llama3_1_70b parallelism=tp8 context=8192 calibration=default"
BARE = "calibration=ideal overlap=ideal parallelism=single"
BOARD = f"hardware=blackboard model=blackboard {BARE} dtype=fp8"


def at(overrides: str, **more: Any) -> dict[str, Any]:
    """Evaluate the model with the answer put in as an override: another path than the solver's."""
    given = [f"{name.replace('__', '.')}={value!r}" for name, value in more.items()]
    return columns(roofrack.scenario(*overrides.split(), *given))


def test_batch_for_a_target_tpot() -> None:
    smooth = f"{LLAMA} calibration.quantize=false"
    root = roofrack.solve(smooth, "batch", {"tpot_s": 0.05}).only
    assert at(smooth, batch=root.exact)["tpot_s"] == pytest.approx(0.05, rel=1e-12)
    assert root.value == pytest.approx(0.05) and root.rising and root.step is None
    assert root.whole == int(root.exact)
    assert (
        at(smooth, batch=root.whole)["tpot_s"] <= 0.05 < at(smooth, batch=root.whole + 1)["tpot_s"]
    )


def test_whole_batch_where_tpot_climbs_in_steps() -> None:
    """Rows come in tiles: TPOT jumps over the target; the last batch before the jump keeps it."""
    root = roofrack.solve(LLAMA, "batch", {"tpot_s": 0.05}).only
    assert root.whole is not None
    assert at(LLAMA, batch=root.whole)["tpot_s"] <= 0.05 < at(LLAMA, batch=root.whole + 1)["tpot_s"]
    assert root.step is not None
    assert root.step[0] < 0.05 < root.step[1]
    assert root.exact == pytest.approx(root.whole, rel=1e-5)
    assert "jumps from" in str(root) and f"whole: {root.whole}" in str(root)


def test_batch_against_its_closed_form() -> None:
    """t = W + s B, of the lecture: weights read once, each sequence its own cache."""
    once = at(BOARD, batch=1, context=4000)
    weights, cache = float(once["t_weights_s"]), float(once["t_kv_s"])
    target = weights + 12.5 * cache
    question = f"{BOARD} context=4000 cost.activation_io=false"
    root = roofrack.solve(question, "batch", {"tpot_s": target}).only
    assert root.exact == pytest.approx(12.5, rel=1e-9)
    assert root.whole == 12


def test_floor_for_what_is_better_when_larger() -> None:
    """A rate is a floor: the whole number is the first that reaches it."""
    smooth = f"{LLAMA} calibration.quantize=false"
    root = roofrack.solve(smooth, "batch", {"tokens_per_s": 3000.0}).only
    assert root.rising and root.whole == int(root.exact) + 1
    assert at(smooth, batch=root.whole)["tokens_per_s"] >= 3000
    assert at(smooth, batch=root.whole - 1)["tokens_per_s"] < 3000


def test_sparsity_at_which_all_to_all_binds() -> None:
    """More experts, as many visited by a token: more weights to read, the same traffic."""
    overrides = (
        "hardware=h100_sxm model=mixtral_8x7b calibration=ideal overlap=none parallelism=single "
        "parallelism.dp=64 parallelism.ep=64 batch=65536 context=0 cost.activation_io=false"
    )

    def exchange_over_memory(c: Any) -> Any:
        memory = c["t_weights_s"] + c["t_kv_s"] + c["t_activation_s"]
        return c["t_scale_up_s"] + c["t_scale_out_s"] - memory

    root = roofrack.solve(overrides, "sparsity", exchange_over_memory).only
    assert not root.rising and root.whole is None
    there = at(overrides, sparsity=root.exact)
    assert exchange_over_memory(there) == pytest.approx(0, abs=1e-9 * there["t_weights_s"])
    # 65,536 tokens visit all experts: of each layer every chip reads E/64 of them, 3 D F weights of
    # 2 bytes each, and the router, D E
    per_expert = 32 * 2 * (3 * 4096 * 14336 / 64 + 4096) / 3.35e12
    some = at(overrides, sparsity=64)
    rest = some["t_weights_s"] - 128 * per_expert
    closed = (some["t_scale_up_s"] + some["t_scale_out_s"] - rest) / per_expert / 2
    assert root.exact == pytest.approx(closed, rel=1e-6)


def test_bandwidth_at_which_two_racks_equal_one() -> None:
    """Half of the tokens' copies leave: out of the rack they need half the bandwidth inside.

    In one rack of R chips (R-1)/R of the copies move; of two, half of all leave.
    """
    rack = f"{BOARD} parallelism=rack hardware.fabric.scale_up.chips=64 overlap=none"
    one = at(f"{rack} racks=1 batch=64000")
    inside = float(one["t_scale_up_s"])
    root = roofrack.solve(
        f"{rack} racks=2 batch=128000",
        "hardware.fabric.scale_out.bytes_per_s",
        lambda c: np.maximum(c["t_scale_up_s"], c["t_scale_out_s"]) - inside,
    ).only
    closed = 3.2e12 / 2 / (1 - 1 / 64)
    assert root.exact == pytest.approx(closed, rel=1e-9)
    assert not root.rising and root.whole is None
    two = at(f"{rack} racks=2 batch=128000", hardware__fabric__scale_out__bytes_per_s=root.exact)
    assert two["t_scale_out_s"] == pytest.approx(inside)
    # a scenario numbers its levels
    s = roofrack.scenario(*f"{rack} racks=2 batch=128000".split())
    again = roofrack.solve(s, "hardware.fabric.1.bytes_per_s", {"t_scale_out_s": inside})
    assert again.exact == pytest.approx(closed, rel=1e-9)


def test_context_where_cache_reads_equal_compute() -> None:
    """Without weight reads and attention core, S = 2 N W / (C kv): the knee."""
    question = f"{BOARD} cost.attention_core=false"
    root = roofrack.solve(question, "context", {"t_kv_s": "t_compute_s"}).only
    there = at(question, context=root.exact)
    assert there["t_kv_s"] == pytest.approx(there["t_compute_s"], rel=1e-12)
    assert root.value == pytest.approx(there["t_kv_s"])
    assert root.exact == pytest.approx(float(there["context_knee_tokens"]), rel=1e-9)
    assert root.exact == pytest.approx(2 * 37e9 * 2e13 / (1.2e16 * 70272), rel=1e-9)


@pytest.mark.parametrize(
    ("machine", "printed", "closed"),
    [
        ("hardware=blackboard dtype=fp8", 1667, 2e11 / (600 * 2e5)),
        ("hardware=h100_sxm dtype=bf16", 3387, 2e11 * 3.35e12 / (989e12 * 2e5)),
        ("hardware=h100_sxm dtype=fp8", 1693, 2e11 * 3.35e12 / (1979e12 * 2e5)),
    ],
)
def test_cache_bytes_implied_by_a_price_knee(machine: str, printed: int, closed: float) -> None:
    """The lecture: prices change at 200k tokens, 100e9 active parameters; 1,667 bytes a token."""
    question = f"{machine} model=blackboard model.params_active=1e11 calibration=ideal"
    root = roofrack.solve(
        f"{question} parallelism=single", "model.kv_bytes_per_token", {"context_knee_tokens": 2e5}
    )
    assert round(root.exact) == printed
    assert root.exact == pytest.approx(closed, rel=1e-3)  # data sheets print 989.4e12 and 1,979e12


def test_whole_number_is_one_whose_plan_can_run() -> None:
    """64 ranks hold whole experts: the next number of experts that 64 divides."""
    question = (
        "hardware=h100_sxm model=deepseek_v3 parallelism=single parallelism.dp=64 parallelism.ep=64"
        " batch=4096 calibration.quantize=false"
    )
    target = {"mem_weights_bytes": 4.2e10}
    root = roofrack.solve(question, "model.experts", target).only
    assert root.why_invalid == "ep does not divide the experts"
    assert root.whole is not None and root.whole % 64 == 0
    assert 0 <= root.exact - root.whole < 64
    racks = roofrack.solve(
        "hardware=h100_sxm model=llama3_1_70b parallelism.tp=8 batch=8192", "racks",
        {"usd_per_hour": 100.0},
    ).only  # fmt: skip
    assert racks.whole == int(100 / at(LLAMA)["usd_per_hour"])
    assert racks.exact == pytest.approx(100 / at(LLAMA)["usd_per_hour"], rel=1e-9)


def test_several_answers_are_told() -> None:
    """A function of the columns may cross more than once."""

    def between(c: Any) -> Any:
        return (c["tpot_s"] - 0.02) * (c["tpot_s"] - 0.04)

    smooth = f"{LLAMA} calibration.quantize=false"
    roots = roofrack.solve(smooth, "batch", between)
    assert isinstance(roots, Roots) and len(roots) == 2
    singles = [roofrack.solve(smooth, "batch", {"tpot_s": t}).exact for t in (0.02, 0.04)]
    assert [root.exact for root in roots] == pytest.approx(singles, rel=1e-9)
    assert [root.rising for root in roots] == [False, True]
    with pytest.raises(InputError, match=r"2 answers: batch = .*; batch = .*narrow low and high"):
        _ = roots.exact
    assert roofrack.solve(smooth, "batch", between, low=100).exact == pytest.approx(singles[1])
    assert repr(roots).count("\n") == 1


@cache
def composed(overlap: str) -> Scenario:
    return roofrack.scenario(*LLAMA.split(), "calibration.quantize=false", f"overlap={overlap}")


@settings(max_examples=15)
@given(st.floats(0.012, 0.5), st.sampled_from(["none", "ideal", "smooth"]))
def test_every_target_within_reach_is_met(target: float, overlap: str) -> None:
    s = composed(overlap)
    root = roofrack.solve(s, "batch", {"tpot_s": target}).only
    there = columns(put(s, {"workload.batch": root.exact}))
    assert there["tpot_s"] == pytest.approx(target, rel=1e-9)


def test_what_is_given_may_be_a_scenario_a_list_or_a_line() -> None:
    line = f"{LLAMA} calibration.quantize=false"
    s = roofrack.scenario(*line.split())
    answers = [
        roofrack.solve(given, "workload.batch", {"tpot_s": 0.05}).exact
        for given in (s, line, line.split())
    ]
    assert answers == [pytest.approx(answers[0], rel=1e-12)] * 3


@pytest.mark.parametrize(
    ("error", "message", "ask"),
    [
        (
            InputError,
            r"tpot_s=0.001 is never met: tpot_s is 0.0\d+ to [\d.e+]+ for batch from 1 to 6.4e\+07",
            lambda: roofrack.solve(LLAMA, "batch", {"tpot_s": 0.001}),
        ),
        (
            InputError,
            "critical_batch=3: critical_batch does not depend on batch: it is",
            lambda: roofrack.solve(LLAMA, "batch", {"critical_batch": 3.0}),
        ),
        (
            InputError,
            "ttft_s has no value",
            lambda: roofrack.solve(LLAMA, "batch", {"ttft_s": 3.0}),
        ),
        (
            InputError,
            "unknown=model.expert: no such number of a scenario. Did you mean 'model.experts'",
            lambda: roofrack.solve(LLAMA, "model.expert", {"tpot_s": 0.05}),
        ),
        (
            InputError,
            "unknown=workload.dtype.math: no such number",
            lambda: roofrack.solve(LLAMA, "workload.dtype.math", {"tpot_s": 0.05}),
        ),
        (
            InputError,
            "target=tpot: no such column. Did you mean 'tpot_s'",
            lambda: roofrack.solve(LLAMA, "batch", {"tpot": 0.05}),
        ),
        (
            InputError,
            "target=bound: a name or a truth value",
            lambda: roofrack.solve(LLAMA, "batch", {"bound": 1.0}),
        ),
        (
            InputError,
            "expected a finite number or another column",
            lambda: roofrack.solve(LLAMA, "batch", {"tpot_s": float("nan")}),
        ),
        (
            InputError,
            r"expected \{column: value\}",
            lambda: roofrack.solve(LLAMA, "batch", {"tpot_s": 0.1, "mfu": 0.1}),
        ),
        (
            InputError,
            "low=0: batch is a number of at least 1",
            lambda: roofrack.solve(LLAMA, "batch", {"tpot_s": 0.05}, low=0),
        ),
        (
            InputError,
            "low=9 and high=3",
            lambda: roofrack.solve(LLAMA, "batch", {"tpot_s": 0.05}, 9, 3),
        ),
        (
            InputError,
            "sparsity: this model has no experts",
            lambda: roofrack.solve(LLAMA, "sparsity", {"tpot_s": 0.05}),
        ),
        (
            InputError,
            "racks solves dp",
            lambda: roofrack.solve(f"{LLAMA} parallelism.dp=2", "racks", {"tpot_s": 0.05}),
        ),
        (
            InputError,
            "the scenario has axes",
            lambda: roofrack.solve(f"{LLAMA} batch=[1,2]", "context", {"tpot_s": 0.05}),
        ),
        (
            InfeasibleError,
            "tp does not divide the query heads",
            lambda: roofrack.solve(f"{LLAMA} parallelism.tp=3", "batch", {"tpot_s": 0.05}),
        ),
    ],
)
def test_questions_without_answer(
    error: type[Exception], message: str, ask: Callable[[], Any]
) -> None:
    with pytest.raises(error, match=message):
        ask()
