"""`roofrack calibrate` on tables of kernels: a user's own, and those of the installed package."""

import dataclasses
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

import roofrack
from roofrack import cli, config
from roofrack.calibration import Kernels, Link, Links
from roofrack.conversion import to_study
from roofrack.errors import InputError
from roofrack.fitting import links, silicon
from roofrack.fitting.columns import SCHEMA
from roofrack.fitting.refit import FEW, KINDS, refit

SAMPLE = Path(__file__).resolve().parents[2] / "docs" / "samples" / "gemm.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of configuration with a machine of the user's own, and its fitted calibration."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "hardware").mkdir()
    text = yaml.safe_load((config.conf_dir() / "hardware" / "h800.yaml").read_text())
    text |= {"name": "my_machine"}
    (folder / "hardware" / "my_machine.yaml").write_text(yaml.safe_dump(text, sort_keys=False))
    done = roofrack.calibrate(
        SAMPLE, "hardware=my_machine", kind="gemm", base="default", config_dir=folder
    )
    done.write(folder)
    return folder


def tree(*overrides: str, folder=None):
    return config.compose(overrides, folder)["calibration"]


def test_the_kernels_of_the_file_are_new_and_all_others_as_in_the_base(folder):
    base, own = tree("calibration=default"), tree("calibration=gemm", folder=folder)
    assert own["name"] == "gemm"
    fitted = own["kernel"]["gemm"].pop("fp8_block")
    old = base["kernel"]["gemm"].pop("fp8_block")
    notes = ("name", "fits", "sources", "assumed")
    assert {k: v for k, v in own.items() if k not in notes} == {
        k: v for k, v in base.items() if k not in notes
    }
    # 18 calls are too few for every number: the finer ones are as they were
    kept = set(old) - {*FEW, "rel_std", "tile", "tile_columns"}
    assert {n: fitted[n] for n in kept} == {n: old[n] for n in kept}
    assert all(fitted[n] != old[n] for n in FEW)


def test_the_file_says_what_it_is_worth_and_composes(folder):
    written = yaml.safe_load((folder / "calibration" / "gemm.yaml").read_text())
    record = written["fits"]["gemm.fp8_block"]
    assert (record["data"], record["points"]) == ("gemm.csv", 18)
    assert 0 < record["mean_inside"] < 0.2
    assert written["kernel"]["gemm"]["fp8_block"]["rel_std"] > 0
    assert "gemm.csv" in written["sources"]["kernel.gemm.fp8_block"]
    study = to_study(config.compose(["calibration=gemm", "hardware=my_machine"], folder))
    assert study.labels["calibration"] == "gemm"


def test_the_command_writes_the_same_and_says_how_to_use_it(folder, tmp_path, capsys):
    ask = [str(SAMPLE), "kind=gemm", "hardware=my_machine", "base=default", f"out={tmp_path}"]
    assert cli.main(["calibrate", *ask, "--config-dir", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "gemm.fp8_block  gemm.csv" in printed
    assert f"roofrack point --config-dir {tmp_path} hardware=my_machine calibration=gemm" in printed
    again = yaml.safe_load((tmp_path / "calibration" / "gemm.yaml").read_text())
    assert again == yaml.safe_load((folder / "calibration" / "gemm.yaml").read_text())


def test_only_what_the_files_measured_is_told_and_the_rest_stays_the_bases(folder, tmp_path):
    table = pl.read_csv(SAMPLE).with_columns(format=pl.lit("bf16"))
    table.with_columns(seconds=1.7 * pl.col("seconds")).write_csv(tmp_path / "slow.csv")
    done = roofrack.calibrate(
        tmp_path / "slow.csv", "hardware=h800", kind="gemm", base="gemm", config_dir=folder
    )
    assert done.errors.select("kernel", "points").rows() == [("gemm.bf16", 18)]
    # the fits and numbers of the base's other kernels are still those of the base
    fits, sources = done.calibration["fits"], done.calibration["sources"]
    assert [fits[n]["data"] for n in ("gemm.bf16", "gemm.fp8_block")] == ["slow.csv", "gemm.csv"]
    assert sources["kernel.gemm.fp8_block"].endswith("gemm.csv")
    base = tree("calibration=gemm", folder=folder)["kernel"]["gemm"]
    assert done.calibration["kernel"]["gemm"]["fp8_block"] == base["fp8_block"]
    assert done.calibration["kernel"]["gemm"]["bf16"] != base["bf16"]


def test_several_files_are_one_table(tmp_path):
    table = pl.read_csv(SAMPLE)
    table[:9].write_csv(tmp_path / "a.csv")
    table[9:].write_parquet(tmp_path / "b.parquet")
    done = refit(
        [tmp_path / "a.csv", tmp_path / "b.parquet"], ["gemm"], "h800", name="x", base="default"
    )
    assert done["fits"]["gemm.fp8_block"]["data"] == "a.csv, b.parquet"
    assert done["fits"]["gemm.fp8_block"]["points"] == 18


def test_a_collective_is_found_as_it_was_planted(tmp_path):
    true = {
        "efficiency": 0.7, "launch_s": 5e-6, "step_s": 3e-7, "staged_s": 8e-6, "own": 0.1,
        "low_latency": 2.0,
    }  # fmt: skip
    machine = to_study(config.compose(["hardware=h800"])).grid().hardware
    rng = np.random.default_rng(3)
    rows = [(m, 2.0**p) for m in (2, 4, 8) for p in range(8, 28)]
    table = pl.DataFrame(rows, schema=["members", "bytes"], orient="row").with_columns(
        format=pl.lit("bf16"), nodes=pl.lit(1.0), members=pl.col("members").cast(pl.Float64)
    )
    here = links.calls(table, machine).drop("format")
    columns = {name: here[name].to_numpy() for name in here.columns}
    seconds = np.asarray(links.time("all_gather", Link(**true, direct=0.0), columns))
    noisy = seconds * np.exp(0.03 * rng.normal(size=len(rows)))
    table.with_columns(seconds=noisy).write_csv(tmp_path / "gather.csv")
    done = refit([tmp_path / "gather.csv"], ["all_gather"], "h800", name="x", base="default")
    found = done["scale_up"]["all_gather"]
    assert found["efficiency"] == pytest.approx(true["efficiency"], rel=0.1)
    assert found["launch_s"] == pytest.approx(true["launch_s"], rel=0.2)
    assert "rel_std" not in found
    assert done["fits"]["scale_up.all_gather"]["mean_held_out"] < 0.06


HEAD = "m,n,k,format,seconds"


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        (
            f"{HEAD}\n64,4096,4096,bf16,1e-5\n",
            "gemm",
            "1 calls of bf16 within .* too few; at least",
        ),
        (f"{HEAD}\n64,4096,4096,bf17,1e-5\n", "gemm", "format 'bf17' is none .* mean 'bf16'"),
        (f"{HEAD}\n64,4096,4096,bf16,0\n", "gemm", "row 1: seconds is 0"),
        (f"{HEAD}\n", "gemm", "a header and no rows"),
        ("m,n,format,seconds\n1,2,bf16,1\n", "gemm", "no column 'k'"),
        ("members,bytes,format,seconds\n8,1e6,bf16,1e-5\n", "all_reduce", "1 calls of all_reduce"),
        (
            f"{HEAD},chip\n64,4096,4096,bf16,1e-5,a\n64,4096,4096,bf16,1e-5,b\n",
            "gemm",
            r"several values of chip \('a', 'b'\)",
        ),
        (f"{HEAD}\n", "gemm,moe", "2 kinds for 1 files"),
    ],
)
def test_bad_tables_are_refused(text, kind, expected, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=expected):
        roofrack.calibrate(path, "hardware=h800", kind=kind.split(","))


def test_an_unknown_machine_is_refused():
    with pytest.raises(InputError, match="h80"):
        roofrack.calibrate(SAMPLE, "hardware=h80", kind="gemm")


def test_every_class_and_collective_has_a_kind_with_a_schema():
    leaves = {f.name for noun in (Kernels, Links) for f in dataclasses.fields(noun)}
    assert set(KINDS.values()) == leaves
    assert set(KINDS) <= set(SCHEMA)


FITS = {
    "gemm.bf16": {"points": 30, "data": "h200_sxm trtllm 1.0: bf16"},
    "scale_up.all_reduce": {"points": 12, "data": "h200_sxm trtllm 1.0: all_reduce"},
}


@pytest.fixture
def built(monkeypatch):
    """The tree that `build` would give, of a package that is not installed."""
    tree = {
        "kernel": {"gemm": {"bf16": {"launch_s": 1e-6}, "fp8": {"launch_s": 1e-6}}},
        "scale_up": {"all_reduce": {"launch_s": 2e-6}},
        "layer_s": 1e-5, "link_rel_std": 0.1, "quantize": True, "fits": FITS,
        "assumed": {"kernel.gemm.fp8": "as bf16"},
    }  # fmt: skip
    monkeypatch.setattr(silicon, "build", lambda chip, backend: tree)
    monkeypatch.setattr(silicon.tables, "chips", lambda: ["h200_sxm"])


def test_every_number_of_the_package_has_its_source(built):
    found = silicon.silicon("h200_sxm", "trtllm")
    assert found["name"] == "h200_trtllm"
    explained = {*found["sources"], *found["assumed"]}
    assert not list(silicon._uncovered(found, explained))
    assert "aiconfigurator-core" in found["sources"]["kernel.gemm.bf16"]
    assert "h200_sxm trtllm 1.0" in found["sources"]["scale_up.all_reduce"]
    assert "calibration=default" in found["assumed"]["layer_s"]
    assert found["assumed"]["kernel.gemm.fp8"] == "as bf16"
    assert "42 calls" in silicon.data_of(found)[0]


def test_a_number_without_a_source_is_seen():
    tree = {"a": {"b": 1.0, "c": True}, "d": 2, "fits": {"e": 3}}
    assert list(silicon._uncovered(tree, {"d"})) == ["a.b"]
    assert list(silicon._uncovered(tree, {"a", "d"})) == []


@pytest.mark.skipif(
    find_spec("aiconfigurator_core") is not None, reason="the package of tables is installed"
)
def test_without_the_package_the_message_says_what_to_install(capsys):
    assert cli.main(["calibrate", "silicon"]) == 2
    assert "pip install 'roofrack[silicon]'" in capsys.readouterr().err
