"""Training asked from outside: bad input, plans that cannot run, and the same on JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model.cases import columns, given, study

from roofrack import config
from roofrack.conversion import to_study
from roofrack.cost import estimate, pytrees  # noqa: F401  (registers the nouns)
from roofrack.errors import InfeasibleError, InputError
from roofrack.point import point
from roofrack.report.text import text
from roofrack.tables import SCHEDULES

TRAIN = "workload=train hardware=h200 model=llama3_1_8b parallelism=single"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (f"{TRAIN} workload.optimizer=adm", ("workload.optimizer=adm", "'adam'")),
        (f"{TRAIN} workload.optimizer=[adam,adamx]", ("workload.optimizer=adamx",)),
        (f"{TRAIN} parallelism.zero=4", ("parallelism.zero=4", "at most 3")),
        (f"{TRAIN} parallelism.schedule=gpip", ("parallelism.schedule=gpip", "'gpipe'")),
        (f"{TRAIN} parallelism.recompute=all", ("none, selective, full, alternate",)),
        (f"{TRAIN} hardware.overlap_loss=1.5", ("overlap_loss=1.5", "at most 1")),
        (
            f"{TRAIN} parallelism.attention_kernel=flash_2 calibration=ideal",
            ("attention_kernel=flash_2", "no effect"),
        ),
        (
            f"{TRAIN} parallelism.attention_kernel=flash_2 parallelism.flash_attention=false",
            ("attention_kernel=flash_2", "no effect"),
        ),
        (f"{TRAIN} parallelism.attention_kernel=flash_4", ("flash_4", "flash_3")),
        (
            f"{TRAIN} hardware=a100_80gb parallelism.attention_kernel=flash_3",
            ("attention_kernel=flash_3", "hardware=a100_80gb", "best, fitted, flash_1, flash_2"),
        ),
        (f"{TRAIN} workload.global_batch=0", ("workload.global_batch=0",)),
        (f"{TRAIN} workload.sequence=0", ("workload.sequence=0", "above 0")),
        (f"{TRAIN} workload.lifetime.rl_flops=1", ("rl_flops=1", "at least 2")),
        (f"{TRAIN} batch=4", ("batch", "workload.phase=train", "global_batch")),
        (f"{TRAIN} workload.context=[1,2]", ("context", "workload.phase=train")),
        (f"{TRAIN} parallelism.tp_rows=[1,2]", ("parallelism.tp_rows", "workload.phase=train")),
        (f"{TRAIN} parallelism.replicas=2", ("parallelism.replicas", "leave it 1")),
        (f"{TRAIN} parallelism.attention_dp=true", ("parallelism.attention_dp", "leave it false")),
        (f"{TRAIN} workload.serving=afd", ("workload.serving=afd", "aggregated")),
        (f"{TRAIN} workload.chunk=512", ("workload.chunk",)),
        ("parallelism.zero=[0,1]", ("parallelism.zero", "workload.phase=decode", "context")),
        ("workload=prefill workload.sequence=[1,2]", ("workload.sequence", "phase=prefill")),
        ("workload.failures.restart_s=[1,2]", ("workload.failures.restart_s", "phase=decode")),
        ("workload.dtype.gradients=[bf16,fp32]", ("workload.dtype.gradients",)),
    ],
)
def test_bad_input(overrides: str, named: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as told:
        point(config.compose(overrides.split()))
    for part in named:
        assert part in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("plan", "named"),
    [
        ("parallelism.dp=3", ("workload.global_batch=256", "dp=3 ranks")),
        ("parallelism.dp=512", ("dp=512 ranks", "micro-batches of one sequence")),
        ("parallelism.microbatches=7", ("7 micro-batches", "dp=1 ranks")),
        ("parallelism.pp=3 parallelism.schedule=dualpipe", ("schedule=dualpipe", "odd number")),
        ("parallelism.virtual_stages=2", ("without schedule=interleaved",)),
        (
            "parallelism.pp=8 parallelism.virtual_stages=3 parallelism.schedule=interleaved",
            ("parallelism.virtual_stages=3", "model.layers=32"),
        ),
        (
            "parallelism.offload_optimizer=1 hardware.tiers.host.bytes_per_s=0",
            ("offload", "host memory"),
        ),
        ("parallelism.pp=64", ("parallelism.pp=64", "model.layers=32")),
    ],
)
def test_plans_that_cannot_run(plan: str, named: tuple[str, ...]) -> None:
    with pytest.raises(InfeasibleError) as told:
        point(config.compose(f"{TRAIN} {plan}".split()))
    for part in named:
        assert part in str(told.value)
    row = point(config.compose(f"{TRAIN} {plan}".split()), strict=False)
    assert isinstance(row, dict)
    assert row["valid"] is False and row["why_invalid"] and row["step_s"] is None


def test_axes() -> None:
    """Names and numbers of a training plan are axes like all others."""
    rows = point(
        config.compose(
            [
                *TRAIN.split(),
                "parallelism.pp=4",
                "parallelism.schedule=[1f1b,zb_h1]",
                "parallelism.zero=[0,1]",
            ]
        )
    )
    assert isinstance(rows, list) and len(rows) == 4
    assert [row["parallelism.schedule"] for row in rows] == ["1f1b", "1f1b", "zb_h1", "zb_h1"]
    assert rows[0]["bubble_s"] > rows[2]["bubble_s"] > 0
    assert rows[0]["mem_optimizer_bytes"] == rows[1]["mem_optimizer_bytes"]  # of one rank
    assert "bubble_fraction" in text(rows, ["bubble_fraction"])


def test_a_point_is_told() -> None:
    row = point(config.compose(f"{TRAIN} parallelism.tp=8".split()))
    assert isinstance(row, dict) and row["phase"] == "train"
    assert row["elasticities"] and row["ttft_s"] is None and row["tpot_s"] is None
    said = text(row).splitlines()
    assert said[0].endswith("train") and any("step_s" in line for line in said)


@pytest.mark.slow
def test_jax_and_numpy_agree() -> None:
    """On JAX arrays, in double precision: experts, a pipeline, and all that overlaps."""
    at = study("h100_sxm", "deepseek_v3", phase="train")
    leaves = given(
        tp=2.0, pp=4.0, dp=8.0, ep=8.0, zero=1.0, mtp_layers=1.0, recompute=2.0, cp=2.0,
        schedule=float(SCHEDULES.index("zb_h1")), flash_attention=0.0, overlap_ep=1.0,
    )  # fmt: skip
    plain = columns(at.bind(leaves))
    with jax.enable_x64(True):
        traced = estimate(jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), at.bind(leaves)))
    assert isinstance(traced["step_s"], jax.Array)
    wrong = [
        name
        for name, value in plain.items()
        if not np.allclose(value, traced[name], rtol=1e-9, atol=0, equal_nan=True)
    ]
    assert not wrong


def test_single_precision() -> None:
    """What a sweep computes in single precision is within 1e-5 of double."""
    at = study("h100_sxm", "deepseek_v3", phase="train")
    leaves = given(tp=2.0, pp=4.0, dp=64.0, ep=8.0, zero=1.0, tokens=1e13)
    leaves["workload.failures.chip_mtbf_s"] = 1.8e8
    plain = columns(at.bind(leaves))
    single = columns(jax.tree.map(np.float32, at.bind(leaves)))
    for name in ("step_s", "mfu", "mem_total_bytes", "train_days", "goodput", "bubble_s"):
        assert single[name] == pytest.approx(float(plain[name]), rel=1e-5), name


def test_the_configuration_holds_training() -> None:
    leaves = to_study(config.compose(TRAIN.split())).leaves
    assert leaves["workload.global_batch"] == 256 and leaves["parallelism.microbatches"] == 0
    assert leaves["workload.failures.chip_mtbf_s"] == pytest.approx(
        54 * 86400 * 16384 / 419, rel=2e-2
    )
