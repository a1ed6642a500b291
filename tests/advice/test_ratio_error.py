"""The error of a ratio, against its definition where only one thing is wrong."""

import pytest

from roofrack.advice.proof import interval, prove, ratio_rel_std

BARE = ("hardware=h100_sxm", "model=llama3_1_70b", "parallelism=tp8", "calibration=ideal")
LARGE = (*BARE, "batch=512")


def error(*calibration: str) -> float | None:
    return ratio_rel_std(prove((*BARE, *calibration), None), prove((*LARGE, *calibration), None))


def test_without_errors_there_is_none():
    assert error() is None


def test_what_no_class_explains_counts_twice():
    assert error("calibration.step_rel_std=0.1") == pytest.approx(0.1 * 2**0.5)


@pytest.mark.parametrize(
    "leaf", ["link_rel_std", "kernel.gemm.bf16.rel_std", "kernel.attention_decode.bf16.rel_std"]
)
def test_one_class_counts_by_the_difference_of_its_shares(leaf: str):
    word = f"calibration.{leaf}=0.2"
    # of a step of which only one class is wrong the error is its share
    mine = prove((*BARE, word), None).row["step_s_rel_std"]
    theirs = prove((*LARGE, word), None).row["step_s_rel_std"]
    assert mine != theirs
    assert error(word) == pytest.approx(abs(mine - theirs))
    assert error(word) < (mine**2 + theirs**2) ** 0.5


def test_classes_are_wrong_independently():
    words = ("calibration.link_rel_std=0.2", "calibration.kernel.gemm.bf16.rel_std=0.1")
    alone = [error(word) for word in words]
    assert error(*words) == pytest.approx(sum(x**2 for x in alone if x) ** 0.5)


def test_other_calibrations_share_nothing():
    fitted = ("hardware=h100_sxm", "model=llama3_1_70b", "parallelism=tp8")
    mine = prove(fitted, None)
    theirs = prove((*fitted, "calibration=default"), None)
    expected = (mine.row["step_s_rel_std"] ** 2 + theirs.row["step_s_rel_std"] ** 2) ** 0.5
    assert ratio_rel_std(mine, theirs) == pytest.approx(expected, rel=1e-9)


def test_the_same_pass_at_another_price_has_no_error():
    fitted = ("hardware=h100_sxm", "model=llama3_1_70b", "parallelism=tp8")
    assert ratio_rel_std(prove(fitted, None), prove((*fitted, "economics=own"), None)) == 0


def test_training_has_classes_too():
    plan = ("workload=train", "parallelism=train_tp8_pp8", "calibration=ideal")
    words = ("calibration.kernel.gemm.bf16.rel_std=0.2",)
    first, second = prove((*plan, *words), None), prove((*plan, *words, "pp=4"), None)
    mine, theirs = first.row["step_s_rel_std"], second.row["step_s_rel_std"]
    assert ratio_rel_std(first, second) == pytest.approx(abs(mine - theirs))


def test_the_interval_holds_four_fifths():
    low, high = interval(0.5, 0.1)
    assert (low, high) == pytest.approx((0.5 * 0.8797, 0.5 * 1.1367), rel=1e-3)
