"""What Hydra composed is kept between runs for as long as no file changes."""

import pytest

from roofrack import caching, config
from roofrack.config import loading

WORDS = ("hardware=h200", "model=llama3_1_8b", "batch=[1,8]")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache of its own, and a memory that has forgotten everything."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "roofrack" / "composed"


def afresh(monkeypatch, fails=False):
    """Forget what this process knows; with `fails` Hydra may not be asked."""
    loading.load.cache_clear()
    config.assembling.assembler.cache_clear()
    if fails:
        monkeypatch.setattr(loading, "_composed", lambda *given: pytest.fail("composed again"))


def test_a_second_run_reads_what_the_first_composed(folder, monkeypatch):
    afresh(monkeypatch)
    first = config.compose(WORDS)
    assert list(folder.iterdir())
    afresh(monkeypatch, fails=True)
    assert config.compose(WORDS) == first


def test_a_file_that_changes_is_read_again(folder, tmp_path, monkeypatch):
    own = tmp_path / "conf" / "workload"
    own.mkdir(parents=True)
    text = "defaults: [decode]\nbatch: {}\n"
    (own / "mine.yaml").write_text(text.format(7))
    afresh(monkeypatch)
    assert config.compose(["workload=mine"], tmp_path / "conf")["workload"]["batch"] == 7
    (own / "mine.yaml").write_text(text.format(123))
    assert config.compose(["workload=mine"], tmp_path / "conf")["workload"]["batch"] == 123


def test_what_is_cut_off_is_composed_again(folder, monkeypatch):
    afresh(monkeypatch)
    first = config.compose(WORDS)
    for file in folder.iterdir():
        file.write_text('[{"hardware"', encoding="utf-8")
    afresh(monkeypatch)
    assert config.compose(WORDS) == first


def test_other_source_is_composed_again(folder, monkeypatch):
    afresh(monkeypatch)
    config.compose(WORDS)
    kept = len(list(folder.iterdir()))
    afresh(monkeypatch)
    monkeypatch.setattr(caching, "source", lambda *folders: "changed")
    config.compose(WORDS)
    assert len(list(folder.iterdir())) == 2 * kept
