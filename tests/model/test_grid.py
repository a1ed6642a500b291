"""A grid is its points: in any order of axes, in blocks of any size, one at a time."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from model.cases import columns

from roofrack import config
from roofrack.conversion import Study, to_study
from roofrack.grid import points, stream
from roofrack.point import point

AXES = {  # in the order of the configuration, which is that of the rows
    "model.experts": (8, 64),
    "parallelism.tp": (1, 2, 8),
    "workload.batch": (1, 7, 64, 1000),
    "workload.dtype.weights": ("bf16", "fp8"),
}
BASE = ("hardware=h100_sxm", "model=mixtral_8x7b", "parallelism=single")


def lists(axes: dict[str, tuple]) -> list[str]:
    return [f"{path}=[{','.join(map(str, values))}]" for path, values in axes.items()]


def asked(axes: dict[str, tuple]) -> Study:
    return to_study(config.compose([*BASE, *lists(axes)]))


def table(study: Study, block: int = 2**17) -> dict[str, np.ndarray]:
    blocks = list(stream(study, double=True, block=block))
    assert [b.first for b in blocks] == list(range(0, points(study), min(block, points(study))))
    return {n: np.concatenate([b.columns[n] for b in blocks]) for n in blocks[0].columns}


@pytest.fixture(scope="module")
def study() -> Study:
    return asked(AXES)


@pytest.fixture(scope="module")
def whole(study: Study) -> dict[str, np.ndarray]:
    return table(study)


def same(one, other) -> None:
    assert set(one) == set(other)
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=1e-12, err_msg=name)


def test_open_grid_is_the_stream(study: Study, whole: dict[str, np.ndarray]) -> None:
    grid = columns(study.grid())
    same({n: np.broadcast_to(v, study.shape).ravel() for n, v in grid.items()}, whole)


def test_blocks_are_cuts_of_the_whole(study: Study, whole: dict[str, np.ndarray]) -> None:
    same(table(study, block=7), whole)  # 48 points: six full blocks and one of six


def test_points_one_by_one(study: Study, whole: dict[str, np.ndarray]) -> None:
    for index, values in enumerate(product(*AXES.values())):
        coded = {
            a.path: a.values[a.shown.index(v)] for a, v in zip(study.axes, values, strict=True)
        }
        one = columns(study.bind(coded))
        for name in ("step_s", "mem_total_bytes", "usd_per_mtok", "why_invalid", "bound"):
            assert one[name] == pytest.approx(whole[name][index], rel=1e-12), (name, values)


def test_rows_of_point(study: Study, whole: dict[str, np.ndarray]) -> None:
    rows = point(config.compose([*BASE, *lists(AXES)]))
    asked_for = [tuple(row[path] for path in AXES) for row in rows]
    assert asked_for == list(product(*AXES.values()))
    assert [row["step_s"] for row in rows] == pytest.approx(list(whole["step_s"]), rel=1e-12)


def test_permuting_axes_permutes_rows(study: Study) -> None:
    turned = columns(replace(study, axes=study.axes[::-1]).grid())
    for name, value in columns(study.grid()).items():
        straight = np.broadcast_to(value, study.shape)
        other = np.broadcast_to(turned[name], study.shape[::-1])
        np.testing.assert_array_equal(other, straight.transpose(3, 2, 1, 0), err_msg=name)


def test_invalid_points_do_not_touch_their_neighbours() -> None:
    mixed = columns(asked({"parallelism.tp": (1, 3, 2)}).grid())
    alone = columns(asked({"parallelism.tp": (1, 2)}).grid())
    assert list(mixed["why_invalid"] == 0) == [True, False, True]
    np.testing.assert_array_equal(mixed["step_s"][[0, 2]], alone["step_s"])
