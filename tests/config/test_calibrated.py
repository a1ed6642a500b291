"""`calibration=auto`, the default: the calibration that the file of a machine names."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path

import roofrack
from roofrack import config
from roofrack.errors import InputError
from roofrack.point import point

CONF = config.conf_dir()
LAUNCH = 0.5  # seconds of each product, so that nothing else matters
POOLS = [
    "workload=chat", "workload.serving=disaggregated", "model=llama3_1_8b",
    "parallelism@prefill.parallelism=single",
]  # fmt: skip


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Return a folder with a machine and its calibration, and one that names none."""
    for group in ("hardware", "calibration"):
        (tmp_path / group).mkdir()
    card = (CONF / "hardware" / "l4.yaml").read_text()
    kept = [line for line in card.splitlines() if not line.startswith(("name:", "calibrated_as:"))]
    for name, note in (("slow", "calibrated_as: slow_engine\n"), ("plain", "")):
        text = f"name: {name}\n{note}" + "\n".join(kept) + "\n"
        (tmp_path / "hardware" / f"{name}.yaml").write_text(text)
    losses = yaml.safe_load((CONF / "calibration" / "default.yaml").read_text())
    losses["name"] = "slow engine"
    losses["kernel"] = json.loads(json.dumps(losses["kernel"]))  # no aliases
    losses["kernel"]["gemm"]["bf16"]["launch_s"] = LAUNCH
    (tmp_path / "calibration" / "slow_engine.yaml").write_text(yaml.safe_dump(losses))
    return tmp_path


def name(tree: dict[str, Any], part: str = "") -> str | None:
    found = (tree[part] if part else tree)["calibration"]
    return found and found["name"]


def test_a_machine_has_the_calibration_that_its_file_names(mine: Path) -> None:
    tree = config.compose(["hardware=slow"], mine)
    assert (name(tree), tree["choices"]["calibration"]) == ("slow engine", "slow_engine")
    assert tree["calibration"]["kernel"]["gemm"]["bf16"]["launch_s"] == LAUNCH
    assert config.compose(["hardware=slow", "calibration=auto"], mine) == tree


def test_a_machine_without_one_has_the_assumed_losses(mine: Path) -> None:
    tree = config.compose(["hardware=plain"], mine)
    assert (name(tree), tree["choices"]["calibration"]) == ("default", "default")
    assert config.compose(["hardware=plain", "calibration=default"], mine) == tree


def test_a_calibration_that_is_chosen_stays(mine: Path) -> None:
    assert name(config.compose(["hardware=slow", "calibration=ideal"], mine)) == "ideal"
    one = config.compose(["hardware=slow", "calibration.step_s=7"], mine)
    assert (name(one), one["calibration"]["step_s"]) == ("slow engine", 7)


def test_one_that_is_not_there_is_named(mine: Path) -> None:
    file = mine / "hardware" / "slow.yaml"
    file.write_text(file.read_text().replace("slow_engine", "slow_engin"))
    with pytest.raises(InputError, match=r"calibration=slow_engin: no such calibration; .*") as e:
        config.compose(["hardware=slow"], mine)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("main", "pool", "given", "expected"),
    [
        ("plain", "slow", [], ("default", "slow engine")),
        ("slow", "plain", [], ("slow engine", "default")),
        ("slow", "slow", [], ("slow engine", "slow engine")),
        ("slow", None, [], ("slow engine", None)),  # no machines of its own: as the others
        ("plain", "slow", ["calibration@prefill.calibration=ideal"], ("default", "ideal")),
        ("plain", "slow", ["calibration@prefill.calibration=auto"], ("default", "slow engine")),
        # one calibration for all that is chosen by name
        ("plain", "slow", ["calibration=ideal"], ("ideal", None)),
    ],
)
def test_a_pool_on_other_machines_has_theirs(
    mine: Path, main: str, pool: str | None, given: list[str], expected: tuple[str, str | None]
) -> None:
    chosen = [f"hardware@prefill.hardware={pool}"] if pool else []
    tree = config.compose([*POOLS, f"hardware={main}", *chosen, *given], mine)
    assert (name(tree), name(tree, "prefill")) == expected
    assert name(tree, "ffn") is None


def test_a_pool_costs_what_its_calibration_says(mine: Path) -> None:
    """Prompts on machines with slow launches wait for them; decoding does not."""
    on = {
        kind: point(
            config.compose(
                [*POOLS, "hardware=plain", f"hardware@prefill.hardware={kind}", "batch=4"], mine
            )
        )
        for kind in ("plain", "slow")
    }
    assert (on["plain"]["calibration"], on["slow"]["calibration"]) == ("default", "default")
    assert on["plain"]["prefill_calibration"] == "default"
    assert on["slow"]["prefill_calibration"] == "slow_engine"
    assert on["slow"]["ffn_calibration"] is None
    launches = 32 * 4 + 1  # of Llama 3.1 8B: four products a layer, and the head
    added = on["slow"]["ttft_s"] - on["plain"]["ttft_s"]
    assert added == pytest.approx(launches * (LAUNCH - 4e-6), rel=1e-6)
    assert on["slow"]["tpot_s"] == on["plain"]["tpot_s"]


def test_the_pool_of_the_ffns_too(mine: Path) -> None:
    afd = ["workload.serving=afd", "model=llama3_1_8b", "parallelism=single", "batch=4"]
    rows = [
        point(
            config.compose(
                [*afd, "hardware=plain", f"hardware@ffn.hardware={kind}",
                 "parallelism@ffn.parallelism=single", "overlap=none"],
                mine,
            )
        )
        for kind in ("plain", "slow")
    ]  # fmt: skip
    assert [row["ffn_calibration"] for row in rows] == ["default", "slow_engine"]
    added = rows[1]["t_overhead_s"] - rows[0]["t_overhead_s"]
    assert added == pytest.approx(32 * 2 * (LAUNCH - 4e-6), rel=1e-6)


def test_a_sweep_over_machines_gives_each_its_own(mine: Path) -> None:
    line = ("hardware=slow,plain", "model=llama3_1_8b", "parallelism=single", "batch=1,2")
    rows = roofrack.sweep(*line, config_dir=mine).collect()
    chosen = dict(rows.select("hardware", "calibration").unique().iter_rows())
    assert chosen == {"slow": "slow_engine", "plain": "default"}
    for machine in chosen:
        alone = point(config.compose([*line[1:3], f"hardware={machine}", "batch=2"], mine))
        (found,) = rows.filter((pl.col("hardware") == machine) & (pl.col("batch") == 2)).to_dicts()
        assert found["step_s"] == pytest.approx(alone["step_s"], rel=1e-6)


@pytest.mark.slow
def test_so_does_a_multirun_of_the_command_line(mine: Path, tmp_path: Path) -> None:
    """Hydra composes each job by itself."""
    subprocess.run(
        [
            sys.executable, "-m", "roofrack", "sweep", "--config-dir", str(mine),
            "hardware=slow,plain", "model=llama3_1_8b", "parallelism=single",
            "hydra.sweep.dir=out",
        ],
        cwd=tmp_path, check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    found = {}
    for job in ("0", "1"):
        (row,) = pl.read_parquet(tmp_path / "out" / job / "points-00000.parquet").to_dicts()
        found[row["hardware"]] = (row["calibration"], row["t_overhead_s"] > LAUNCH)
    assert found == {"slow": ("slow_engine", True), "plain": ("default", False)}


def test_what_was_composed_to_check_a_job_is_not_composed_again(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweeper asks with Hydra's own loader; the command line asked before, in other words."""
    monkeypatch.chdir(mine.parent)
    config.compose(
        ["hydra.sweep.dir=here", "hardware=slow", "batch=3"], f"../{mine.parent.name}/{mine.name}"
    )
    path = create_config_search_path(str(CONF))
    path.append("command-line", f"file://{mine}")
    loader = ConfigLoaderImpl(path)
    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", None)
    job = ["hardware=slow", "batch=4"]
    assert config.calibrated(job, loader) == [*job, "calibration=slow_engine"]


SHIPPED = sorted(path.stem for path in (CONF / "calibration").glob("*.yaml"))


@pytest.mark.parametrize("path", sorted((CONF / "hardware").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_machine_composes_with_its_own(path: Path) -> None:
    tree = config.compose([f"hardware={path.stem}"])
    named = tree["hardware"].get("calibrated_as")
    assert named is None or named in SHIPPED
    assert tree["choices"]["calibration"] == (named or "default")


def test_clusters_have_the_calibration_of_their_chips() -> None:
    for cluster, chip in (
        ("h100_llama3", "h100_sxm"),
        ("b200_superpod", "b200"),
        ("gb200_superpod", "gb200_nvl72"),
    ):
        one, other = (config.compose([f"hardware={n}"])["choices"] for n in (cluster, chip))
        assert one["calibration"] == other["calibration"]
