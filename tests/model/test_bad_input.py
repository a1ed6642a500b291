"""Bad input is one line that names the key, the value and what is allowed."""

import copy
from typing import Any

import pytest
from model.cases import MODELS, result, study

from roofrack import config
from roofrack.conversion import to_study
from roofrack.errors import InfeasibleError, InputError
from roofrack.point import point

GOOD = config.compose(["hardware=h100_sxm", "model=llama3_1_70b", "parallelism=single"])
LEVEL = {"chips": 4, "bytes_per_s": 1e9, "latency_s": 0.0, "topology": "switched"}


def with_value(path: str, value: Any) -> dict[str, Any]:
    """Return the good configuration with one key set."""
    tree = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    node = tree
    for name in parents:
        node = node[name]
    node[last] = value
    return tree


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("batch", float("nan"), ["batch=nan", "at least 1"]),
        ("batch", -1, ["batch=-1", "at least 1"]),
        ("batch", 0, ["batch=0", "at least 1"]),
        ("batch", 1e300, ["batch=1e+300", "at most 1e+12"]),
        ("batch", float("inf"), ["batch=inf", "at most"]),
        ("batch", "many", ["batch='many'", "a number"]),
        ("batch", "1e3", ["batch='1e3'", "text", "1.000e+03"]),
        ("batch", True, ["batch=True", "a number"]),
        ("batch", [], ["batch=[]", "at least one"]),
        ("batch", [1, 0], ["batch=0"]),
        ("workload.batch", -2, ["workload.batch=-2"]),
        ("context", -1, ["context=-1", "at least 0"]),
        ("pp", 1.5, ["pp=1.5", "whole number"]),
        ("parallelism.tp", 0, ["parallelism.tp=0", "above 0"]),
        ("parallelism.ep", "stages", ["parallelism.ep='stages'", "'stage'"]),
        (
            "parallelism.pp_batch",
            "grows",
            ["pp_batch=grows", "grow, fixed", "Did you mean 'grow'?"],
        ),
        ("parallelism.attention_dp", 1, ["attention_dp=1", "true or false"]),
        ("workload.dtype.math", "bf61", ["dtype.math=bf61", "Did you mean 'bf16'?"]),
        ("workload.phase", "decoding", ["workload.phase=decoding", "Did you mean 'decode'?"]),
        ("overlap", "ideel", ["overlap=ideel", "Did you mean 'ideal'?"]),
        ("overlap", ["ideal", "none"], ["overlap", "one value per job"]),
        ("hardware.hbm_bytes_per_s", 0, ["hardware.hbm_bytes_per_s=0", "above 0"]),
        ("hardware.hbm_bytes", "???", ["hardware.hbm_bytes is missing"]),
        ("model.layers", None, ["model.layers is missing"]),
        ("model.layer", 3, ["model.layer", "no such key", "Did you mean 'layers'?"]),
        ("hardware.fabric.scale_up.chip", 8, ["scale_up.chip", "Did you mean 'chips'?"]),
        ("hardware.fabric.scale_up.topology", "torus", ["topology=torus", "torus_2d"]),
        ("hardware.fabric", {}, ["hardware.fabric", "1 to 4"]),
        ("hardware.fabric.scale_out.chips", 4, ["scale_out.chips=4", "innermost first"]),
        ("hardware.fabric", {f"l{i}": LEVEL for i in range(5)}, ["5 levels", "1 to 4"]),
        ("hardware", 3, ["hardware=3", "group"]),
        ("calibration.kernel", 3, ["calibration.kernel=3", "group"]),
        ("calibration.kernel.gemm.bf16.sharpness", 0.5, ["sharpness=0.5", "at least 1"]),
        ("calibration.hbm_usable", 1.1, ["hbm_usable=1.1", "at most 1"]),
        ("economics.pue", float("inf"), ["economics.pue=inf"]),
        ("economics.price", "lowest", ["economics.price=lowest", "Did you mean 'low'?"]),
        ("sparsity", 32, ["sparsity=32", "Llama 3.1 70B has no experts"]),
        ("racks", 0, ["racks=0", "above 0"]),
    ],
)
def test_refused_with_the_reason(path: str, value: Any, words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        to_study(with_value(path, value))
    message = str(error.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


def test_a_missing_field_is_named() -> None:
    tree = copy.deepcopy(GOOD)
    del tree["model"]["d_model"]
    with pytest.raises(
        InputError, match=r"model\.d_model is missing: width of the residual stream"
    ):
        to_study(tree)


def test_racks_and_dp_are_two_answers_to_one_question() -> None:
    with pytest.raises(InputError, match=r"parallelism\.dp=2 and racks=3: racks solves dp"):
        to_study(with_value("parallelism.dp", 2) | {"racks": 3})


def test_sparse_infinitely() -> None:
    tree = config.compose(["model=mixtral_8x7b", "parallelism=single"]) | {"sparsity": float("inf")}
    with pytest.raises(InputError, match="sparsity=inf"):
        to_study(tree)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ("parallelism.tp=3", r"tp=3 does not divide model\.heads=64 .*2, 4"),
        ("parallelism.tp=64 model.kv_heads=48 model.heads=192", r"tp=64 .*kv_heads=48"),
        ("parallelism.tp=8 model.d_ff=28673", r"tp=8 does not divide model\.d_ff=28673"),
        (
            "model=deepseek_v3 parallelism.ep=72 parallelism.dp=72",
            r"ep=72 does not divide the 256 places .*64",
        ),
        ("model=deepseek_v3 parallelism.ep=8 parallelism.dp=12", r"ep=8 .* 12 chips of a stage"),
        ("model=mixtral_8x7b parallelism.tp=32 model.d_ff_expert=14340", r"d_ff_expert=14340"),
        ("pp=81", r"pp=81 .*layers=80"),
        ("hardware=a100_80gb dtype=fp8", r"math=fp8: a100_80gb has no units .*bf16"),
        ("hardware=tpu_v5e dtype=fp16", r"math=fp16: tpu_v5e has no units .*bf16"),
        ("racks=1 parallelism.tp=16", r"racks=1 of 8 chips .* 16-chip ranks"),
        ("pp=4 batch=2 parallelism.pp_batch=fixed", r"batch=2 .*pp=4"),
        ("model=mixtral_8x7b model.experts=1", r"experts_per_token=2 .*experts=1"),
        ("workload=prefill workload.prompt=10 workload.cached=10", r"cached=10 and .*prompt=10"),
        ("parallelism.dp=2000000", r"2,000,000 chips.* 1,000,000"),
    ],
)
def test_plans_that_cannot_run(overrides: str, reason: str) -> None:
    container = config.compose(["parallelism=single", *overrides.split()])
    with pytest.raises(InfeasibleError, match=reason):
        point(container)
    swept = point(
        config.compose(["parallelism=single", *overrides.split(), "hardware.power_w=[1,2]"])
    )
    assert [(row["valid"], row["step_s"]) for row in swept] == [(False, None)] * 2


def test_each_model_has_one_reason_to_be_refused() -> None:
    """One chip runs every model: each of the reasons above comes from its override alone."""
    for model in MODELS:
        result(study(model=model))
