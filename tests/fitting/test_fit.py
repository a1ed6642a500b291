"""The generic fit: it finds planted numbers, knows how well, and never sees what it holds out."""

import jax
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofrack.fitting import fit as fitting
from roofrack.fitting.classes import CLASSES, GEMM, seconds_of
from roofrack.fitting.document import matrix, triangle
from roofrack.fitting.fit import Bound, fit
from roofrack.fitting.links import BOUNDS, time

CHIP = {
    "peak": 1e15, "hbm_bytes_per_s": 3.35e12, "sms": 132.0, "bytes": 2.0, "cache_bytes": 50e6,
}  # fmt: skip
TRUE = {
    "compute_efficiency": 0.7, "hbm_efficiency": 0.85, "sharpness": 2.5, "launch_s": 4e-6,
}  # fmt: skip
SOME = {name: GEMM.bounds[name] for name in TRUE}
GIVEN = {
    "tile": 128.0, "tile_columns": 128.0, "prologue": 50.0, "wave": 0.3, "depth_s": 3e-10,
    "starvation": 0.02, "quantize_passes": 0.0,
}  # fmt: skip


def products(noise: float, seed: int = 0, count: int = 400) -> pl.DataFrame:
    """Calls of matrix products that the form itself measured, with noise on the logarithm."""
    rng = np.random.default_rng(seed)
    sizes = {
        "m": 2.0 ** rng.uniform(0, 13, count),
        "n": 2.0 ** rng.uniform(9, 15, count),
        "k": 2.0 ** rng.uniform(9, 14, count),
    }
    columns = {n: np.round(v) for n, v in sizes.items()}
    columns |= {n: np.full(count, v) for n, v in CHIP.items()}
    seconds = np.asarray(seconds_of("gemm", **GIVEN)(TRUE, columns))
    return pl.DataFrame(columns | {"seconds": seconds * np.exp(noise * rng.normal(size=count))})


def test_planted_numbers_are_found_within_their_covariance():
    found = fit(seconds_of("gemm", **GIVEN), SOME, products(0.05))
    off = np.log([found.numbers[n] / TRUE[n] for n in SOME])
    # chi-squared with 4 degrees of freedom: 18.5 is exceeded once in 1000
    assert off @ np.linalg.inv(found.covariance) @ off < 18.5
    assert found.rel_std == pytest.approx(0.05, rel=0.25)
    assert found.points == 400


def test_with_hardly_any_noise_they_are_found_exactly():
    found = fit(seconds_of("gemm", **GIVEN), SOME, products(1e-5))
    for name, value in TRUE.items():
        assert found.numbers[name] == pytest.approx(value, rel=1e-4)
    assert found.mean_held_out < 1e-4


def test_the_covariance_is_the_spread_of_refits():
    tables = [products(0.05, seed, 150) for seed in range(40)]
    fits = [fit(seconds_of("gemm", **GIVEN), SOME, table) for table in tables]
    logs = np.log([[f.numbers[n] for n in SOME] for f in fits])
    stated = np.sqrt(np.mean([np.diag(f.covariance) for f in fits], axis=0))
    np.testing.assert_allclose(logs.std(axis=0), stated, rtol=0.4)


def test_what_is_held_out_changes_nothing_and_is_the_same_each_time(monkeypatch):
    table = products(0.05)
    held_out = np.random.default_rng(fitting.SEED).random(table.height) < fitting.HELD_OUT
    assert 0.1 < held_out.mean() < 0.3
    first = fit(seconds_of("gemm", **GIVEN), SOME, table)
    spoilt = table.with_columns(
        seconds=pl.when(pl.Series(held_out)).then(7.0).otherwise(1.0) * pl.col("seconds")
    )
    second = fit(seconds_of("gemm", **GIVEN), SOME, spoilt)
    assert second.numbers == first.numbers
    assert second.mean_inside == first.mean_inside
    assert second.mean_held_out > 0.8
    assert fit(seconds_of("gemm", **GIVEN), SOME, table).numbers == first.numbers


def test_outliers_hardly_count():
    table = products(0.02)
    wild = table.with_columns(
        seconds=pl.when(pl.int_range(400) % 20 == 0).then(10.0).otherwise(1.0) * pl.col("seconds")
    )
    found = fit(seconds_of("gemm", **GIVEN), SOME, wild)
    for name in ("compute_efficiency", "hbm_efficiency", "launch_s"):
        assert found.numbers[name] == pytest.approx(TRUE[name], rel=0.05)


def test_a_number_at_its_bound_has_no_covariance():
    narrow = SOME | {"compute_efficiency": Bound(0.1, 0.3, 0.4)}
    found = fit(seconds_of("gemm", **GIVEN), narrow, products(0.05))
    assert found.numbers["compute_efficiency"] == pytest.approx(0.4)
    assert not found.covariance[0].any()
    assert found.covariance[1, 1] > 0


def test_too_few_calls_are_refused():
    with pytest.raises(ValueError, match="11 calls for 4 numbers"):
        fit(seconds_of("gemm", **GIVEN), SOME, products(0.0)[:11])


@pytest.mark.parametrize("name", ["gemm", "mla_prefill"])
def test_derivatives_are_those_of_finite_differences(name):
    of = CLASSES[name]
    columns = example(name) | {"seconds": np.ones(5)}
    seconds = seconds_of(name, **{n: v[-1] for n, v in of.given.items()})
    log, jacobian = fitting._compiled(seconds, tuple(of.bounds))
    with jax.enable_x64(True):
        at = np.log([bound.start for bound in of.bounds.values()])
        exact = np.asarray(jacobian(at, columns, np.ones(5)))
        for i, step in enumerate(1e-6 * np.eye(len(at))):
            up, down = (np.asarray(log(at + d, columns, np.ones(5))) for d in (step, -step))
            np.testing.assert_allclose(exact[:, i], (up - down) / 2e-6, rtol=1e-4, atol=1e-6)


LATENT = {"kv_lora": 512.0, "qk_rope_dim": 64.0, "qk_nope_dim": 128.0, "v_head_dim": 128.0}
STATES = {
    "key_heads": 16.0, "key_dim": 128.0, "value_heads": 64.0, "value_dim": 128.0,
    "state_bytes": 4.0,
}  # fmt: skip
SHAPES = {
    "gemm": {"m": 64.0, "n": 4096.0, "k": 4096.0},
    "attention_decode": {
        "batch": 16.0, "context": 4096.0, "heads": 32.0, "kv_heads": 8.0, "head_dim": 128.0,
        "window": 0.0,
    },
    "attention_prefill": {
        "batch": 2.0, "queries": 1024.0, "context": 1024.0, "heads": 32.0, "kv_heads": 8.0,
        "head_dim": 128.0, "window": 0.0,
    },
    "mla_decode": {"batch": 16.0, "context": 4096.0, "heads": 128.0} | LATENT,
    "mla_prefill": {"batch": 2.0, "queries": 1024.0, "context": 1024.0, "heads": 128.0} | LATENT,
    "linear_decode": {"batch": 16.0, "queries": 1.0} | STATES,
    "linear_prefill": {"batch": 2.0, "queries": 1024.0} | STATES,
    "moe": {
        "tokens": 256.0, "d_model": 7168.0, "d_ff": 2048.0, "top_k": 8.0, "tp": 1.0, "gated": 1.0,
        "held": 32.0, "touched": 30.0, "rows": 256.0,
    },
}  # fmt: skip
GROWS = {
    "gemm": ("m", "n", "k"),
    "attention_decode": ("batch", "context"),
    "attention_prefill": ("batch",),
    "mla_decode": ("batch", "context"),
    "mla_prefill": ("batch",),
    "linear_decode": ("batch", "value_heads"),
    "linear_prefill": ("batch", "queries", "value_heads"),
    "moe": ("rows", "touched", "d_ff"),
}


def example(name: str, count: int = 5, **other) -> dict[str, np.ndarray]:
    shape = {n: np.full(count, v) for n, v in (SHAPES[name] | CHIP).items()}
    grown = shape | {n: shape[n] * 1.37 ** np.arange(count) for n in GROWS[name][:1]}
    return grown | {n: np.broadcast_to(v, count) for n, v in other.items()}


@pytest.mark.parametrize("name", list(CLASSES))
@settings(max_examples=25)
@given(data=st.data())
def test_times_are_positive_and_grow_with_work(name, data):
    of = CLASSES[name]
    numbers = {n: data.draw(st.floats(b.low, b.high), label=n) for n, b in of.bounds.items()}
    given_numbers = {n: data.draw(st.sampled_from(v), label=n) for n, v in of.given.items()}
    column = data.draw(st.sampled_from(GROWS[name]))
    sizes = np.sort(data.draw(st.lists(st.integers(1, 64), min_size=2, max_size=6)))
    base = {n: np.full(len(sizes), v) for n, v in (SHAPES[name] | CHIP).items()}
    # the working set of a benchmark leaves the cache at some size: a step of its own
    base["cache_bytes"] = np.zeros(len(sizes))
    columns = base | {column: SHAPES[name][column] * sizes.astype(float)}
    seconds = np.asarray(seconds_of(name, **given_numbers)(numbers, columns))
    assert np.all(np.isfinite(seconds)) and np.all(seconds > 0)
    assert np.all(np.diff(seconds) >= -1e-9 * seconds[:-1])


@pytest.mark.parametrize("name", ["all_reduce", "all_gather", "all_to_all"])
@settings(max_examples=25)
@given(data=st.data())
def test_collectives_take_longer_for_more_bytes(name, data):
    from roofrack.calibration import Link

    numbers = {n: data.draw(st.floats(b.low, b.high), label=n) for n, b in BOUNDS.items()}
    sizes = np.geomspace(16.0, 2.0**28, 12)
    level = {"level_chips": 8.0, "link_bytes_per_s": 4.5e11, "latency_s": 1e-6, "in_network": 0.0}
    columns = {n: np.full(12, v) for n, v in (level | {"members": 8.0}).items()} | {"bytes": sizes}
    seconds = np.asarray(time(name, Link(**numbers, direct=0.0), columns))
    assert np.all(np.isfinite(seconds)) and np.all(seconds > 0)
    assert np.all(np.diff(seconds) >= -1e-12)


@given(st.lists(st.floats(-1e3, 1e3), min_size=10, max_size=10))
def test_a_covariance_is_read_as_it_was_written(values):
    lower = np.zeros((4, 4))
    lower[np.tril_indices(4)] = values
    full = lower + np.tril(lower, -1).T
    np.testing.assert_allclose(matrix(triangle(full)), full, rtol=6e-3, atol=1e-300)
