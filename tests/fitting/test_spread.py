"""The error bar of a step: its shares against differences, the whole against random draws."""

from functools import cache

import numpy as np
import pytest
from model.cases import CONF, DTYPE, columns, from_file, given, study

from roofrack.cost.forward import CLASSES
from roofrack.cost.passes import places
from roofrack.cost.serving import decode_spell, prefill_spell, serve_spell
from roofrack.cost.site import site
from roofrack.fitting.classes import GAIN
from roofrack.fitting.document import matrix
from roofrack.leaves import entries, put

CALIBRATION = "h200_trtllm"
SPELLS = {"decode": decode_spell, "prefill": prefill_spell, "serve": serve_spell}
LEAVES = {
    "gemm": ("calibration.kernel.gemm.",),
    "core": ("calibration.kernel.attention_", "calibration.kernel.mla_"),
    "experts": ("calibration.kernel.moe.",),
    "links": ("calibration.scale_up.", "calibration.scale_out."),
}
"""What is wrong by one factor, by class; `links` comes last in a spell's spread."""

FP8 = {f"workload__dtype__{of}": DTYPE["fp8"] for of in ("weights", "attention", "experts", "math")}
CASES = {
    "decode": ("llama3_1_70b", {"tp": 8, "batch": 64, "context": 4000}),
    "decode of experts": ("deepseek_v3", {"tp": 8, "ep": 8, "batch": 64, "context": 4000}),
    "prefill": ("llama3_1_70b", {"tp": 8, "batch": 1, "prompt": 4096}),
    "serve": ("deepseek_v3", {"tp": 8, "ep": 8, "batch": 64, "prompt": 2000, "output": 500}),
}


@cache
def scenario(case):
    model, leaves = CASES[case]
    return study("h200", model, CALIBRATION, case.split()[0]).bind(given(**leaves, **FP8))


def class_of(path):
    if path.startswith("hardware.fabric.") and path.endswith(".latency_s"):
        return "links"
    return next((name for name, starts in LEAVES.items() if path.startswith(starts)), None)


def slower(s, factor):
    """Return a scenario whose classes take `factor(class, rel_std)` times as long.

    Times and passes are multiplied, efficiencies divided; what has neither is a shape or a ratio.
    """
    of = {e.path: e.value for e in entries(s)}
    changed = {}
    for path, value in of.items():
        name, (kernel, leaf) = class_of(path), path.rsplit(".", 1)
        if name is None:
            continue
        error = of["calibration.link_rel_std"] if name == "links" else of[f"{kernel}.rel_std"]
        if leaf.endswith(("_s", "_passes")):
            changed[path] = value * factor(name, error)
        elif leaf.endswith("efficiency"):
            changed[path] = value / factor(name, error)
    return put(s, changed)


def slope(s, chosen):
    """Return seconds that a standard error of one class adds to a step, by differences."""

    def step(h):
        return columns(slower(s, lambda name, error: 1 + h * error * (name == chosen)))["step_s"]

    return float(step(1e-4) - step(-1e-4)) / 2e-4


def test_classes_are_those_of_the_model():
    assert [*CLASSES, "links"] == list(LEAVES)


@pytest.mark.parametrize("case", CASES)
def test_the_share_of_a_class_is_the_derivative_by_its_factor(case):
    s = scenario(case)
    spread = SPELLS[case.split()[0]](places(site(s))).spread
    assert any(error > 0 for error in spread)
    for name, error in zip(LEAVES, spread, strict=True):
        assert float(error) == pytest.approx(slope(s, name), rel=1e-3, abs=1e-9), name


@pytest.mark.parametrize("case", CASES)
def test_the_error_of_a_step_is_that_of_random_draws(case):
    s, draw = scenario(case), np.random.default_rng(7)
    z = {name: draw.standard_normal(4000) for name in LEAVES}
    # lognormal factors of mean 1
    drawn = slower(s, lambda name, error: np.exp(error * z[name] - error**2 / 2))
    step, exact = columns(drawn)["step_s"], columns(s)
    whole = s.calibration.step_rel_std
    expected = np.sqrt(exact["step_s_rel_std"] ** 2 - whole**2)
    # 4,000 draws know a deviation to about one hundredth; the model is not linear in the factors
    assert np.std(step) / exact["step_s"] == pytest.approx(expected, rel=0.06)
    assert np.mean(step) == pytest.approx(exact["step_s"], rel=0.02)


@cache
def fits():
    return from_file("calibration", CALIBRATION)["fits"]


def drawn_numbers(s, of, count=400):
    """Return leaves of one fit as lognormal draws from its covariance."""
    names, covariance = fits()[of]["fitted"].split(), matrix(fits()[of]["covariance"])
    values, vectors = np.linalg.eigh(covariance)
    # what is written is rounded: an eigenvalue may be a little below 0
    width = vectors * np.sqrt(np.maximum(values, 0.0))
    z = np.random.default_rng(11).standard_normal((count, len(names))) @ width.T
    kernel = "calibration." + ("" if of.startswith("scale_up") else "kernel.") + of
    now = {e.path: e.value for e in entries(s)}
    return {
        f"{kernel}.{name}": now[f"{kernel}.{name}"] * np.exp(z[:, i])
        for i, name in enumerate(names)
        if name != GAIN
    }


@pytest.mark.parametrize("case", CASES)
def test_what_the_covariance_says_is_within_the_error_of_the_class(case):
    s = scenario(case)
    step = columns(s)["step_s"]
    moved = 0
    for of in fits():
        if f"{of}." in " ".join(fits()):  # a record of a part
            continue
        name = class_of("calibration." + ("" if of.startswith("scale_up") else "kernel.") + of)
        parametric = np.std(columns(put(s, drawn_numbers(s, of)))["step_s"])
        moved += bool(parametric > 1e-6 * step)
        assert parametric <= abs(slope(s, name)) + 1e-6 * step, of
    assert moved >= 3  # kernels, the core and the links of the case are among the fits


def test_every_fit_records_its_covariance():
    assert (CONF / "calibration" / f"{CALIBRATION}.yaml").exists()
    for of, noted in fits().items():
        covariance = matrix(noted["covariance"])
        assert len(covariance) == len(noted["fitted"].split()), of
        assert np.linalg.eigvalsh(covariance).min() > -1e-2 * np.abs(covariance).max(), of
