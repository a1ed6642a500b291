"""Elasticities by dual numbers: against JAX and finite differences, and on both sides of kinks."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model.cases import columns, given, random_scenario, study

import roofrack
from roofrack import config
from roofrack.cost import estimate, pytrees  # noqa: F401  (registers the nouns)
from roofrack.derivatives import slopes, tangents
from roofrack.errors import InfeasibleError, InputError
from roofrack.leaves import entries, put
from roofrack.nouns import Scenario
from roofrack.point import point

SECTIONS = ("hardware", "model", "workload", "parallelism", "economics", "calibration")
LEVELS = dict.fromkeys(("hardware", "prefill.hardware", "ffn.hardware"), ("0", "1", "2", "3"))
MOE = ("model=deepseek_v3", "hardware=b200", "parallelism=ep32", "batch=1024", "dtype=fp8_block")


def by_jax(scenario: Scenario, column: str) -> dict[str, np.ndarray]:
    """Return d log(column) / d log(leaf) by JAX's reverse mode, operation by operation."""
    with jax.enable_x64(True):
        traced = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), scenario)
        slope = jax.grad(lambda s: estimate(s)[column].sum())(traced)
        values = {e.path: np.asarray(e.value) for e in entries(scenario, LEVELS)}
        at_points = np.asarray(estimate(traced)[column])
        with np.errstate(invalid="ignore"):  # a limit of infinity has no elasticity
            return {
                e.path: np.asarray(e.value) * values[e.path] / at_points
                for e in entries(slope, LEVELS)
            }


@cache
def points(phase: str, overlap: str = "smooth", quantize: bool = True) -> Scenario:
    """Return random scenarios as one, its leaves arrays."""
    draw = np.random.default_rng(7)
    found = [random_scenario(draw, phase, overlap, "default") for _ in range(16)]
    stacked = jax.tree.map(lambda *leaves: np.array(leaves, np.float64), *found)
    return stacked if quantize else put(stacked, {"calibration.quantize": np.zeros(16)})


@pytest.mark.parametrize(
    ("phase", "overlap", "column"),
    [
        pytest.param("decode", "smooth", "usd_per_mtok", marks=pytest.mark.slow),
        pytest.param("decode", "ideal", "step_s", marks=pytest.mark.slow),
        pytest.param("prefill", "smooth", "ttft_s", marks=pytest.mark.slow),
        pytest.param("serve", "smooth", "joule_per_token", marks=pytest.mark.slow),
        pytest.param("decode", "smooth", "mem_total_bytes", marks=pytest.mark.slow),
    ],
)
def test_dual_numbers_have_the_derivatives_of_jax(phase: str, overlap: str, column: str) -> None:
    scenario = off_the_grid(points(phase, overlap))
    expected = by_jax(scenario, column)
    # degrees lie on ties (a group of one), which rounding decides in XLA and not in NumPy
    numbers = [
        e
        for e in entries(scenario, LEVELS)
        if e.numeric and np.all(np.isfinite(e.value)) and "parallelism." not in e.path
    ]
    assert len(numbers) > 100
    with np.errstate(all="ignore"):
        value = columns(scenario)[column]
        for entry, slope in tangents(scenario, column, numbers, levels=LEVELS):
            np.testing.assert_allclose(
                slope / value, expected[entry.path], rtol=2e-6, atol=2e-6, err_msg=entry.path
            )


def off_the_grid(scenario: Scenario) -> Scenario:
    """Return the scenario with degrees that no group fills exactly, so that no two sizes tie.

    Where they do, XLA's rounded logarithm may miss a tie that NumPy's meets.
    """
    degrees = ("tp", "pp", "dp", "cp", "ep")
    factors = (1.037, 1.1, 1.053, 1.071, 1.019)
    plan = vars(scenario.plan)
    moved = {f"parallelism.{d}": plan[d] * f for d, f in zip(degrees, factors, strict=True)}
    return put(scenario, moved)


def nudged(scenario: Scenario, path: str, by: float, column: str) -> np.ndarray:
    value = next(e.value for e in entries(scenario) if e.path == path)
    return np.asarray(columns(put(scenario, {path: value * (1 + by)}))[column])


@pytest.mark.parametrize(
    ("phase", "column"),
    [
        pytest.param("decode", "usd_per_mtok", marks=pytest.mark.slow),
        ("prefill", "step_s"),
        pytest.param("serve", "usd_per_mtok", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_they_are_finite_differences(phase: str, column: str) -> None:
    """Central ones away from kinks; at a kink each side has its own."""
    scenario = points(phase, quantize=False)
    up = slopes(scenario, column, ("hardware", "model"), side="up")
    down = {
        e.path: t for e, t in slopes(scenario, column, ("hardware", "model"), side="down").slopes
    }
    small, smooth = 1e-6, 0
    for entry, right in up.slopes:
        if entry.leaf.integer and ".fabric." in entry.path:
            continue  # what a level connects: groups fill it in whole numbers, a staircase
        left = down[entry.path]
        more, less = (nudged(scenario, entry.path, by, column) for by in (small, -small))
        kink = np.abs(right - left) > 1e-9
        central = (more - less) / (2 * small) / up.value
        expected = np.where(kink, (more / up.value - 1) / small, central)
        np.testing.assert_allclose(right, expected, rtol=1e-4, atol=3e-6, err_msg=entry.path)
        expected = np.where(kink, (1 - less / up.value) / small, central)
        np.testing.assert_allclose(left, expected, rtol=1e-4, atol=3e-6, err_msg=entry.path)
        smooth += int(np.sum(~kink & (right != 0)))
    assert smooth > 100


def balanced() -> Scenario:
    """Return a scenario where arithmetic takes exactly as long as memory traffic."""
    board = study("blackboard", "blackboard", "ideal", overlap="ideal")
    leaves = given(batch=256.0, context=0.0, cost__activation_io=0.0) | {
        "model.params_total": 2.0**40,  # 2 bytes each, read once
        "model.params_active": 2.0**35,  # 2 FLOP each, for each of 2**8 sequences
        "hardware.hbm_bytes_per_s": 2.0**44,
        "hardware.flops_per_s.bf16": 2.0**47,
    }
    found = columns(s := board.bind(leaves))
    assert found["t_compute_s"] == found["t_weights_s"] == 2.0**-3
    return s


def test_at_a_tie_the_derivative_has_two_sides() -> None:
    """More of either resource alone gains nothing; less of either one costs in full."""
    sides = {
        side: dict(roofrack.elasticities(balanced(), of="step_s", side=side))
        for side in ("up", "down", "mean")
    }
    for leaf in ("hardware.flops_per_s.bf16", "hardware.hbm_bytes_per_s"):
        assert sides["up"][leaf] == pytest.approx(0, abs=1e-12)
        assert sides["down"][leaf] == pytest.approx(-1)
        assert sides["mean"][leaf] == pytest.approx(-0.5)
    # growing one of the two times: in full upwards, nothing downwards
    for leaf in ("model.params_total", "model.params_active"):
        assert sides["up"][leaf] == pytest.approx(1)
        assert sides["down"][leaf] == pytest.approx(0, abs=1e-12)


def test_rounding_up_has_the_slope_of_what_is_rounded() -> None:
    found = roofrack.elasticities("batch=65", of="step_s", within="workload")
    assert found["workload.batch"] > 0.05
    smooth = roofrack.elasticities(
        "batch=65", "calibration.quantize=false", of="step_s", within="workload"
    )
    assert found["workload.batch"] == pytest.approx(smooth["workload.batch"], rel=0.3)


def test_known_elasticities() -> None:
    """Rent is proportional to the price; a step of the bare roofline to what binds."""
    found = roofrack.elasticities(*MOE)
    assert found["hardware.usd_per_chip_hour"] == pytest.approx(1)
    assert found["hardware.power_w"] == 0  # rent does not depend on it
    bare = roofrack.elasticities(
        "calibration=ideal", "overlap=ideal", "parallelism=single", "batch=1", of="step_s"
    )
    assert bare["hardware.hbm_bytes_per_s"] == pytest.approx(-1)
    assert bare["hardware.flops_per_s.bf16"] == 0


def test_leaves_are_named_as_the_user_types_them() -> None:
    named = roofrack.elasticities(*MOE)
    numbered = roofrack.elasticities(roofrack.scenario(*MOE))
    assert "hardware.fabric.scale_out.bytes_per_s" in named
    assert "hardware.fabric.1.bytes_per_s" in numbered
    assert [p.replace("scale_up", "0").replace("scale_out", "1") for p in named] == list(numbered)
    np.testing.assert_allclose(list(named.values()), list(numbered.values()))
    levels = {path.split(".")[2] for path in numbered if ".fabric." in path}
    assert levels == {"0", "1"}  # those that only fill up are not there
    assert not any("topology" in path or path.startswith("workload") for path in named)
    assert "model.q_lora" in named  # a rank that is there ...
    assert "model.window" not in named  # ... and one that is 0


def test_sorted_by_size_and_shown() -> None:
    found = roofrack.elasticities(*MOE)
    sizes = [abs(value) for value in found.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert list(found.top(3)) == list(found)[:3]
    assert len(found.top(3)) == 3
    table = found.frame()
    assert table["leaf"].to_list() == list(found)
    assert table["elasticity"].to_list() == list(found.values())
    assert "hardware.usd_per_chip_hour" in repr(found)
    html = found._repr_html_()
    assert html.startswith("<table>") and "hardware.hbm_bytes_per_s" in html
    small = sum(abs(value) < 0.0005 for value in found.values())
    assert small and f"; {small} leaves below 0.0005" in repr(found).splitlines()[0]
    assert "hardware.power_w" in found and "hardware.power_w" not in repr(found)


def test_axes_give_arrays() -> None:
    s = roofrack.scenario("batch=[1,64,512]", "context=[1024,65536]")
    found = roofrack.elasticities(s, of="step_s")
    bandwidth = found["hardware.hbm_bytes_per_s"]
    assert bandwidth.shape == (3, 2)
    for i, batch in enumerate((1, 64, 512)):
        for j, context in enumerate((1024, 65536)):
            one = roofrack.elasticities(f"batch={batch}", f"context={context}", of="step_s")
            assert bandwidth[i, j] == pytest.approx(one["hardware.hbm_bytes_per_s"], rel=1e-12)
    table = found.frame()
    assert table.height == 6 * len(found)
    assert table["point"].to_list()[:6] == [0, 1, 2, 3, 4, 5]


def test_many_points_take_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    s = roofrack.scenario("batch=[1,64,512]")
    whole = roofrack.elasticities(s)
    monkeypatch.setattr("roofrack.derivatives.AT_ONCE", 12)
    pieces = roofrack.elasticities(s)
    assert list(pieces) == list(whole)
    for path, values in whole.items():
        np.testing.assert_allclose(pieces[path], values, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (InputError, r"of=step: no such column. Did you mean 'step_", {"of": "step"}),
        (InputError, r"of=bound: a name or a truth value", {"of": "bound"}),
        (InputError, r"of=fits: a name or a truth value", {"of": "fits"}),
        (InputError, r"of=model: a name or a truth value", {"of": "model"}),
        (InputError, r"of=ttft_s: has no value in this scenario \(decode\)", {"of": "ttft_s"}),
        (InputError, r"of=t_scale_out_s: is 0 here", {"of": "t_scale_out_s"}),
        (InputError, r"side=left: allowed is one of up, down, mean", {"side": "left"}),
        (InputError, r"within=hardwar: .*Did you mean 'hardware'", {"within": ("hardwar",)}),
    ],
)
def test_bad_questions(error: Any, message: str, call: dict[str, Any]) -> None:
    with pytest.raises(error, match=message):
        roofrack.elasticities("batch=8", **call)


def test_a_plan_that_cannot_run_has_none() -> None:
    with pytest.raises(InfeasibleError, match="tp does not divide the query heads"):
        roofrack.elasticities("parallelism.tp=3")
    with pytest.raises(InputError, match="give one scenario, or overrides"):
        roofrack.elasticities(roofrack.scenario(), "batch=3")
    mixed = roofrack.elasticities(roofrack.scenario("parallelism.tp=[3,8]"))
    price = mixed["hardware.usd_per_chip_hour"]
    assert np.isnan(price[0]) and price[1] == pytest.approx(1)
    assert mixed.frame()["elasticity"].null_count() == len(mixed)


def test_what_costs_nothing_has_a_point_without_elasticities() -> None:
    words = ["model=llama3_1_70b", "hardware.usd_per_chip_hour=0"]
    row = point(config.compose(words))
    assert isinstance(row, dict)
    assert row["usd_per_mtok"] == 0 and row["elasticities"] is None and row["tpot_s"] > 0


def test_parts_of_a_deployment_have_leaves_of_their_own() -> None:
    """Prompts on other machines: their prices add up to what a token costs."""
    found = roofrack.elasticities(
        "workload=chat", "workload.serving=disaggregated", "model=llama3_1_70b",
        "hardware@prefill.hardware=b200", "parallelism@prefill.parallelism=tp8",
    )  # fmt: skip
    prices = [found[f"{part}hardware.usd_per_chip_hour"] for part in ("", "prefill.")]
    assert all(price > 0 for price in prices) and sum(prices) == pytest.approx(1)
    assert "prefill.hardware.fabric.scale_up.bytes_per_s" in found
    assert "prefill.parallelism.tp" not in found
