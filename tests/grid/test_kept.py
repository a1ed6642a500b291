"""Compiled functions kept between runs: the same answer, and built again whenever in doubt."""

import jax
import numpy as np
import pytest

from roofrack import caching
from roofrack.grid import kept as keeping

GIVEN = {"x": np.arange(4, dtype=np.float32)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache of its own, and how often something was built."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    return tmp_path / "roofrack" / "compiled"


class Build:
    """Compiles a function that multiplies, and counts."""

    def __init__(self, factor: float) -> None:
        self.factor, self.times = factor, 0

    def __call__(self):
        self.times += 1
        double = jax.jit(lambda given: {"y": given["x"] * self.factor})
        return double.lower(GIVEN).compile()


def values(function):
    return np.asarray(function(GIVEN)["y"]).tolist()


def test_what_was_built_is_found_again(folder):
    build = Build(3.0)
    first = keeping.kept("three", build)
    again = keeping.kept("three", build)
    assert build.times == 1
    assert values(first) == values(again) == [0.0, 3.0, 6.0, 9.0]
    assert values(keeping.kept("five", other := Build(5.0))) == [0.0, 5.0, 10.0, 15.0]
    assert other.times == 1
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("content", [b"", b"cut off", b"\x80\x04."])
def test_what_cannot_be_read_is_built_again(folder, content):
    build = Build(3.0)
    keeping.kept("three", build)
    (file,) = folder.iterdir()
    file.write_bytes(content)
    assert values(keeping.kept("three", build)) == [0.0, 3.0, 6.0, 9.0]
    assert build.times == 2
    keeping.kept("three", build)
    assert build.times == 2  # and kept anew


def test_other_source_is_another_function(folder, monkeypatch):
    build = Build(3.0)
    keeping.kept("three", build)
    monkeypatch.setattr(caching, "source", lambda *folders: "changed")
    keeping._setting.cache_clear()
    keeping.kept("three", build)
    keeping._setting.cache_clear()
    assert build.times == 2


def test_nothing_is_kept_where_nothing_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    build = Build(3.0)
    keeping.kept("three", build)
    keeping.kept("three", build)
    assert build.times == 2


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "file"))
    assert values(keeping.kept("three", Build(3.0))) == [0.0, 3.0, 6.0, 9.0]


def test_the_least_used_go_first(folder, monkeypatch):
    monkeypatch.setattr(keeping, "MOST", 2)
    for number in range(4):
        keeping.kept(str(number), Build(float(number)))
    assert len(list(folder.iterdir())) == 2
    last = Build(3.0)
    keeping.kept("3", last)
    assert last.times == 0
