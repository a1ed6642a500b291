"""Composition: what is composed, what is left alone, and what is refused in one line."""

import os
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir, version
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from roofrack import config, schema
from roofrack.config import checks
from roofrack.config.composition import covering
from roofrack.errors import InputError


def test_defaults_compose_to_plain_values():
    tree = config.compose()
    assert set(schema.SECTIONS) < set(tree)
    assert tree["choices"]["hardware"] == "h100_sxm"
    assert "hydra" not in tree and "???" not in str(tree)


def test_a_value_a_list_a_sweep_and_a_resolver():
    tree = config.compose(["batch=[1,2]", "context=3,4", "racks=range(1,4)", "pp=${geom:1,8,4}"])
    assert (tree["batch"], tree["context"]) == ([1, 2], [3, 4])
    assert (tree["racks"], tree["pp"]) == ([1, 2, 3], [1, 2, 4, 8])


def test_the_dtype_group_fills_the_workload():
    assert config.compose(["dtype=fp8"])["workload"]["dtype"]["weights"] == "fp8"
    tree = config.compose(["dtype=fp8", "workload.dtype.weights=bf16"])
    assert tree["workload"]["dtype"]["weights"] == "bf16"


def test_composing_again_is_not_affected_by_what_was_done_to_the_result():
    before = config.compose(["batch=3"])
    before["hardware"]["flops_per_s"]["bf16"] = 0
    assert config.compose(["batch=3"]) != before


def test_an_edited_file_is_read_again(tmp_path: Path):
    mine = chip(tmp_path, "usd_per_chip_hour: 1")
    args = ["hardware=mine"]
    assert config.compose(args, tmp_path)["hardware"]["usd_per_chip_hour"] == 1
    mine.write_text(mine.read_text().replace("usd_per_chip_hour: 1", "usd_per_chip_hour: 2"))
    os.utime(mine, ns=(1, 1))
    assert config.compose(args, tmp_path)["hardware"]["usd_per_chip_hour"] == 2


def test_composes_while_the_callers_hydra_is_in_use(tmp_path: Path):
    (tmp_path / "theirs.yaml").write_text("a: ${range:x}\n")
    OmegaConf.register_new_resolver("range", lambda x: f"theirs {x}", replace=True)
    try:
        with initialize_config_dir(str(tmp_path), version_base="1.2"):
            before = GlobalHydra.instance().hydra
            assert config.compose(["batch=range(1,3)"])["batch"] == [1, 2]
            assert GlobalHydra.instance().hydra is before
            assert str(version.getbase()) == "1.2"
            assert hydra_compose("theirs").a == "theirs x"
    finally:
        OmegaConf.clear_resolver("range")
    assert not GlobalHydra.instance().is_initialized()


def test_leaves_nothing_behind():
    had = {name: OmegaConf.has_resolver(name) for name in ("range", "linear", "geom")}
    config.compose(["batch=${linear:1,3,3}"])
    assert {name: OmegaConf.has_resolver(name) for name in had} == had


def test_jobs_and_compose_take_the_users_folder_and_searchpath(tmp_path: Path):
    chip(tmp_path)
    assert config.jobs(["hardware=glob(mine*)"], tmp_path) == [["hardware=mine"]]
    path = f"hydra.searchpath=[file://{tmp_path}]"
    (job,) = config.jobs(["hardware=glob(mine*)", path])
    assert config.compose(job)["hardware"]["name"] == "mine"


def test_a_study_declares_its_sweep_and_the_command_line_changes_it(tmp_path: Path):
    study(tmp_path)
    jobs = config.jobs(["experiment=mine"], tmp_path)
    assert jobs == [
        [f"hardware={h}", "batch=${geom:1,64,7}", "experiment=mine"] for h in ("b200", "h800")
    ]
    tree = config.compose(jobs[0], tmp_path)
    assert (tree["overlap"], tree["experiment"]["note"]) == ("ideal", "mine")
    assert config.jobs(["experiment=mine", "batch=8", "hardware=h800"], tmp_path) == [
        ["experiment=mine", "batch=8", "hardware=h800"]
    ]
    (job, _) = config.jobs(["experiment=mine", "hydra.sweeper.params.batch='2,4'"], tmp_path)
    assert "batch=[2,4]" in job
    assert config.jobs(["experiment=mine"], tmp_path, study=False) == [["experiment=mine"]]


def test_a_job_split_again_is_itself(tmp_path: Path):
    study(tmp_path)
    for job in config.jobs(["experiment=mine", "model=deepseek_v3,mixtral_8x7b"], tmp_path):
        assert config.jobs(job, tmp_path) == [job]


def test_covering_keeps_every_choice_once():
    jobs = config.jobs(["hardware=b200,h800,h100_sxm", "overlap=ideal,none"])
    few = covering(jobs)
    assert {text for job in few for text in job} == {text for job in jobs for text in job}
    assert len(few) < len(jobs)


def test_every_list_value_of_a_top_key_is_known():
    assert set(config.compose()) - {"choices"} == set(checks.TOP)


def chip(folder: Path, *lines: str) -> Path:
    """Write hardware/mine.yaml: the H100 with another name and other lines."""
    text = (config.conf_dir() / "hardware" / "h100_sxm.yaml").read_text()
    keys = {line.split(":")[0] for line in lines} | {"name"}
    kept = [line for line in text.splitlines() if line.split(":")[0] not in keys]
    file = folder / "hardware" / "mine.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join(["name: mine", *lines, *kept]) + "\n")
    return file


def study(folder: Path) -> None:
    (folder / "experiment").mkdir()
    (folder / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n"
        "overlap: ideal\n"
        "experiment: {note: mine}\n"
        "hydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n"
        "      hardware: b200,h800\n      batch: ${geom:1,64,7}\n"
    )


FILES = {
    "tabs": ("name: x\n\tlayers: 1\n", r"hardware/mine.yaml, line 2: not valid YAML"),
    "unclosed": (
        "name: x\nflops_per_s: {bf16: 1\n",
        r"hardware/mine.yaml, line \d: not valid YAML",
    ),
    "list": ("- 1\n", "hardware/mine"),
    "empty": ("", r"hardware.name: has no value \(hardware=mine\)"),
    "extra": (
        "name: x\nhbm_bites: 1\n",
        "hbm_bites: no such field .* Did you mean 'hardware.hbm_bytes'",
    ),
    "missing": ("name: x\nhbm_bytes: 1\n", "hardware.hbm_bytes_per_s: has no value"),
    "null": ("name: x\nhbm_bytes:\n", r"hardware.hbm_bytes: has no value \(hardware=mine\)"),
    "shape": ("name: x\nflops_per_s: 3\n", r"hardware.flops_per_s=3: a map is needed here, .*bf16"),
    "bytes": (b"name: \xff\n", "hardware=mine: its file is not UTF-8 text"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_named(name: str, tmp_path: Path):
    text, message = FILES[name]
    (tmp_path / "hardware").mkdir()
    file = tmp_path / "hardware" / "mine.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError, match=message) as caught:
        config.compose(["hardware=mine"], tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("hardware=h1000", "no such hardware; allowed: a100_40gb, .*h800.* Did you mean 'h"),
        ("hardwre=b200", "no such key; .* Did you mean 'hardware'"),
        ("hardware.hbm_byte=3", "no such key; .* Did you mean 'hardware.hbm_bytes'"),
        ("bach=3", "Did you mean 'batch'"),
        ("+hardware.foo=3", "hardware.foo: no such field"),
        ("+foo=3", "foo: no such key; allowed: hardware, "),
        ("experiment=fastmode", "experiment=fastmode: no such experiment"),
        ("model.layers={a: 1}", "a single value or a list is needed"),
        ("hardware=b200,h800", "makes 2 configurations, not one"),
        ("experiment=a,b", "one question at a time"),
        ("batch=${rng:1,2}", r"batch: Unsupported interpolation type rng; write \$\{range:"),
        ("batch=${geom:0,8,4}", r"batch=\$\{geom:0,8,4\}: both ends must be above 0"),
        ("batch=${geom:1,8}", r"batch=\$\{geom:1,8\}: takes lo,hi,n"),
        ("batch=${nothing}", "batch: Interpolation key 'nothing' not found"),
        ("hydra.nothing=3", "Key 'nothing' not in 'HydraConf'"),
        ("hydra.searchpath=[not_there]", "is not available"),
    ],
)
def test_a_bad_override_is_refused_in_one_line(given: str, message: str):
    with pytest.raises(InputError, match=message) as caught:
        config.compose([given])
    assert "\n" not in str(caught.value)


def test_a_config_dir_that_is_not_there():
    with pytest.raises(InputError, match="--config-dir nowhere: no such folder"):
        config.compose([], "nowhere")
