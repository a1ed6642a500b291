"""What the verbs do with a composed configuration, with the evaluation itself replaced by stubs."""

import json
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from roofrack import cli
from roofrack.errors import InputError

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> types.ModuleType:
    """A stand-in for `roofrack.api` and the table it is shown as, in an empty current folder."""
    module = types.ModuleType("roofrack.api")
    module.__dict__.update(run_job=_run_job, report=_report)
    point = types.ModuleType("roofrack.point")
    point.__dict__.update(point=_point)
    show = types.ModuleType("roofrack.report.text")
    show.__dict__.update(text=lambda answer, columns: f"table of {answer}")
    import roofrack.report

    for parent, stub in ((roofrack, module), (roofrack, point), (roofrack.report, show)):
        monkeypatch.setitem(sys.modules, stub.__name__, stub)
        monkeypatch.setattr(parent, stub.__name__.rpartition(".")[2], stub, raising=False)
    monkeypatch.chdir(tmp_path)
    return module


def _row(tree: dict[str, Any], batch: Any) -> dict[str, Any]:
    return {"hardware": tree["choices"]["hardware"], "batch": batch, "valid": batch != 7}


def _point(tree: dict[str, Any], *, strict: bool) -> Any:
    if tree["batch"] == 8:
        raise InputError("batch=8: refused\nby the stub")
    if tree["batch"] == 9:
        raise RuntimeError("a bug")
    if tree["batch"] == 10:
        raise KeyboardInterrupt
    if isinstance(tree["batch"], list):
        return [_row(tree, batch) for batch in tree["batch"]]
    return _row(tree, tree["batch"])


def _run_job(tree: dict[str, Any], overrides: Sequence[str], directory: Path) -> None:
    if tree["batch"] == 8 and tree["choices"]["hardware"] == "h800":
        raise InputError("batch=8: refused")
    (directory / "job.json").write_text(json.dumps({"tree": tree, "overrides": list(overrides)}))


def _report(folder: Path, export: tuple[str, ...] = ()) -> Path:
    (folder / "report.html").write_text(",".join(export) or "a report")
    return folder / "report.html"


def jobs(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("outputs/*/*/*/job.json"))]


def test_point_prints_the_answer_and_writes_nothing(api, capsys, tmp_path: Path):
    assert cli.main(["point", "batch=3", "hardware=b200"]) == 0
    out, err = capsys.readouterr()
    assert out == "table of {'hardware': 'b200', 'batch': 3, 'valid': True}\n"
    assert (err, list(tmp_path.iterdir())) == ("", [])


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["batch=3"], {"hardware": "h100_sxm", "batch": 3, "valid": True}),
        (["batch=3,4"], [("h100_sxm", 3), ("h100_sxm", 4)]),
        (["batch=[3]"], [("h100_sxm", 3)]),
        (
            ["batch=range(3,5)", "hardware=b200,h800"],
            [(h, b) for h in ("b200", "h800") for b in (3, 4)],
        ),
    ],
)
def test_point_gives_an_object_or_a_list(api, capsys, overrides: list[str], expected: Any):
    assert cli.main(["point", *overrides, "format=json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    if isinstance(answer, list):
        answer = [(row["hardware"], row["batch"]) for row in answer]
    assert answer == expected


@pytest.mark.parametrize(
    ("batch", "status"),
    [("3", 0), ("7", 1), ("[7]", 1), ("[3,7]", 0), ("8", 2), ("9", 70), ("10", 130)],
)
def test_exit_status(api, capsys, batch: str, status: int):
    assert cli.main(["point", f"batch={batch}"]) == status
    err = capsys.readouterr().err
    if status == 2:
        assert err == "roofrack: batch=8: refused by the stub\n"
    if status == 130:
        assert err == ""


def own_calibration(machine: str) -> str:
    """Return the override that a job on a machine is recorded with."""
    card = yaml.safe_load((CONF / "hardware" / f"{machine}.yaml").read_text())
    return f"calibration={card.get('calibrated_as', 'default')}"


def test_sweep_runs_a_job_per_group_choice_and_prints_the_report(api, capfd, tmp_path: Path):
    assert (
        cli.main(["sweep", "hardware=b200,h800", "batch=${geom:1,64,7}", "racks=range(1,4)"]) == 0
    )
    out, err = capfd.readouterr()
    assert out.startswith("outputs/sweep/") and out.endswith("/report.html\n")
    assert (tmp_path / out.strip()).read_text() == "a report"
    assert "Launching 2 jobs locally" in err
    first, second = jobs(tmp_path)
    assert first["overrides"] == [
        "hardware=b200", "batch=${geom:1,64,7}", "racks=${range:1,4,1}",
        own_calibration("b200"),
    ]  # fmt: skip
    assert second["overrides"][-1] == own_calibration("h800")
    assert second["tree"]["batch"] == [1, 2, 4, 8, 16, 32, 64]
    assert second["tree"]["choices"]["hardware"] == "h800"
    assert not list(tmp_path.rglob("*.log"))


def test_a_job_gets_what_compose_gives(api, tmp_path: Path):
    from roofrack import config

    overrides = ["hardware=b200", "dtype=fp8", "batch=${geom:1,64,7}", "overlap=none"]
    assert cli.main(["sweep", *overrides]) == 0
    assert jobs(tmp_path)[0]["tree"] == config.compose(overrides)


def test_the_recorded_overrides_reproduce_the_job(api, tmp_path: Path):
    study(tmp_path)
    assert cli.main(["sweep", "--config-dir", "mine", "experiment=mine", "batch=2,4"]) == 0
    (folder,) = (tmp_path / "outputs" / "mine").iterdir()
    recorded = yaml.safe_load((folder / "1" / ".hydra" / "overrides.yaml").read_text())
    assert recorded == [
        "hardware=h800", "racks=${range:1,4,1}", "experiment=mine", "batch=[2,4]",
        own_calibration("h800"),
    ]  # fmt: skip
    again = ["hydra.sweep.dir=outputs/again/x", "--config-dir=mine"]
    assert cli.main(["sweep", *recorded, *again]) == 0
    assert jobs(tmp_path)[0] == json.loads((folder / "1" / "job.json").read_text())


def study(folder: Path) -> None:
    file = folder / "mine" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(
        "# @package _global_\n"
        "defaults:\n  - override /workload: prefill\n  - override /hydra/sweeper: grid\n"
        "overlap: ideal\n"
        "hydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n"
        "      hardware: b200,h800\n      racks: range(1,4)\n      batch: ${geom:1,64,7}\n"
    )


def test_a_failed_job_says_which(api, capfd):
    assert cli.main(["sweep", "batch=8", "hardware=b200,h800"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    last = err.splitlines()[-1]
    job = f"batch=8 hardware=h800 {own_calibration('h800')}"
    assert last == f"roofrack: batch=8: refused (job 1: {job})"


def test_a_folder_is_not_used_twice_unless_named(api, capfd, monkeypatch, tmp_path: Path):
    named = ["sweep", "batch=3", "hydra.sweep.dir=outputs/a/b"]
    assert [cli.main(named), cli.main(named)] == [0, 0]
    capfd.readouterr()
    monkeypatch.setattr(Path, "mkdir", _exists)
    assert cli.main(["sweep", "batch=3"]) == 2
    assert "began in the same second" in capfd.readouterr().err


def _exists(self: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
    if not exist_ok:
        raise FileExistsError(self)


def test_hydras_own_sweeper_works_too(api, tmp_path: Path):
    assert cli.main(["sweep", "hydra/sweeper=basic", "batch=3,4"]) == 0
    assert [job["tree"]["batch"] for job in jobs(tmp_path)] == [3, 4]
    # it composes the jobs by itself, and they are what compose gives all the same
    from roofrack import config

    assert jobs(tmp_path)[0]["tree"] == config.compose(["batch=3"])


def test_report(api, capsys, tmp_path: Path):
    (tmp_path / "done").mkdir()
    assert cli.main(["report", "done", "export=png,csv"]) == 0
    assert capsys.readouterr().out == "done/report.html\n"
    assert (tmp_path / "done" / "report.html").read_text() == "png,csv"
