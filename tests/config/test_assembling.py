"""Choices put together of sections that Hydra composed are what Hydra composes."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from roofrack import config
from roofrack.config import assembling
from roofrack.config.loading import Base, conf_dir, load
from roofrack.errors import InputError

HARDWARE = ("h100_sxm", "b200_superpod", "tpu_v5e")
MODELS = ("llama3_1_70b", "deepseek_v3")


class Counted:
    """Hydra's composing, and how often it was asked."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.times = 0

    def __call__(self, overrides: tuple[str, ...]) -> Base:
        self.times += 1
        return load(overrides, str(self.folder) if self.folder else None, self.folder)

    def assembler(self) -> assembling.Assembler:
        folders = [conf_dir(), *([self.folder] if self.folder else [])]
        return assembling.Assembler(self, folders)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    config.register()
    yield


def test_each_file_is_composed_once() -> None:
    hydra = Counted()
    assembler = hydra.assembler()
    choices = [(f"hardware={h}", f"model={m}") for h in HARDWARE for m in MODELS]
    made = [assembler.base(choice) for choice in choices]
    assert hydra.times == len(HARDWARE) + len(MODELS) - 1
    for choice, base in zip(choices, made, strict=True):
        assert base == load(choice, None, None)


def test_what_is_chosen_by_default_is_not_what_was_chosen_before() -> None:
    assembler = Counted().assembler()
    for choice in (("hardware=b200",), ("workload=chat",), (), ("dtype=fp8", "workload=rag")):
        assert assembler.base(choice) == load(choice, None, None)
    assert assembler.base(("hardware=b200", "workload=chat")).choices["dtype"] == "bf16"


@pytest.mark.parametrize(
    "overrides",
    [
        ("workload=chat", "dtype=fp8"),  # two files of one section
        ("hardware@prefill.hardware=h200", "workload=chat"),
        ("model@draft.model=llama3_1_8b",),
        ("experiment=fast_mode", "hardware=b200"),
        ("~hardware.usd_per_chip_hour", "model=llama3_1_8b"),
        ("+hardware.sources.mine=me", "model=llama3_1_8b"),
        ("hardware=b200", "hardware=h200"),
    ],
)
def test_whatever_is_chosen_gives_what_hydra_gives(overrides: tuple[str, ...]) -> None:
    assembler = Counted().assembler()
    assembler.base(("model=deepseek_v3", *overrides[1:]))  # so that some of it is known
    for _ in range(2):
        assert assembler.base(overrides) == load(overrides, None, None)


FILES = {
    "elsewhere": "# @package _global_\nmodel: {layers: 7}\n",
    "of_model": "# @package model\nlayers: 7\n",
    "chooses": "defaults: [b200, override /workload: chat, _self_]\n",
    "chooses_by_group": "defaults: [{/economics: own}, b200, _self_]\n",
    "built_on_it": "defaults: [elsewhere]\n",
    "fine": "defaults: [b200, _self_]\npower_w: 5\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_writes_elsewhere_goes_to_hydra(name: str, tmp_path: Path) -> None:
    (tmp_path / "hardware").mkdir()
    for other, text in FILES.items():
        (tmp_path / "hardware" / f"{other}.yaml").write_text(text)
    hydra = Counted(tmp_path)
    assembler = hydra.assembler()
    assembler.base(("hardware=h200", "model=llama3_1_8b"))
    assembler.base(("hardware=b200", "model=deepseek_v3"))

    def asked(*choice: str) -> Any:
        try:
            return load(choice, str(tmp_path), tmp_path)
        except Exception as error:  # not all of them are of use
            return type(error)

    for model in ("llama3_1_8b", "deepseek_v3", "llama3_1_8b"):
        choice = (f"hardware={name}", f"model={model}")
        if isinstance(expected := asked(*choice), Base):
            assert assembler.base(choice) == expected
        else:
            with pytest.raises(expected):
                assembler.base(choice)
    assert hydra.times == 2 + (1 if name == "fine" else 3)
    assert assembler.base(("model=deepseek_v3",)).choices["hardware"] == "h100_sxm"


def test_an_unknown_file_is_hydras_to_refuse() -> None:
    config.compose(["hardware=b200"])
    with pytest.raises(InputError, match="hardware"):
        config.compose(["hardware=b200x"])


def test_jobs_composed_in_any_order_are_the_same() -> None:
    asked = [
        (f"hardware={h}", f"model={m}", f"workload={w}", "batch=[1,2]", "hardware.power_w=700")
        for h in HARDWARE
        for m in MODELS
        for w in ("decode", "chat")
    ]
    forward = {job: config.compose(job) for job in asked}
    assembling.assembler.cache_clear()
    random.Random(3).shuffle(asked)
    assert all(config.compose(job) == forward[job] for job in asked)


def test_nodes_are_copies() -> None:
    tree = {"a": {"b": {"c": 1}, "d": "${a.b.c}"}, "e": None, "f": {}}
    one, other = assembling.nodes(tree), assembling.nodes(tree)
    one.a.b.c = 2
    assert (one.a.d, other.a.d, tree["a"]["b"]["c"]) == (2, 1, 1)
    assert OmegaConf.to_container(other) == tree
