"""The loader that launchers compose with gives what Hydra's own gives."""

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer

from roofrack import config
from roofrack.config.loading import loader_in

SWEEP = ["hydra.sweep.dir='a b'", "hydra.job.name=mine"]


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    known = dict(BaseContainer._resolvers)
    base = version.getbase()
    config.register()
    setup_globals()
    version.setbase(config.VERSION_BASE)
    yield
    BaseContainer._resolvers.clear()
    BaseContainer._resolvers.update(known)
    version.VersionBase.instance().version_base = base


@pytest.fixture
def hydras() -> ConfigLoaderImpl:
    return loader_in(None)


def plain(node: Any) -> Any:
    tree = OmegaConf.to_container(node, resolve=False)
    for section in (tree, tree.get("prefill") or {}):
        (section.get("calibration") or {}).pop("fits", None)  # a record, never needed
    return tree


JOBS = [
    ["hardware=b200", "model=llama3_1_8b", "batch=[1,8]", "calibration=b200_trtllm"],
    ["hardware=b200", "model=deepseek_v3", "batch=[1,8]", "calibration=b200_trtllm"],
    ["hardware=h200", "model=deepseek_v3", "batch=[1,8]", "calibration=h200_trtllm"],
    ["hardware=h200", "model=llama3_1_8b", "batch=[1,8]", "calibration=h200_trtllm"],
    ["hardware=h200", "batch=${geom:1,4,3}", "hydra.sweep.subdir='3'", "hardware.power_w=1"],
    ["hardware@prefill.hardware=h200", "calibration@prefill.calibration=h200_vllm"],
]


@pytest.mark.slow
def test_every_job_is_what_hydra_makes_of_it(hydras: ConfigLoaderImpl) -> None:
    master = hydras.load_configuration("config", SWEEP, RunMode.MULTIRUN, from_shell=False)
    ours = config.SweepLoader(hydras, SWEEP)
    for asked in JOBS:
        job = ours.calibrated(asked)
        assert job[: len(asked)] == asked and any(o.startswith("calibration=") for o in job)
        made = ours.load_sweep_config(master, job)
        expected = hydras.load_sweep_config(master, job)
        assert plain(made) == plain(expected)
        assert OmegaConf.is_struct(made) and not OmegaConf.is_readonly(made.hydra)
        assert made.hydra.sweep.dir == "a b"


def test_it_travels_to_a_worker(hydras: ConfigLoaderImpl) -> None:
    master = hydras.load_configuration("config", SWEEP, RunMode.MULTIRUN, from_shell=False)
    ours = config.SweepLoader(hydras, SWEEP)
    ours.load_sweep_config(master, list(JOBS[0]))
    sent = pickle.dumps(ours)
    assert len(sent) < 200_000
    there = pickle.loads(sent)
    assert plain(there.load_sweep_config(master, list(JOBS[2]))) == plain(
        hydras.load_sweep_config(master, list(JOBS[2]))
    )


def test_a_search_path_of_the_users_is_hydras_business(hydras: ConfigLoaderImpl, tmp_path) -> None:
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "mine.yaml").write_text("defaults: [b200, _self_]\npower_w: 3\n")
    path = [f"hydra.searchpath=['file://{tmp_path}']"]
    master = hydras.load_configuration("config", path, RunMode.MULTIRUN, from_shell=False)
    ours = config.SweepLoader(hydras, path)
    made = ours.load_sweep_config(master, ["hardware=mine"])
    assert made.hardware.power_w == 3


def test_the_rest_is_asked_of_hydra(hydras: ConfigLoaderImpl) -> None:
    ours = config.SweepLoader(hydras, [])
    assert ours.get_group_options("dtype") == hydras.get_group_options("dtype")
    assert ours.list_groups("") == hydras.list_groups("")
    assert ours.get_search_path() == hydras.get_search_path()
    assert [s.path for s in ours.get_sources()] == [s.path for s in hydras.get_sources()]
    made = ours.load_configuration("config", ["batch=3"], RunMode.RUN, from_shell=False)
    assert made.batch == 3
    assert ours.compute_defaults_list("config", [], RunMode.RUN).defaults
